"""One run: from a network and a data set to a result, in pieces that can be resumed."""

from netdissect.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
