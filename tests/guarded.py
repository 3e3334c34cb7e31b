"""Compiled functions as plain Python, in which no index may leave its array.

A compiled loop does not look whether an index lies within its array: it reads, or writes, what lies there in memory.
NumPy looks, but takes negative indices from the end and cuts slices short. Here both are errors, too.
"""

import functools
import importlib
import sys
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core.registry import CPUDispatcher

import netdissect


class Guarded(np.ndarray[Any, Any]):
    """An array that refuses indices and slices beyond its ends."""

    def __getitem__(self, key: Any) -> Any:
        check(key, self.shape)
        return super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        check(key, self.shape)
        super().__setitem__(key, value)


def check(key: Any, shape: tuple[int, ...]) -> None:
    """Refuse an index that leaves an array of this shape."""
    parts = key if isinstance(key, tuple) else (key,)
    for part, size in zip(parts, shape, strict=False):
        if isinstance(part, (int, np.integer)):
            inside = bool(0 <= part < size)
        elif isinstance(part, slice):
            start, stop = (
                default if end is None else int(end) for end, default in ((part.start, 0), (part.stop, size))
            )
            inside = part.step is None and 0 <= start <= stop <= size
        else:
            inside = bool(np.all((np.asarray(part) >= 0) & (np.asarray(part) < size)))
        if not inside:
            raise IndexError(f"{key} leaves an array of the shape {shape}")


def guarded(value: Any) -> Any:
    """Guard arrays, and those in tuples."""
    return _viewed(value, Guarded)


def plain(value: Any) -> Any:
    """Undo it."""
    return _viewed(value, np.ndarray)


def _viewed(value: Any, kind: type) -> Any:
    if isinstance(value, np.ndarray):
        return value.view(kind)
    if isinstance(value, tuple):
        found = [_viewed(part, kind) for part in value]
        return type(value)(*found) if hasattr(value, "_fields") else tuple(found)
    return value


class GuardedNumPy:
    """NumPy, all of whose new arrays are guarded."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        if isinstance(found, type) or not callable(found):
            return found
        return lambda *args, **options: guarded(found(*map(plain, args), **options))


def guard_all(monkeypatch: pytest.MonkeyPatch) -> tuple[set[str], Counter[str]]:
    """Put guarded functions in place of all compiled ones.

    Returns
    -------
    names
        Of the compiled functions.
    calls
        How often each was called since.
    """
    root = Path(netdissect.__path__[0])
    sources = [path for path in root.rglob("*.py") if "netdissect.jit import" in path.read_text(encoding="utf-8")]
    for source in sources:
        importlib.import_module(".".join(("netdissect", *source.relative_to(root).with_suffix("").parts)))
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "netdissect"]
    places = [
        (module, name, value)
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, CPUDispatcher)
    ]
    calls: Counter[str] = Counter()
    known: dict[int, Callable[..., Any]] = {}
    for _, _, compiled in places:
        if id(compiled) not in known:
            known[id(compiled)] = _guarded_function(compiled.py_func, known, calls)
    for module, name, compiled in places:
        monkeypatch.setattr(module, name, known[id(compiled)])
    return {_name(compiled.py_func) for _, _, compiled in places}, calls


def _name(function: Any) -> str:
    return f"{function.__module__}.{function.__name__}"


def _guarded_function(function: Any, known: dict[int, Callable[..., Any]], calls: Counter[str]) -> Callable[..., Any]:
    @functools.cache
    def built() -> Callable[..., Any]:
        names = {name: known.get(id(value), value) for name, value in function.__globals__.items()}
        return types.FunctionType(function.__code__, names | {"np": GuardedNumPy()})

    @functools.wraps(function)
    def called(*args: Any) -> Any:
        calls[_name(function)] += 1
        with np.errstate(over="ignore"):  # hashes wrap, as they do when compiled
            return plain(built()(*map(guarded, args)))

    return called
