"""Ctrl-C never leaves a lock behind, and ends what waits for one."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from netdissect.cli.interruption import spare_locks

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Lock:
    """One that is interrupted at the worst moment: taken, and `with` does not know of it yet."""

    taken = given_back = False

    def __enter__(self) -> None:
        self.taken = True
        signal.raise_signal(signal.SIGINT)

    def __exit__(self, *_: object) -> None:
        self.given_back = True


def held(lock: Lock) -> None:
    with lock:
        time.sleep(30)


@pytest.mark.parametrize("spared", [False, True])
def test_a_lock_that_was_just_acquired_is_released(spared: bool) -> None:
    if spared:
        spare_locks()
    lock = Lock()
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        held(lock)
    assert lock.taken
    assert lock.given_back is spared


def test_waiting_for_another_thread_ends() -> None:
    spare_locks()
    done, main = threading.Event(), threading.main_thread().ident
    timer = threading.Timer(0.05, lambda: signal.pthread_kill(main or 0, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        done.wait(30)
    timer.join()
    done.set()  # its lock is free
    spare_locks()
    lock = Lock()
    with pytest.raises(KeyboardInterrupt, match=r"^$"):  # and the next interruption is another one
        held(lock)
    assert lock.given_back


def test_an_existing_interrupt_handler_stays() -> None:
    for handler in (signal.SIG_IGN, lambda *_: None):
        signal.signal(signal.SIGINT, handler)
        spare_locks()
        assert signal.getsignal(signal.SIGINT) is handler
