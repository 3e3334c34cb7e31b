"""Intervals over units against scipy's bootstrap, and against the truth in repeated samples."""

import numpy as np
import pytest
import scipy

from netdissect.evaluation.unit_intervals import paired_means, unit_means


def test_means_and_intervals_are_those_of_another_bootstrap():
    values = np.random.default_rng(0).exponential(size=(200, 3))
    values[:50, 1] = np.nan
    values[:, 2] = np.nan
    found = unit_means(values, np.arange(200), seed=1, replicates=4000)
    assert found.value[:2] == pytest.approx([values[:, 0].mean(), values[50:, 1].mean()])
    assert found.units.tolist() == [200, 150, 0]
    assert np.isnan([found.value[2], found.ci_low[2], found.ci_high[2]]).all()
    for column, first in ((0, 0), (1, 50)):
        other = scipy.stats.bootstrap(
            (values[first:, column],), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(2)
        ).confidence_interval
        width = other.high - other.low
        assert [found.ci_low[column], found.ci_high[column]] == pytest.approx([other.low, other.high], abs=0.06 * width)


def test_one_unit_has_a_mean_and_no_interval():
    found = unit_means(np.array([[1.0], [np.nan]]), [0, 1], seed=0, replicates=200)
    assert (found.value.item(), found.units.item()) == (1.0, 1)
    assert np.isnan(found.ci_low).all()


def test_a_paired_difference_is_over_the_units_of_both_and_narrower_than_the_scores():
    random = np.random.default_rng(0)
    easy = random.normal(size=300)  # some units are easy to label for both methods
    left, right = (easy + random.normal(scale=0.1, size=300) + shift for shift in (0.05, 0.0))
    left[:10] = np.nan
    both = np.stack([left, right], axis=1)
    alone = unit_means(both, np.arange(300), seed=0, replicates=2000)
    paired = paired_means(both[:, :1], both[:, 1:], np.arange(300), seed=0, replicates=2000)
    assert paired.value.item() == pytest.approx((left - right)[10:].mean())
    assert paired.units.item() == 290
    assert 0 < paired.ci_low.item() < paired.value.item() < paired.ci_high.item()
    assert alone.ci_low[0] < alone.ci_high[1], "the intervals of the two methods overlap"


def test_a_unit_has_the_same_weight_in_every_call():
    values = np.random.default_rng(0).normal(size=(20, 2))
    together = unit_means(values, np.arange(20), seed=5, replicates=300)
    second = unit_means(values[:, 1:], np.arange(20), seed=5, replicates=300)
    assert together.ci_low[1] == pytest.approx(second.ci_low[0], rel=1e-12)
    other = unit_means(values, np.arange(20), seed=6, replicates=300)
    assert other.ci_low[1] != pytest.approx(second.ci_low[0], rel=1e-6)


def test_intervals_contain_the_true_mean_about_as_often_as_they_say():
    random, hits = np.random.default_rng(0), 0
    for trial in range(60):
        found = unit_means(random.exponential(size=(60, 1)), np.arange(60), seed=trial, replicates=200)
        hits += found.ci_low.item() <= 1 <= found.ci_high.item()
    assert 52 <= hits <= 59
