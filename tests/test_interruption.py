"""Ctrl-C never leaves a lock behind, and ends what waits for one."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netdissect.process.interruption import locks_spared, spare_locks

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


def run_alone(function: str, *arguments: object) -> None:
    """Call a function of this module in a process of its own: an interruption that it misses must not end the tests."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {__name__} as tests\ntests.{function}(*{arguments})"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("spared", [False, True])
def test_a_lock_that_was_just_acquired_is_released(spared: bool) -> None:
    run_alone("interrupt_at_a_lock", spared)


def interrupt_at_a_lock(spared: bool) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if spared:
        spare_locks()
    lock = Lock()
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        held(lock)
    assert lock.taken
    assert lock.given_back is spared


def test_waiting_for_another_thread_ends() -> None:
    run_alone("interrupt_what_waits")


def interrupt_what_waits() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
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


def test_a_function_spares_locks_while_it_runs_in_the_main_thread_alone() -> None:
    default = signal.default_int_handler
    with locks_spared():
        outer = signal.getsignal(signal.SIGINT)
        assert outer is not default
        with locks_spared():
            assert signal.getsignal(signal.SIGINT) is outer
        assert signal.getsignal(signal.SIGINT) is outer
    assert signal.getsignal(signal.SIGINT) is default
    found: list[object] = []

    def spared() -> None:
        with locks_spared():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=spared)
    thread.start()
    thread.join()
    assert found == [default]


def test_a_handler_that_is_set_within_the_function_stays() -> None:
    def own(*_: object) -> None: ...

    with locks_spared():
        signal.signal(signal.SIGINT, own)
    assert signal.getsignal(signal.SIGINT) is own


def test_an_interrupted_dissection_from_python_leaves_no_lock_behind_and_the_handler_as_it_was(tmp_path: Path) -> None:
    run_alone("interrupt_a_dissection", str(tmp_path))


def interrupt_a_dissection(folder: str) -> None:
    import strategies
    from netdissect.dissect import dissect
    from networks import COVERAGE, SIDE, build, images

    signal.signal(signal.SIGINT, signal.default_int_handler)
    data = strategies.write_broden(Path(folder), images(count=4), COVERAGE, image=(SIDE, SIDE))
    lock = Lock()

    def interrupt(*_: object) -> None:
        held(lock)

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        dissect(build(), data, layers="fc", batch_size=4, progress=interrupt)
    assert lock.taken
    assert lock.given_back
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
