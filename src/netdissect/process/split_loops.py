"""Compiled loops over units or images, divided among threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")

LEAST_CELLS = 2**16
"""Cells of activation maps for which another thread pays: a loop takes 0.1 to 0.3 ms for them, a thread 0.05 ms."""


class SplitLoops:
    """Runs loops that release the interpreter lock.

    Parameters
    ----------
    threads
        Threads at once, the calling one among them.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="netdissect-loop") if threads > 1 else None

    def run(self, loop: Callable[[int, int], T], length: int, cells: int) -> list[T]:
        """Call a loop with the first and the end of consecutive ranges, which together are all of `length`.

        Parameters
        ----------
        loop
            Called from several threads at once.
        length
            Units or images.
        cells
            Cells of all of them, which say how many threads pay.

        Returns
        -------
        list
            What it returned, in the order of the ranges.
        """
        parts = max(1, min(self._threads, length, cells // LEAST_CELLS))
        ends = [length * part // parts for part in range(parts + 1)]
        if self._pool is None or parts == 1:
            return [loop(0, length)]
        others = [self._pool.submit(loop, *part) for part in pairwise(ends[1:])]
        return [loop(0, ends[1]), *(other.result() for other in others)]


ONE_THREAD = SplitLoops()
