"""IQR thresholds, against joint distributions that are counted pixel by pixel."""

import itertools
import math

import numpy as np
import pytest

from netdissect.scoring.iqr.information_quality import FRACTIONS, best_iqr, information_quality


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
    quantiles = np.array([0.01, 0.05, 0.3])
    thresholds = np.stack([np.quantile(values.reshape(4, -1), 1 - q, axis=1) for q in quantiles]).astype(np.float32)
    masks = values > thresholds[:, :, None, None]
    hits = np.stack([(masks & (labels == label)).sum(axis=(2, 3)) for label in (1, 2, 3)], axis=2)
    active = np.repeat(masks.sum(axis=(2, 3))[:, :, None], 3, axis=2)
    concept = np.bincount(labels.ravel(), minlength=4)[1:]
    found = best_iqr(hits, active, concept, np.full(3, labels.size), thresholds)
    for unit in range(4):
        candidates = []
        for index, label in itertools.product(range(3), (1, 2, 3)):
            mask, truth = masks[index, unit], labels == label
            if thresholds[index, unit] > 0 and (mask == truth).mean() > 0.8:
                candidates.append((ratio_of_pixels(mask, truth), index, label - 1))
        best = max(candidates)
        assert found.iqr[unit] == pytest.approx(best[0], rel=1e-9)
        assert (found.quantile[unit], found.concept[unit]) == best[1:]


def test_independent_truth_values_have_0_and_equal_ones_1() -> None:
    counts = [np.array(each) for each in ([8, 50, 0, 0], [20, 50, 0, 50], [40, 50, 0, 50], 100)]
    assert information_quality(*counts) == pytest.approx([0, 1, 0, 1], abs=1e-12)


def test_a_unit_without_a_pair_that_qualifies_has_none() -> None:
    pair, zero = np.array([[[5]]]), np.zeros((1, 1), np.float32)
    found = best_iqr(pair, 2 * pair, np.array([10]), np.array([100]), zero)
    assert (found.quantile[0], found.concept[0], found.iqr[0]) == (-1, 0, 0.0)
    nothing = best_iqr(pair[..., :0], pair[..., :0], np.empty(0, np.int64), np.empty(0, np.int64), zero)
    assert nothing.quantile.tolist() == [-1]


def test_fractions_are_the_published_ones_up_to_one_half() -> None:
    assert len(FRACTIONS) == 90
    assert FRACTIONS[0] == pytest.approx(0.001)
    assert FRACTIONS[1] / FRACTIONS[0] == pytest.approx(1000 ** (1 / 99))
    assert FRACTIONS[-1] <= 0.5 < FRACTIONS[-1] * 1000 ** (1 / 99)
