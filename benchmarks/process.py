"""What every benchmark that runs whole processes needs."""

import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from netdissect.cli.process_tuning import tune_malloc


@dataclass(frozen=True)
class Pairs:
    """Medians of two ways of doing something, measured in turn.

    Attributes
    ----------
    left, right
        Seconds.
    ratio
        Of the seconds of each pair.
    computing
        The same of processor time, child processes included: other work on the machine disturbs it less.
    """

    left: float
    right: float
    ratio: float
    computing: float


def interleaved(left: Callable[[], object], right: Callable[[], object], pairs: int) -> Pairs:
    """Time two functions in turn, after one round to warm up."""
    left(), right()
    times = [(_seconds(left), _seconds(right)) for _ in range(pairs)]
    lefts, rights = ([pair[side][0] for pair in times] for side in (0, 1))
    ratios = ([a[kind] / b[kind] for a, b in times] for kind in (0, 1))
    return Pairs(*map(statistics.median, (lefts, rights, *ratios)))


def _seconds(function: Callable[[], object]) -> tuple[float, float]:
    """Return how long something takes, and how much processor time."""
    start, before = time.perf_counter(), sum(os.times()[:4])
    function()
    return time.perf_counter() - start, sum(os.times()[:4]) - before


def cpu_seconds(function: Callable[[], object]) -> float:
    """Return the processor time of this process while something runs."""
    before = time.process_time()
    function()
    return time.process_time() - before


def environment_of_users() -> dict[str, str]:
    """Return the environment of a process that is timed: with all cores, and with bytecode as pip leaves it."""
    return {name: value for name, value in os.environ.items() if name not in UNUSUAL}


UNUSUAL = ("OMP_NUM_THREADS", "PYTHONDONTWRITEBYTECODE")


def prepared() -> None:
    """Set this process up as the command line does."""
    tune_malloc()


def peak_memory() -> int:
    """Return the largest memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
