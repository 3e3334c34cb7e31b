"""Say what a dissection will take, from dissecting a few images of the user's own data.

    three small dissections -> seconds an image, seconds for the rest, bytes -> CostEstimate for all images

The first one also starts what every run has to start (libraries, compiled loops): by how much it takes longer than the
second tells how long that is. Of the third, batches in the middle give the pace: before them images are decoded that
nothing waits for yet, after them none is left to decode.
"""

import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil, log
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from netdissect.activations import ActivationStore, batch_starts
from netdissect.activations.histogram import Histogram
from netdissect.activations.topk import buffer_capacity
from netdissect.concepts import ConceptData
from netdissect.concepts.content_digests import READING
from netdissect.concepts.dataset import Subset
from netdissect.config import DissectConfig, Execution
from netdissect.dissect.cost_plan import CostPlan, LayerPlan, cells_of, make_plan
from netdissect.dissect.forward import DissectionInputs, forward
from netdissect.dissect.run_dissection import dissect, opened
from netdissect.models import Network

DECODED_AHEAD = 2  # batches
LEVELS = np.geomspace(1e-3, 1, 13)  # shares of a unit's values that decide its threshold: there the store is weighed


@dataclass(frozen=True)
class CostEstimate:
    """What a dissection is expected to take.

    Attributes
    ----------
    plan
        Passes, stores, and where the largest values go.
    images
        How many images take part.
    sample
        How many were dissected to find out.
    seconds
        Of each stage: those of `RunInfo.seconds`, and ``tables`` for everything else.
    memory_bytes
        Largest memory of this process: network, libraries and all.
    disk_bytes
        Largest size of the run folder while the run goes on.
    """

    plan: CostPlan
    images: int
    sample: int
    seconds: Mapping[str, float]
    memory_bytes: int
    disk_bytes: int

    @property
    def total_seconds(self) -> float:
        """From the call of `netdissect.dissect` to its return."""
        return sum(self.seconds.values())


def estimate(
    network: Network,
    concepts: ConceptData | str | Path,
    config: DissectConfig,
    *,
    execution: Execution | None = None,
    sample: int = 64,
) -> CostEstimate:
    """Predict time, memory and disk of `netdissect.dissect` with the same arguments.

    Parameters
    ----------
    network, concepts, config, execution
        As for `netdissect.dissect`.
    sample
        How many images are timed; a few batches more are dissected around them.

    Raises
    ------
    NetdissectError
        As the dissection itself would.
    """
    source = opened(network, concepts, config, execution)
    data, batches = source.data, ceil(sample / config.batch_size)
    if config.backend == "compile":
        _measured(source, 1)  # torch keeps what it has compiled: the run itself will find it, too
    first, short = _measured(source, 1), _measured(source, 1)
    long = _measured(source, 1 + batches + DECODED_AHEAD)
    with TemporaryDirectory(prefix="netdissect-") as folder:
        size = network.preprocessing.size
        plan = make_plan(source.layers, size, len(data), config, source.execution, Path(folder))
        stored = _stored_bytes(source._replace(data=_drawn(data, config.batch_size)), plan, Path(folder))
    paces = {stage: long.pace(stage, batches) for stage in long.reports}
    seconds = {stage: pace * len(data) for stage, pace in paces.items()}
    rest = [(one.images, one.seconds - one.images * sum(paces.values())) for one in (short, long)]
    starting = max(first.seconds - short.seconds, 0.0)
    seconds["tables"] = starting + max(_line(rest[0], rest[1], len(data)), 0.0)
    others = _line((short.images, short.other_bytes), (long.images, long.other_bytes), len(data))
    # In a checkpoint; or in a file, and in copies of it.
    tops = sum(layer.top_bytes * (3 if layer.layer.name in plan.spilled else 1) for layer in plan.layers)
    return CostEstimate(
        plan=plan,
        images=len(data),
        sample=first.images + short.images + long.images,
        seconds=seconds,
        memory_bytes=_peak_memory() + max(0, plan.memory_bytes - long.plan_bytes(plan)),
        disk_bytes=int(stored + others + tops),
    )


