"""Intervals, hold-out, permutation tests and multiple testing of IoU."""
