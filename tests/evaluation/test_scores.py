"""Scores of labels at image level against scikit-learn, scipy, brute force and the published definitions."""

import math

import numpy as np
import pytest
import scipy
import sklearn.metrics

from netdissect.evaluation import scores
from netdissect.evaluation.image_scores import ImageLevel, Pairs
from netdissect.evaluation.label_metrics import metrics_at

IMAGES, SHARE = 60, 0.1


def drawn(graded=False):
    """Return activations with ties, and the presence of labels, of ten pairs."""
    random = np.random.default_rng(3)
    activations = np.maximum(random.normal(size=(IMAGES, 10)), 0).round(1).astype(np.float32)
    presence = (random.random((IMAGES, 10)) < np.linspace(0.05, 0.9, 10)).astype(np.float64)
    return activations, presence * random.integers(1, 4, presence.shape) / 4 if graded else presence


def columns(score, *arrays):
    return [score(*(array[:, pair] for array in arrays)) for pair in range(arrays[0].shape[1])]


def by_definition(activations):
    """The active images of one unit: those at or above the last of its ceil(share * images) largest activations."""
    cutoff = sorted(activations, reverse=True)[math.ceil(SHARE * len(activations)) - 1]
    return np.array([value >= cutoff for value in activations])


def test_the_active_images_are_those_of_the_largest_activations_with_ties():
    activations, _ = drawn()
    active = scores.active_images(activations, SHARE)
    assert (active == np.stack(columns(by_definition, activations), axis=1)).all()
    assert scores.active_images(np.zeros((5, 1)), 0.2).all(), "a unit that is zero everywhere is active everywhere"


def test_iou_and_f1_are_those_of_scikit_learn():
    activations, presence = drawn()
    active = scores.active_images(activations, SHARE)
    assert scores.iou(activations, presence, SHARE) == pytest.approx(
        columns(sklearn.metrics.jaccard_score, presence, active)
    )
    assert scores.f1(activations, presence, SHARE) == pytest.approx(columns(sklearn.metrics.f1_score, presence, active))


@pytest.mark.parametrize("graded", [False, True])
def test_average_precision_is_that_of_scikit_learn_with_the_active_images_as_truth(graded):
    activations, presence = drawn(graded)
    expected = columns(sklearn.metrics.average_precision_score, scores.active_images(activations, SHARE), presence)
    assert scores.average_precision(activations, presence, SHARE) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("graded", [False, True])
def test_correlation_and_cosine_are_those_of_scipy(graded):
    activations, presence = drawn(graded)
    assert scores.correlation(activations, presence) == pytest.approx(
        columns(lambda *pair: scipy.stats.pearsonr(*pair).statistic, activations.astype(float), presence), rel=1e-12
    )
    assert scores.cosine(activations, presence) == pytest.approx(
        columns(lambda *pair: 1 - scipy.spatial.distance.cosine(*pair), activations.astype(float), presence), rel=1e-6
    )


def test_auroc_is_that_of_scikit_learn_with_the_label_as_truth():
    activations, presence = drawn()
    expected = columns(sklearn.metrics.roc_auc_score, presence, activations)
    assert scores.auroc(activations, presence) == pytest.approx(expected, rel=1e-12)


def test_mad_is_the_difference_of_the_two_means():
    activations, presence = drawn()
    expected = [
        activations[presence[:, pair] == 1, pair].mean(dtype=float)
        - activations[presence[:, pair] == 0, pair].mean(dtype=float)
        for pair in range(10)
    ]
    assert scores.mean_activation_difference(activations, presence) == pytest.approx(expected, rel=1e-12)


def test_a_constant_unit_and_a_label_of_no_image_or_of_all_have_a_score():
    constant, none, everywhere = np.full((4, 1), 0.1, np.float32), np.zeros((4, 1)), np.ones((4, 1))
    rising = np.arange(4.0)[:, None]
    for left, right in ((constant, np.eye(4)[:, :1]), (rising, none), (rising, everywhere)):
        assert scores.correlation(left, right) == 0
    assert scores.cosine(rising, none) == 0
    assert scores.auroc(rising, none) == scores.auroc(rising, everywhere) == 0.5
    assert scores.iou(rising, none) == scores.f1(rising, none) == 0
    assert scores.mean_activation_difference(rising, none) == -1.5


PUBLISHED = {
    0.499: {"correlation": -0.2111, "cosine": -0.1465, "iou": -0.5, "f1": -1 / 3, "auroc": -0.1662},
    0.1: {"correlation": -0.1559, "iou": -0.5, "f1": -1 / 3, "auroc": -0.0263},
    0.01: {"correlation": -0.1474, "iou": -0.5, "f1": -1 / 3, "auroc": -0.0025},
}
"""Mean change of the score of a perfect unit with half of the labels missing, as a part of the range of the metric, in
the published notebook of the theoretical sanity check."""
RANGES = {"correlation": 2, "cosine": 2, "iou": 1, "f1": 1, "auroc": 1}


@pytest.mark.parametrize("frequency", PUBLISHED)
def test_a_perfect_unit_with_missing_labels_loses_what_is_published(frequency):
    unit = (np.arange(100_000) < round(frequency * 100_000)).astype(float)[:, None]
    labels = unit * (np.arange(len(unit)) % 2)[:, None]
    for name, change in PUBLISHED[frequency].items():
        score = getattr(scores, name)
        found = (score(unit, labels) - score(unit, unit)) / RANGES[name]
        assert found.item() == pytest.approx(change, abs=1e-3), name


@pytest.mark.parametrize("metric", metrics_at("images"), ids=lambda metric: metric.name)
def test_pairs_that_share_units_in_any_order_have_the_scores_of_each_pair_alone(metric):
    activations, shares = drawn(graded=True)
    images = ImageLevel(activations, shares, np.arange(IMAGES) % 2 == 0, SHARE)
    random = np.random.default_rng(0)
    pairs = Pairs(random.integers(0, 10, 300), random.integers(0, 10, 300))
    alone = [
        images.score(metric, Pairs(*(np.array([number]) for number in pair))).item()
        for pair in zip(*pairs, strict=True)
    ]
    assert images.score(metric, pairs) == pytest.approx(alone, rel=1e-12, abs=1e-15)
