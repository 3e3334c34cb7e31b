"""Compile loops, and keep the machine code for the next process, wherever this one may write."""

import atexit
import functools
import os
import pickle
import shutil
import stat
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import numba
from numba.core import caching, codegen, compiler, compiler_machinery, typed_passes, untyped_passes
from numba.core.registry import cpu_target

_njit: Any = numba.njit
_Library: Any = codegen.JITCodeLibrary
_Lowering: Any = typed_passes.NativeLowering
_Compiler: Any = compiler.CompilerBase
_register_pass: Any = compiler_machinery.register_pass
_PassManager: Any = compiler_machinery.PassManager
_usual_passes: Any = compiler.DefaultPassBuilder.define_nopython_pipeline
_make_function: Any = numba._dynfunc.make_function  # type: ignore[attr-defined]
_FunctionCode: Any = caching.CompileResultCacheImpl
_FunctionCache: Any = caching.FunctionCache
_Files: Any = caching.IndexDataCacheFile
UNREADABLE = (AttributeError, ImportError, EOFError, pickle.UnpicklingError)
"""What reading code raises that is cut short, or of a version with other types."""
# By position: some versions of Numba begin the names of these classes with an underscore.
_Provided, _InPackage, _UserWide, *_ = _FunctionCode._locator_classes


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a loop when it is first called, or take what an earlier process compiled.

    The code is kept in ``NUMBA_CACHE_DIR`` where that is set, beside the installed package, or else in the user's cache
    folder. Where none of these can be written, as in a container without a home, the code is kept in a temporary
    folder until this process ends. A folder of a fixed name, which others could have filled beforehand, is no place
    for code: a cache folder that others may write is not used.
    """
    return _kept(_njit(nogil=True, no_cfunc_wrapper=True)(function), _Cache(function))


def compiled_in_place(function: Callable[..., Any]) -> Any:
    """Compile a loop that makes no array, as `compiled` does: all that it writes are arrays that it was given.

    Its callers hold these arrays, so nothing counts references to them. That takes a fifth off the time to compile
    the scoring kernel, and a quarter off the time that it takes itself. A function that is `inlined` into such loops
    is no part of others: those would count the references to an array that it returns.
    """
    loop = _njit(nogil=True, no_cfunc_wrapper=True, _nrt=False, pipeline_class=_LoopCompiler)(function)
    return _kept(loop, _InPlaceCache(function))


def _kept(loop: Any, cache: "_Cache") -> Any:
    if hasattr(loop, "_cache"):  # not where Numba is told not to compile
        loop._cache = cache
    return loop


def inlined(function: Callable[..., Any]) -> Any:
    """Make a piece of compiled loops a part of its callers: as calls, those of the scoring kernel took twice as long.

    What the compiler makes vector code of by itself is better `compiled`. Wrappers for callers in Python would
    take a third of the time to compile. A piece becomes machine code within its callers alone.
    """
    options = {"forceinline": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return _njit(**options, pipeline_class=_PieceCompiler)(function)


def is_missing(loop: Any, types: tuple[Any, ...]) -> bool:
    """Tell whether the cache outlasts this process and has no code of a loop for these types of arguments."""
    return hasattr(loop, "_cache") and loop._cache.lacks(types)


def expect(loop: Any, types: tuple[Any, ...], wait: Callable[[], None]) -> None:
    """Call `wait` once before the code of a loop for these types is searched for in the cache."""
    loop._cache.awaited[types] = wait


def prepare_compiler() -> None:
    """Load what the first compilation, or the first code from the cache, needs."""
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()


class _LoopLibrary(_Library):  # type: ignore[misc]
    """The code of a loop, optimized once.

    By default Numba optimizes each function, then their module to prune counts of references, which such loops do not
    have, then the module again. Half of the time that LLVM took went there.
    """

    OPTIMIZATION = 2
    """As `clang -O2`: the loops of a run take as long as with 3, and 5 % less time to compile."""

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        passes, builder = self._codegen._module_pass_manager(opt=self.OPTIMIZATION)
        passes.run(self._final_module, builder)


class _PieceLibrary(_LoopLibrary):
    """The code of a piece of loops, which is optimized, and made machine code, as a part of each loop alone."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


