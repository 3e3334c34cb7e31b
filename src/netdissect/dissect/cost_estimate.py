"""Estimate time, memory and disk of a dissection from dissections of a few of its images.

    three small dissections -> seconds per image, other seconds, bytes -> CostEstimate for all images

The first dissection includes the start of libraries and compiled loops: the difference from the second is that time.
The middle batches of the third give the time per image: before them images are decoded ahead, after them none is left
to decode.
"""

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, log
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Unpack

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netdissect.activations import ActivationStore, batch_starts
from netdissect.activations.histogram import Histogram
from netdissect.activations.sparse.sparse_maps import SparseMaps
from netdissect.activations.sparse.sparse_store import SparseStore
from netdissect.activations.topk import buffer_capacity
from netdissect.concepts import ConceptData
from netdissect.concepts.content_digests import READING
from netdissect.concepts.dataset import Subset
from netdissect.config import DissectConfig, Execution
from netdissect.dissect.cost_plan import CostPlan, LayerPlan, cells_of, make_plan
from netdissect.dissect.forward import Activations, DissectionInputs, forward
from netdissect.dissect.run_dissection import dissect, open_inputs
from netdissect.dissect_options import DissectOptions
from netdissect.keywords import ConfigObjects, read_options, takes_options
from netdissect.models import Network, as_network
from netdissect.result import BackendCheck

PERMUTATIONS = "permutations"  # stage that is no pass over batches
DECODED_AHEAD = 2  # batches
SHARES = np.geomspace(1e-3, 1, 13)  # shares of the values of a unit at which the size of a store is sampled


@dataclass(frozen=True)
class CostEstimate:
    """The expected cost of a dissection.

    Attributes
    ----------
    plan
        Passes, stores and engine.
    images
        Number of images.
    sample
        Number of images that were dissected for the estimate.
    seconds
        By stage, as in `RunInfo.seconds`; ``tables`` is the rest.
    memory_bytes
        Peak memory of the process, network and libraries included.
    disk_bytes
        Peak size of the run folder.
    cache_bytes
        What the image cache will take beyond what earlier runs packed; 0 without one.
    backend
        What will run the forward pass.
    backend_check
        Its comparison with PyTorch, and the images per second that ``auto`` measured; None: it is PyTorch.
    """

    plan: CostPlan
    images: int
    sample: int
    seconds: Mapping[str, float]
    memory_bytes: int
    disk_bytes: int
    cache_bytes: int
    backend: str
    backend_check: BackendCheck | None

    @property
    def total_seconds(self) -> float:
        """Seconds from the call of `netdissect.dissect` to its return."""
        return sum(self.seconds.values())


@takes_options
def estimate(
    model: Network | torch.nn.Module | str,
    data: ConceptData | str | Path,
    *,
    layers: Sequence[str] | str | None = None,
    preprocessing: object = None,
    config: DissectConfig | None = None,
    execution: Execution | None = None,
    sample: int = 64,
    **options: Unpack[DissectOptions],
) -> CostEstimate:
    """Predict time, memory and disk of `netdissect.dissect` with the same arguments.

    Parameters
    ----------
    model, data, layers, preprocessing, config, execution
        As for `netdissect.dissect`.
    sample
        Number of timed images; a few more batches are dissected before and after them.

    Raises
    ------
    NetdissectError
        As the dissection itself would.
    """
    config, execution = read_options(estimate, options, ConfigObjects(layers, config, execution))
    # The check of a backend reads images, which an estimate does not pack.
    unpacked = execution.model_copy(update={"image_cache": False})
    source = open_inputs(as_network(model, preprocessing), data, config, unpacked)
    whole = DissectionInputs.of(*source[:4], execution)._replace(backend_check=source.backend_check)
    return _predicted(whole, sample)


