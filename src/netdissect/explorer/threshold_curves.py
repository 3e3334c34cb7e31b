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
    def _edges(self) -> dict[int, list[tuple[int, float]]]:
        """For each unit, from its histogram: the number of values at or above each bin edge, and the edge."""
        if not self._has_histogram:
            return {}
        bins = self._layer.statistics["histogram"].filter(pl.col("count") > 0)
        edges: dict[int, list[tuple[int, float]]] = {}
        rows = (
            bins.sort("unit", "bin_low", descending=[False, True])
            .select("unit", "bin_low", "bin_high", "count")
            .collect()
        )
        for unit, low, high, count in rows.rows():
            unit_edges = edges.setdefault(unit, [])
            above = unit_edges[-1][0] if unit_edges else 0
            # The bin of zeros holds magnitudes too small for any other bin.
            ends = (high, low) if low < high else (TINY, -TINY)
            unit_edges += [(above, ends[0]), (above + count, ends[1])]
        return edges

    @cached_property
    def tails(self) -> tuple[Floats32, ...]:
        """The largest activations of each unit in descending order, complete down to the last one."""
        if self._protocol.threshold_grid is not None:
            # These thresholds are of upsampled values, which the cells of the maps do not determine.
            return tuple(np.empty(0, np.float32) for _ in range(self._layer.info.units))
        top = self._layer.top.group_by("unit").agg(pl.len(), pl.col("max_activation").min()).sort("unit")
        return tuple(
            self._tail(self._layer.top_maps[unit, :count].ravel(), np.float32(smallest), count)
            for unit, count, smallest in top.rows()
        )

    def _tail(self, values: npt.NDArray[np.float32], smallest: np.float32, count: int) -> Floats32:
        descending = np.sort(values)[::-1]
        if count >= self._images:
            return descending
        # No other image has an activation above the smallest maximum, which ends the list.
        return descending[: int(np.count_nonzero(descending > smallest)) + 1]

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
        bounded = [self._at(unit, upper, lower, weight) for unit in range(self._layer.info.units)]
        values, low, high = (np.array(column, np.float32) for column in zip(*bounded, strict=True))
        return Thresholds(values, low == high, low, high)

    def _at(self, unit: int, upper: int, lower: int, weight: float) -> tuple[float, float, float]:
        tail = self.tails[unit]
        if lower <= len(tail):
            exact = float(tail[upper - 1]) * weight + float(tail[lower - 1]) * (1 - weight)
            return exact, exact, exact
        knots = self._knots(unit)
        below = [knot.value for knot in knots if knot.first >= lower]
        above = [knot.value for knot in knots if knot.last <= upper]
        low = max(below, default=knots[-1].value)
        high = min(above, default=low)
        between = np.interp(np.log(lower), *_curve(knots))
        return min(max(float(between), low), high), low, high

    def _knots(self, unit: int) -> "list[_Knot]":
        """Return known values by rank: the end of the tail, the run's thresholds, the edges of the histogram."""
        tail = self.tails[unit]
        knots = [_Knot(count, count + 1, edge) for count, edge in self._edges.get(unit, ())]
        for index, quantile in enumerate(self._quantiles):
            upper, lower, _ = ranks(quantile, self.total, self._protocol.threshold)
            knots.append(_Knot(upper, lower, float(self._measured[index, unit])))
        if len(tail):
            knots = [knot for knot in knots if knot.last > len(tail)]
            knots.append(_Knot(len(tail), len(tail), float(tail[-1])))
        return sorted(knots, key=lambda knot: (knot.last, knot.first))

    def share_above(self, unit: int, value: float) -> float:
        """Return the share of a unit's activations over the data set above a value.

        Exact in the upper tail, interpolated below it, and at most the largest known share.
        """
        tail = self.tails[unit]
        if len(tail) and value >= tail[-1]:
            return int(np.count_nonzero(tail > value)) / self.total
        log_ranks, values = _curve(self._knots(unit))
        return float(np.exp(np.interp(value, values[::-1], log_ranks[::-1])) - 1) / self.total


class _Knot(NamedTuple):
    """A value of known rank among a unit's activations in descending order, counted from 1.

    The activation of every rank up to `first` is at least `value`, from `last` on it is at most that.
    """

    first: int
    last: int
    value: float


def _curve(knots: "list[_Knot]") -> tuple[Floats, Floats]:
    """Return the knots as a curve: logarithms of ranks, ascending, and values, never ascending."""
    log_ranks = np.log([knot.last for knot in knots])
    return log_ranks, np.minimum.accumulate([knot.value for knot in knots])


def nearest(quantile: float, known: Sequence[float]) -> float:
    """Return the quantile of `known` that is nearest in ratio."""
    return min(known, key=lambda candidate: abs(np.log(candidate / quantile)))