@_register_pass(mutates_CFG=True, analysis_only=False)
class _LoopLowering(_Lowering):  # type: ignore[misc]
    """Write the code of a loop."""

    _name, library_class = "loop_lowering", _LoopLibrary

    def run_pass(self, state: Any) -> bool:
        """Lower a function."""
        state.library = self.library_class(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return bool(super().run_pass(state))


@_register_pass(mutates_CFG=True, analysis_only=False)
class _PieceLowering(_LoopLowering):
    """Write the code of a piece of loops, without machine code of its own."""

    _name, library_class = "piece_lowering", _PieceLibrary

    def run_pass(self, state: Any) -> bool:
        """Lower a function."""
        state.flags.no_compile = True
        super().run_pass(state)
        function, kept = state.cr.fndesc, (state.library,)
        # Callers know a piece by this. Its address, 0, is never called: a piece has no wrapper for Python.
        known_by = _make_function(function.lookup_module(), function.qualname, "", 0, state.cr.env, kept)
        state.targetctx.insert_user_function(known_by, function, kept)
        state["cr"] = state.cr._replace(cfunc=known_by)
        return True


class _LoopCompiler(_Compiler):  # type: ignore[misc]
    """Compiles loops that make no array.

    They have neither closures nor expressions of whole arrays: to look for these takes a tenth of the time.
    """

    REPLACED: ClassVar[dict[Any, Any]] = {
        untyped_passes.InlineClosureLikes: None,
        typed_passes.NopythonRewrites: None,
        _Lowering: _LoopLowering,
    }

    def define_pipelines(self) -> list[Any]:
        """Return the passes over a function."""
        usual = _usual_passes(self.state)
        manager = _PassManager(usual.pipeline_name)
        for usual_pass, description in usual.passes:
            chosen = self.REPLACED.get(usual_pass, usual_pass)
            if chosen is not None:
                manager.add_pass(chosen, description)
        manager.finalize()
        return [manager]


class _PieceCompiler(_LoopCompiler):
    """Compiles pieces of loops."""

    REPLACED: ClassVar[dict[Any, Any]] = _LoopCompiler.REPLACED | {_Lowering: _PieceLowering}


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


class _CodeFiles(_Files):  # type: ignore[misc]
    """An index of machine code, and files that it names once they are written.

    Numba names a file first, by a number that an older version of the source used, too: a process that was killed
    between the two, or found no room on the disk, left an index by which later processes ran the code of that version.
    """

    def save(self, key: Any, code: Any) -> None:
        """Keep machine code, and remove what the index no longer names."""
        name = self._data_name(uuid4().int)
        self._save_data(name, code)
        index = self._load_index() | {key: name}
        self._save_index(index)
        for path in Path(self._cache_path).glob(self._data_name_pattern.replace("{number:d}", "*")):
            if path.name not in index.values():
                path.unlink(missing_ok=True)


class _Cache(_FunctionCache):  # type: ignore[misc]
    """Compiles again where machine code finds no room on the disk, or cannot be read."""

    _impl_class = _Code

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _CodeFiles(self._cache_path, self._impl.filename_base, stamp)
        self.awaited: dict[Any, Callable[[], None]] = {}

    def lacks(self, types: tuple[Any, ...]) -> bool:
        """Tell whether a later process will find no code for these types of arguments, and could."""
        if isinstance(self._impl.locator, _TemporaryFolder):
            return False
        try:
            name = self._cache_file._load_index().get(self._index_key(types, cpu_target.target_context.codegen()))
        except (*UNREADABLE, OSError):
            return True
        return name is None or not Path(self._cache_path, name).exists()

    def save_overload(self, *compiled_code: Any) -> None:
        """Keep machine code, if there is room for it."""
        with suppress(OSError):
            super().save_overload(*compiled_code)

    def load_overload(self, *signature: Any) -> Any:
        """Return machine code, or None."""
        self.awaited.pop(signature[0], bool)()
        try:
            return self._loaded(*signature)
        except UNREADABLE:  # Numba reads the types before it sees that the source has changed
            with suppress(OSError):
                self.flush()
            return None

    def _loaded(self, *signature: Any) -> Any:
        return super().load_overload(*signature)


class _InPlaceCache(_Cache):
    """Takes the code of loops that make no array from the cache alone.

    Numba first imports all that it can compile, and its runtime for arrays, which such code does not call. Without
    that, all loops of a default run are loaded in 0.04 in place of 0.33 s.
    """

    def _loaded(self, *signature: Any) -> Any:
        with self._guard_against_spurious_io_errors():
            return self._load_overload(*signature)
