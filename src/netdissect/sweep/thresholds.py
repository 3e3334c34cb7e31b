"""Exact top-quantile thresholds in one pass and bounded memory.

Of N activations only the largest floor(q N) + 1 can decide the threshold, and N is known before the
pass begins. So each unit keeps that many values and forgets the rest; the smallest that it must keep is
a lower bound on its final threshold, and it only rises.

    maps -> TopValues.update -> TopValues.thresholds(rule)

Keeping the largest is a monoid: `left + right` is, value for value, what one pass over both would keep.

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 2.2 (P(a_k > T_k) = 0.005).
"""

import mmap
from collections.abc import Mapping, Sequence
from decimal import Decimal
from math import ceil, floor
from pathlib import Path
from typing import Any, Self

import numba
import numpy as np
import numpy.typing as npt

from netdissect.config import Threshold
from netdissect.errors import ShapeError

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

compiled: Any = numba.njit(nogil=True, cache=True)


def ranks(quantile: float, total: int, rule: Threshold) -> tuple[int, int, float]:
    """Say which of the sorted values make a threshold.

    Parameters
    ----------
    quantile
        Fraction of the values that should lie above it.
    total
        How many values there are, N.
    rule
        ``exact``: the (floor(qN) + 1)-th largest. ``interpolated``: at position (1 - q)(N - 1) of the
        rising order, linearly between neighbors, as `numpy.quantile` does.

    Returns
    -------
    upper, lower, weight
        The threshold is value[upper] * weight + value[lower] * (1 - weight), where value[1] is the largest.

    >>> ranks(0.005, 36064, "exact")
    (181, 181, 0.0)
    """
    if rule == "exact":
        # In decimal: 0.29 * 100 is 28.999999999999996 in binary floating point.
        rank = floor(Decimal(repr(float(quantile))) * total) + 1
        return rank, rank, 0.0
    position = (1 - quantile) * (total - 1)
    return total - ceil(position), total - floor(position), position - floor(position)


def positions_of(quantiles: Sequence[float], total: int, rule: Threshold) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Return `ranks` for many quantiles as positions in falling order, int64 (Q, 2), and weights, float64 (Q,)."""
    found = [ranks(quantile, total, rule) for quantile in quantiles]
    return np.array([(upper - 1, lower - 1) for upper, lower, _ in found]), np.array([weight for *_, weight in found])


def between(neighbors: Floats, weights: npt.NDArray[np.float64]) -> Floats:
    """Interpolate neighboring order statistics, float32 (U, Q, 2): thresholds, float32 (Q, U)."""
    high, low = neighbors[:, :, 0].astype(np.float64), neighbors[:, :, 1].astype(np.float64)
    return (low + (high - low) * weights).T.astype(np.float32, order="C")


class TopValues:
    """The largest values of each unit so far.

    Parameters
    ----------
    units
        How many units, U.
    keep
        How many of the largest values must be kept: the highest rank that a threshold needs.
    total
        How many values each unit will have seen at the end.
    file
        Keep the values in this file instead of in memory.

    Attributes
    ----------
    bound
        float32 (U,): no final threshold is below this; -inf until `keep` values were seen.
    """

    def __init__(self, units: int, keep: int, total: int, file: Path | None = None) -> None:
        capacity = capacity_of(keep, total)
        self.keep = keep
        self.total = total
        self.seen = 0
        self.bound: Floats = np.full(units, -np.inf, np.float32)
        self._mapped = None if file is None else np.memmap(file, np.float32, "w+", shape=(units, capacity))
        self._values: Floats = np.empty((units, capacity), np.float32) if self._mapped is None else self._mapped
        self._filled: Ints = np.zeros(units, np.int64)

    def update(self, values: Floats) -> None:
        """Take in values, float32 (B, U, n) and finite; `bound` may rise."""
        self.seen += values.shape[0] * values.shape[2]
        if self.seen > self.total:
            raise ShapeError(
                f"{self.seen} values a unit were taken in but {self.total} were announced; the number decides which "
                "values matter. Announce all images before the pass."
            )
        _keep_largest(values, self._values, self._filled, self.bound, self.keep)
        if self._mapped is not None:
            # What was written stays in the file; only this process' memory is given back.
            self._mapped._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]

    def __add__(self, other: Self) -> Self:
        """Combine two parts of the same data; both must announce the same total."""
        if (self.keep, self.total, len(self.bound)) != (other.keep, other.total, len(other.bound)):
            raise ShapeError(
                f"top values of {len(self.bound)} units (keeping {self.keep} of {self.total}) cannot be merged with "
                f"those of {len(other.bound)} (keeping {other.keep} of {other.total}). Merge parts of one run."
            )
        merged = type(self)(len(self.bound), self.keep, self.total)
        for part in (self, other):
            merged.absorb(part._values, part._filled, part.seen)
        return merged

    def absorb(self, values: Floats, filled: Ints, seen: int) -> None:
        """Take in what another part of the data kept: the first `filled` (U,) of values (U, n), out of `seen`."""
        self.seen += seen
        for unit, count in enumerate(filled):
            _keep_largest(
                np.array(values[None, unit : unit + 1, :count]), self._values[unit : unit + 1],
                self._filled[unit : unit + 1], self.bound[unit : unit + 1], self.keep,
            )  # fmt: skip

    def thresholds(self, quantiles: Sequence[float], rule: Threshold) -> Floats:
        """Return T, float32 (quantiles, U), once all values were seen."""
        if self.seen != self.total:
            raise ShapeError(
                f"{self.seen} of {self.total} values a unit were seen; a threshold needs all of them. Finish the pass."
            )
        positions, weights = positions_of(quantiles, self.total, rule)
        rows = zip(self._values, self._filled, strict=True)
        return between(np.stack([np.sort(row[:n])[::-1][positions] for row, n in rows]), weights)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything needed to go on later."""
        used = int(self._filled.max(initial=0))
        return {
            "values": self._values[:, :used],
            "filled": self._filled,
            "bound": self.bound,
            "seen": np.array(self.seen),
        }

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from a `state`."""
        self._values[:, : state["values"].shape[1]] = state["values"]
        self._filled[:] = state["filled"]
        self.bound[:] = state["bound"]
        self.seen = int(state["seen"])


def capacity_of(keep: int, total: int) -> int:
    """Return how many values a unit has room for: half as much again as it must keep, so that few are sorted twice."""
    return min(total, keep + max(keep // 2, 1024))


@compiled  # type: ignore[untyped-decorator]
def _keep_largest(values: Floats, kept: Floats, filled: Ints, bound: Floats, keep: int) -> None:
    capacity = kept.shape[1]
    for image in range(values.shape[0]):
        for unit in range(values.shape[1]):
            low, n = bound[unit], filled[unit]
            for value in values[image, unit]:
                if value > low:
                    if n == capacity:
                        kept[unit] = np.partition(kept[unit], capacity - keep)
                        low = kept[unit, capacity - keep]
                        kept[unit, :keep] = kept[unit, capacity - keep :].copy()
                        n = keep
                        if not value > low:
                            continue
                    kept[unit, n] = value
                    n += 1
            bound[unit], filled[unit] = low, n
