"""TCAV of a classifier: its classes, the images that it predicts them on, and the table of all layers.

OutputClasses.of(network, layers, config, names) -> classes that are asked for
tcav_table(source, files, classes, config, ...)  -> rows of all layers
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.checksums import json_digest
from netdissect.close_matches import did_you_mean
from netdissect.config import Progress
from netdissect.dissect.forward import DissectionInputs
from netdissect.errors import ConfigError
from netdissect.evaluation.dictionaries.labeled_cells import CellFiles, network_layers
from netdissect.experiments.concept_vectors.class_gradients import ClassPass, check_classifier
from netdissect.experiments.concept_vectors.tcav import (
    ClassGradients,
    LayerCells,
    TcavConfig,
    tcav_rows,
    with_adjusted,
)
from netdissect.models import Layer, Network

Ints = npt.NDArray[np.int64]


class OutputClasses(NamedTuple):
    """The classes of a network, by their names, and the indices of those that are asked for."""

    names: tuple[str, ...]
    asked: tuple[int, ...]

    @classmethod
    def of(cls, network: Network, layers: Sequence[Layer], config: TcavConfig, names: Sequence[str] | None) -> Self:
        """Check that the network is a classifier, and find the classes that are asked for.

        Parameters
        ----------
        network, layers
            Whose gradients are taken.
        config
            Classes by name or index.
        names
            Of all outputs, in order; None: their indices.

        Raises
        ------
        NetworkError
            If the network is no classifier.
        ConfigError
            If a class does not exist, or there is another number of names than outputs.
        """
        count = check_classifier(network, layers)
        if names is not None and len(names) != count:
            raise ConfigError(
                f"{len(names)} names are given for {count} outputs of network {network.name!r}. Expected a name for "
                "each output, in order, in the file of --classes."
            )
        known = tuple(map(str, range(count) if names is None else names))
        return cls(known, tuple(_class_index(each, known) for each in config.target_classes))


def _class_index(asked: str, names: Sequence[str]) -> int:
    if asked in names:
        return names.index(asked)
    if asked.isdecimal() and int(asked) < len(names):
        return int(asked)
    raise ConfigError(
        f"there is no class {asked!r}.{did_you_mean(asked, names)} Expected for --target-class the name of an output, "
        f"such as {names[0]!r}, or its index from 0 to {len(names) - 1}; the file of --classes names the outputs."
    )


def tcav_table(
    source: DissectionInputs, files: CellFiles, classes: OutputClasses, config: TcavConfig, work: Path,
    progress: Progress | None,
) -> pl.DataFrame:  # fmt: skip
    """Return scores and tests of each layer, class and concept.

    Vectors come from the selection half of the images; classes and gradients from the held-out images.

    Parameters
    ----------
    source
        Network, data, layers and configuration.
    files
        Cells of the layers.
    classes, config
        Which classes, and how many sets.
    work
        Folder in which an interrupted pass resumes.
    progress
        Receives images.

    Raises
    ------
    ConfigError
        If a class that is asked for is predicted on none of the held-out images.
    """
    layers, seed = network_layers(source), source.config.statistics.stats_seed
    digest = json_digest(
        {
            "network": source.network.digest,
            "data": source.data.digest,
            "layers": [layer.name for layer in layers],
            "config": source.config.model_dump(mode="json"),
            "tcav": config.model_dump(mode="json"),
        }
    )
    of_classes = ClassPass(source, layers, work / f"classes-{digest[:16]}", progress)
    images = _class_images(of_classes, np.flatnonzero(files.held_out), classes, config, seed)
    gradients = {target: of_classes.gradients(target, rows) for target, rows in images.items()}
    tables = []
    for index, layer in enumerate(layers):
        labels = files.concepts(layer.name)
        chosen = ~labels.held_out
        of_layer = [ClassGradients(classes.names[target], each[index]) for target, each in gradients.items()]
        cells = LayerCells(layer.name, files.cells(layer.name)[chosen], labels.part(chosen))
        tables.append(tcav_rows(cells, source.data, of_layer, config, seed))
    return with_adjusted(pl.concat(tables))


def _class_images(
    of_classes: ClassPass, held_out: Ints, classes: OutputClasses, config: TcavConfig, seed: int
) -> dict[int, Ints]:
    """Return the held-out images of each class: those on which it is predicted, or as many of them as are asked for."""
    predicted = of_classes.predicted(held_out)
    counts = np.bincount(predicted, minlength=len(classes.names))
    frequent = np.argsort(-counts, kind="stable")[: config.top_classes]
    targets = classes.asked or tuple(each for each in frequent.tolist() if counts[each])
    never = next((each for each in targets if not counts[each]), None)
    if never is not None:
        raise ConfigError(
            f"class {classes.names[never]!r} is predicted on none of {len(held_out):,} held-out images. Expected a "
            f"class of some of them, such as {classes.names[frequent[0]]!r}; without --target-class the most frequent "
            "ones are tested."
        )
    found = {}
    for target in dict.fromkeys(targets):
        rows = held_out[predicted == target]
        rng = np.random.default_rng((seed, target))
        most = min(config.images_per_class, len(rows))
        found[target] = np.sort(rng.choice(rows, most, replace=False))
    return found
