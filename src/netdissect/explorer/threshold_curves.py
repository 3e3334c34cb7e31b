"""Thresholds of units at quantiles that the run did not measure.

A run keeps the thresholds at its own quantiles and the activation maps of each unit's top images. Every activation
above the smallest maximum of these images lies in one of them, so the upper tail of a unit's distribution is exact.
Below it the thresholds at the run's quantiles are exact, and a histogram, if the run has one, adds bin edges. Between
these values thresholds are interpolated (linearly over the logarithm of the quantile) and bounded by the neighbors.

    LayerResult -> ThresholdCurves -> at(quantile): thresholds, and which of them are exact
                                   -> share_above(unit, value): share of activations above a value
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.activations import histogram
from netdissect.activations.topk import ranks
from netdissect.config import Protocol
from netdissect.errors import RequestError
from netdissect.result import LayerResult

Floats32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of all units of a layer at one quantile.

    Attributes
    ----------
    values
        float32 (U,).
    exact
        bool (U,): whether a run at this quantile would have the same threshold.
    low, high
        float32 (U,): bounds of the threshold; equal to `values` where it is exact.
    """

    values: Floats32
    exact: npt.NDArray[np.bool_]
    low: Floats32
    high: Floats32


TINY = 2.0**histogram.MIN_EXPONENT

HIGHEST = 0.5
"""Largest quantile that is computed from a histogram: half of all activations."""


class ThresholdCurves:
    """The upper part of the distribution of each unit's activations in one layer.

    Parameters
    ----------
    layer
        Tables of the layer.
    protocol
        Protocol of the run.
    images
        Number of images in the run.
    """

    def __init__(self, layer: LayerResult, protocol: Protocol, images: int) -> None:
        self._layer = layer
        self._protocol = protocol
        self._images = images
        self._quantiles = tuple(sorted(protocol.quantiles))
        by_quantile = layer.thresholds.sort("unit").partition_by("quantile", as_dict=True)
        self._measured = np.stack([by_quantile[(quantile,)]["threshold"].to_numpy() for quantile in self._quantiles])
        cells = layer.info.height * layer.info.width
        self.total = images * (cells if protocol.threshold_grid is None else protocol.threshold_grid**2)

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest quantile at which thresholds can be given."""
        least, most = self._quantiles[0], self._quantiles[-1]
        if self._protocol.threshold_grid is None:
            least = min(least, 1 / self.total)
        return least, max(most, HIGHEST) if self._has_histogram else most

    @cached_property
    def _has_histogram(self) -> bool:
        if "histogram" not in self._layer.statistics or self._protocol.threshold_grid is not None:
            return False
        counts = self._layer.statistics["histogram"].select((pl.col("count") > 0).any())
        return bool(counts.collect().item())

    @cached_property
    def _edges(self) -> tuple[Ints, Ints, Floats]:
        """Return the edges of all histograms.

        Where each unit's edges start (U + 1,), and for each edge the number of values at or above it, and the edge.
        """
        units = self._layer.info.units
        if not self._has_histogram:
            return np.zeros(units + 1, np.int64), np.empty(0, np.int64), np.empty(0)
        bins = (
            self._layer.statistics["histogram"]
            .filter(pl.col("count") > 0)
            .sort("unit", "bin_low", descending=[False, True])
            .select("unit", "bin_low", "bin_high", "count", until=pl.col("count").cast(pl.Int64).cum_sum().over("unit"))
            .collect()
        )
        low, high, until = (bins[name].to_numpy() for name in ("bin_low", "bin_high", "until"))
        # The bin of zeros holds magnitudes too small for any other bin.
        ends = np.stack([np.where(low < high, high, TINY), np.where(low < high, low, -TINY)], axis=1)
        ranks_of_ends = np.stack([until - bins["count"].to_numpy(), until], axis=1)
        starts = np.searchsorted(np.repeat(bins["unit"].to_numpy(), 2), np.arange(units + 1))
        return starts.astype(np.int64), ranks_of_ends.ravel().astype(np.int64), ends.ravel().astype(np.float64)

    @cached_property
    def _descending(self) -> tuple[Floats32, Ints]:
        """Return the activations in each unit's top images, largest first (U, n), and how many are its tail (U,)."""
        units = self._layer.info.units
        if self._protocol.threshold_grid is not None:
            # These thresholds are of upsampled values, which the cells of the maps do not determine.
            return np.empty((units, 0), np.float32), np.zeros(units, np.int64)
        top = self._layer.top.group_by("unit").agg(pl.len(), pl.col("max_activation").min()).sort("unit")
        images = top["len"].to_numpy().astype(np.int64)
        smallest = top["max_activation"].to_numpy().astype(np.float32)
        maps = self._layer.top_maps
        values = np.array(maps, np.float32).reshape(units, -1)
        cells = values.shape[1] // maps.shape[1]
        values[np.arange(values.shape[1]) >= (images * cells)[:, None]] = -np.inf
        np.negative(values, out=values).sort(axis=1)
        np.negative(values, out=values)
        # No other image has an activation above the smallest maximum, which ends the list.
        above = np.count_nonzero(values > smallest[:, None], axis=1) + 1
        return values, np.where(images >= self._images, images * cells, above)

    @cached_property
    def tails(self) -> tuple[Floats32, ...]:
        """The largest activations of each unit in descending order, complete down to the last one."""
        return tuple(values[:length] for values, length in zip(*self._descending, strict=True))

    def at(self, quantile: float) -> Thresholds:
        """Return the units' thresholds at any quantile of `range`.

        Raises
        ------
        RequestError
            If the quantile is out of `range`.
        """
        least, most = self.range
        if not least <= quantile <= most:
            raise RequestError(
                f"thresholds at the quantile {quantile:g} are unknown: the run determines those from {least:.3g} "
                f"to {most:g}. Choose one of these, or repeat the run with {quantile:g} among its quantiles."
            )
        if quantile in self._quantiles:
            exact = self._measured[self._quantiles.index(quantile)]
            return Thresholds(exact, np.ones(len(exact), bool), exact, exact)
        upper, lower, weight = ranks(quantile, self.total, self._protocol.threshold)
        values, lengths = self._descending
        low, between, high = np.empty((3, self._layer.info.units), np.float32)
        known = lower <= lengths
        if known.any():
            upper_values, lower_values = (values[known, rank - 1].astype(np.float64) for rank in (upper, lower))
            low[known] = between[known] = high[known] = upper_values * weight + lower_values * (1 - weight)
        if not known.all():
            low[~known], between[~known], high[~known] = self._knots(np.flatnonzero(~known)).between(upper, lower)
        return Thresholds(between, low == high, low, high)

    def _knots(self, units: Ints) -> "_Knots":
        """Return known values by rank: the edges of the histogram, the run's thresholds, the end of the tail."""
        values, lengths = self._descending
        starts, counts, edges = self._edges
        sizes = starts[units + 1] - starts[units]
        chosen = np.arange(sizes.sum()) + np.repeat(starts[units] - (np.cumsum(sizes) - sizes), sizes)
        position = np.arange(len(units))
        parts = [(np.repeat(position, sizes), counts[chosen], counts[chosen] + 1, edges[chosen])]
        for index, quantile in enumerate(self._quantiles):
            upper, lower, _ = ranks(quantile, self.total, self._protocol.threshold)
            parts.append(
                (position, np.full(len(units), upper), np.full(len(units), lower), self._measured[index, units])
            )
        unit, first, last, value = (np.concatenate(column) for column in zip(*parts, strict=True))
        below = last > lengths[units][unit]
        ending = np.flatnonzero(lengths[units])
        ends = lengths[units][ending]
        unit, first, last = (
            np.concatenate([column[below], new]) for column, new in ((unit, ending), (first, ends), (last, ends))
        )
        value = np.concatenate([value[below], values[units[ending], ends - 1]]).astype(np.float64)
        order = np.lexsort((first, last, unit))
        unit = unit[order]
        return _Knots(np.searchsorted(unit, position), first[order], last[order], value[order])

    def share_above(self, unit: int, value: float) -> float:
        """Return the share of a unit's activations over the data set above a value.

        Exact in the upper tail, interpolated below it, and at most the largest known share.
        """
        tail = self.tails[unit]
        if len(tail) and value >= tail[-1]:
            return int(np.count_nonzero(tail > value)) / self.total
        knots = self._knots(np.array([unit]))
        log_ranks, values = np.log(knots.last), np.minimum.accumulate(knots.value)
        return float(np.exp(np.interp(value, values[::-1], log_ranks[::-1])) - 1) / self.total


