"""Settings of the process: malloc, OpenMP threads and the garbage collector."""

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
"""Spins before a thread sleeps: some 0.1 ms, longer than the gap between two operations of a forward pass."""


def tune_malloc() -> None:
    """Let the C library reuse freed memory instead of returning it to the kernel.

    Notes
    -----
    A forward pass allocates and frees tens of megabytes for every operation. By default each allocation is
    mapped again and the kernel clears every page: on EfficientNet-Lite0 that took two thirds of the processor time.
    Without glibc nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST)
        mallopt(M_TRIM_THRESHOLD, LARGEST)


def tune_openmp() -> None:
    """Let OpenMP threads sleep soon after a forward pass, unless the environment sets a policy.

    Notes
    -----
    Threads of GNU OpenMP, which torch uses, spin 300,000 times before they sleep: some milliseconds, in which the
    threads that process a batch have fewer processors. OpenMP reads the variable when torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


@contextmanager
def freeze_gc() -> Iterator[None]:
    """Disable the garbage collector while libraries are loaded, and exclude their objects from later collections.

    Notes
    -----
    Torch makes some hundred thousand objects, none of which is garbage. Repeated collections take 0.2 s of the second
    of loading.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
