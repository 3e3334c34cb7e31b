"""Hold a finished run against its network: recompute a sample of masks, or what was damaged.

verify_data(info, ...)     -> whether the data set holds what the run saw, byte by byte
verify_sample(result, ...) -> Recomputed masks, cell by cell beside the run's
repair(folder, ...)        -> names of the files that were put back, each with the digest that it had
"""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from netdissect.activations import batch_starts
from netdissect.concepts import ConceptData, Size
from netdissect.config import Execution, Progress
from netdissect.dissect.cost_plan import LayerPlan
from netdissect.dissect.forward import DissectionInputs, forward
from netdissect.dissect.reload import data_of, network_of, opened_data
from netdissect.dissect.run_dissection import dissect
from netdissect.models import Network, resolve_layers
from netdissect.result import LayerInfo, LayerResult, Result, RunInfo
from netdissect.result.files import corrupted_files, layer_folder, repair_file
from netdissect.result.run_config import CONFIG_FILE


@dataclass(frozen=True)
class Recomputed:
    """One unit's mask on one of its top images, computed once more.

    Attributes
    ----------
    layer, unit, image
        Which.
    largest_difference
        Of the activations, as a share of the unit's maximum; 0: equal to the last bit.
    pixels, changed
        Mask pixels at the first quantile in the run, and how many differ now.
    """

    layer: str
    unit: int
    image: str
    largest_difference: float
    pixels: int
    changed: int


def verify_data(
    info: RunInfo, *, root: ConceptData | str | Path | None = None, progress: Progress | None = None
) -> bool:
    """Read all files of a run's data set once more, and say whether they and the tables are what the run saw.

    Parameters
    ----------
    info
        Of the run.
    root
        Where the data set is, if it was moved; or the data set itself, if its images were chosen in Python.
    progress
        Called with the number of files read and in all.

    Raises
    ------
    ConceptsError
        If the data set is gone or cannot be read.
    """
    return opened_data(info, root).find_digest(progress, anew=True) == info.data.digest


def verify_sample(
    run: Result,
    count: int,
    *,
    network: Network | None = None,
    root: ConceptData | str | Path | None = None,
    seed: int = 0,
    trust_network: bool = False,
    progress: Progress | None = None,
) -> list[Recomputed]:
    """Recompute the masks of units on some of their top images.

    Parameters
    ----------
    run
        A finished run.
    count
        How many pairs of a unit and one of its top images are drawn.
    network
        Of the run; None: loaded as the run recorded it.
    root
        Where the data set is, if it was moved; or the data set itself, if its images were chosen in Python.
    seed
        Of the draw.
    trust_network
        Import the Python factory that the run names, if it names one.

    Returns
    -------
    list of Recomputed
        In the batches in which the run saw them, so that in its environment every bit is the same.

    Raises
    ------
    NetworkError, ConceptsError
        If the network or the data are not those of the run, or cannot be had.
    """
    network = network_of(run.info, network, trust_network=trust_network)
    data = data_of(run.info, root)
    config = run.info.config
    source = DissectionInputs(
        network, data, resolve_layers(network, list(run.layers), config.assumed), config, Execution()
    )
    drawn = _draw(run, count, seed)
    starts = batch_starts(len(data), config.batch_size)
    numbers = sorted({row // config.batch_size for _, _, row in drawn})
    found = []
    for done, number in enumerate(numbers):
        (batch,) = forward(source, starts[number : number + 1])
        for layer, place, row in drawn:
            if row // config.batch_size == number:
                plan = LayerPlan(next(one for one in source.layers if one.name == layer), network.preprocessing.size,
                                 len(data), config)  # fmt: skip
                unit = run.layers[layer].top["unit"][place]
                found.append(_compare(run.layers[layer], plan, place, batch.maps[layer][row - batch.start, unit], data))
        if progress:
            progress("verify", done + 1, len(numbers))
    return found


def _draw(run: Result, count: int, seed: int) -> list[tuple[str, int, int]]:
    """Draw rows of the tables of top images: layer, place in the table, index row."""
    places = [(name, place) for name, layer in run.layers.items() for place in range(layer.top.height)]
    chosen = np.random.default_rng(seed).choice(len(places), size=min(count, len(places)), replace=False)
    return [
        (name, place, run.layers[name].top["image_index"][place]) for name, place in (places[i] for i in sorted(chosen))
    ]


def _compare(layer: LayerResult, plan: LayerPlan, place: int, again: torch.Tensor, data: ConceptData) -> Recomputed:
    unit, rank, row, image, maximum = layer.top.select("unit", "rank", "image_index", "image", "max_activation").row(
        place
    )
    stored, again_map = np.asarray(layer.top_maps[unit, rank]), again.cpu().numpy()
    threshold = np.float32(layer.thresholds.filter(unit=unit)["threshold"][0])
    side = plan.config.protocol.segmentation_size
    grid = plan.grid_to(data.rows[row].size if side is None else Size(side, side))
    masks = [grid.upsample(cells[None])[0] > threshold for cells in (stored, again_map)]
    difference = float(np.abs(stored - again_map).max()) / max(abs(maximum), np.finfo(np.float32).tiny)
    return Recomputed(layer.info.name, unit, image, difference, int(masks[0].sum()), int((masks[0] != masks[1]).sum()))


def repair(
    folder: str | Path,
    *,
    network: Network | None = None,
    root: ConceptData | str | Path | None = None,
    trust_network: bool = False,
    progress: Progress | None = None,
) -> list[str]:
    """Recompute the damaged files of a run: only the layers that they belong to are dissected once more.

    Parameters
    ----------
    folder
        Of a finished run.
    network
        Of the run; None: loaded as the run recorded it.
    root
        Where the data set is, if it was moved; or the data set itself, if its images were chosen in Python.
    trust_network
        Import the Python factory that the run names, if it names one.

    Returns
    -------
    list of str
        The files that were damaged and are now, by their digests, what they were; empty: none was damaged.

    Raises
    ------
    ResultError
        If ``run.json`` itself is damaged, or a file does not come out as it was written.
    """
    folder = Path(folder)
    info, damaged = corrupted_files(folder)
    if CONFIG_FILE in damaged:
        repair_file(folder, folder, CONFIG_FILE)
    computed = [name for name in damaged if name != CONFIG_FILE]
    if not computed:
        return list(damaged)
    network, data = network_of(info, network, trust_network=trust_network), data_of(info, root)
    with tempfile.TemporaryDirectory(prefix="repair-", dir=folder) as again:
        target = Path(again) / "run"
        dissect(network, data, info.config, layers=_layers_of(folder, info.layers, computed), out=target,
                progress=progress)  # fmt: skip
        for name in computed:
            repair_file(folder, target, name)
    return list(damaged)


def _layers_of(folder: Path, layers: Sequence[LayerInfo], damaged: Iterable[str]) -> list[str]:
    """Name the layers that must be dissected; the table of concepts comes with any, so with the smallest."""
    within = {layer.name: layer_folder(folder, layer.name).relative_to(folder) for layer in layers}
    hit = [name for name, path in within.items() if any(Path(file).is_relative_to(path) for file in damaged)]
    return hit or [min(layers, key=lambda layer: layer.units * layer.height * layer.width).name]
