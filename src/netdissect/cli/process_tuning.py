"""What the processes of the command line set before they begin: memory, threads and the garbage collector."""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of glibc's mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**30
SPINS = 10_000
"""Looks for work before a thread sleeps: longer than from one operation of a forward pass to the next, some 0.1 ms."""


def tune_malloc() -> None:
    """Ask the C library to reuse what was freed, instead of giving it back and having it cleared again.

    Notes
    -----
    A forward pass allocates and frees tens of megabytes for every operation. By default each of them is
    mapped anew, and the kernel clears every page: on EfficientNet-Lite0 that took two thirds of the
    processor time. Where the C library is not glibc, nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST)
        mallopt(M_TRIM_THRESHOLD, LARGEST)


def tune_openmp() -> None:
    """Have the threads of a forward pass leave the processor soon after it, unless the user says otherwise.

    Notes
    -----
    GNU OpenMP, with which torch computes, looks for work 300,000 times before a thread sleeps: some milliseconds, in
    which the threads that take in a batch have one processor less. It reads the variable when torch is
    imported; elsewhere nothing is changed.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


@contextmanager
def freeze_gc() -> Iterator[None]:
    """Load libraries without collecting garbage; what has been loaded is never looked at again.

    Notes
    -----
    Torch alone makes some hundred thousand objects, none of which is garbage. The collector would go through them again
    and again as they grow in number: 0.2 s of the second that loading them takes.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
