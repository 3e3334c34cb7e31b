"""Verify a finished run: recompute a sample of masks, or repair damaged files.

verify_data(info, ...)       whether the data set is unchanged, byte by byte
verify_sample(result, ...)   recomputed masks, compared with those of the run
repair(folder, ...)          names of the recomputed files, each with its recorded digest
"""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from netdissect.activations import batch_starts
from netdissect.concepts import ConceptData, Size
from netdissect.config import Execution
from netdissect.dissect.cost_plan import LayerPlan
from netdissect.dissect.forward import DissectionInputs, forward
from netdissect.dissect.reload import data_of, network_of, open_module_of, open_run_data
from netdissect.dissect.run_dissection import dissect
from netdissect.models import Network, exact_patterns, resolve_layers
from netdissect.models.dictionaries.basis_spec import NEURONS
from netdissect.progress import ShowProgress, shown
from netdissect.result import LayerInfo, LayerResult, Result, RunInfo
from netdissect.result.files import BASES, corrupted_files, layer_folder, repair_file
from netdissect.result.run_config import CONFIG_FILE


@dataclass(frozen=True)
class RecomputedMask:
    """The recomputed mask of one unit on one of its top images.

    Attributes
    ----------
    layer, unit, image
        Layer, unit and image of the mask.
    largest_difference
        Largest difference of activations, as a share of the maximum of the unit; 0: bit for bit equal.
    pixels, changed
        Mask pixels at the first quantile of the run, and the number of pixels that differ now.
    """

    layer: str
    unit: int
    image: str
    largest_difference: float
    pixels: int
    changed: int


def verify_data(info: RunInfo, *, root: ConceptData | str | Path | None = None, progress: ShowProgress = None) -> bool:
    """Read all files of the data set of a run and return whether files and tables are unchanged.

    Parameters
    ----------
    info
        Of the run.
    root
        Folder of the data set, if it was moved; or the data set itself, if its images were chosen in Python.
    progress
        None: shown on a terminal or in a notebook. False: not. A function: called with the stage and the number of
        files read and in all.

    Raises
    ------
    ConceptsError
        If the data set does not exist or cannot be read.
    """
    with shown(progress) as display:
        return open_run_data(info, root).find_digest(display, anew=True) == info.data.digest


