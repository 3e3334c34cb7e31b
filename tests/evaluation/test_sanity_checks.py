"""Sanity checks: what is dropped and added, the published outcomes where they are known, and brute force on pixels."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from netdissect.errors import ResultError
from netdissect.evaluation import sanity_checks
from netdissect.evaluation.image_scores import ImageLevel, Pairs
from netdissect.evaluation.label_metrics import METRICS_OF_LABELS, PASSING, metrics_at
from netdissect.evaluation.run_counts import PairPixels, concept_counts
from netdissect.evaluation.sanity_checks import (
    DrawnScores,
    best_pairs,
    checked_images,
    checked_pixels,
    sanity_row,
    with_extra_labels,
    with_missing_labels,
)
from netdissect.evaluation.scores import iou

PASS = {"iou", "f1", "average_precision", "correlation", "cosine", "simulation_correlation"}


def test_half_of_the_labels_are_missing_and_as_many_are_extra():
    shares = np.zeros((40, 3))
    shares[:7, 0], shares[:, 1], shares[:30, 2] = np.arange(1, 8) / 7, 1, 0.5
    missing = with_missing_labels(shares, np.random.default_rng(0))
    extra = with_extra_labels(shares, np.random.default_rng(0))
    assert (missing > 0).sum(axis=0).tolist() == [3, 20, 15]
    assert ((missing == shares) | (missing == 0)).all()
    assert (extra > 0).sum(axis=0).tolist() == [14, 40, 40]
    assert (extra[shares > 0] == shares[shares > 0]).all()
    assert sorted(extra[7:, 0][extra[7:, 0] > 0]) == pytest.approx(np.arange(1, 8) / 7)


def test_published_outcomes_of_the_metrics_are_those_that_they_are_marked_with():
    assert {metric.name for metric in METRICS_OF_LABELS if not metric.fails} == PASS
    assert {metric.name for metric in METRICS_OF_LABELS if metric.fails} == {"auroc", "mad"}


def test_perfect_units_of_rare_concepts_have_the_published_outcome(monkeypatch):
    """At frequencies of 0.499, 0.1, 0.01, 0.001 and 0.0001, as published; there over 500,000 images."""
    monkeypatch.setattr(sanity_checks, "DRAWS", 4)
    images = 20_000
    numbers = [round(images * frequency) for frequency in (0.499, 0.1, 0.01, 0.001, 0.0001)]
    labels = (np.arange(images)[:, None] < numbers).astype(np.float32)
    each = np.arange(len(numbers))
    found = checked_images(metrics_at("images"), labels, labels, Pairs(each, each), 1 / images, seed=0)
    for metric in metrics_at("images"):
        missing, _, extra, _ = found[metric.name].falls(averaged=False)
        published = metric.published
        assert (missing, extra) == pytest.approx((published.perfect_missing / 100, published.perfect_extra / 100))
        assert (min(missing, extra) >= PASSING) == (not metric.fails)


def test_a_unit_is_checked_with_the_concept_of_its_highest_iou_among_those_in_two_images():
    random = np.random.default_rng(0)
    images = ImageLevel(random.random((30, 4)), (random.random((30, 5)) < 0.3) * 0.5, np.zeros(30, bool), 0.2)
    images.shares[:, 2] = 0
    images.shares[np.argmax(images.activations[:, 0]), 2] = 1  # one image only
    found = best_pairs(images, np.arange(images.units))
    for unit, concept in zip(*found, strict=True):
        scores = [
            iou(images.activations[:, [unit]], (images.shares[:, [each]] > 0).astype(float), 0.2).item()
            for each in (0, 1, 3, 4)
        ]
        assert concept == (0, 1, 3, 4)[int(np.argmax(scores))]


def test_concepts_of_single_images_cannot_be_checked():
    images = ImageLevel(np.ones((30, 1)), np.eye(30)[:, :3], np.zeros(30, bool))
    with pytest.raises(
        ResultError, match="no concept is in 2 images or more, so that the sanity checks cannot drop half"
    ):
        best_pairs(images, np.arange(images.units))


def test_a_concept_without_a_pixel_is_no_perfect_unit():
    concepts = pl.DataFrame({"label_id": [1, 2, 3], "concept_pixels": [10, 0, 5], "pixel_share": [0.1, 0.0, 0.25]})
    found = concept_counts(SimpleNamespace(concepts=concepts))
    assert [numbers.tolist() for numbers in found] == [[10, 5], [10, 5], [10, 5], [100, 20]]


def test_pixels_are_dropped_and_added_as_in_masks():
    """The mean over many draws is that of masks whose pixels are dropped and added one by one."""
    pixels, mask, label = 4000, np.arange(4000) < 600, (np.arange(4000) >= 200) & (np.arange(4000) < 1000)
    counts = PairPixels(*(np.array([number]) for number in ((mask & label).sum(), mask.sum(), label.sum(), pixels)))
    random, added = np.random.default_rng(0), label.sum() / (pixels - label.sum())
    for metric in metrics_at("pixels"):
        expected = []
        for alter in (lambda: label & (random.random(pixels) < 0.5), lambda: label | (random.random(pixels) < added)):
            drawn = [alter() for _ in range(60)]
            both = [(each & mask).sum() for each in drawn]
            total = [(each | mask).sum() if metric.name == "iou" else (each.sum() + mask.sum()) / 2 for each in drawn]
            expected.append(np.mean(np.divide(both, total)))
        found = checked_pixels(metric, counts, seed=0)
        assert [found.missing.mean(), found.extra.mean()] == pytest.approx(expected, rel=0.02)


def test_an_outcome_is_the_share_of_pairs_that_fall_enough():
    scores = DrawnScores(
        np.array([0.5, 0.5]), np.array([[0.4, 0.5], [0.2, 0.4995]]), np.array([[0.4, 0.4], [0.6, 0.4]]), (0, 1)
    )
    assert scores.falls(averaged=True) == pytest.approx((0.5, -0.100125, 0.5, -0.05))
    assert scores.falls(averaged=False) == pytest.approx((0.5, -0.100125, 0.75, -0.05))
    assert replace(scores, bounds=(0, 2)).falls(averaged=False)[1] == pytest.approx(-0.0500625)
    all_fall = DrawnScores(np.ones(10), np.zeros((1, 10)), np.zeros((1, 10)), (0, 1))
    metric = metrics_at("pixels")[0]
    assert sanity_row("l", metric, all_fall, all_fall)["passes"]
    for broken in (
        {
            "own": DrawnScores(np.ones(10), np.array([[0.0] * 8 + [1.0] * 2]), np.zeros((1, 10)), (0, 1)),
            "perfect": all_fall,
        },
        {
            "own": all_fall,
            "perfect": DrawnScores(np.ones(10), np.zeros((1, 10)), np.array([[0.0] * 8 + [1.0] * 2]), (0, 1)),
        },
    ):
        assert not sanity_row("l", metric, **broken)["passes"]
