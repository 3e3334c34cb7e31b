"""Ctrl-C that cannot leave a lock acquired, on the command line and in functions that start threads."""

import _thread
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], None]

MODULES = {"concurrent", "logging", "queue", "threading"}
METHODS = {"__enter__", "__exit__", "acquire", "release"}
PAUSE = 0.001  # seconds until the next try
MAX_TRIES = 50  # at the same instruction: the main thread waits there, and may be interrupted


def spare_locks() -> Handler | None:
    """Delay Ctrl-C while the main thread acquires or releases a lock, until the process ends.

    Returns
    -------
    callable or None
        Handles Ctrl-C now. None: nothing changes, because this is another thread, or other code handles or ignores it.

    Notes
    -----
    Python raises `KeyboardInterrupt` between any two instructions of the main thread, also within
    ``threading.Condition`` after a lock is acquired and before ``with`` registers it: the lock is never released.
    Thread pools use such locks: a worker then waits for one forever, and the pool waits for the worker. A loop that
    only submitted work, interrupted every millisecond or two, hung within half a minute.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return None
    handler = _sparing_handler()
    signal.signal(signal.SIGINT, handler)
    return handler


@contextmanager
def locks_spared() -> Iterator[None]:
    """Do the same for the time of a function that starts threads; `asyncio.run` replaces the handler alike."""
    handler = spare_locks()
    try:
        yield
    finally:
        if handler is not None and signal.getsignal(signal.SIGINT) is handler:  # not one that was set meanwhile
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _sparing_handler() -> Handler:
    """Return a handler of the main thread that raises `KeyboardInterrupt` as soon as it takes no lock."""
    last, tries, main = (0, 0), 0, _thread.get_ident()

    def retry() -> None:
        time.sleep(PAUSE)
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(main, signal.SIGINT)  # wakes a thread that waits for a lock
        else:
            _thread.interrupt_main()

    def interrupt(_number: int, frame: FrameType | None) -> None:
        nonlocal last, tries
        if frame is not None and takes_locks(frame):
            here = (id(frame), frame.f_lasti)
            last, tries = here, tries + 1 if here == last else 0
            if tries < MAX_TRIES:
                _thread.start_new_thread(retry, ())  # a thread of `threading` would acquire locks
                return
        tries = 0
        raise KeyboardInterrupt

    return interrupt


def takes_locks(frame: FrameType) -> bool:
    """Return whether a function acquires or releases locks itself."""
    module = str(frame.f_globals.get("__name__")).partition(".")[0]
    return module in MODULES or frame.f_code.co_name in METHODS
