"""Memory that was freed goes back to the system."""

import ctypes
import sys


def return_freed_memory() -> None:
    """Return the pages of freed memory to the system, where the C library is glibc.

    Notes
    -----
    It keeps freed memory below what is still used, as the command line even asks it to, because a forward pass soon
    uses it again. Tables use other sizes, and polars has memory of its own: before the tables of 65,536 latents are
    made, 0.5 GB are free.
    """
    if not sys.platform.startswith("linux"):
        return
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
