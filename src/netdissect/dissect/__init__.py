"""One run: from a network and a data set to a result, in pieces that can be resumed.

The room has the name of its function, so the module itself can be called:
``netdissect.dissect(network, concepts, layers=[...])`` is `netdissect.dissect.run.dissect`.
"""

import sys
from types import ModuleType
from typing import Any

from netdissect.dissect.run import dissect
from netdissect.result import Result

__all__ = ["dissect"]


class _Room(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Result:
        return dissect(*arguments, **options)


# Importing a submodule binds it in its package: a function of that name in `netdissect` would not stay there.
sys.modules[__name__].__class__ = _Room
