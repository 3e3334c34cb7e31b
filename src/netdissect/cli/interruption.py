"""Ctrl-C that cannot leave a lock acquired, in the processes of the command line."""

import _thread
import signal
import time
from types import FrameType

MODULES = {"concurrent", "logging", "queue", "threading"}
METHODS = {"__enter__", "__exit__", "acquire", "release"}
PAUSE = 0.001  # seconds until the next try
MAX_TRIES = 50  # at the same instruction: the main thread waits there, and may be interrupted


def spare_locks() -> None:
    """Delay Ctrl-C while the main thread acquires or releases a lock.

    Notes
    -----
    Python raises `KeyboardInterrupt` between any two instructions of the main thread, also within
    ``threading.Condition`` after a lock is acquired and before ``with`` registers it: the lock is never released.
    Thread pools use such locks: a worker then waits for one forever, and the pool waits for the worker. A loop that
    only submitted work, interrupted every millisecond or two, hung within half a minute.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # ignored, or handled by other code
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

    signal.signal(signal.SIGINT, interrupt)


def takes_locks(frame: FrameType) -> bool:
    """Return whether a function acquires or releases locks itself."""
    module = str(frame.f_globals.get("__name__")).partition(".")[0]
    return module in MODULES or frame.f_code.co_name in METHODS
