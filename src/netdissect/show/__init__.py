"""Where people look: tables, figures and the report. Reads results only, never a network.

`report` writes pages that open from disk, `plot` draws figures, `unit` shows one unit in a notebook, `tables` makes
tables for the terminal and counts as JSON. `outcomes` and `paper` write what experiments found.

Names are loaded when they are first used, so that a table in the terminal never waits for matplotlib. A module has
another name than its function.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netdissect.show import outcomes as outcomes
    from netdissect.show import paper as paper
    from netdissect.show import plot as plot
    from netdissect.show import tables as tables
    from netdissect.show.notebook import unit as unit
    from netdissect.show.reporting import report as report

_MODULES = ("outcomes", "paper", "plot", "tables")
_HOME = {"report": "reporting", "unit": "notebook"}

__all__ = [*_MODULES, *_HOME]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"netdissect.show.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'netdissect.show' has no attribute {name!r}")
    return getattr(import_module(f"netdissect.show.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
