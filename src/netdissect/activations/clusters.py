"""The best clusters of the activations of one unit: k-means of numbers, exactly.

Clusters of numbers are intervals, so that the best ones are found by dynamic programming over the sorted values, in
O(K n log n): the best end of the cluster before the last does not fall as values are added.

Source: La Rosa et al. 2023 :cite:p:`larosa2023towards` (ranges of activations from k-means).
"""

import numpy as np
import numpy.typing as npt

from netdissect.jit import compiled

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def cluster_bounds(values: npt.NDArray[np.float32], clusters: int) -> npt.NDArray[np.float32]:
    """Split the activations of one unit into the clusters with the least sum of squares around their means.

    Parameters
    ----------
    values
        float32 (n,), in any order. Zeros are left out if no value is below 0.
    clusters
        Number of clusters, K.

    Returns
    -------
    float32 (K, 2)
        Smallest and largest value of each cluster, rising; NaN for the last ones if fewer values are distinct.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) and distinct[0] >= 0:
        distinct, counts = distinct[distinct > 0], counts[distinct > 0]
    bounds = np.full((clusters, 2), np.nan, np.float32)
    found = min(clusters, len(distinct))
    if found:
        numbers, weights = distinct.astype(np.float64), counts.astype(np.float64)
        firsts = _firsts(numbers - np.average(numbers, weights=weights), weights, found)
        bounds[:found] = np.column_stack([distinct[firsts], distinct[np.append(firsts[1:], len(distinct)) - 1]])
    return bounds


@compiled
def _firsts(numbers: Floats, weights: Floats, clusters: int) -> Ints:
    """Return the index of the first of the rising numbers in each of the best clusters."""
    count = len(numbers)
    sums = np.zeros((count + 1, 3))
    for index in range(count):
        weight, number = weights[index], numbers[index]
        sums[index + 1, 0] = sums[index, 0] + weight
        sums[index + 1, 1] = sums[index, 1] + weight * number
        sums[index + 1, 2] = sums[index, 2] + weight * number * number
    before, first_of_last = np.zeros(count + 1), np.zeros((clusters, count + 1), np.int32)
    for stop in range(1, count + 1):
        before[stop] = _spread(sums, 0, stop)
    for cluster in range(1, clusters):
        before = _add_cluster(sums, before, cluster, first_of_last[cluster])
    firsts, stop = np.zeros(clusters, np.int64), count
    for cluster in range(clusters - 1, 0, -1):
        stop = first_of_last[cluster, stop]
        firsts[cluster] = stop
    return firsts


@compiled
def _add_cluster(sums: Floats, before: Floats, cluster: int, firsts: npt.NDArray[np.int32]) -> Floats:
    """Return the least spread of the numbers before each index with one more cluster; write where the last begins."""
    least = np.full(len(before), np.inf)
    open_ranges = np.empty((128, 4), np.int64)  # of indices, and of where the last cluster can begin for these
    open_ranges[0] = np.array([cluster + 1, len(before) - 1, cluster, len(before) - 2])
    depth = 1
    while depth:
        depth -= 1
        low, high, earliest, latest = open_ranges[depth]
        if low > high:
            continue
        stop = (low + high) // 2
        best = earliest
        for first in range(earliest, min(latest, stop - 1) + 1):
            spread = before[first] + _spread(sums, first, stop)
            if spread < least[stop]:
                least[stop], best = spread, first
        firsts[stop] = best
        open_ranges[depth] = np.array([low, stop - 1, earliest, best])
        open_ranges[depth + 1] = np.array([stop + 1, high, best, latest])
        depth += 2
    return least


@compiled
def _spread(sums: Floats, first: int, stop: int) -> float:
    """Return the sum of squares around their mean of the numbers from first to before stop."""
    weight, total = sums[stop, 0] - sums[first, 0], sums[stop, 1] - sums[first, 1]
    return float(sums[stop, 2] - sums[first, 2] - total * total / weight)
