"""Units of two layers matched by what excites them: how their largest activations go together over images.

Both networks look at a sample of the images that the runs' tables of top images name. The maxima of a run are
computed once and kept; matching is a job that can be asked how far it is.
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
from netdissect.explorer.run_registry import OpenRun, RunRegistry
from netdissect.explorer.schemas import MatchedUnits, Matching, MatchRequest
from netdissect.explorer.thumbnails import as_dissected, image_path
from netdissect.explorer.uploads import network_input

Floats = npt.NDArray[np.float64]
Maps = npt.NDArray[np.float32]

SAMPLE = 256
"""Images that both networks look at."""
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
    """Matches units, one job after the other, and keeps what was found."""

    def __init__(self, shelf: RunRegistry, sight: InferenceWorker) -> None:
        self._shelf = shelf
        self._sight = sight
        self._jobs: dict[str, _MatchingJob] = {}
        self._maxima: dict[tuple[str, tuple[Path, ...]], dict[str, Maps]] = {}
        self._turn = asyncio.Lock()

    def start(self, request: MatchRequest) -> Matching:
        """Begin to match two layers; a job that runs or is done is not begun again."""
        left, right = self._shelf[request.left], self._shelf[request.right]
        left.layer(request.left_layer)
        right.layer(request.right_layer)
        name = f"{left.id}.{request.left_layer}.{right.id}.{request.right_layer}"
        job = self._jobs.get(name)
        if job is None or job.state == "failed":
            paths = common_images(left, right)
            job = _MatchingJob(request, total=len(paths) * len({left.id, right.id}))
            self._jobs[name] = job
            job.task = asyncio.get_running_loop().create_task(self._carry_out(job, paths))
        return _answer(name, job)

    def find(self, name: str) -> Matching | None:
        """Return how far a job is; None: there is none."""
        return _answer(name, self._jobs[name]) if name in self._jobs else None

    async def close(self) -> None:
        """Give unfinished jobs up."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None and not job.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry_out(self, job: _MatchingJob, paths: tuple[Path, ...]) -> None:
        left, right = self._shelf[job.request.left], self._shelf[job.request.right]
        try:
            async with self._turn:
                maxima = [await self._maxima_of(run, paths, job) for run in (left, right)]
            names = (left.layer(job.request.left_layer).info.name, right.layer(job.request.right_layer).info.name)
            columns = [each[name] for each, name in zip(maxima, names, strict=True)]
            labels = [_labels(run, name) for run, name in zip((left, right), names, strict=True)]
            job.pairs = matched(correlations(columns[0], columns[1]), labels[0], labels[1])
            job.done, job.state = job.total, "done"
        except NetdissectError as error:
            job.state, job.message = "failed", str(error)

    async def _maxima_of(self, run: OpenRun, paths: tuple[Path, ...], job: _MatchingJob) -> dict[str, Maps]:
        if (run.id, paths) not in self._maxima:
            parts: list[dict[str, Maps]] = []
            for start in range(0, len(paths), BATCH):
                batch = paths[start : start + BATCH]
                parts.append(await self._sight.run(partial(self._look, run, batch), patient=True))
                job.done += len(batch)
            self._maxima[run.id, paths] = {
                name: np.concatenate([part[name] for part in parts], axis=1) for name in run.result.layers
            }
        return self._maxima[run.id, paths]

    def _look(self, run: OpenRun, paths: Sequence[Path]) -> dict[str, Maps]:
        """Return the largest activation of each unit in each image, float32 (U, B), of each layer."""
        network = run.result.info.network
        pixels = np.stack([network_input(as_dissected(path), network) for path in paths])
        return {name: maps.max(axis=(2, 3)).T for name, maps in self._sight.maps(run, pixels).items()}


def common_images(left: OpenRun, right: OpenRun) -> tuple[Path, ...]:
    """Draw a sample of the images that either run's tables name, in a fixed order."""
    paths = sorted({image_path(run, row) for run in (left, right) for row in run.image_names})
    return tuple(sorted(Random(SEED).sample(paths, min(SAMPLE, len(paths)))))  # noqa: S311 - a sample, no secret


def correlations(left: Maps, right: Maps) -> Floats:
    """Return Pearson's correlation of every unit on the left with every one on the right.

    Parameters
    ----------
    left, right
        float32 (U, n), (V, n): a value for each unit and image.

    Returns
    -------
    float64 (U, V)
        0 for a unit that has the same value everywhere.
    """
    return np.asarray(_standard(left) @ _standard(right).T)


def matched(
    found: Floats, left_labels: Sequence[str | None], right_labels: Sequence[str | None]
) -> tuple[MatchedUnits, ...]:
    """Return for each unit on the left the best on the right, highest correlation first."""
    best, back = found.argmax(axis=1), found.argmax(axis=0)
    pairs = [
        MatchedUnits(
            left_unit=unit,
            left_label=left_labels[unit],
            right_unit=int(other),
            right_label=right_labels[int(other)],
            correlation=float(found[unit, other]),
            mutual=bool(back[other] == unit),
        )
        for unit, other in enumerate(best)
    ]
    return tuple(sorted(pairs, key=lambda pair: (-pair.correlation, pair.left_unit)))


def _standard(values: Maps) -> Floats:
    centered = values.astype(np.float64) - values.mean(axis=1, keepdims=True, dtype=np.float64)
    length = np.linalg.norm(centered, axis=1, keepdims=True)
    # What rounding leaves of a constant is no signal.
    silent = length <= 1e-9 * (1 + np.abs(values).max(axis=1, keepdims=True, initial=0))
    return np.where(silent, 0.0, centered / np.where(silent, 1.0, length))


def _labels(run: OpenRun, layer: str) -> list[str | None]:
    quantile = run.result.info.config.protocol.quantiles[0]
    units = run.result.layer(layer).units.filter(pl.col("quantile") == quantile).sort("unit")
    return units["label"].to_list()


def _answer(name: str, job: _MatchingJob) -> Matching:
    sides = len({job.request.left, job.request.right})
    return Matching(
        id=name, state=job.state, message=job.message, images=job.total // sides, done=job.done, total=job.total,
        pairs=job.pairs,
    )  # fmt: skip
