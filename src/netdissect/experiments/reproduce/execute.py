"""The paper at full size: every experiment that one's own networks and data allow, and what it will cost.

    full_plan(networks, concepts, config, out) -> lines to read first
    full_paper(networks, concepts, config, out=...) -> outcomes

full_job.py     networks, data, files, and what a dissection of them takes
full_parts.py   each experiment: what it takes, or what is missing for it, and how it is carried out
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic

from netdissect.config import Progress
from netdissect.errors import ConfigError
from netdissect.experiments.outcome import ExperimentResult
from netdissect.experiments.reproduce.job import Cost, ReproduceJob
from netdissect.experiments.reproduce.reproduce_config import ReproduceConfig
from netdissect.experiments.reproduce.requirements import PARTS
from netdissect.models import Network


def reproduce_plan(
    networks: Sequence[Network], concepts: str | Path, config: ReproduceConfig, out: str | Path
) -> Iterator[str]:
    """Check the inputs, and say for every experiment of the paper what it takes or what is missing for it.

    Parameters
    ----------
    networks, concepts, config
        What is asked, and of what.
    out
        Folder of the outcomes; nothing is written.

    Yields
    ------
    str
        A line for the data, one or more for each experiment, and one for time and disk.

    Raises
    ------
    NetdissectError
        If the data set, a network, a layer or a file cannot be used.
    """
    job = _job(networks, concepts, config, out)
    yield f"{len(job.data):,} images, {len(job.data.concepts):,} concepts of {', '.join(job.data.categories)}"
    costs: list[Cost] = []
    for name, part in PARTS.items():
        for cost in part(job).costs:
            costs.append(cost)
            yield f"{name}: {cost.words}{_about(cost.seconds)}"
    disk, free = max(cost.disk for cost in costs), shutil.disk_usage(job.place).free
    seconds = sum(cost.seconds for cost in costs)
    yield (
        f"All of it: {_told(seconds)} of forward passes and training, as timed here; reading pictures and counting "
        "labels comes besides, which 'netdissect estimate' predicts for a dissection. At most "
        f"{disk / 1e9:.3g} GB on disk at a time, and {free / 1e9:.3g} GB are free."
    )


def reproduce(
    networks: Sequence[Network],
    concepts: str | Path,
    config: ReproduceConfig,
    *,
    out: str | Path,
    progress: Progress | None = None,
) -> Iterator[ExperimentResult]:
    """Carry out the experiments for which nothing is missing.

    Yields
    ------
    Outcome
        With the wall time of the whole experiment as ``seconds["all"]``; runs are kept below ``OUT/NAME/runs``.
    """
    job = _job(networks, concepts, config, out, progress)
    for name, part in PARTS.items():
        if progress:
            progress("experiments", list(PARTS).index(name), len(PARTS))
        started, run = monotonic(), part(job).run
        if run is None:
            continue
        outcome = run()
        outcome.seconds["all"] = round(monotonic() - started, 1)
        yield outcome
    if progress:
        progress("experiments", len(PARTS), len(PARTS))


def _job(
    networks: Sequence[Network],
    concepts: str | Path,
    config: ReproduceConfig,
    out: str | Path,
    progress: Progress | None = None,
) -> ReproduceJob:
    if len(config.layers) not in (1, len(networks)):
        raise ConfigError(
            f"{len(config.layers)} layers were named for {len(networks)} networks. Expected one for all, or one for "
            "each."
        )
    return ReproduceJob(networks, concepts, config, Path(out), progress)


def _about(seconds: float) -> str:
    return f"; {_told(seconds)}" if seconds else ""


def _told(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"about {seconds / size:.2g} {unit}"
    return f"about {max(1, round(seconds))} s"
