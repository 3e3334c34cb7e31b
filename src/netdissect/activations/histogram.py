"""Histogram of the activations of each unit, with fixed bins for any range of values.

Bins follow the bits of float32: eight to an octave from 2**-24 to 2**16 on either side of zero. The counts of two parts
of the data add up to those of the whole.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from netdissect.activations.sparse.sparse_maps import SparseMaps
from netdissect.jit import compiled_in_place
from netdissect.process.split_loops import ONE_THREAD, SplitLoops

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

LOG2_BINS = 3
"""Base-2 logarithm of the number of bins of an octave."""
MIN_EXPONENT, MAX_EXPONENT = -24, 16
"""Magnitudes below two to the minimum count as zero; those above two to the maximum fall into the last bin."""
BINS_PER_SIGN = (MAX_EXPONENT - MIN_EXPONENT) << LOG2_BINS
BINS = 2 * BINS_PER_SIGN + 1

SHIFT = 23 - LOG2_BINS
FIRST_BIN = ((127 + MIN_EXPONENT) << LOG2_BINS) - 1
MAGNITUDE = 0x7FFFFFFF

UNITS_AT_ONCE = 16
"""Units counted together before the next image, so that their counts stay in the cache."""


class Histogram:
    """Counts of the activations of each unit in each bin.

    Parameters
    ----------
    units
        Number of units, U.
    negative
        Whether values below 0 can occur. Without their bins those of 65,536 units take 168 MB less.

    Attributes
    ----------
    counts
        int64 (U, n), rising: negative values, then zero, then positive values; n is BINS, or BINS_PER_SIGN + 1 without
        negative values.
    """

    def __init__(self, units: int, *, negative: bool = True) -> None:
        self.counts: Ints = np.zeros((units, BINS if negative else BINS_PER_SIGN + 1), np.int64)

    def update(self, maps: Floats, split: SplitLoops = ONE_THREAD) -> None:
        """Add maps, float32 (B, U, h, w), finite, to a histogram with negative values."""
        bits = np.ascontiguousarray(maps).reshape(*maps.shape[:2], -1).view(np.int32)

        def count(first: int, last: int) -> None:
            _count(bits, np.empty(bits.shape[2], np.int32), self.counts, (first, last))

        split.run(count, bits.shape[1], bits.size)

    def update_sparse(self, maps: SparseMaps) -> None:
        """Add sparse maps."""
        images, units, height, width = maps.shape
        unit = np.repeat(maps.units, np.diff(maps.value_starts))
        magnitude = np.clip((maps.values.view(np.int32) >> SHIFT) - FIRST_BIN, 0, BINS_PER_SIGN)
        bins = self.counts.shape[1]
        zero = bins - 1 - BINS_PER_SIGN
        np.add.at(self.counts.reshape(-1), unit * bins + zero + magnitude, 1)
        self.counts[:, zero] += images * height * width - np.bincount(unit, minlength=units)

    def floor(self, rank: int) -> Floats:
        """Return lower bounds, float32 (U,), on the `rank`-th largest value of each unit; -inf if there are fewer."""
        bins = np.empty(len(self.counts), np.int64)
        _find_bins(self.counts, rank, bins)
        bins[bins > 0] += BINS - self.counts.shape[1]
        return np.asarray(FLOORS[bins])

    def __add__(self, other: Self) -> Self:
        """Merge two parts of the data."""
        total = type(self)(len(self.counts), negative=self.counts.shape[1] == BINS)
        total.counts = self.counts + other.counts
        return total

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of a checkpoint."""
        return {"counts": self.counts}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Continue from a `state`."""
        self.counts[:] = state["counts"]


def bin_edges() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the low and the high end of each bin, float64 (BINS,); both are 0 for the bin of zeros.

    >>> low, high = bin_edges()
    >>> bin_index = BINS_PER_SIGN + 1 + ((0 - MIN_EXPONENT) << LOG2_BINS)
    >>> float(low[bin_index]), float(high[bin_index])
    (1.0, 1.125)
    """
    octaves = 2.0 ** np.arange(MIN_EXPONENT, MAX_EXPONENT + 1)
    starts = (octaves[:-1, None] * (1 + np.arange(1 << LOG2_BINS) / (1 << LOG2_BINS))).ravel()
    ends = np.append(starts[1:], octaves[-1])
    zero = np.zeros(1)
    return np.concatenate([-ends[::-1], zero, starts]), np.concatenate([-starts[::-1], zero, ends])


def _floors() -> Floats:
    """Return a value below all values of each bin, and -inf for the bin before the first, float32 (BINS + 1,)."""
    starts = (np.arange(1, BINS_PER_SIGN + 1, dtype=np.int32) + FIRST_BIN) << SHIFT
    positive = (starts - 1).view(np.float32)
    # Magnitudes of a negative bin end before the start of the next bin; the last bin has no end.
    negative = np.append(-np.inf, -starts[::-1].view(np.float32))
    return np.concatenate([[-np.inf], negative, positive]).astype(np.float32)


FLOORS = _floors()


@compiled_in_place
def _find_bins(counts: Ints, rank: int, bins: Ints) -> None:
    """Write one more than the bin of the `rank`-th largest value of each unit to `bins`; 0 where there are fewer."""
    for unit in range(len(counts)):
        bin_index, above = counts.shape[1], np.int64(0)
        while bin_index > 0 and above < rank:
            bin_index -= 1
            above += counts[unit, bin_index]
        bins[unit] = bin_index + 1 if above >= rank else 0


@compiled_in_place
def _count(
    bits: npt.NDArray[np.int32], bin_indices: npt.NDArray[np.int32], counts: Ints, units: tuple[int, int]
) -> None:
    """Add values (B, U, n) of a range of units, as bits, to the counts of a few at a time, which stay in the cache.

    `bin_indices` (n,) is overwritten.
    """
    for first in range(units[0], units[1], UNITS_AT_ONCE):
        for image in range(bits.shape[0]):
            for unit in range(first, min(first + UNITS_AT_ONCE, units[1])):
                # Bin indices first: without a branch on the sign the compiler vectorizes the loop.
                for cell in range(bits.shape[2]):
                    value = bits[image, unit, cell]
                    magnitude = min(max(((value & MAGNITUDE) >> SHIFT) - FIRST_BIN, 0), BINS_PER_SIGN)
                    sign = value >> 31
                    bin_indices[cell] = BINS_PER_SIGN + ((magnitude ^ sign) - sign)
                for bin_index in bin_indices:
                    counts[unit, bin_index] += 1
