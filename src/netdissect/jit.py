"""Compile loops, and keep the machine code for the next process, wherever this one may write."""

import atexit
import functools
import os
import shutil
import stat
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba.core import caching

_njit: Any = numba.njit
_FunctionCode: Any = caching.CompileResultCacheImpl
_FunctionCache: Any = caching.FunctionCache
# By position: some versions of Numba begin the names of these classes with an underscore.
_Provided, _InPackage, _UserWide, *_ = _FunctionCode._locator_classes


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a loop when it is first called, or take what an earlier process compiled.

    The code is kept in ``NUMBA_CACHE_DIR`` where that is set, beside the installed package, or else in the user's cache
    folder. Where none of these can be written, as in a container without a home, the code is kept in a temporary
    folder until this process ends. A folder of a fixed name, which others could have filled beforehand, is no place
    for code: a cache folder that others may write is not used.
    """
    return _kept(_njit(nogil=True, no_cfunc_wrapper=True)(function), function)


def compiled_in_place(function: Callable[..., Any]) -> Any:
    """Compile a loop that makes no array, as `compiled` does: all that it writes are arrays that it was given.

    Its callers hold these arrays, so nothing counts references to them. That takes a fifth off the time to compile
    the scoring kernel, and a quarter off the time that it takes itself. A function that is `inlined` into such loops
    is no part of others: those would count the references to an array that it returns.
    """
    return _kept(_njit(nogil=True, no_cfunc_wrapper=True, _nrt=False)(function), function)


def _kept(loop: Any, function: Callable[..., Any]) -> Any:
    if hasattr(loop, "_cache"):  # not where Numba is told not to compile
        loop._cache = _Cache(function)
    return loop


def inlined(function: Callable[..., Any]) -> Any:
    """Make a piece of compiled loops a part of its callers: as calls, those of the scoring kernel took twice as long.

    What the compiler makes vector code of by itself is better `compiled`. Wrappers for callers in Python would
    take a third of the time to compile.
    """
    return _njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


class _UserFolder(_UserWide):  # type: ignore[misc, valid-type]
    """A folder of netdissect in the user's cache folder, if nobody else may write it."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        super().__init__(py_func, py_file)
        self._folder = _user_folder()
        self._cache_path = str(self._folder / self.get_suitable_cache_subpath(py_file))

    def ensure_cache_path(self) -> None:
        """Make the folder.

        Raises
        ------
        OSError
            If it cannot be written, or others may write it.
        """
        for folder in (self._folder, Path(self._cache_path)):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_private(folder):
                raise PermissionError(f"{folder} can be written by others")
        super().ensure_cache_path()


def _user_folder() -> Path:
    try:
        from platformdirs import user_cache_path
    except ModuleNotFoundError:  # where only what computes is installed
        return _temporary_folder()
    return user_cache_path("netdissect") / "compiled"


def _is_private(folder: Path) -> bool:
    """Tell whether a folder belongs to this user, and nobody else may write it; known on POSIX only."""
    if not hasattr(os, "getuid"):
        return True
    found = folder.lstat()
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


class _TemporaryFolder(_UserFolder):
    """A new folder, which is removed when this process ends."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        super().__init__(py_func, py_file)
        self._folder = _temporary_folder()
        self._cache_path = str(self._folder / self.get_suitable_cache_subpath(py_file))


@functools.cache
def _temporary_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="netdissect-numba-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    warnings.warn(
        "neither the installed package nor the user's cache folder can be written by this user alone: loops are "
        "compiled anew in each process, which takes some seconds. Set NUMBA_CACHE_DIR to a folder that only you can "
        "write.",
        stacklevel=2,
    )
    return Path(folder)


class _Code(_FunctionCode):  # type: ignore[misc]
    """Where the machine code of one function is kept: the first of these folders that can be written."""

    _locator_classes = (_Provided, _InPackage, _UserFolder, _TemporaryFolder)


class _Cache(_FunctionCache):  # type: ignore[misc]
    """Compiles again where machine code finds no room on the disk, or is of a version with other types."""

    _impl_class = _Code

    def save_overload(self, *compiled_code: Any) -> None:
        """Keep machine code, if there is room for it."""
        with suppress(OSError):
            super().save_overload(*compiled_code)

    def load_overload(self, *signature: Any) -> Any:
        """Return machine code, or None."""
        try:
            return super().load_overload(*signature)
        except (AttributeError, ImportError):  # Numba reads the types before it sees that the source has changed
            with suppress(OSError):
                self.flush()
            return None
