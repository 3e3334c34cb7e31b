"""The clusters of activations are those of the best partition, by trying all."""

from itertools import combinations

import numpy as np
import pytest

from netdissect.activations.clusters import cluster_bounds


def best_spread(values: list[float], clusters: int) -> float:
    """Return the least sum of squares of all partitions of sorted values into as many intervals."""
    ordered = sorted(values)
    found = []
    for cuts in combinations(range(1, len(ordered)), clusters - 1):
        parts = [ordered[i:j] for i, j in zip((0, *cuts), (*cuts, len(ordered)), strict=True)]
        found.append(sum(sum((x - sum(part) / len(part)) ** 2 for x in part) for part in parts))
    return min(found)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("clusters", [2, 3, 5])
def test_clusters_have_the_least_spread_of_all_partitions(seed: int, clusters: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=13).astype(np.float32)
    if seed % 2:
        values = np.round(values * 2) / 2  # some are equal
    values[0] = -3  # zeros count
    values = values[: max(clusters, 13 - seed)]
    distinct = len(np.unique(values))
    bounds = cluster_bounds(values, clusters)
    known = bounds[: min(clusters, distinct)]
    inside = [values[(low <= values) & (values <= high)] for low, high in known]
    assert sorted(np.concatenate(inside)) == sorted(values)
    assert all(part.min() == low and part.max() == high for part, (low, high) in zip(inside, known, strict=True))
    spread = sum(float(((part.astype(float) - part.astype(float).mean()) ** 2).sum()) for part in inside)
    assert spread == pytest.approx(best_spread(values.tolist(), min(clusters, len(values))), abs=1e-12)


def test_fewer_values_than_clusters_leave_the_last_ranges_empty() -> None:
    bounds = cluster_bounds(np.array([2, 1, 2, -1], np.float32), 5)
    assert bounds[:3].tolist() == [[-1, -1], [1, 1], [2, 2]]
    assert np.isnan(bounds[3:]).all()
    assert np.isnan(cluster_bounds(np.zeros(4, np.float32), 2)).all()


def test_zeros_are_left_out_where_no_value_is_below_zero() -> None:
    values = np.array([0, 0, 0, 1, 2, 9, 10], np.float32)
    assert cluster_bounds(values, 2).tolist() == [[1, 2], [9, 10]]
    assert cluster_bounds(np.append(values, np.float32(-0.5)), 2).tolist() == [[-0.5, 2], [9, 10]]
