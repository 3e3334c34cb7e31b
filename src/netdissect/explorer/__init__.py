"""The live explorer: finished runs in a browser, with what needs computing.

    runs -> Shelf -> answers (JSON, described by OpenAPI) -> pages that ask for them
                  -> Sight: a network looks at an image
                  -> Matcher: units of two runs by what excites them
                  -> Ratings: what people say of a unit's label

    guard       foreign hosts and origins are refused, nothing is loaded from elsewhere
    app         the parts put together
    server      a port, and an end by Ctrl-C

Needs the extra ``serve`` (FastAPI, uvicorn).
"""

from netdissect.extras import need
from netdissect.lazy import attach

for _module in ("fastapi", "uvicorn"):
    need(_module, "serve", "The explorer")

__getattr__, __dir__, __all__ = attach(__name__, __file__)
