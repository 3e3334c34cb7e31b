"""How the activations of each unit are distributed: counts in bins that need no range beforehand.

Bins follow the bits of float32: eight to an octave from 2**-24 to 2**16 on either side of zero, so that the counts of
two parts of the data add up to those of the whole, whatever the values are.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from netdissect.jit import compiled

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

FINE = 3
"""An octave holds two to this power bins."""
LOWEST, HIGHEST = -24, 16
"""Magnitudes below two to the first power count as zero; those beyond two to the second fall into the last bin."""
SIDE = (HIGHEST - LOWEST) << FINE
BINS = 2 * SIDE + 1

SHIFT = 23 - FINE
FIRST = ((127 + LOWEST) << FINE) - 1
MAGNITUDE = 0x7FFFFFFF

TOGETHER = 16
"""Units that are counted one after the other before the next image."""


class Histogram:
    """How often each unit's activations fall into each bin.

    Parameters
    ----------
    units
        How many units, U.

    Attributes
    ----------
    counts
        int64 (U, BINS), rising: negative values, then zero, then positive values.
    """

    def __init__(self, units: int) -> None:
        self.counts: Ints = np.zeros((units, BINS), np.int64)

    def update(self, maps: Floats) -> None:
        """Take in maps, float32 (B, U, h, w), finite."""
        _count(np.ascontiguousarray(maps).reshape(*maps.shape[:2], -1).view(np.int32), self.counts)

    def floor(self, rank: int) -> Floats:
        """Return values, float32 (U,), below the `rank`-th largest so far of each unit; -inf where there are fewer."""
        return np.asarray(FLOORS[_bins_of_rank(self.counts, rank)])

    def __add__(self, other: Self) -> Self:
        """Combine two parts of the data."""
        whole = type(self)(len(self.counts))
        whole.counts = self.counts + other.counts
        return whole

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything needed to go on later."""
        return {"counts": self.counts}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from a `state`."""
        self.counts[:] = state["counts"]


def bin_edges() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the low and the high end of every bin, float64 (BINS,): both 0 for the bin of zeros.

    >>> low, high = bin_edges()
    >>> one = SIDE + 1 + ((0 - LOWEST) << FINE)
    >>> float(low[one]), float(high[one])
    (1.0, 1.125)
    """
    octaves = 2.0 ** np.arange(LOWEST, HIGHEST + 1)
    starts = (octaves[:-1, None] * (1 + np.arange(1 << FINE) / (1 << FINE))).ravel()
    ends = np.append(starts[1:], octaves[-1])
    zero = np.zeros(1)
    return np.concatenate([-ends[::-1], zero, starts]), np.concatenate([-starts[::-1], zero, ends])


def _floors() -> Floats:
    """Return what lies below all values of each bin, and -inf for the bin before the first, float32 (BINS + 1,)."""
    starts = (np.arange(1, SIDE + 1, dtype=np.int32) + FIRST) << SHIFT
    positive = (starts - 1).view(np.float32)
    # Magnitudes of a negative bin end before the next bin's start; those of the last have no end.
    negative = np.append(-np.inf, -starts[::-1].view(np.float32))
    return np.concatenate([[-np.inf], negative, positive]).astype(np.float32)


FLOORS = _floors()


@compiled
def _bins_of_rank(counts: Ints, rank: int) -> Ints:
    """Return one more than the bin of the `rank`-th largest value of each unit; 0 where there are fewer."""
    found = np.empty(len(counts), np.int64)
    for unit in range(len(counts)):
        place, above = counts.shape[1], np.int64(0)
        while place > 0 and above < rank:
            place -= 1
            above += counts[unit, place]
        found[unit] = place + 1 if above >= rank else 0
    return found


@compiled
def _count(bits: npt.NDArray[np.int32], counts: Ints) -> None:
    """Add values (B, U, n), as bits, to the counts of a few units at a time, so that these stay in the cache."""
    places = np.empty(bits.shape[2], np.int32)
    for first in range(0, bits.shape[1], TOGETHER):
        for image in range(bits.shape[0]):
            for unit in range(first, min(first + TOGETHER, bits.shape[1])):
                # Places first: without a sign to branch on, the compiler makes vector code of them.
                for cell in range(bits.shape[2]):
                    value = bits[image, unit, cell]
                    away = min(max(((value & MAGNITUDE) >> SHIFT) - FIRST, 0), SIDE)
                    sign = value >> 31
                    places[cell] = SIDE + ((away ^ sign) - sign)
                for place in places:
                    counts[unit, place] += 1