def _predicted(source: DissectionInputs, sample: int) -> CostEstimate:
    """Predict from small dissections of the data."""
    data, config = source.data, source.config
    batches = ceil(sample / config.images_per_batch)
    if config.backend == "compile":
        _measured(source, 1)  # torch caches compiled code, and the run will use that cache
    first, one_batch = _measured(source, 1), _measured(source, 1)
    many_batches = _measured(source, 1 + batches + DECODED_AHEAD)
    with TemporaryDirectory(prefix="netdissect-") as folder:
        size = source.network.preprocessing.size
        plan = make_plan(source.layers, size, len(data), config, source.execution, Path(folder))
        batch = _first_batch(_part_of(source, 1), plan)
        plan = _with_measured_activity(plan, batch)
        stored = _stored_bytes(batch, plan, Path(folder))
    rates = {stage: many_batches.seconds_per_image(stage, batches) for stage in many_batches.reports}
    seconds = {stage: rate * len(data) for stage, rate in rates.items()}
    if config.permutations:
        of_runs = [(run.images, run.permutation_seconds) for run in (one_batch, many_batches)]
        seconds[PERMUTATIONS] = _line(of_runs[0], of_runs[1], len(data))
    rest = [(run.images, run.other_seconds(sum(rates.values()))) for run in (one_batch, many_batches)]
    start_seconds = max(first.seconds - one_batch.seconds, 0.0)
    seconds["tables"] = start_seconds + max(_line(rest[0], rest[1], len(data)), 0.0)
    other_bytes = _line(
        (one_batch.images, one_batch.other_bytes), (many_batches.images, many_batches.other_bytes), len(data)
    )
    # In a checkpoint; or in a file and its copies in two checkpoints.
    top_bytes = sum(layer.top_bytes * (3 if layer.layer.name in plan.spilled else 1) for layer in plan.layers)
    return CostEstimate(
        plan=plan,
        images=len(data),
        sample=first.images + one_batch.images + many_batches.images,
        seconds=seconds,
        memory_bytes=_peak_memory() + max(0, plan.memory_bytes - many_batches.plan_bytes(plan)),
        disk_bytes=int(stored + other_bytes + top_bytes),
        cache_bytes=source.images.bytes_to_pack,
        backend=config.backend,
        backend_check=source.backend_check,
    )


@dataclass
class _RunSize:
    """Time and disk of a small dissection."""

    images: int
    seconds: float = 0.0
    permutation_seconds: float = 0.0
    reports: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    starts: dict[str, float] = field(default_factory=dict)
    other_bytes: int = 0

    def report(self, stage: str, done: int) -> None:
        """Note that so many images of a stage are done; it began when the one before was last reported."""
        now = time.monotonic()
        before = [of_stage[-1][1] for of_stage in self.reports.values()]
        self.starts.setdefault(stage, max(before, default=now))
        self.reports.setdefault(stage, []).append((done, now))

    def seconds_per_image(self, stage: str, batches: int) -> float:
        """Return seconds per image over the middle batches, or over all images if they were done at once."""
        reports = self.reports[stage]
        if len(reports) == 1:
            reports = [(0, self.starts[stage]), *reports]
        (first, begin), (last, end) = reports[0], reports[min(batches, len(reports) - 1)]
        return (end - begin) / (last - first)

    def other_seconds(self, rate: float) -> float:
        """Return the seconds outside the permutation test and the passes, which take `rate` seconds per image."""
        return self.seconds - self.permutation_seconds - self.images * rate

    def plan_bytes(self, plan: CostPlan) -> int:
        """Return the memory that the plan gives for the images of this dissection."""
        return replace(plan, layers=tuple(replace(layer, images=self.images) for layer in plan.layers)).memory_bytes


def _measured(source: DissectionInputs, batches: int) -> _RunSize:
    """Dissect some batches; measure the time of each and the size of the folder."""
    network, selected, _layers, config, execution = _part_of(source, batches)[:5]
    # The images are chosen here, so the configuration must not draw among them again.
    config = config.model_copy(update=Subset()._asdict())
    run = _RunSize(len(selected))
    with TemporaryDirectory(prefix="netdissect-") as folder:
        out = Path(folder) / "run"
        work = 0

        def record(stage: str, done: int, _total: int | None) -> None:
            nonlocal work
            if stage in (READING, PERMUTATIONS):  # the first is before the run: its time is part of the rest
                return
            run.report(stage, done)
            work = max(work, _size(out, except_suffixes=(".bin", ".top", "thresholds.npz")))

        begin = time.monotonic()
        result = dissect(network, selected, config=config, out=out, execution=execution, progress=record)
        run.seconds = time.monotonic() - begin
        run.permutation_seconds = result.info.seconds.get(PERMUTATIONS, 0.0)
        run.other_bytes = work + _size(out)
    return run


