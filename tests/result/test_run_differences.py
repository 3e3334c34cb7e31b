"""The permutation null of a difference: what a training gains beyond what units that ignore the labels gain."""

from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest

import woken_units
from netdissect.errors import ResultError
from netdissect.result import (
    PairedDifference,
    Result,
    count_difference,
    difference_sentence,
    mean_paired_difference,
    paired_differences,
)
from netdissect.result.run_differences import NOT_MEASURED
from netdissect.result.summary import excess_text
from netdissect.scoring.statistics.multiple_testing import two_sided_p_values

AT = {"quantile": 0.25, "rule": "top-label"}
PAIR = ("conv", "conv")
Runs = tuple[Result, Result]


@pytest.fixture(scope="module", params=[False, True], ids=["ignored", "followed"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[bool, Runs]:
    """Return whether the units follow the labels, and the runs before and after."""
    root = tmp_path_factory.mktemp("stripes") / "data"
    return request.param, woken_units.runs(root, followed=request.param)


def totals(run: Result, table: str, rule: str) -> list[int]:
    rows = run.layers["conv"].statistics[table].collect().to_dicts()
    return [row["unique_detectors"] for row in rows if (row["rule"], row["category"]) == (rule, "total")]


@pytest.mark.parametrize("rule", ["top-label", "per-category"])
def test_the_null_of_a_difference_is_the_difference_of_each_permutation(pair: tuple[bool, Runs], rule: str) -> None:
    left, right = pair[1]
    sides = (totals(run, "null_counts", rule) for run in (left, right))
    drawn = [after - before for before, after in zip(*sides, strict=True)]
    (before,), (after,) = (totals(run, "counts", rule) for run in (left, right))
    value, mean = after - before, fmean(drawn)
    reached = min(sum(each >= value for each in drawn), sum(each <= value for each in drawn))
    p_value = min(1, 2 * (1 + reached) / 100)
    found = count_difference(left, right, PAIR, quantile=0.25, rule=rule)
    assert found.value == value
    assert (found.null, found.null_se) == pytest.approx((mean, stdev(drawn) / 99**0.5), rel=1e-12)
    assert found.p_value == pytest.approx(p_value, rel=1e-15)
    assert (found.permutations, found.no_null) == (99, "")
    table = paired_differences(left, right).filter(rule=rule, category="total").row(0, named=True)
    assert table["null_unique_detectors"] == pytest.approx(mean, rel=1e-12)
    assert table["null_unique_detectors_se"] == pytest.approx(stdev(drawn) / 99**0.5, rel=1e-12)
    assert table["unique_detectors_p_value"] == pytest.approx(p_value, rel=1e-15)
    ends = [table[f"unique_detectors{end}"] - mean for end in ("", "_ci_low", "_ci_high")]
    assert [table[f"unique_detectors_excess{end}"] for end in ("", "_ci_low", "_ci_high")] == pytest.approx(ends)
    assert [found.excess, *found.excess_interval] == pytest.approx(ends)


@pytest.mark.parametrize("turned", [False, True])
def test_units_that_wake_up_are_a_gain_only_if_they_follow_the_labels(pair: tuple[bool, Runs], turned: bool) -> None:
    followed, runs = pair
    left, right = runs[::-1] if turned else runs
    found = count_difference(left, right, PAIR, **AT)
    gain = 3 if followed else 2
    assert found.value == (-gain if turned else gain)
    assert found.exceeds_null == followed
    if followed:
        assert abs(found.null) < 0.5
        assert found.p_value == 0.02
    else:
        assert abs(found.excess) < 0.5
        assert found.excess_interval[0] <= 0 <= found.excess_interval[1]
    sentence = difference_sentence(found)
    assert sentence.startswith(f"{found.value:+.0f} unique detectors [")
    assert sentence.endswith("exceeds its null." if followed else "does not exceed its null.")


def test_a_small_p_value_does_not_decide_where_the_interval_contains_zero() -> None:
    open_interval = PairedDifference(-5, (-12, 0.5), 1000, -0.1, 0.1, 0.04, 100, "")
    assert open_interval.exceeds_null is False
    assert difference_sentence(open_interval).endswith(
        "Beyond the null: -4.9 [-11.9, 0.6], p = 0.04, but the interval contains 0: "
        "the difference does not exceed its null."
    )


def test_a_difference_that_reverses_has_the_negative_null(pair: tuple[bool, Runs]) -> None:
    left, right = pair[1]
    found, turned = (count_difference(*runs, PAIR, **AT) for runs in ((left, right), (right, left)))
    assert (turned.value, turned.null, turned.null_se) == (-found.value, -found.null, found.null_se)
    assert turned.excess_interval == tuple(-end for end in found.excess_interval[::-1])
    assert turned.p_value == found.p_value


def changed(run: Result, **statistics: object) -> Result:
    config = run.info.config
    settings = config.model_copy(update={"statistics": config.statistics.model_copy(update=statistics)})
    return replace(run, info=run.info.model_copy(update={"config": settings}))


def of_protocol(run: Result, **changes: object) -> Result:
    config = run.info.config
    settings = config.model_copy(update={"protocol": config.protocol.model_copy(update=changes)})
    return replace(run, info=run.info.model_copy(update={"config": settings}))


def without(run: Result, *tables: str) -> Result:
    layer = run.layers["conv"]
    kept = {name: frame for name, frame in layer.statistics.items() if name not in tables}
    return replace(run, layers={"conv": replace(layer, statistics=kept)})


def test_runs_without_common_permutations_have_no_null_of_their_difference(pair: tuple[bool, Runs]) -> None:
    followed, (left, right) = pair
    data = right.info.data.model_copy(update={"digest": "other"})
    cases = {
        "the runs used different images or labels": replace(right, info=right.info.model_copy(update={"data": data})),
        "the null hypotheses differ: images on the left, locations on the right": changed(right, null="locations"),
        "the permutations differ: --stats-seed 0 on the left, 1 on the right": changed(right, stats_seed=1),
        "the permutations differ: label maps are as on disk on the left, 8 x 8 pixels on": of_protocol(
            right, segmentation_size=8
        ),
        "the permutation null was not measured on the right": without(right, "null_counts"),
    }
    for reason, other in cases.items():
        found = count_difference(left, other, PAIR, **AT)
        assert (found.value, found.null, found.p_value, found.exceeds_null) == (2 + followed, None, None, None)
        assert found.no_null.startswith(reason)
        assert difference_sentence(found).endswith(f"; {found.no_null}.")
    neither = count_difference(without(left, "null_counts"), without(right, "null_counts"), PAIR, **AT)
    assert neither.no_null == NOT_MEASURED
    assert neither.interval is not None
    table = paired_differences(left, without(right, "null_counts"))
    assert table["null_unique_detectors"].null_count() == table.height


def test_runs_without_a_common_quantile_are_refused(pair: tuple[bool, Runs]) -> None:
    left, right = pair[1]
    other = of_protocol(right, quantiles=(0.1, 0.2))
    with pytest.raises(ResultError, match=r"quantiles are 0\.25 on the left and 0\.1, 0\.2 on the right"):
        paired_differences(left, other)
    for compare in (count_difference, mean_paired_difference):
        at = PAIR if compare is count_difference else [PAIR]
        with pytest.raises(
            ResultError, match=r"cannot be compared at the quantile 0\.1: quantiles are 0\.25 on the left"
        ):
            compare(left, right, at, quantile=0.1, rule="top-label")


def test_runs_with_other_replicates_have_a_null_and_no_interval(pair: tuple[bool, Runs]) -> None:
    left, right = pair[1]
    found = count_difference(left, without(right, "replicates"), PAIR, **AT)
    whole = count_difference(left, right, PAIR, **AT)
    assert (found.interval, found.exceeds_null) == (None, None)
    assert (found.value, found.null, found.p_value) == (whole.value, whole.null, whole.p_value)
    assert "without an interval (--bootstrap 1000), p = " in excess_text(found)


def test_runs_of_several_numbers_of_permutations_share_the_first_ones(tmp_path: Path) -> None:
    few, _ = woken_units.runs(tmp_path / "data", followed=False, permutations=20)
    _, many = woken_units.runs(tmp_path / "data", followed=False, permutations=50)
    _, same = woken_units.runs(tmp_path / "data", followed=False, permutations=20)
    found, wanted = (count_difference(few, run, PAIR, **AT) for run in (many, same))
    assert found == wanted
    assert found.permutations == 20


def test_an_excess_needs_an_interval_without_zero_and_a_small_p_value() -> None:
    def exceeds(low: float, high: float, p_value: float) -> bool | None:
        return PairedDifference(5, (low, high), 60, 2.0, 0.1, p_value, 99, "").exceeds_null

    assert exceeds(3, 8, 0.02)
    assert exceeds(-3, 1, 0.02)
    assert not exceeds(2, 8, 0.02)  # the excess may be 0
    assert not exceeds(3, 8, 0.05)
    few = PairedDifference(5, (3, 8), 60, 2.0, 0.1, 0.05, 39, "")  # the smallest p-value that 39 permutations give
    assert few.exceeds_null is None
    assert excess_text(few).endswith("p = 0.05: undecided, as no p is below 0.05 with 39 permutations")
    assert replace(few, permutations=40, p_value=2 / 41).exceeds_null
    assert replace(few, interval=(1, 8)).exceeds_null is False


def test_a_two_sided_p_value_never_falls_below_the_share_of_equal_ranks() -> None:
    # Under the null the observed number is one of R + 1 exchangeable ones: P(p <= a) is at most a.
    numbers = np.random.default_rng(0).integers(0, 6, (4000, 40)).astype(float)
    p = two_sided_p_values(numbers[:, 0], numbers[:, 1:])
    for level in (0.05, 0.1, 0.2, 0.5):
        assert (p <= level).mean() <= level
    apart = two_sided_p_values(np.array([9.0, -9.0]), np.zeros((2, 39)))
    assert apart.tolist() == [0.05, 0.05]
