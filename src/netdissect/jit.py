"""Compile loops, and keep the machine code for the next process, wherever this one may write."""

import atexit
import shutil
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba

_njit: Any = numba.njit


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a loop when it is first called, or take what an earlier process compiled.

    Numba keeps the code beside the installed package or in the user's cache folder. Where neither can be written, as in
    a container without a home, it would not let the module be imported: then the code lies in a temporary folder until
    this process ends. A folder of a fixed name, which others could have filled beforehand, is no place for code.
    """
    try:
        loop = _njit(nogil=True, cache=True)(function)
    except RuntimeError:
        _use_temporary_folder()
        loop = _njit(nogil=True, cache=True)(function)
    return _with_safe_cache(loop)


def inlined(function: Callable[..., Any]) -> Any:
    """Make a piece of compiled loops a part of its callers: as calls, those of the scoring kernel took twice as long.

    What the compiler makes vector code of by itself is better `compiled`. Wrappers for callers in Python would
    take a third of the time to compile.
    """
    return _njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def _with_safe_cache(loop: Any) -> Any:
    """Compile a loop again where its machine code finds no room on the disk, or is of a version with other types."""
    cache = getattr(loop, "_cache", None)  # none where Numba is told not to compile
    if cache is None:
        return loop
    save, load = cache.save_overload, cache.load_overload

    def saved(*compiled_code: Any) -> None:
        with suppress(OSError):
            save(*compiled_code)

    def loaded(*signature: Any) -> Any:
        try:
            return load(*signature)
        except (AttributeError, ImportError):  # Numba reads the types before it sees that the source has changed
            with suppress(OSError):
                cache.flush()
            return None

    cache.save_overload, cache.load_overload = saved, loaded
    return loop


def _use_temporary_folder() -> None:
    folder = tempfile.mkdtemp(prefix="netdissect-numba-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    numba.config.CACHE_DIR = folder  # type: ignore[attr-defined]
    warnings.warn(
        "neither the installed package nor the user's cache folder can be written: loops are compiled anew in each "
        "process, which takes up to a minute. Set NUMBA_CACHE_DIR to a folder that only you can write.",
        stacklevel=4,
    )
