"""Spare Python's garbage collector the objects of freshly loaded libraries, none of which is garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def left_alone() -> Iterator[None]:
    """Load libraries without collecting; what has been loaded is never looked at again.

    Notes
    -----
    Torch alone makes some hundred thousand objects, which the collector would go through again and again as they
    grow in number: 0.2 s of the second that loading them takes.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
