"""`netdissect.evaluate_bases`: metrics of the units of layers, and of the bases of layers, of a run.

run -> network, data, layers -> read_cells -> measure, for each layer -> tables bases, concepts, units
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from netdissect.concepts import ConceptData
from netdissect.config import Execution
from netdissect.counted import counted, size_text
from netdissect.dissect.cost_plan import cells_of
from netdissect.dissect.devices import choose_device
from netdissect.dissect.forward import DissectionInputs
from netdissect.dissect.image_maps import run_layers
from netdissect.dissect.reload import data_of, network_of
from netdissect.evaluation.dictionaries.bases_evaluation import (
    ALL,
    BasesEvaluation,
    evaluation_folder,
    keep_bases,
    table_schemas,
)
from netdissect.evaluation.dictionaries.evaluate_bases_config import EvaluateBasesConfig
from netdissect.evaluation.dictionaries.labeled_cells import (
    CellFiles,
    CellRequest,
    names_made_of,
    network_layers,
    read_cells,
)
from netdissect.evaluation.dictionaries.measure import (
    LayerInputs,
    Measured,
    image_scores,
    measure,
    with_interval,
)
from netdissect.evaluation.open_vocabulary.embedding_source import Embeddings, EmbeddingSource
from netdissect.models import Network
from netdissect.paths import writing
from netdissect.progress import Display, ShowProgress, shown
from netdissect.result import Result
from netdissect.result.result import check_is_run

Floats = npt.NDArray[np.floating[Any]]

STAGE = "bases"
MAX_VALUES = 2**28
"""Codes of a dense layer that are in memory, 1 GiB: a wider layer has fewer cells."""


def evaluate_bases(
    result: Result,
    *,
    embeddings: Embeddings | None = None,
    config: EvaluateBasesConfig | None = None,
    work: str | Path | None = None,
    network: Network | torch.nn.Module | None = None,
    data_root: ConceptData | str | Path | None = None,
    execution: Execution | None = None,
    trust_network: bool = False,
    progress: ShowProgress = None,
) -> BasesEvaluation:
    """Measure the units of the layers of a run, and of their bases.

    The network runs once more over the images of the run. A unit is chosen for each concept on the selection half of
    the images, and scored on the held-out images of the run. The tables are kept in the folder of the run, whose pages
    show the newest ones.

    Parameters
    ----------
    result
        A finished run, with bases of layers or without.
    embeddings
        Of the images of the run, by another network: as for `netdissect.label`, or a ``.npy`` file or array of images
        alone. None: scores by embeddings are left out.
    config
        What is measured.
    work
        Folder in which an interrupted pass resumes. None: a temporary one.
    network, data_root
        The network of the run, and the folder of its data set, if they are not where the run found them.
    execution
        Threads, and the cache folder of label maps and embeddings.
    trust_network
        Import the Python code that the run names as its network.
    progress
        As for `netdissect.dissect`.

    Raises
    ------
    NetdissectError
        Of the kind that `netdissect.errors` names.
    """
    config, execution = config or EvaluateBasesConfig(), execution or Execution()
    check_is_run(result)
    if result.origin is not None:  # refused before anything is computed
        kept = evaluation_folder(result.origin.folder)
        with writing(kept, "The tables are kept in the run: copy it to where files can be written."):
            kept.mkdir(exist_ok=True)
    opened = network_of(result.info, network, folder=result.folder, trust_network=trust_network)
    source = _inputs(result, config, opened, data_root, execution)
    with shown(progress) as display, _folder(work) as folder:
        of_images = _embeddings(result, embeddings, config, source, display)
        display.line(_cost_text(source, config))
        pool = None if of_images is None else config.pool
        request = CellRequest(_cells(source, config), source.config.statistics.stats_seed, pool)
        files = read_cells(source, request, folder, display)
        found = _tables(source, files, config, of_images, display)
    keep_bases(result, found)
    return found


def _cost_text(source: DissectionInputs, config: EvaluateBasesConfig) -> str:
    """Return what an evaluation takes."""
    images, wanted = len(source.data), _cells(source, config)
    disk = sum(
        4 * layer.units * images * min(max(1, wanted // images), cells_of(layer).height * cells_of(layer).width)
        for layer in network_layers(source)
    )
    return (
        f"one forward pass over {counted(images, 'images')} for {counted(len(source.layers), 'layers')}; "
        f"{size_text(disk)} of cells on disk meanwhile, and at most {size_text(4 * MAX_VALUES)} of codes in memory"
    )


def _inputs(
    result: Result, config: EvaluateBasesConfig, network: Network, data_root: ConceptData | str | Path | None,
    execution: Execution,
) -> DissectionInputs:  # fmt: skip
    names = [result.layer(name).info.name for name in config.layers or result.layers]
    layers = [layer for layer in run_layers(network, result.info) if layer.name in names]
    device = choose_device("auto", network)
    of_run = result.info.config.model_copy(update={"device": device, "backend": "eager"})
    return DissectionInputs.of(network, data_of(result.info, data_root), layers, of_run, execution)


def _cells(source: DissectionInputs, config: EvaluateBasesConfig) -> int:
    """Return the cells that are kept of each layer: fewer if the codes of a dense one would not fit into memory."""
    bases = source.network.bases
    dense = [layer.units for layer in source.layers if layer.name not in bases or not bases[layer.name].sparse]
    dense += [layer.units for layer in network_layers(source)]
    return min(config.cells, MAX_VALUES // max(dense))


@contextmanager
def _folder(work: str | Path | None) -> Iterator[Path]:
    if work is not None:
        yield Path(work)
        return
    with TemporaryDirectory(prefix="netdissect-") as folder:
        yield Path(folder)


def _embeddings(
    result: Result, given: Embeddings | None, config: EvaluateBasesConfig, source: DissectionInputs, display: Display
) -> Floats | None:
    if given is None:
        return None
    embeddings = EmbeddingSource(given, config.embedding_batch, config.device, source.execution.cache_folder)
    embeddings.check_images(source.network, source.data)
    return embeddings.images(result, source.data, display)


def _tables(
    source: DissectionInputs, files: CellFiles, config: EvaluateBasesConfig, embeddings: Floats | None, display: Display
) -> BasesEvaluation:
    bases, concepts, units = list[dict[str, Any]](), list[pl.DataFrame](), list[pl.DataFrame]()
    names, seed, done = [layer.name for layer in source.layers], source.config.statistics.stats_seed, 0
    for layer in network_layers(source):
        cells, labels = files.cells(layer.name), files.concepts(layer.name)
        for name in names_made_of(source, layer.name):
            inputs = LayerInputs(source.network.bases.get(name), cells, labels, seed)
            by_image = {} if embeddings is None else image_scores(files, name, embeddings)
            for measured in measure(inputs, config):
                key = {"layer": name, "basis_of": layer.name if inputs.basis else None, "choice": measured.choice.name}
                scored = _unit_scores(measured, by_image)
                bases.append(key | measured.basis | _unit_means(scored, inputs, config))
                concepts.append(_concept_table(key, measured, files.data, labels))
                if measured.choice.name == ALL:
                    units.append(_unit_table(name, measured, scored, len(cells)))
            done += 1
            display(STAGE, done, len(names))
    order = {name: index for index, name in enumerate(names)}
    schema = table_schemas(with_embeddings=embeddings is not None)["bases"]
    tables = (pl.DataFrame(bases, schema=schema), pl.concat(concepts), pl.concat(units))
    ranked = (
        table.sort(pl.col("layer").replace_strict(order, return_dtype=pl.Int64), maintain_order=True).with_columns(
            pl.selectors.float().fill_nan(None)
        )
        for table in tables
    )
    return BasesEvaluation(config, *ranked)


def _unit_scores(measured: Measured, by_image: Mapping[str, Floats]) -> dict[str, npt.NDArray[np.float64]]:
    chosen = {name: values[measured.choice.units] for name, values in by_image.items()}
    return {"purity_16": measured.units["purity_16"], **chosen}


def _unit_means(
    scored: Mapping[str, npt.NDArray[np.float64]], inputs: LayerInputs, config: EvaluateBasesConfig
) -> dict[str, float]:
    units = np.arange(len(next(iter(scored.values()))))
    parts = (with_interval(name, values, units, inputs, config) for name, values in scored.items())
    return {name: value for part in parts for name, value in part.items()}


def _concept_table(key: Mapping[str, Any], measured: Measured, data: ConceptData, labels: Any) -> pl.DataFrame:
    probes, scores = measured.probes, measured.scores
    heldout = labels.part(labels.held_out).positives
    table = pl.DataFrame(
        {
            "layer": key["layer"],
            "choice": key["choice"],
            "concept": [concept.name for concept in data.concepts],
            "category": [concept.category for concept in data.concepts],
            "unit": pl.Series(probes.unit, dtype=pl.Int64),
            "weight": probes.weight,
            "average_precision": scores.average_precision,
            "probe_r": 1 - scores.loss / scores.prior_loss,
            "heldout_cells": heldout,
        }
    )
    return table.with_columns(pl.when(pl.col("unit") >= 0).then("unit").alias("unit"))


def _unit_table(name: str, measured: Measured, scored: Mapping[str, Floats], cells: int) -> pl.DataFrame:
    return pl.DataFrame(
        {"layer": name, "unit": measured.choice.units, "active_share": measured.units["active_cells"] / cells, **scored}
    )
