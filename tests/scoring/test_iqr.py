"""IQR thresholds, against joint distributions that are counted pixel by pixel."""

import itertools
import math

import numpy as np
import pytest

from netdissect.scoring.iqr import best_iqr, information_quality


def ratio_of_pixels(active: np.ndarray, concept: np.ndarray) -> float:
    """Return I / H of two truth values of each pixel, from a dictionary of pairs."""
    pairs = [*zip(active.ravel().tolist(), concept.ravel().tolist(), strict=True)]
    joint = {pair: pairs.count(pair) / len(pairs) for pair in set(pairs)}
    one = {value: sum(p for (a, _), p in joint.items() if a == value) for value in (False, True)}
    other = {value: sum(p for (_, c), p in joint.items() if c == value) for value in (False, True)}
    mutual = sum(p * math.log(p / (one[a] * other[c])) for (a, c), p in joint.items())
    entropy = -sum(p * math.log(p) for p in joint.values())
    return mutual / entropy if entropy else 0.0


@pytest.mark.parametrize("seed", range(5))
def test_threshold_and_label_of_a_unit_are_those_of_its_highest_ratio(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(0.3, 1, (4, 40, 25)).astype(np.float32)
    labels = np.zeros((40, 25), np.int64)
    labels[values[0] + rng.normal(0, 0.5, labels.shape) > 1.4] = 1
    labels[:, :2][rng.random((40, 2)) > 0.5] = 2
    labels[0, 24] = 3  # a thousandth of the pixels
    quantiles = np.array([0.3, 0.05, 0.01, 0.6])
    thresholds = np.stack([np.quantile(values.reshape(4, -1), 1 - q, axis=1) for q in quantiles]).astype(np.float32)
    masks = values > thresholds[:, :, None, None]
    hits = np.stack([(masks & (labels == label)).sum(axis=(2, 3)) for label in range(4)], axis=2)
    found = best_iqr(
        hits, masks.sum(axis=(2, 3)), np.bincount(labels.ravel(), minlength=4), labels.size, thresholds, quantiles
    )
    for unit in range(4):
        candidates = []
        for index, label in itertools.product(range(4), (1, 2, 3)):
            active, concept = masks[index, unit], labels == label
            if quantiles[index] <= 0.5 and thresholds[index, unit] > 0 and (active == concept).mean() > 0.8:
                candidates.append((ratio_of_pixels(active, concept), index, label))
        best = max(candidates)
        assert found.iqr[unit] == pytest.approx(best[0], rel=1e-9)
        assert (found.quantile[unit], found.label_id[unit]) == best[1:]


def test_independent_truth_values_have_0_and_equal_ones_1() -> None:
    ratios = information_quality(np.array([8, 50, 0, 0]), np.array([20, 50, 0, 50]), np.array([40, 50, 0, 50]), 100)
    assert ratios == pytest.approx([0, 1, 0, 1], abs=1e-12)


def test_a_unit_without_a_pair_that_qualifies_has_none() -> None:
    found = best_iqr(
        np.array([[[0, 5]]]), np.array([[10]]), np.array([90, 10]), 100, np.zeros((1, 1), np.float32), np.array([0.1])
    )
    assert (found.quantile[0], found.label_id[0], found.iqr[0]) == (-1, 0, 0.0)
