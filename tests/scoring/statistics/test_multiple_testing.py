"""P-values and limits where the answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, gumbel_r, kstest, lognorm

from netdissect.scoring.statistics.multiple_testing import (
    adjust_pvalues,
    fdr_threshold,
    fit_gumbel,
    null_detector_counts,
    p_values,
)
from netdissect.scoring.statistics.permutation import BestConcepts


def test_p_values_under_the_null_are_uniform() -> None:
    rng = np.random.default_rng(0)
    drawn = np.exp(gumbel_r.rvs(-4, 0.3, size=(201, 2000), random_state=rng))
    found = p_values(drawn[0], drawn[1:])
    assert kstest(found, "uniform").pvalue > 0.01
    assert (found < 0.005).mean() == pytest.approx(0.005, abs=0.004)  # below what 200 ranks could tell


def test_a_fitted_p_value_is_that_of_many_more_permutations() -> None:
    rng = np.random.default_rng(1)
    few = np.exp(gumbel_r.rvs(-4, 0.3, size=(500, 50), random_state=rng))
    far = np.exp(gumbel_r.isf(1e-5, -4, 0.3))
    found = p_values(np.full(50, far), few)
    assert np.median(np.log10(found)) == pytest.approx(-5, abs=0.15)
    assert found.min() > 1e-6


def test_a_lighter_tail_than_gumbel_s_gives_conservative_p_values() -> None:
    rng = np.random.default_rng(2)
    few = lognorm.rvs(0.3, scale=0.01, size=(400, 200), random_state=rng)
    found = p_values(np.full(200, lognorm.isf(1e-4, 0.3, scale=0.01)), few)
    assert np.median(found) > 1e-4


@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_p_values_by_rank_count_the_permutations_that_reach_the_unit(repeats: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chance = rng.integers(0, 4, (repeats, 6)) / 10  # many ties, and zeros: no law is fitted to these
    chance[0] = 0
    observed = rng.integers(0, 4, 6) / 10
    expected = [
        (1 + sum(value >= unit for value in column)) / (1 + repeats)
        for unit, column in zip(observed, chance.T, strict=True)
    ]
    np.testing.assert_allclose(p_values(observed, chance), expected)


def test_units_whose_permutations_are_all_equal_have_p_values_by_rank() -> None:
    chance = np.full((19, 2), 0.02)
    assert p_values(np.array([0.5, 0.02]), chance).tolist() == [1 / 20, 1]


def test_the_gumbel_distribution_is_recovered() -> None:
    drawn = gumbel_r.rvs(3, 2, size=(200_000, 1), random_state=np.random.default_rng(3))
    location, scale = fit_gumbel(drawn)
    assert location[0] == pytest.approx(3, abs=0.03)
    assert scale[0] == pytest.approx(2, abs=0.03)


def test_adjusted_p_values_are_those_of_the_formulas() -> None:
    values = np.array([0.001, 0.04, 0.03, 0.2])
    hochberg, yekutieli = adjust_pvalues(values)
    wanted = [0.001 * 4, 0.04 * 4 / 3, 0.04 * 4 / 3, 0.2]  # p times units over rank, the least of any higher rank
    np.testing.assert_allclose(hochberg, wanted)
    np.testing.assert_allclose(yekutieli, np.minimum(1, np.array(wanted) * (1 + 1 / 2 + 1 / 3 + 1 / 4)))
    np.testing.assert_allclose(hochberg, false_discovery_control(values))


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.2, 1.0]))
def test_the_limit_is_the_first_at_which_the_false_discovery_rate_is_low_enough(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    observed, chance = rng.integers(0, 12, 9) / 10, rng.integers(0, 8, (5, 9)) / 10

    def fine(level: float) -> bool:
        return sum(value >= level for value in chance.ravel()) / 5 <= share * sum(unit >= level for unit in observed)

    expected = min((level for level in observed if level > 0 and fine(level)), default=1.0)
    assert fdr_threshold(observed, chance, share) == expected


def test_few_of_the_units_above_the_limit_are_false_discoveries() -> None:
    rng = np.random.default_rng(4)
    shares = []
    for _ in range(50):
        drawn = np.exp(rng.gumbel(-4, 0.3, (201, 300)))
        observed = drawn[0]
        observed[:60] = rng.uniform(0.03, 0.3, 60)  # detectors; the other 240 are chance's own
        passing = observed >= fdr_threshold(observed, drawn[1:])
        shares.append(passing[60:].sum() / max(1, passing.sum()))
    assert 0.01 < np.mean(shares) < 0.05


def test_detectors_under_the_null_are_counted_by_the_published_rules() -> None:
    first = BestConcepts(np.array([[1, 5], [1, 6], [0, 0]], np.int32), np.array([[0.1, 0.2], [0.05, 0.01], [0, 0]]))
    second = BestConcepts(
        np.array([[2, 5], [3, 5], [2, 0]], np.int32), np.array([[0.01, 0.02], [0.04, 0.05], [0.3, 0]])
    )
    by_label = null_detector_counts([first, second], ("object", "part"), "top-label", 0.04)
    assert [count.detectors for count in by_label] == [
        {"total": 2, "object": 1, "part": 1}, {"total": 2, "object": 1, "part": 1}
    ]  # fmt: skip
    by_category = null_detector_counts([first, second], ("object", "part"), "per-category", 0.04)
    assert [count.unique_detectors for count in by_category] == [
        {"total": 2, "object": 1, "part": 1}, {"total": 2, "object": 1, "part": 1}
    ]  # fmt: skip
    assert [count.detectors["object"] for count in by_category] == [2, 1]
