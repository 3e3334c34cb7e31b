"""Runs that the tests of this room show."""

from shown_runs import camvid, make_result, nothing, reference, result, sure, world

__all__ = ["camvid", "make_result", "nothing", "reference", "result", "sure", "world"]
