"""Map a function over items in order, in this process or in several."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import TypeVar

from netdissect.errors import ConceptsError

AHEAD = 8  # tasks queued for each worker: enough to keep it busy, few enough to hold in memory

In = TypeVar("In")
Out = TypeVar("Out")


def map_in_order(work: Callable[[In], Out], items: Iterable[In], workers: int | None) -> Iterator[Out]:
    """Map `work` over `items`, yielding results in order and reading only a few items ahead.

    Parameters
    ----------
    work
        The function. With several workers it and the items must be picklable.
    workers
        Processes; None or 1: this process.

    Raises
    ------
    ConceptsError
        If a worker process dies. Errors of `work` are raised as they are.
    """
    if workers is None or workers <= 1:
        yield from map(work, items)
        return
    # Fresh interpreters: forking a process whose threads hold locks (torch, BLAS) can hang.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_live_with_parent)
    try:
        waiting: deque[Future[Out]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise ConceptsError(
            "a worker process died: killed for lack of memory, or started by a script that does not call from under "
            "if __name__ == '__main__'. Expected all workers to live; run again with fewer workers."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _live_with_parent() -> None:
    """Ignore Ctrl-C, which the parent handles, and end when the parent ends or is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
