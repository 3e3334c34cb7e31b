"""What every benchmark that runs whole processes needs."""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from netdissect.cli.allocator import keep_freed_memory


@dataclass(frozen=True)
class Pairs:
    """Median seconds of two ways of doing something, measured in turn."""

    left: float
    right: float
    ratio: float


def interleaved(left: Callable[[], object], right: Callable[[], object], pairs: int) -> Pairs:
    """Time two functions in turn, after one round to warm up."""
    left(), right()
    times = [(_seconds(left), _seconds(right)) for _ in range(pairs)]
    lefts, rights = zip(*times, strict=True)
    return Pairs(statistics.median(lefts), statistics.median(rights), statistics.median(a / b for a, b in times))


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def prepared() -> None:
    """Set this process up as the command line does."""
    keep_freed_memory()


def peak_memory() -> int:
    """Return the largest memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
