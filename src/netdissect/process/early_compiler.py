"""Compile loops in other processes while this one loads libraries, network and data.

A process is forked before anything has started a thread: it shares all that was loaded, and the compiler, so that it
costs no second start. What it compiles goes to the cache of compiled loops. This process takes it from there, and
waits for it where it comes first. What the other process leaves out, this one compiles itself, as without it.
"""

import atexit
import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from netdissect.jit import expect, is_missing, prepare_compiler
from netdissect.process.cores import available_cores

LoopTypes = tuple[Any, tuple[Any, ...]]
"""A compiled loop and the types of its arguments."""


def compile_early(shares: Iterable[Sequence[LoopTypes]]) -> list["EarlyCompiler"]:
    """Start a process for each share of loops that no earlier process compiled.

    Returns
    -------
    list
        The processes; empty where all loops are in the cache, where the cache does not outlast this process, or where
        no process can be forked: not on Linux, with one processor, after a thread was started, or beyond a limit on
        processes or memory.
    """
    if not _can_fork():
        return []
    needed = [[job for job in share if is_missing(*job)] for share in shares]
    if any(needed):
        prepare_compiler()  # once for all processes
    started = [_start(share) for share in needed if share]
    return [process for process in started if process is not None]


def _can_fork() -> bool:
    """Tell whether a process can be forked safely and would have a processor."""
    alone = threading.active_count() == 1 and "torch" not in sys.modules
    return sys.platform == "linux" and alone and available_cores() > 1


class EarlyCompiler:
    """A process that compiles loops in order, and how many it has compiled.

    Attributes
    ----------
    pid
        The process; None after it has ended.
    """

    def __init__(self, pid: int, pipe: int, loops: int) -> None:
        self.pid: int | None = pid
        self._pipe, self._compiled, self._loops = pipe, 0, loops
        atexit.register(self.stop)

    def wait(self, count: int) -> None:
        """Wait until so many loops are in the cache, or the process has ended."""
        while self.pid is not None and self._compiled < count:
            written = len(os.read(self._pipe, 64))
            self._compiled += written
            if not written or self._compiled == self._loops:
                self.stop()

    def stop(self) -> None:
        """End the process."""
        if self.pid is None:
            return
        pid, self.pid = self.pid, None
        os.close(self._pipe)
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _start(share: Sequence[LoopTypes]) -> EarlyCompiler | None:
    """Fork a process that compiles these loops; None: none can be started, by a limit on processes or memory."""
    reading, writing = os.pipe()
    parent = os.getpid()
    # A Ctrl-C at the fork would end the run twice: here, and in the copy, with what is written or removed at the end.
    usual = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        pid = _fork()
        if pid == 0:
            _compile_and_exit(share, writing, usual, lambda: os.getppid() == parent)
        process = EarlyCompiler(pid, reading, len(share))
    except OSError:
        os.close(reading)
        return None
    finally:
        os.close(writing)
        signal.pthread_sigmask(signal.SIG_SETMASK, usual)
    for number, (loop, types) in enumerate(share, 1):
        expect(loop, types, partial(process.wait, number))
    return process


def _fork() -> int:
    with warnings.catch_warnings():
        # Python 3.12 warns of threads: those of NumPy's matrix products, which end before a fork.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _compile_and_exit(
    share: Sequence[LoopTypes], pipe: int, signals: Iterable[int], is_awaited: Callable[[], bool]
) -> None:
    """Compile loops, silently; each is announced by one byte."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        gc.disable()
        silence = os.open(os.devnull, os.O_RDWR)
        while pipe <= 2:  # where a standard stream was closed, the pipe has its number
            pipe = os.dup(pipe)
        for stream in range(3):
            os.dup2(silence, stream)
        for loop, types in share:
            if not is_awaited():
                break
            loop.compile(types)
            os.write(pipe, b".")
    finally:
        os._exit(0)
