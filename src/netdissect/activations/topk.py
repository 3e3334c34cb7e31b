"""Exact top-quantile thresholds in one pass and bounded memory.

Only the largest floor(q N) + 1 of N activations can decide the threshold, and N is known before the pass. Each unit
keeps that many values. The smallest of them is a lower bound on its final threshold, and it only rises.

    maps -> StreamingTopK.update -> StreamingTopK.thresholds

Keeping the largest values is a monoid: `left + right` equals, value for value, one pass over both.

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 2.2 (P(a_k > T_k) = 0.005).
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from math import ceil, floor
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from netdissect.activations.sparse.sparse_maps import SparseMaps
from netdissect.activations.topk_memmap import MemmapTopK
from netdissect.config import Threshold
from netdissect.errors import ShapeError
from netdissect.jit import compiled_in_place, inlined
from netdissect.process.split_loops import ONE_THREAD, SplitLoops

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

BLOCK_SIZE = 64
"""Values that are compared with the bound at once."""
SELECTED_VALUES = 2**20  # values that are copied at a time, to select among them
ABOVE_ALL = np.full((1, 1), np.inf, np.float32)
FIRST_ROW = np.zeros(1, np.int64)


def ranks(quantile: float, total: int, rule: Threshold) -> tuple[int, int, float]:
    """Return the ranks of the values that make a threshold.

    Parameters
    ----------
    quantile
        Fraction of the values above the threshold.
    total
        Number of values, N.
    rule
        ``exact``: the (floor(qN) + 1)-th largest. The others: linearly between neighbors, at a position of the rising
        order, counted from 0. ``interpolated``: (1 - q)(N - 1), as `numpy.quantile` does. ``hazen``: (1 - q)N - 1/2,
        not beyond either end, as `numpy.quantile` does with this method (Hazen 1914; Hyndman and Fan 1996, type 5).

    Returns
    -------
    upper, lower, weight
        The threshold is value[upper] * weight + value[lower] * (1 - weight), where value[1] is the largest.

    >>> ranks(0.005, 36064, "exact")
    (181, 181, 0.0)
    >>> ranks(0.25, 10, "hazen")  # of 0..9 the quantile 0.75 is 7
    (3, 3, 0.0)
    """
    if rule == "exact":
        # In decimal: 0.29 * 100 is 28.999999999999996 in binary floating point.
        rank = floor(Decimal(repr(float(quantile))) * total) + 1
        return rank, rank, 0.0
    position = (1 - quantile) * (total - 1)
    if rule == "hazen":
        # In the order in which numpy adds: the last bit may differ otherwise.
        position = min(max(total * (1 - quantile) + 0.5 - 1, 0.0), total - 1.0)
    return total - ceil(position), total - floor(position), position - floor(position)


def rank_positions(quantiles: Sequence[float], total: int, rule: Threshold) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Return `ranks` for many quantiles as positions in falling order, int64 (Q, 2), and weights, float64 (Q,)."""
    found = [ranks(quantile, total, rule) for quantile in quantiles]
    return np.array([(upper - 1, lower - 1) for upper, lower, _ in found]), np.array([weight for *_, weight in found])


def interpolate_order_statistics(neighbors: Floats, weights: npt.NDArray[np.float64]) -> Floats:
    """Interpolate neighboring order statistics, float32 (U, Q, 2): thresholds, float32 (Q, U)."""
    high, low = neighbors[:, :, 0].astype(np.float64), neighbors[:, :, 1].astype(np.float64)
    step = high - low
    # From the nearer neighbor, as numpy.quantile does: from the other one the last bit may differ.
    values = np.where(weights >= 0.5, high - step * (1 - weights), low + step * weights)
    # Of zeros of both signs any may be selected: their order is that of the batches.
    return values.T.astype(np.float32, order="C") + np.float32(0)