def _part_of(source: DissectionInputs, batches: int) -> DissectionInputs:
    """Select images at even distances, repeatedly if there are too few; the cache keeps nothing of them."""
    data, count = source.data, batches * source.config.images_per_batch
    chosen = (np.arange(count) * len(data) // count) if count <= len(data) else np.arange(count) % len(data)
    part = replace(data, rows=tuple(data.rows[row] for row in chosen))
    execution = source.execution.model_copy(update={"cache_folder": None, "image_cache": False})
    of_part = DissectionInputs.of(source.network, part, source.layers, source.config, execution)
    return of_part._replace(backend_check=source.backend_check)


def _first_batch(source: DissectionInputs, plan: CostPlan) -> Activations:
    starts = batch_starts(len(source.data), source.config.images_per_batch)
    return next(iter(forward(source, starts, sparse=[layer.layer.name for layer in plan.layers if layer.sparse])))


def _with_measured_activity(plan: CostPlan, batch: Activations) -> CostPlan:
    """Return the plan with how many units of its sparse layers are active on a cell of one batch."""
    layers = []
    for layer in plan.layers:
        maps = batch.maps[layer.layer.name]
        if isinstance(maps, SparseMaps):
            cells = cells_of(layer.layer)
            layer = replace(layer, measured_active=len(maps.values) / (len(maps) * cells.height * cells.width))
        layers.append(layer)
    return replace(plan, layers=tuple(layers))


def _stored_bytes(batch: Activations, plan: CostPlan, folder: Path) -> float:
    """Return the expected size of all stores, estimated from one batch."""
    if plan.store == "none":
        return 0.0
    return sum(_bytes_of_layer(batch.maps[layer.layer.name], plan, layer, folder) for layer in plan.layers)


def _bytes_of_layer(maps: Tensor | SparseMaps, plan: CostPlan, layer: LayerPlan, folder: Path) -> float:
    """Return the expected size of the store of a layer, estimated from the maps of one batch."""
    if isinstance(maps, SparseMaps):
        store = SparseStore(folder / "sample.bin", layer.layer.units, cells_of(layer.layer))
        begin = store.offsets[-1]
        store.append(maps)
        return (store.offsets[-1] - begin) / len(maps) * layer.images
    every_cell = plan.store == "dense" or layer.needs_dense
    return layer.dense_bytes * (1.0 if every_cell else _expected_share(maps.cpu().numpy(), layer, folder))


def _expected_share(maps: npt.NDArray[np.float32], layer: LayerPlan, folder: Path) -> float:
    """Return the share of all activations that a sparse store will hold.

    Notes
    -----
    After a share u of the pass, the values above the bound are the largest ``keep`` to ``capacity`` of the u N so far,
    on average r keep with r = (c - 1) / log(c) and c = capacity / keep, or fewer if the histogram gives a higher
    bound. All values are stored until there are ``keep`` of them.
    """
    units = maps.shape[1]
    store = ActivationStore(folder / "sample.bin", units, cells_of(layer.layer), dense=False)
    values = maps.transpose(1, 0, 2, 3).reshape(units, -1)
    histogram = Histogram(units)
    histogram.update(maps)
    ratio = max(buffer_capacity(layer.keep, layer.total) / layer.keep, 1.001)
    mean_ratio = (ratio - 1) / log(ratio)
    shares = []
    for share in SHARES:
        offset = store.offsets[-1]
        bound = histogram.floor(ceil(share * values.shape[1])) if share < 1 else np.full(units, -np.inf, np.float32)
        if mean_ratio * share < 1:
            bound = np.maximum(bound, np.quantile(values, 1 - mean_ratio * share, axis=1).astype(np.float32))
        store.append(maps, bound)
        shares.append((store.offsets[-1] - offset) / maps.nbytes)
    seen = (np.arange(256) + 0.5) / 256 * layer.total
    above = np.minimum(1, layer.keep / seen)
    return float(np.interp(np.log(above), np.log(SHARES), shares).mean())


def _line(left: tuple[float, float], right: tuple[float, float], x: float) -> float:
    """Extrapolate a line through two measurements; a decreasing line is taken as constant."""
    (x0, y0), (x1, y1) = left, right
    return y1 + max(0.0, (y1 - y0) / (x1 - x0)) * (x - x1)


def _size(folder: Path, except_suffixes: tuple[str, ...] = ()) -> int:
    return sum(
        path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.name.endswith(except_suffixes)
    )


def _peak_memory() -> int:
    """Return the largest memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
