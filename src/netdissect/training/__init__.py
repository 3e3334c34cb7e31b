"""Small networks trained on synthetic or own images, for the experiments."""

from netdissect.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