class StreamingTopK:
    """The largest values of each unit so far.

    Parameters
    ----------
    units
        Number of units, U.
    keep
        Number of largest values to keep: the highest rank that a threshold needs.
    total
        Number of values of each unit in the whole pass.
    file
        Keep the values in this file instead of in memory.
    lowest
        The lowest value that there may be, 0 for sparse maps: it is not kept, and those that are not passed have it.

    Attributes
    ----------
    bound
        float32 (U,): no final threshold is below this; `lowest` until `keep` values were seen.
    lowest
        See the parameter.
    """

    def __init__(self, units: int, keep: int, total: int, file: Path | None = None, lowest: float = -np.inf) -> None:
        width = buffer_capacity(keep, total) + BLOCK_SIZE
        self.keep = keep
        self.total = total
        self.seen = 0
        self.bound: Floats = np.full(units, lowest, np.float32)
        self.lowest = np.float32(lowest)
        self._all_units = np.arange(units)
        self._file = None if file is None else MemmapTopK(file, (units, width))
        self._values: Floats = np.empty((units, width), np.float32) if self._file is None else self._file.values
        self._filled: Ints = np.zeros(units, np.int64)

    def update(
        self,
        values: Floats,
        floor: Floats | None = None,
        maxima: Floats | None = None,
        units: Ints | None = None,
        split: SplitLoops = ONE_THREAD,
    ) -> None:
        """Add values and raise `bound`.

        Parameters
        ----------
        values
            float32 (B, U, n), finite.
        floor
            float32 (U,): known lower bounds on the `keep`-th largest of these and earlier values; smaller values are
            not kept. None: no bound is known.
        maxima
            float32 (B, U): no value of a unit and image is above it. None: not known.
        units
            int64 (U,), rising: the units of these values; all other units have the lowest value as often. None: all.
        split
            Divides the units among threads.
        """
        self._see(values.shape[0] * values.shape[2])
        if floor is not None:
            np.maximum(self.bound, floor, out=self.bound)
        if maxima is None:
            maxima = np.full(values.shape[:2], np.inf, np.float32)
        rows, limits = self._all_units if units is None else units, maxima

        def keep(first: int, last: int) -> None:
            _keep_largest(values, limits, rows, self._values, self._filled, self.bound, self.keep, (first, last))

        if self._file is None:
            split.run(keep, len(rows), values.size)
            return
        for first in range(0, len(rows), self._file.units_at_once):
            keep(first, min(first + self._file.units_at_once, len(rows)))
            self._file.release()

    def update_sparse(self, maps: SparseMaps) -> None:
        """Add the values of sparse maps; the lowest value is 0."""
        self._see(len(maps) * maps.shape[2] * maps.shape[3])
        _keep_active(maps.values, maps.value_starts, maps.units, self._values, self._filled, self.bound, self.keep)
        if self._file is not None:
            self._file.release()

    def _see(self, values: int) -> None:
        """Count so many values of each unit."""
        self.seen += values
        if self.seen > self.total:
            raise ShapeError(
                f"{self.seen} values a unit were added but {self.total} were announced; the number decides which "
                "values matter. Announce all images before the pass."
            )

    def __add__(self, other: Self) -> Self:
        """Merge two parts of the same data; both must announce the same total."""
        if (self.keep, self.total, len(self.bound)) != (other.keep, other.total, len(other.bound)):
            raise ShapeError(
                f"top values of {len(self.bound)} units (keeping {self.keep} of {self.total}) cannot be merged with "
                f"those of {len(other.bound)} (keeping {other.keep} of {other.total}). Merge parts of one run."
            )
        merged = type(self)(len(self.bound), self.keep, self.total, lowest=float(self.lowest))
        for part in (self, other):
            merged.merge(part._values, part._filled, part.seen)
        return merged

    @property
    def kept(self) -> tuple[Floats, Ints, int]:
        """The arguments of `merge`: values (U, n), their number for each unit, and the number of values seen."""
        return self._values[:, : int(self._filled.max(initial=0))], self._filled, self.seen

    def merge(self, values: Floats, filled: Ints, seen: int) -> None:
        """Add the values kept of another part of the data: the first `filled` (U,) of values (U, n), out of `seen`."""
        self.seen += seen
        for unit, count in enumerate(filled):
            _keep_largest(
                np.array(values[None, unit : unit + 1, :count]), ABOVE_ALL, FIRST_ROW, self._values[unit : unit + 1],
                self._filled[unit : unit + 1], self.bound[unit : unit + 1], self.keep, (0, 1),
            )  # fmt: skip

    def thresholds(self, quantiles: Sequence[float], rule: Threshold) -> Floats:
        """Return T, float32 (quantiles, U), once all values were seen."""
        if self.seen != self.total:
            raise ShapeError(
                f"{self.seen} of {self.total} values a unit were seen; a threshold needs all of them. Finish the pass."
            )
        positions, weights = rank_positions(quantiles, self.total, rule)
        neighbors = np.empty((len(self._values), *positions.shape), np.float32)
        width = max(int(self._filled.max(initial=0)), int(positions.max()) + 1)
        step = max(1, SELECTED_VALUES // width)
        for first in range(0, len(neighbors), step):
            some = slice(first, first + step)
            # The largest values last: numpy selects from below.
            filled = np.arange(width) < self._filled[some, None]
            kept = np.where(filled, self._values[some, :width], self.lowest)
            kept.partition(np.unique(width - 1 - positions), axis=1)
            neighbors[some] = kept[:, width - 1 - positions]
            if self._file is not None:
                self._file.release()
        return interpolate_order_statistics(neighbors, weights)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of a checkpoint; values in a file are copied to a second file."""
        state: dict[str, npt.NDArray[Any]] = {"filled": self._filled, "bound": self.bound, "seen": np.array(self.seen)}
        if self._file is not None:
            return state | {"check": np.array(self._file.save(self.seen))}
        return state | {"values": self.kept[0]}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Continue from a `state`.

        Raises
        ------
        ResultError
            If the copy of a file of values is damaged or missing.
        """
        if self._file is None:
            self._values[:, : state["values"].shape[1]] = state["values"]
        else:
            self._values = self._file.restore(int(state["seen"]), int(state["check"]))
        self._filled[:] = state["filled"]
        self.bound[:] = state["bound"]
        self.seen = int(state["seen"])


def buffer_capacity(keep: int, total: int) -> int:
    """Return the capacity of a unit: half as much again as it must keep, so that few values are sorted twice."""
    return min(total, keep + max(keep // 2, 1024))


@compiled_in_place
def _keep_largest(
    values: Floats,
    maxima: Floats,
    rows: Ints,
    kept: Floats,
    filled: Ints,
    bound: Floats,
    keep: int,
    units: tuple[int, int],
) -> None:
    """Keep values above the bound, which rises when the buffer is full.

    Values are compared in blocks, few of which hold any above the bound: the compiler vectorizes the comparison. The
    buffer has room for one more block than it keeps, so that each value of a block is written, and overwritten if it is
    not above: without a branch, which would be taken in no order, that takes a third of the time.
    """
    cells, capacity = values.shape[2], kept.shape[1] - BLOCK_SIZE
    for unit in range(units[0], units[1]):
        row = rows[unit]
        kept_values, lower_bound, count = kept[row], bound[row], filled[row]
        for image in range(values.shape[0]):
            if not maxima[image, unit] > lower_bound:
                continue
            unit_values = values[image, unit]
            for first in range(0, cells, BLOCK_SIZE):
                last = first + BLOCK_SIZE if first + BLOCK_SIZE < cells else cells
                above = np.int64(0)
                for cell in range(first, last):
                    above += unit_values[cell] > lower_bound
                if above == 0:
                    continue
                for cell in range(first, last):
                    kept_values[count] = unit_values[cell]
                    count += unit_values[cell] > lower_bound
                if count > capacity:
                    count, lower_bound = _compact(kept_values[:count], capacity, lower_bound, keep)
        bound[row], filled[row] = lower_bound, count


@compiled_in_place
def _keep_active(
    values: Floats, value_starts: Ints, units: Ints, kept: Floats, filled: Ints, bound: Floats, keep: int
) -> None:
    """Keep values of active maps above the bound, as `_keep_largest` does."""
    capacity = kept.shape[1] - BLOCK_SIZE
    for index in range(len(units)):
        row = units[index]
        kept_values, lower_bound, count = kept[row], bound[row], filled[row]
        for value in values[value_starts[index] : value_starts[index + 1]]:
            if value > lower_bound:
                kept_values[count] = value
                count += 1
                if count > capacity:
                    count, lower_bound = _compact(kept_values[:count], capacity, lower_bound, keep)
        bound[row], filled[row] = lower_bound, count


@inlined
def _compact(kept: npt.NDArray[np.float32], capacity: int, bound: np.float32, keep: int) -> tuple[int, np.float32]:
    """Drop values below the bound; if too many remain, keep the largest and raise the bound."""
    count: Any = np.int64(0)
    for value in kept:
        kept[count] = value
        count += value >= bound  # the bound may itself be one of the largest values
    if count > keep + (capacity - keep) // 2:
        _select_largest(kept, count, keep)
        count, bound = keep, kept[keep - 1]
    return count, bound


@inlined
def _select_largest(values: npt.NDArray[np.float32], count: int, keep: int) -> None:
    """Reorder the first `count` values: the `keep` largest first, the smallest of these last among them.

    Quickselect (Hoare 1961). `numpy.partition` takes ten times as long to compile.
    """
    first, last, target = np.int64(0), count - 1, keep - 1
    while first < last:
        pivot, left, right = values[(first + last) // 2], first, last
        while left <= right:
            while values[left] > pivot:
                left += 1
            while values[right] < pivot:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left, right = left + 1, right - 1
        if target <= right:
            last = right
        elif target >= left:
            first = left
        else:
            return
