"""What a pixel means: concepts, the data sets that carry them, and their builders."""

from netdissect.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