def verify_sample(
    run: Result,
    count: int,
    *,
    network: Network | torch.nn.Module | None = None,
    root: ConceptData | str | Path | None = None,
    seed: int = 0,
    trust_network: bool = False,
    progress: ShowProgress = None,
) -> list[RecomputedMask]:
    """Recompute the masks of units on some of their top images.

    Parameters
    ----------
    run
        A finished run.
    count
        Number of pairs of a unit and one of its top images.
    network
        Of the run, or its module; None: loaded as the run recorded it.
    root
        Folder of the data set, if it was moved; or the data set itself, if its images were chosen in Python.
    seed
        Of the draw.
    trust_network
        Import the Python factory that the run names, if it names one.

    Returns
    -------
    list of Recomputed
        Recomputed in the batches of the run, so that every bit agrees in the same environment.

    Raises
    ------
    NetworkError, ConceptsError
        If the network or the data are not those of the run, or cannot be loaded.
    """
    network = network_of(run.info, network, folder=run.folder, trust_network=trust_network)
    data = data_of(run.info, root)
    config = run.info.config
    source = DissectionInputs.of(
        network, data, resolve_layers(network, exact_patterns(run.layers), config.assumed), config, Execution()
    )
    sample = _draw(run, count, seed)
    starts = batch_starts(len(data), config.images_per_batch)
    batches = sorted({row // config.images_per_batch for _, _, row in sample})
    masks = []
    with shown(progress) as display:
        for done, batch_index in enumerate(batches):
            (batch,) = forward(source, starts[batch_index : batch_index + 1])
            for layer, table_row, row in sample:
                if row // config.images_per_batch == batch_index:
                    traced = next(each for each in source.layers if each.name == layer)
                    plan = LayerPlan(traced, network.preprocessing.size, len(data), config)
                    unit = run.layers[layer].top["unit"][table_row]
                    masks.append(
                        _compare(run.layers[layer], plan, table_row, batch.dense(layer)[row - batch.start, unit], data)
                    )
            display("verify", done + 1, len(batches))
    return masks


def _draw(run: Result, count: int, seed: int) -> list[tuple[str, int, int]]:
    """Draw rows of the tables of top images: layer, row of the table, image index."""
    table_rows = [(name, table_row) for name, layer in run.layers.items() for table_row in range(layer.top.height)]
    chosen = np.random.default_rng(seed).choice(len(table_rows), size=min(count, len(table_rows)), replace=False)
    return [
        (name, table_row, run.layers[name].top["image_index"][table_row])
        for name, table_row in (table_rows[i] for i in sorted(chosen))
    ]


def _compare(
    layer: LayerResult, plan: LayerPlan, table_row: int, recomputed: torch.Tensor, data: ConceptData
) -> RecomputedMask:
    unit, rank, row, image, maximum = layer.top.select("unit", "rank", "image_index", "image", "max_activation").row(
        table_row
    )
    stored, recomputed_map = np.asarray(layer.top_maps[unit, rank]), recomputed.cpu().numpy()
    threshold = np.float32(layer.thresholds.filter(unit=unit)["threshold"][0])
    side = plan.config.protocol.segmentation_size
    grid = plan.grid_to(data.rows[row].size if side is None else Size(side, side))
    masks = [grid.upsample(cells[None])[0] > threshold for cells in (stored, recomputed_map)]
    difference = float(np.abs(stored - recomputed_map).max()) / max(abs(maximum), np.finfo(np.float32).tiny)
    return RecomputedMask(
        layer.info.name, unit, image, difference, int(masks[0].sum()), int((masks[0] != masks[1]).sum())
    )


def repair(
    folder: str | Path,
    *,
    network: Network | torch.nn.Module | None = None,
    root: ConceptData | str | Path | None = None,
    trust_network: bool = False,
    progress: ShowProgress = None,
) -> list[str]:
    """Recompute the damaged files of a run: only their layers are dissected again.

    Parameters
    ----------
    folder
        Of a finished run.
    network
        Of the run, or its module; None: loaded as the run recorded it.
    root
        Folder of the data set, if it was moved; or the data set itself, if its images were chosen in Python.
    trust_network
        Import the Python factory that the run names, if it names one.

    Returns
    -------
    list of str
        The files that were damaged and now have their recorded digests; empty: none was damaged.

    Raises
    ------
    ResultError
        If ``run.json`` itself is damaged, or a recomputed file has another digest.
    """
    folder = Path(folder)
    info, damaged = corrupted_files(folder)
    if CONFIG_FILE in damaged:
        repair_file(folder, folder, CONFIG_FILE)
    computed = [name for name in damaged if name != CONFIG_FILE]
    if not computed:
        return list(damaged)
    data = data_of(info, root)
    with tempfile.TemporaryDirectory(prefix="repair-", dir=folder) as recomputed:
        target = Path(recomputed) / "run"
        if any(name.startswith(f"{BASES}/") for name in computed):
            fitted_anew = open_module_of(info, network, trust_network=trust_network)
            dissect(fitted_anew, data, config=info.config, out=target, progress=progress)
        else:
            whole = network_of(info, network, folder=folder, trust_network=trust_network)
            config = info.config.model_copy(update={"bases": (NEURONS,)})  # its network has all virtual layers
            # A graph is made for all layers of a run: with fewer of them its last bits may be others.
            graph = info.config.backend != "eager"
            names = [layer.name for layer in info.layers] if graph else _layers_of(folder, info.layers, computed)
            dissect(whole, data, config=config, layers=exact_patterns(names), out=target, progress=progress)
        for name in computed:
            repair_file(folder, target, name)
    return list(damaged)


def _layers_of(folder: Path, layers: Sequence[LayerInfo], damaged: Iterable[str]) -> list[str]:
    """Return the layers to dissect; the smallest if only the table of concepts is damaged."""
    folder_of = {layer.name: layer_folder(folder, layer.name).relative_to(folder) for layer in layers}
    affected = [name for name, path in folder_of.items() if any(Path(file).is_relative_to(path) for file in damaged)]
    return affected or [min(layers, key=lambda layer: layer.units * layer.height * layer.width).name]
