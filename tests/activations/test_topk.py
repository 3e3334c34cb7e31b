"""Exact thresholds in one pass, against sorting everything."""

import functools
import operator
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import oracle
import strategies
from netdissect.activations import StreamingTopK, ranks, topk, topk_memmap
from netdissect.activations.histogram import Histogram
from netdissect.config import PROTOCOLS, Threshold
from netdissect.errors import ResultError, ShapeError

FRACTIONS = st.sampled_from(strategies.FRACTIONS) | st.floats(1e-4, 0.999)
METHODS: dict[Threshold, str | None] = {"exact": None, "interpolated": "linear", "hazen": "hazen"}
THRESHOLDS = tuple(METHODS)
ORDERS = ("random", "rising", "falling", "ties", "flat")


def values_of(seed: int, units: int, total: int, order: str) -> strategies.Floats:
    """Draw float32 (U, N) in an order that fills the buffer: beyond 1,024 spare values it must be compacted."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(units, total))
    match order:
        case "rising":
            values.sort(axis=1)
        case "falling":
            values = -np.sort(values, axis=1)
        case "ties":
            values = rng.integers(0, 3, (units, total)).astype(np.float64)
        case "flat":
            values[:] = 0.25
    return values.astype(np.float32)


def top_values(
    values: strategies.Floats, keep: int, total: int, cuts: list[int], *, floors: bool = False
) -> StreamingTopK:
    """Feed float32 (U, N) in pieces, with or without the floors of a histogram."""
    kept, histogram = StreamingTopK(len(values), keep, total), Histogram(len(values))
    for piece in np.split(values, sorted(cuts), axis=1):
        batch = np.ascontiguousarray(piece)[None]
        histogram.update(batch[:, :, None])
        kept.update(batch, histogram.floor(keep) if floors else None)
    return kept


@pytest.mark.parametrize("rule", THRESHOLDS)
def test_a_threshold_of_zero_has_no_sign_which_would_depend_on_the_order_of_the_values(rule: Threshold) -> None:
    zeros = np.array([[-0.0, -0.0, -0.0, 0.0], [0.0, 0.0, 0.0, -0.0]], np.float32)
    found = top_values(zeros, 4, 4, []).thresholds([0.3, 0.5, 0.7], rule)
    assert found.tobytes() == np.zeros((3, 2), np.float32).tobytes()


@pytest.mark.parametrize("selected", [1, 11_000])
def test_thresholds_are_the_same_however_many_values_are_selected_at_a_time(
    selected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topk, "SELECTED_VALUES", selected)
    values = values_of(4, 5, 5000, "random")
    kept = top_values(values, needed([0.02, 0.5], 5000, "exact"), 5000, [1700])
    assert [row.tolist() for row in kept.thresholds([0.02, 0.5], "exact")] == [
        expected(values, fraction, "exact") for fraction in (0.02, 0.5)
    ]


def test_values_in_a_file_are_those_in_memory(tmp_path: Path) -> None:
    values = values_of(4, 3, 5000, "rising")
    keep = needed([0.02], 5000, "exact")
    spilled = StreamingTopK(3, keep, 5000, tmp_path / "top")
    for piece in np.split(values, [1700, 3000], axis=1):
        spilled.update(np.ascontiguousarray(piece)[None])
    assert (tmp_path / "top").stat().st_size >= 4 * 3 * keep
    assert spilled.thresholds([0.02], "exact")[0].tolist() == expected(values, 0.02, "exact")


def test_values_in_a_file_resume_from_any_of_the_last_two_checkpoints(tmp_path: Path) -> None:
    values = values_of(4, 3, 5000, "rising")
    keep = needed([0.02], 5000, "exact")
    pieces = [np.ascontiguousarray(piece)[None] for piece in np.split(values, [900, 1700, 3000], axis=1)]
    kept, states = StreamingTopK(3, keep, 5000, tmp_path / "top"), []
    for piece in pieces:
        kept.update(piece)
        states.append({name: array.copy() for name, array in kept.state().items()})
    for done in (3, 4):
        again = StreamingTopK(3, keep, 5000, tmp_path / "top")
        again.restore(states[done - 1])
        for piece in pieces[done:]:
            again.update(piece)
        assert again.thresholds([0.02], "exact")[0].tolist() == expected(values, 0.02, "exact")
    with pytest.raises(ResultError, match=re.escape(str(tmp_path / "top"))):
        StreamingTopK(3, keep, 5000, tmp_path / "top").restore(states[0])


def test_units_in_a_file_are_updated_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topk_memmap, "MAPPED_BYTES", 1)
    values = values_of(4, 5, 5000, "rising")
    kept = StreamingTopK(5, needed([0.02], 5000, "exact"), 5000, tmp_path / "top")
    for piece in np.split(values, [1700, 3000], axis=1):
        kept.update(np.ascontiguousarray(piece)[None])
    assert kept.thresholds([0.02], "exact")[0].tolist() == expected(values, 0.02, "exact")


def needed(fractions: list[float], total: int, rule: Threshold) -> int:
    return max(ranks(fraction, total, rule)[1] for fraction in fractions)


def expected(values: strategies.Floats, fraction: float, rule: Threshold) -> list[np.float32]:
    rules = oracle.Rules(fraction=fraction, method=METHODS[rule])
    return [oracle.threshold(row, rules) for row in values]


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 6000),
    st.lists(FRACTIONS, min_size=1, max_size=4),
    st.sampled_from(THRESHOLDS),
    st.sampled_from(ORDERS),
    st.lists(st.integers(0, 6000), max_size=6),
    st.booleans(),
)
@example(0, 6000, [0.005], "exact", "rising", [], False)
@example(0, 1, [0.005], "interpolated", "random", [], False)
@example(0, 100, [0.29], "exact", "rising", [50], False)
@example(0, 6000, [0.5], "exact", "ties", [1500, 3000, 4500], True)
@example(0, 6000, [0.05], "interpolated", "random", [1500, 3000, 4500], True)
def test_thresholds_are_those_of_sorting_everything_whatever_the_batches(
    seed: int, total: int, fractions: list[float], rule: Threshold, order: str, cuts: list[int], floors: bool
) -> None:
    values = values_of(seed, 2, total, order)
    kept = top_values(values, needed(fractions, total, rule), total, cuts, floors=floors)
    found = kept.thresholds(fractions, rule)
    assert found.dtype == np.float32
    for row, fraction in zip(found, fractions, strict=True):
        assert row.tolist() == expected(values, fraction, rule)
        assert (kept.bound <= row).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 3000), FRACTIONS)
def test_at_most_the_given_share_is_above_an_exact_threshold(seed: int, total: int, fraction: float) -> None:
    values = values_of(seed, 1, total, "ties")
    found = top_values(values, needed([fraction], total, "exact"), total, []).thresholds([fraction], "exact")
    assert (values > found[0, 0]).sum() <= fraction * total + 1e-9


@given(st.integers(0, 2**32 - 1), st.integers(1, 4000), FRACTIONS, st.sampled_from(ORDERS))
@example(0, 1, 0.01, "random")
@example(0, 30, 0.01, "random")
def test_interpolated_thresholds_are_those_of_numpy_quantile(
    seed: int, total: int, fraction: float, order: str
) -> None:
    values = values_of(seed, 2, total, order)
    wide = values.astype(np.float64)
    for rule, wanted in (
        ("interpolated", np.quantile(wide, 1 - fraction, axis=1)),
        ("hazen", np.quantile(wide, 1 - fraction, axis=1, method="hazen")),
    ):
        kept = top_values(values, needed([fraction], total, rule), total, [])
        np.testing.assert_array_equal(kept.thresholds([fraction], rule)[0], wanted.astype(np.float32))


def test_the_2020_program_reads_each_value_at_the_middle_of_its_share() -> None:
    """Of 0..99, 99 has the share 0.99 to 1 and its middle at 0.995: the quantile 0.99 is half way to 98."""
    rule = PROTOCOLS["pnas2020"].threshold
    values = np.arange(100, dtype=np.float32)[None]
    kept = top_values(values, needed([0.01], 100, rule), 100, [])
    assert kept.thresholds([0.01], rule)[0, 0] == np.float32(98.5)


def test_the_threshold_of_the_authors_caffe_code_is_the_quantile_994_of_999() -> None:
    values = values_of(3, 4, 36064, "random")
    kept = top_values(values, needed([5 / 999], 36064, "interpolated"), 36064, list(range(0, 36064, 5000)))
    wanted = np.quantile(values.astype(np.float64), 994 / 999, axis=1).astype(np.float32)
    np.testing.assert_array_equal(kept.thresholds([5 / 999], "interpolated")[0], wanted)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 5000),
    FRACTIONS,
    st.sampled_from(THRESHOLDS),
    st.sampled_from(ORDERS),
    st.integers(1, 4),
)
def test_any_split_of_the_values_in_any_order_adds_up_to_the_whole(
    seed: int, total: int, fraction: float, rule: Threshold, order: str, parts: int
) -> None:
    values = values_of(seed, 2, total, order)
    keep = needed([fraction], total, rule)
    shards = [top_values(values[:, part::parts], keep, total, [700]) for part in reversed(range(parts))]
    merged = functools.reduce(operator.add, shards, StreamingTopK(2, keep, total))
    assert merged.seen == total
    assert merged.thresholds([fraction], rule)[0].tolist() == expected(values, fraction, rule)


@given(st.integers(0, 2**32 - 1), st.integers(2, 5000), FRACTIONS, st.sampled_from(ORDERS), st.data())
@settings(max_examples=25)
def test_a_bound_only_rises_and_never_passes_the_threshold(
    seed: int, total: int, fraction: float, order: str, data: st.DataObject
) -> None:
    values = values_of(seed, 2, total, order)
    keep = needed([fraction], total, "exact")
    kept = StreamingTopK(2, keep, total)
    bounds = [kept.bound.copy()]
    for piece in np.array_split(values, data.draw(st.integers(1, 9)), axis=1):
        kept.update(np.ascontiguousarray(piece)[None])
        bounds.append(kept.bound.copy())
    assert (np.diff(np.array(bounds)[np.isfinite(bounds).all(axis=1)], axis=0) >= 0).all()
    assert (bounds[-1] <= kept.thresholds([fraction], "exact")[0]).all()
    if order == "rising" and total > 2 * keep + 2048:
        assert np.isfinite(bounds[-1]).all(), "a full buffer must tell a bound"


@given(st.integers(0, 2**32 - 1), st.integers(1, 5000), st.integers(0, 5000), st.sampled_from(ORDERS))
@settings(max_examples=25)
def test_a_restored_state_continues_as_if_never_interrupted(seed: int, total: int, cut: int, order: str) -> None:
    values = values_of(seed, 2, total, order)
    keep = needed([0.02], total, "exact")
    first = top_values(values[:, :cut], keep, total, [])
    again = StreamingTopK(2, keep, total)
    again.restore({name: array.copy() for name, array in first.state().items()})
    again.update(np.ascontiguousarray(values[:, cut:])[None])
    assert again.thresholds([0.02], "exact")[0].tolist() == expected(values, 0.02, "exact")
    first.update(np.ascontiguousarray(values[:, cut:])[None])
    np.testing.assert_array_equal(again.bound, first.bound)


@pytest.mark.parametrize(("kind", "wanted"), [("zero", 0.0), ("relu6", 6.0), ("constant", None), ("rare", 0.0)])
def test_constant_units_have_their_value_as_threshold(kind: str, wanted: float | None) -> None:
    values = strategies.activations(np.random.default_rng(0), kind, (1, 2000))
    found = top_values(values, needed([0.05], 2000, "exact"), 2000, [])
    level = found.thresholds([0.05], "exact")[0, 0]
    assert level == (values[0, 0] if wanted is None else np.float32(wanted))
    if kind != "rare":
        assert not (values > level).any()


def test_ranks_are_computed_in_decimal() -> None:
    assert ranks(0.005, 36064, "exact") == (181, 181, 0.0)
    assert ranks(0.29, 100, "exact")[0] == 30  # 0.29 * 100 is 28.999... in binary
    assert ranks(0.005, 1, "exact")[0] == 1
    assert ranks(0.5, 3, "interpolated") == (2, 2, 0.0)


def test_a_quantile_may_be_a_number_of_numpy() -> None:
    assert ranks(np.float64(0.005), 1000, "exact")[0] == 6


def test_too_many_and_too_few_values_are_refused() -> None:
    kept = StreamingTopK(1, 1, 3)
    kept.update(np.zeros((1, 1, 2), np.float32))
    with pytest.raises(ShapeError, match=re.escape("2 of 3 values a unit were seen")):
        kept.thresholds([0.005], "exact")
    with pytest.raises(ShapeError, match=re.escape("4 values a unit were added but 3 were announced")):
        kept.update(np.zeros((1, 1, 2), np.float32))


def test_parts_of_different_runs_are_not_merged() -> None:
    with pytest.raises(ShapeError, match=r"cannot be merged"):
        StreamingTopK(1, 1, 3) + StreamingTopK(1, 1, 4)
