"""Runs that the tests of this room show."""

from shown_runs import camvid, data_set, make_result, no_detectors, reference, result, with_statistics

__all__ = ["camvid", "data_set", "make_result", "no_detectors", "reference", "result", "with_statistics"]
