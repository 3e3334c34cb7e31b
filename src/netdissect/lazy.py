"""The public names of a package: listed once, in its type stub, and loaded when they are first used.

Type checkers and editors read ``__init__.pyi``; `attach` reads the same file at run time. The form is that of SPEC 1 of
Scientific Python: each line is ``from .module import name as name``, or ``from . import module as module``.
"""

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from netdissect.close_matches import did_you_mean


class _Package(ModuleType):
    """A package whose public names stay: importing the submodule ``dissect`` would replace the function `dissect`."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in self.__all__ or value is not sys.modules.get(f"{self.__name__}.{name}"):
            super().__setattr__(name, value)


def attach(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make ``__getattr__``, ``__dir__`` and ``__all__`` of a package from the stub beside its ``__init__.py``.

    Parameters
    ----------
    package
        Its ``__name__``.
    file
        Its ``__file__``.
    """
    stub = ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8"))
    homes = {alias.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}.{did_you_mean(name, homes)}", name=name)
        home = homes[name]
        value = getattr(import_module(f"{package}.{home}"), name) if home else import_module(f"{package}.{name}")
        vars(sys.modules[package])[name] = value
        return value

    sys.modules[package].__class__ = _Package
    return load, lambda: sorted(homes), sorted(homes)
