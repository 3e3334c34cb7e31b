"""Histograms of activations: every value in the bin that holds it, and any split gives the whole."""

import functools
import operator
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import strategies
from netdissect.activations.histogram import BINS, BINS_PER_SIGN, Histogram, bin_edges
from netdissect.activations.topk_torch import TorchHistogram

VALUES = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(values=st.lists(VALUES, min_size=1, max_size=30))
def test_every_value_is_between_the_ends_of_its_bin(values: list[float]) -> None:
    low, high = bin_edges()
    for value in values:
        histogram = Histogram(1)
        histogram.update(np.array(value, np.float32).reshape(1, 1, 1, 1))
        (place,) = np.flatnonzero(histogram.counts[0])
        size = abs(float(np.float32(value)))
        if size < 2**-24:
            assert (low[place], high[place]) == (0, 0)
        elif size >= 2**16:
            assert place == (BINS - 1 if value > 0 else 0)
        elif value > 0:
            assert low[place] <= size < high[place]
        else:
            assert -high[place] <= size < -low[place]


@given(seed=st.integers(0, 2**31), cuts=st.sets(st.integers(1, 6)), scale=st.sampled_from([1e-6, 1.0, 1e4]))
def test_any_split_of_the_data_and_any_device_gives_the_histogram_of_the_whole(
    seed: int, cuts: set[int], scale: float
) -> None:
    maps = (scale * np.random.default_rng(seed).standard_normal((7, 3, 4, 5))).astype(np.float32)
    parts = []
    on_device = TorchHistogram(3, torch.device("cpu"))
    for start, stop in pairwise([0, *sorted(cuts), 7]):
        part = Histogram(3)
        part.update(maps[start:stop])
        parts.append(part)
        resumed = TorchHistogram(3, torch.device("cpu"))
        resumed.restore(on_device.state())
        resumed.update(torch.from_numpy(maps[start:stop]))
        on_device = resumed
    merged = functools.reduce(operator.add, parts, Histogram(3))
    restored = Histogram(3)
    restored.restore(merged.state())
    low, _ = bin_edges()
    for unit in range(3):
        values = maps[:, unit].ravel().astype(np.float64)
        expected = np.zeros(BINS, np.int64)
        for value in values:  # by comparison with the bins' ends, in plain NumPy
            distance = np.searchsorted(low[BINS_PER_SIGN + 1 :], abs(value), side="right")
            expected[BINS_PER_SIGN + distance * (1 if value > 0 else -1)] += 1
        np.testing.assert_array_equal(restored.counts[unit], expected)
        np.testing.assert_array_equal(on_device.counts[unit], expected)


@given(seed=st.integers(0, 2**31), rank=st.integers(1, 50))
def test_without_bins_of_negative_values_all_others_are_the_same(seed: int, rank: int) -> None:
    maps = np.maximum(np.random.default_rng(seed).standard_normal((7, 3, 4, 5)), 0).astype(np.float32)
    every, halves = Histogram(3), [Histogram(3, negative=False) for _ in range(2)]
    every.update(maps)
    for half, part in zip(halves, (maps[:2], maps[2:]), strict=True):
        half.update_sparse(strategies.sparse_maps(part))
    merged = halves[0] + halves[1]
    np.testing.assert_array_equal(merged.counts, every.counts[:, BINS_PER_SIGN:])
    assert not every.counts[:, :BINS_PER_SIGN].any()
    np.testing.assert_array_equal(merged.floor(rank), every.floor(rank))


@given(
    values=st.lists(VALUES | st.sampled_from([0.0, -0.0, 6.0, 2.0**-25, -(2.0**17)]), min_size=1, max_size=40),
    rank=st.integers(1, 50),
)
def test_a_floor_is_below_the_value_of_that_rank_and_within_its_bin(values: list[float], rank: int) -> None:
    drawn = np.array(values, np.float32)
    histogram = Histogram(2)
    histogram.update(np.stack([drawn, drawn[::-1]]).reshape(1, 2, 1, -1))
    floor = histogram.floor(rank)
    assert (floor.shape, floor.dtype) == ((2,), np.float32)
    assert floor[0] == floor[1]
    if rank > len(values):
        assert floor[0] == -np.inf
        return
    ranked = np.sort(drawn)[::-1][rank - 1]
    assert floor[0] < ranked
    low, _ = bin_edges()
    beside = Histogram(1)
    beside.update(np.full((1, 1, 1, 1), ranked))
    (place,) = np.flatnonzero(beside.counts[0])
    least = {0: -np.inf, BINS_PER_SIGN: -(2.0**-24)}.get(place, low[place])
    assert np.nextafter(floor[0], np.float32(np.inf)) >= np.float32(least), "no lower than the bin of that value"


def test_bins_rise_without_gaps() -> None:
    low, high = bin_edges()
    assert (np.diff(low) >= 0).all()
    away = np.delete(np.arange(BINS), BINS_PER_SIGN)
    np.testing.assert_array_equal(low[away][1:BINS_PER_SIGN], high[away][: BINS_PER_SIGN - 1])
    np.testing.assert_array_equal(low[BINS_PER_SIGN + 2 :], high[BINS_PER_SIGN + 1 : -1])
    assert high[-1] == pytest.approx(2**16)
