"""The live explorer: finished runs in a browser, with what needs computing.

    runs -> Shelf -> answers (JSON, described by OpenAPI) -> pages that ask for them
                  -> Sight: a network looks at a picture
                  -> Matcher: units of two runs by what excites them
                  -> Ratings: what people say of a unit's label

    guard       foreign hosts and origins are refused, nothing is loaded from elsewhere
    app         the parts put together
    server      a port, and an end by Ctrl-C

Needs the extra ``serve`` (FastAPI, uvicorn). The room has the name of its function, so the module itself can be
called: ``netdissect.serve(["runs/one"])`` is `netdissect.serve.server.serve`.
"""

import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from netdissect.errors import ConfigError

for _needed in ("fastapi", "uvicorn"):
    if find_spec(_needed) is None:
        raise ConfigError(
            f"the explorer needs {_needed}, which is not installed. Install it: pip install 'netdissect[serve]'."
        )

from netdissect.serve.app import create_app, guarded  # noqa: E402
from netdissect.serve.server import serve  # noqa: E402

__all__ = ["create_app", "guarded", "serve"]


class _Room(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> None:
        serve(*arguments, **options)


# Importing a submodule binds it in its package: a function of that name in `netdissect` would not stay there.
sys.modules[__name__].__class__ = _Room
