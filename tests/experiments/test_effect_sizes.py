"""Intervals are Student's and the bootstrap's, and few numbers decide nothing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from netdissect.errors import ConfigError
from netdissect.experiments.effect_sizes import (
    Interval,
    band_range,
    decide,
    decide_equal,
    difference_of_means,
    mean_interval,
    paired_difference,
    quantile_interval,
)


@given(st.lists(st.integers(0, 50), min_size=3, max_size=8).filter(lambda values: len(set(values)) > 1))
def test_the_interval_of_a_mean_is_scipy_s_t_interval(values):
    interval = mean_interval(values)
    test = stats.ttest_1samp(values, 0).confidence_interval()
    assert (interval.low, interval.high) == pytest.approx((test.low, test.high))


def test_paired_differences_are_those_of_scipy_s_paired_test():
    left, right = [10, 14, 9, 12], [13, 15, 14, 16]
    interval = paired_difference(left, right)
    test = stats.ttest_rel(right, left).confidence_interval()
    assert (interval.low, interval.high) == pytest.approx((test.low, test.high))
    with pytest.raises(ConfigError, match="4 numbers are to be compared with 3"):
        paired_difference(left, right[:3])


def test_a_bootstrap_difference_covers_the_difference_of_normal_samples():
    rng = np.random.default_rng(0)
    left, right = rng.normal(0, 1, 80).tolist(), rng.normal(1, 1, 90).tolist()
    found = difference_of_means(left, right)
    welch = stats.ttest_ind(right, left, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((welch.low, welch.high), abs=0.05)
    assert difference_of_means([1, 1], [3, 3]) == (2, 2, 2, 4)
    assert difference_of_means([1, 0], [3]) == (2.5, -math.inf, math.inf, 3)  # one value has no spread


def test_replicates_give_their_quantiles():
    found = quantile_interval(range(1001))
    assert found == (500, pytest.approx(25), pytest.approx(975), 1001)


@pytest.mark.parametrize(
    ("interval", "more", "fewer"),
    [
        (Interval(2, 1, 3, 5), "agrees", "disagrees"),
        (Interval(-2, -3, -1, 5), "disagrees", "agrees"),
        (Interval(1, -1, 3, 5), "inconclusive", "inconclusive"),
        (Interval(1, 0, 2, 5), "inconclusive", "inconclusive"),
        (Interval(-1, -2, 0, 5), "inconclusive", "inconclusive"),
        (Interval(2, 2, 2, 2), "inconclusive", "inconclusive"),
        (Interval(2, 2, 2, 3), "agrees", "disagrees"),
    ],
)
def test_an_interval_decides_where_it_leaves_out_zero(interval, more, fewer):
    assert decide(interval, "more") == more
    assert decide(interval, "fewer") == fewer


@pytest.mark.parametrize(
    ("low", "high", "number", "conclusion"),
    [
        (-0.1, 0.2, 3, "agrees"),
        (-0.2, 0.1, 3, "agrees"),
        (-0.1, 0.2, 2, "inconclusive"),
        (-0.3, 0.1, 3, "inconclusive"),
        (-0.1, 0.3, 3, "inconclusive"),
        (-0.3, 0.3, 3, "inconclusive"),
        (0.2, 0.3, 3, "inconclusive"),
        (-0.3, -0.2, 3, "inconclusive"),
        (0.3, 0.4, 3, "disagrees"),
        (-0.4, -0.3, 3, "disagrees"),
        (0.3, 0.4, 2, "inconclusive"),
    ],
)
def test_counts_are_equal_where_the_interval_lies_within_the_margin(low, high, number, conclusion):
    assert decide_equal(Interval((low + high) / 2, low, high, number), 0.25) == conclusion


def test_no_number_has_no_mean():
    with pytest.raises(ConfigError, match="no number"):
        mean_interval([])


def test_an_interval_ends_where_a_count_does():
    wide = mean_interval([0, 9, 1])
    assert wide.low < 0
    assert wide.high > 10
    assert wide.within(0, 10) == (wide.mean, 0, 10, 3)
    assert mean_interval([4]).within(0, 10) == (4, -math.inf, math.inf, 1)  # no interval stays none


def test_a_band_ends_where_counts_do_and_spans_the_values_where_there_are_few():
    assert band_range([0, 9, 1], most=10) == (0, 10)
    interval = mean_interval([4, 5, 6])
    assert band_range([4, 5, 6], most=10) == (interval.low, interval.high)
    assert band_range([7, 3], most=10) == (3, 7)
