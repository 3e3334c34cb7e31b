"""One run: from a network and a data set to a result, in pieces that can be resumed.

The room has the name of its function, so the module itself can be called:
``netdissect.dissect(network, concepts, layers=[...])`` is `netdissect.dissect.run.dissect`. It is loaded when it is
first used, so that modules of this room that need no torch do not wait for it.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netdissect.dissect.run import dissect as dissect
    from netdissect.result import Result

__all__ = ["dissect"]


def __getattr__(name: str) -> Any:
    if name != "dissect":
        raise AttributeError(f"module 'netdissect.dissect' has no attribute {name!r}")
    return import_module("netdissect.dissect.run").dissect


class _Room(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> "Result":
        found: Result = __getattr__("dissect")(*arguments, **options)
        return found


# Importing a submodule binds it in its package: a function of that name in `netdissect` would not stay there.
sys.modules[__name__].__class__ = _Room
