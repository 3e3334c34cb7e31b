"""Forked processes of the campaigns.

One that does not end shows where all its threads stand, and is killed. Compiled loops that one has loaded are loaded in
the parent: that takes two thirds of the time of a small run, and is done once instead of in every child.
"""

import faulthandler
import importlib
import os
import pickle
import signal
import sys
import time
from pathlib import Path
from typing import IO

from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher

PATIENCE = 60.0  # seconds for what takes one or two
PAUSE = 0.002  # seconds between looks


def show_stacks_on_request(file: IO[str]) -> None:
    """Let this process write the stacks of its threads into an open file when `ended` asks for them."""
    faulthandler.register(signal.SIGUSR1, file=file, all_threads=True)


def ended(child: int, within: float = PATIENCE) -> int | None:
    """Wait for a process and return its exit code, or minus the signal that ended it; None: it hung, and was killed."""
    for _ in range(round(within / PAUSE)):  # not until some time: both processes may have been stopped for a while
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(PAUSE)
    os.kill(child, signal.SIGUSR1)
    time.sleep(1)  # while it writes
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def note_loops(file: Path) -> None:
    """Note which compiled loops of netdissect this process has loaded, and for which types."""
    loops = {
        (module.__name__, name): loop.signatures
        for module in list(sys.modules.values())
        if module.__name__.startswith("netdissect.")
        for name, loop in vars(module).items()
        if isinstance(loop, Dispatcher) and isinstance(loop._cache, FunctionCache)
    }
    file.write_bytes(pickle.dumps(loops))


def load_loops(file: Path) -> None:
    """Load the compiled loops that another process has noted."""
    for (module, name), signatures in pickle.loads(file.read_bytes()).items():  # noqa: S301  this file is our own
        loop = getattr(importlib.import_module(module), name)
        for types in signatures:
            loop.compile(types)
