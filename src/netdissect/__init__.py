"""Network Dissection: say what the single units of a vision network have learned.

    concepts -> models -> synthetic -> activations -> scoring -> result -> plots -> dissect -> training -> evaluation
             -> experiments -> report -> explorer -> cli

The public names are those of ``__init__.pyi``. Each is loaded when it is first used, so that reading a result never
waits for torch. `dissect` and `report` are functions; modules of the packages of that name are imported as
``from netdissect.dissect.verify import repair``.
"""

from typing import Any

from netdissect.lazy import attach

_load, __dir__, __all__ = attach(__name__, __file__)


def __getattr__(name: str) -> Any:
    """Return a public name, or the version: finding it takes a sixth of the start of the command line."""
    if name != "__version__":
        return _load(name)
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("netdissect")
    except PackageNotFoundError:  # its source is on the path, as on a machine without package registries
        return "0+source"
