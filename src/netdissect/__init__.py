"""Network Dissection: say what the single units of a vision network have learned.

    concepts -> models -> synthetic -> activations -> scoring -> result -> plots -> dissect -> training -> experiments
             -> report -> explorer -> cli

The public names are those of ``__init__.pyi``. Each is loaded when it is first used, so that reading a result never
waits for torch. `dissect` and `report` are functions; modules of the packages of that name are imported as
``from netdissect.dissect.verify import repair``.
"""

from importlib.metadata import PackageNotFoundError, version

from netdissect.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
try:
    __version__ = version("netdissect")
except PackageNotFoundError:  # its source is on the path, as on a machine without package registries
    __version__ = "0+source"