@dataclass
class _RunSize:
    """What a small dissection took."""

    images: int
    seconds: float = 0.0
    reports: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    other_bytes: int = 0

    def pace(self, stage: str, batches: int) -> float:
        """Return seconds an image over the middle batches."""
        reports = self.reports[stage]
        (first, begin), (last, end) = reports[0], reports[min(batches, len(reports) - 1)]
        return (end - begin) / (last - first)

    def plan_bytes(self, plan: CostPlan) -> int:
        """Return the memory that the plan of this run foresaw."""
        return replace(plan, layers=tuple(replace(layer, images=self.images) for layer in plan.layers)).memory_bytes


def _measured(source: DissectionInputs, batches: int) -> _RunSize:
    """Dissect some batches, and take the time of each and the size of what is on disk."""
    network, data, _layers, config, execution = source
    # The images are chosen here: of these few nothing more is drawn.
    config = config.model_copy(update=Subset()._asdict())
    drawn = _drawn(data, batches * config.batch_size)
    execution = execution.model_copy(update={"label_cache": None})  # a few images drawn for once
    run = _RunSize(len(drawn))
    with TemporaryDirectory(prefix="netdissect-") as folder:
        out = Path(folder) / "run"
        work = 0

        def note(stage: str, done: int, _total: int | None) -> None:
            nonlocal work
            if stage == READING:  # before the run; what it takes is part of the rest
                return
            run.reports.setdefault(stage, []).append((done, time.monotonic()))
            work = max(work, _size(out, besides=(".bin", ".top", "first.npz")))

        begin = time.monotonic()
        dissect(network, drawn, config, out=out, execution=execution, progress=note)
        run.seconds = time.monotonic() - begin
        run.other_bytes = work + _size(out)
    return run


def _drawn(data: ConceptData, count: int) -> ConceptData:
    """Take images at even distances; the same ones again where there are too few."""
    chosen = (np.arange(count) * len(data) // count) if count <= len(data) else np.arange(count) % len(data)
    return replace(data, rows=tuple(data.rows[row] for row in chosen))


def _stored_bytes(source: DissectionInputs, plan: CostPlan, folder: Path) -> float:
    """Return the expected size of all stores, from one batch."""
    if plan.store == "none":
        return 0.0
    batch = next(iter(forward(source, batch_starts(len(source.data), source.config.batch_size))))
    return sum(
        layer.dense_bytes
        * (
            1.0
            if plan.store == "dense" or layer.needs_dense
            else _expected_share(batch.maps[layer.layer.name].numpy(), layer, folder)
        )
        for layer in plan.layers
    )


def _expected_share(maps: npt.NDArray[np.float32], layer: LayerPlan, folder: Path) -> float:
    """Return how much of all activations a sparse store will keep.

    Notes
    -----
    After a share u of the pass, the values above the bound are the largest ``keep`` to ``capacity`` of the u N seen,
    on average r keep with r = (c - 1) / log(c) and c = capacity / keep, or fewer where the histogram tells a higher
    bound; before ``keep`` were seen all are kept.
    """
    units = maps.shape[1]
    store = ActivationStore(folder / "sample.bin", units, cells_of(layer.layer), dense=False)
    values = maps.transpose(1, 0, 2, 3).reshape(units, -1)
    histogram = Histogram(units)
    histogram.update(maps)
    ratio = max(buffer_capacity(layer.keep, layer.total) / layer.keep, 1.001)
    room = (ratio - 1) / log(ratio)
    weighed = []
    for level in LEVELS:
        before = store.offsets[-1]
        bound = histogram.floor(ceil(level * values.shape[1])) if level < 1 else np.full(units, -np.inf, np.float32)
        if room * level < 1:
            bound = np.maximum(bound, np.quantile(values, 1 - room * level, axis=1).astype(np.float32))
        store.append(maps, bound)
        weighed.append((store.offsets[-1] - before) / maps.nbytes)
    seen = (np.arange(256) + 0.5) / 256 * layer.total
    above = np.minimum(1, layer.keep / seen)
    return float(np.interp(np.log(above), np.log(LEVELS), weighed).mean())


def _line(left: tuple[float, float], right: tuple[float, float], x: float) -> float:
    """Follow a line through two measurements; a falling one is taken as flat."""
    (x0, y0), (x1, y1) = left, right
    return y1 + max(0.0, (y1 - y0) / (x1 - x0)) * (x - x1)


def _size(folder: Path, besides: tuple[str, ...] = ()) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.name.endswith(besides))


def _peak_memory() -> int:
    """Return the largest memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
