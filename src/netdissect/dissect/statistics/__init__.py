"""Statistics of one run: intervals, extra metrics, the permutation null."""
