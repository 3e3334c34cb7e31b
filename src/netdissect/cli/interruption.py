"""Ctrl-C that cannot leave a lock behind, in the processes of the command line."""

import _thread
import signal
import time
from types import FrameType

MODULES = {"concurrent", "logging", "queue", "threading"}
METHODS = {"__enter__", "__exit__", "acquire", "release"}
PAUSE = 0.001  # seconds until the next try
WAITING = 50  # tries at the same instruction: the main thread waits there, which may be interrupted


def spare_locks() -> None:
    """Let Ctrl-C wait for as long as the main thread is taking or giving back a lock.

    Notes
    -----
    Python raises `KeyboardInterrupt` between any two instructions of the main thread, those of ``threading.Condition``
    among them: there the lock is taken, ``with`` does not know of it yet, and it is never given back. Pools of threads
    use such locks. A worker then waits for one for ever, and the pool, which is being closed, waits for the worker.
    A loop that does nothing but submit work, interrupted every millisecond or two, hung within half a minute.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # ignored, or somebody else's
    place, tries, main = (0, 0), 0, _thread.get_ident()

    def again() -> None:
        time.sleep(PAUSE)
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(main, signal.SIGINT)  # wakes a thread that waits for a lock
        else:
            _thread.interrupt_main()

    def interrupt(_number: int, frame: FrameType | None) -> None:
        nonlocal place, tries
        if frame is not None and takes_locks(frame):
            here = (id(frame), frame.f_lasti)
            place, tries = here, tries + 1 if here == place else 0
            if tries < WAITING:
                _thread.start_new_thread(again, ())  # to start one of `threading` would take locks
                return
        tries = 0
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)


def takes_locks(frame: FrameType) -> bool:
    """Tell whether a function takes or gives back locks itself."""
    module = str(frame.f_globals.get("__name__")).partition(".")[0]
    return module in MODULES or frame.f_code.co_name in METHODS
