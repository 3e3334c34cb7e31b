"""Statistics of IoU over images: confidence intervals, hold-out, permutation test, multiple testing.

per-image counts -> bootstrap.py (labels, detector counts), jackknife.py (IoU), holdout.py (IoU of chosen labels)
masks and labels -> permutation.py -> multiple_testing.py (p-values, false discovery rate)
"""
