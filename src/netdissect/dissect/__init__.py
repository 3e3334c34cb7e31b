"""One run: from a network and a data set to a result, in pieces that can be resumed."""

from netdissect.dissect.run import dissect

__all__ = ["dissect"]