class _Knots(NamedTuple):
    """Values of known rank among the activations of some units in descending order, counted from 1.

    The activation of every rank up to `first` is at least `value`, from `last` on it is at most that. The knots of a
    unit follow each other in ascending order of `last`, then `first`; those of each unit begin at `starts`.
    """

    starts: Ints
    first: Ints
    last: Ints
    value: Floats

    def between(self, upper: int, lower: int) -> tuple[Floats, Floats, Floats]:
        """Return lower bounds, interpolated values and upper bounds of the threshold between two ranks."""
        ends = np.append(self.starts[1:], len(self.last)) - 1
        low = np.maximum.reduceat(np.where(self.first >= lower, self.value, -np.inf), self.starts)
        low = np.where(np.isneginf(low), self.value[ends], low)
        high = np.minimum.reduceat(np.where(self.last <= upper, self.value, np.inf), self.starts)
        high = np.where(np.isposinf(high), low, high)
        # The curve never ascends: its value at a knot is the least value up to there.
        passed = self.last <= lower
        left = self.starts + np.add.reduceat(passed.astype(np.int64), self.starts) - 1
        right = np.minimum(left + 1, ends)
        at_left = np.minimum.reduceat(np.where(passed, self.value, np.inf), self.starts)
        at_right = np.minimum(at_left, self.value[right])
        at_left = np.where(left < self.starts, at_right, at_left)
        log_left, log_right = np.log(self.last[np.maximum(left, self.starts)]), np.log(self.last[right])
        width = np.where(log_right > log_left, log_right - log_left, 1)
        curve = at_left + (at_right - at_left) / width * (np.log(lower) - log_left)
        curve = np.where((left < self.starts) | (left == ends) | (log_left == np.log(lower)), at_left, curve)
        return low, np.minimum(np.maximum(curve, low), high), high


def nearest(quantile: float, known: Sequence[float]) -> float:
    """Return the quantile of `known` that is nearest in ratio."""
    return min(known, key=lambda candidate: abs(np.log(candidate / quantile)))
