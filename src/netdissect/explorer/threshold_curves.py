"""Thresholds of units at other quantiles than the run's own.

A run keeps thresholds at its quantiles and the maps of each unit's top images. Every activation above the weakest
of those images' maxima lies in one of them, so the upper end of a unit's distribution is known exactly; further
down, the run's quantiles are known exactly, a histogram says more where the run holds one, and what lies between is
interpolated (linearly over the logarithm of the quantile) and bounded by its neighbors.

    LayerResult -> LayerCurves -> at(quantile): thresholds, and which of them are exact
                               -> share_above(unit, value): how rare an activation is
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
        bool (U,): whether the threshold is the one that a run at this quantile would have used.
    low, high
        float32 (U,): the threshold certainly lies between these; equal to `values` where exact.
    """

    values: Floats32
    exact: npt.NDArray[np.bool_]
    low: Floats32
    high: Floats32


TINY = 2.0**histogram.LOWEST

HIGHEST = 0.5
"""Largest quantile for which a histogram of all activations is consulted: half of all places."""


class LayerCurves:
    """The upper ends of the distributions of one layer's activations.

    Parameters
    ----------
    layer
        Tables of the layer.
    protocol
        The run's.
    images
        How many images were dissected.
    """

    def __init__(self, layer: LayerResult, protocol: Protocol, images: int) -> None:
        self._layer = layer
        self._protocol = protocol
        self._images = images
        self._quantiles = tuple(sorted(protocol.quantiles))
        known = layer.thresholds.sort("unit").partition_by("quantile", as_dict=True)
        self._known = np.stack([known[(quantile,)]["threshold"].to_numpy() for quantile in self._quantiles])
        cells = layer.info.height * layer.info.width
        self.total = images * (cells if protocol.threshold_grid is None else protocol.threshold_grid**2)

    @property
    def range(self) -> tuple[float, float]:
        """The quantiles between which something is known."""
        least, most = self._quantiles[0], self._quantiles[-1]
        if self._protocol.threshold_grid is None:
            least = min(least, 1 / self.total)
        return least, max(most, HIGHEST) if self._edges else most

    @cached_property
    def _edges(self) -> dict[int, list[tuple[int, float]]]:
        """For each unit, from its histogram: how many values lie at or above an edge of a bin, and the edge."""
        if "histogram" not in self._layer.evidence or self._protocol.threshold_grid is not None:
            return {}
        bins = self._layer.evidence["histogram"].filter(pl.col("count") > 0)
        edges: dict[int, list[tuple[int, float]]] = {}
        falling = (
            bins.sort("unit", "bin_low", descending=[False, True])
            .select("unit", "bin_low", "bin_high", "count")
            .collect()
        )
        for unit, low, high, count in falling.rows():
            known = edges.setdefault(unit, [])
            above = known[-1][0] if known else 0
            # The bin of zeros holds magnitudes too small for another one.
            ends = (high, low) if low < high else (TINY, -TINY)
            known += [(above, ends[0]), (above + count, ends[1])]
        return edges

    @cached_property
    def tails(self) -> tuple[Floats32, ...]:
        """For each unit its largest activations in falling order, none left out; the last is a bound on the rest."""
        if self._protocol.threshold_grid is not None:
            # There thresholds are of upsampled values, of which the maps' cells say too little.
            return tuple(np.empty(0, np.float32) for _ in range(self._layer.info.units))
        kept = self._layer.top.group_by("unit").agg(pl.len(), pl.col("max_activation").min()).sort("unit")
        return tuple(
            self._tail(self._layer.top_maps[unit, :count].ravel(), np.float32(weakest), count)
            for unit, count, weakest in kept.rows()
        )

    def _tail(self, values: npt.NDArray[np.float32], weakest: np.float32, count: int) -> Floats32:
        falling = np.sort(values)[::-1]
        if count >= self._images:
            return falling
        # The weakest maximum itself closes the list: no other image has anything above it.
        return falling[: int(np.count_nonzero(falling > weakest)) + 1]

    def at(self, quantile: float) -> Thresholds:
        """Return the units' thresholds at any quantile of `range`.

        Raises
        ------
        RequestError
            If nothing is known at that quantile.
        """
        least, most = self.range
        if not least <= quantile <= most:
            raise RequestError(
                f"nothing is known about thresholds at the quantile {quantile:g}: the run knows those from {least:.3g} "
                f"to {most:g}. Choose one of these, or repeat the run with {quantile:g} among its quantiles."
            )
        if quantile in self._quantiles:
            own = self._known[self._quantiles.index(quantile)]
            return Thresholds(own, np.ones(len(own), bool), own, own)
        upper, lower, weight = ranks(quantile, self.total, self._protocol.threshold)
        found = [self._at(unit, upper, lower, weight) for unit in range(self._layer.info.units)]
        values, low, high = (np.array(column, np.float32) for column in zip(*found, strict=True))
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
        """Return what is known, by rank: the end of the tail, the run's thresholds, the edges of the histogram."""
        tail = self.tails[unit]
        knots = [_Knot(count, count + 1, edge) for count, edge in self._edges.get(unit, ())]
        for place, quantile in enumerate(self._quantiles):
            upper, lower, _ = ranks(quantile, self.total, self._protocol.threshold)
            knots.append(_Knot(upper, lower, float(self._known[place, unit])))
        if len(tail):
            knots = [knot for knot in knots if knot.last > len(tail)]
            knots.append(_Knot(len(tail), len(tail), float(tail[-1])))
        return sorted(knots, key=lambda knot: (knot.last, knot.first))

    def share_above(self, unit: int, value: float) -> float:
        """Return which share of a unit's activations over the data set lies above a value.

        Exact in the upper end, interpolated between what is known, and at most the largest known share: below its
        threshold nothing is known.
        """
        tail = self.tails[unit]
        if len(tail) and value >= tail[-1]:
            return int(np.count_nonzero(tail > value)) / self.total
        places, values = _curve(self._knots(unit))
        return float(np.exp(np.interp(value, values[::-1], places[::-1])) - 1) / self.total


class _Knot(NamedTuple):
    """A value of known place among a unit's activations in falling order, counted from 1.

    The activation of every rank up to `first` is at least `value`, from `last` on it is at most that.
    """

    first: int
    last: int
    value: float


def _curve(knots: "list[_Knot]") -> tuple[Floats, Floats]:
    """Return the knots as a curve: logarithms of ranks, rising, and values, never rising."""
    places = np.log([knot.last for knot in knots])
    return places, np.minimum.accumulate([knot.value for knot in knots])


def nearest(quantile: float, known: Sequence[float]) -> float:
    """Return the known quantile that is nearest in ratio."""
    return min(known, key=lambda each: abs(np.log(each / quantile)))
