"""Units of two layers matched by the correlation of their largest activations over images.

Both networks run on the same sample of the images that the runs' tables of top images name. The maxima of a run are
computed once and cached; a matching is a background job that reports its progress.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.errors import NetdissectError
from netdissect.explorer.inference import InferenceWorker
from netdissect.explorer.queries.requests import MatchRequest
from netdissect.explorer.run_registry import OpenRun, RunRegistry
from netdissect.explorer.schemas import MatchedUnits, Matching
from netdissect.explorer.thumbnails import image_path, open_as_dissected
from netdissect.explorer.uploads import network_input

Floats = npt.NDArray[np.float64]
Maps = npt.NDArray[np.float32]

SAMPLE_SIZE = 256
"""Images on which both networks are run."""
BATCH = 16
SEED = 0


@dataclass
class _MatchingJob:
    request: MatchRequest
    total: int
    done: int = 0
    state: Literal["running", "done", "failed"] = "running"
    message: str = ""
    pairs: tuple[MatchedUnits, ...] = ()
    task: "asyncio.Task[None] | None" = field(default=None, repr=False)


class Matcher:
    """Runs matching jobs one after the other and keeps their results."""

    def __init__(self, registry: RunRegistry, worker: InferenceWorker) -> None:
        self._runs = registry
        self._worker = worker
        self._jobs: dict[str, _MatchingJob] = {}
        self._maxima: dict[tuple[str, tuple[Path, ...]], dict[str, Maps]] = {}
        self._lock = asyncio.Lock()

    def start(self, request: MatchRequest) -> Matching:
        """Start to match two layers; a job that is running or done is not started again."""
        left, right = self._runs[request.left], self._runs[request.right]
        left.layer(request.left_layer)
        right.layer(request.right_layer)
        job_id = f"{left.id}.{request.left_layer}.{right.id}.{request.right_layer}"
        job = self._jobs.get(job_id)
        if job is None or job.state == "failed":
            paths = common_images(left, right)
            job = _MatchingJob(request, total=len(paths) * len({left.id, right.id}))
            self._jobs[job_id] = job
            job.task = asyncio.get_running_loop().create_task(self._run_job(job, paths))
        return _progress(job_id, job)

    def find(self, job_id: str) -> Matching | None:
        """Return the progress of a job; None: there is no such job."""
        return _progress(job_id, self._jobs[job_id]) if job_id in self._jobs else None

    async def close(self) -> None:
        """Cancel unfinished jobs."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None and not job.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run_job(self, job: _MatchingJob, paths: tuple[Path, ...]) -> None:
        left, right = self._runs[job.request.left], self._runs[job.request.right]
        try:
            async with self._lock:
                maxima = [await self._maxima_of(run, paths, job) for run in (left, right)]
            names = (left.layer(job.request.left_layer).info.name, right.layer(job.request.right_layer).info.name)
            layers = [each[name] for each, name in zip(maxima, names, strict=True)]
            labels = [_labels(run, name) for run, name in zip((left, right), names, strict=True)]
            job.pairs = match_units(correlations(layers[0], layers[1]), labels[0], labels[1])
            job.done, job.state = job.total, "done"
        except NetdissectError as error:
            job.state, job.message = "failed", str(error)

    async def _maxima_of(self, run: OpenRun, paths: tuple[Path, ...], job: _MatchingJob) -> dict[str, Maps]:
        if (run.id, paths) not in self._maxima:
            batches: list[dict[str, Maps]] = []
            for start in range(0, len(paths), BATCH):
                batch = paths[start : start + BATCH]
                batches.append(await self._worker.run(partial(self._batch_maxima, run, batch), patient=True))
                job.done += len(batch)
            self._maxima[run.id, paths] = {
                name: np.concatenate([maxima[name] for maxima in batches], axis=1) for name in run.result.layers
            }
        return self._maxima[run.id, paths]

    def _batch_maxima(self, run: OpenRun, paths: Sequence[Path]) -> dict[str, Maps]:
        """Return the largest activation of each unit in each image, float32 (U, B), by layer."""
        network = run.result.info.network
        pixels = np.stack([network_input(open_as_dissected(path), network) for path in paths])
        return {name: maps.max(axis=(2, 3)).T for name, maps in self._worker.maps(run, pixels).items()}


def common_images(left: OpenRun, right: OpenRun) -> tuple[Path, ...]:
    """Return a sample, by a fixed seed, of the images that either run's tables name, in a fixed order."""
    paths = sorted({image_path(run, index) for run in (left, right) for index in run.image_names})
    return tuple(sorted(Random(SEED).sample(paths, min(SAMPLE_SIZE, len(paths)))))  # noqa: S311 - a sample, no secret


def correlations(left: Maps, right: Maps) -> Floats:
    """Return Pearson's correlation of every unit of the left layer with every unit of the right layer.

    Parameters
    ----------
    left, right
        float32 (U, n), (V, n): a value of each unit for each image.

    Returns
    -------
    float64 (U, V)
        0 for a unit that has the same value everywhere.
    """
    return np.asarray(_standardized(left) @ _standardized(right).T)


def match_units(
    correlation: Floats, left_labels: Sequence[str | None], right_labels: Sequence[str | None]
) -> tuple[MatchedUnits, ...]:
    """Return for each unit on the left the unit on the right of highest correlation, best pair first."""
    best, back = correlation.argmax(axis=1), correlation.argmax(axis=0)
    pairs = [
        MatchedUnits(
            left_unit=unit,
            left_label=left_labels[unit],
            right_unit=int(other),
            right_label=right_labels[int(other)],
            correlation=float(correlation[unit, other]),
            mutual=bool(back[other] == unit),
        )
        for unit, other in enumerate(best)
    ]
    return tuple(sorted(pairs, key=lambda pair: (-pair.correlation, pair.left_unit)))


def _standardized(values: Maps) -> Floats:
    centered = values.astype(np.float64) - values.mean(axis=1, keepdims=True, dtype=np.float64)
    length = np.linalg.norm(centered, axis=1, keepdims=True)
    # A constant unit has a nonzero length only by rounding.
    constant = length <= 1e-9 * (1 + np.abs(values).max(axis=1, keepdims=True, initial=0))
    return np.where(constant, 0.0, centered / np.where(constant, 1.0, length))


def _labels(run: OpenRun, layer: str) -> list[str | None]:
    quantile = run.result.info.config.protocol.quantiles[0]
    units = run.result.layer(layer).units.filter(pl.col("quantile") == quantile).sort("unit")
    return units["label"].to_list()


def _progress(job_id: str, job: _MatchingJob) -> Matching:
    sides = len({job.request.left, job.request.right})
    return Matching(
        id=job_id, state=job.state, message=job.message, images=job.total // sides, done=job.done, total=job.total,
        pairs=job.pairs,
    )  # fmt: skip
