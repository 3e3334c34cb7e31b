"""Image by image: which units are on, on how many pixels, and on which labels. The sparse part of what a tally sums.

On real layers a unit is on in one image out of five or ten, on some five labels of it: ten bytes a mask and three
a label suffice, where the dense table of images, units and concepts would not fit anywhere.

    Tallier -> Overlaps of a batch -> BatchFile -> bootstrap, halves, and every later question about images
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from netdissect.sweep.batches import BatchFile

Ints = npt.NDArray[np.int64]


class Overlaps(NamedTuple):
    """Masks that are not empty, M of them, and the labels below them, N in all.

    Attributes
    ----------
    rows, quantiles, units, on
        int64 (M,): image, index of the quantile, unit, and pixels on.
    labels
        int64 (M,): how many of the following entries are the mask's.
    numbers, intersections
        int64 (N,): label number, and pixels on which the mask is on and the label lies, mask after mask.
    """

    rows: Ints
    quantiles: Ints
    units: Ints
    on: Ints
    labels: Ints
    numbers: Ints
    intersections: Ints

    @classmethod
    def of(cls, row: int, quantile: int, on: npt.ArrayLike, counts: npt.ArrayLike, numbers: Ints) -> Self:
        """Take what is not zero of one image: pixels on (U,), and counts (U, n) of its labels `numbers` (n,)."""
        on, counts = np.asarray(on), np.asarray(counts)
        units = np.flatnonzero(on)
        mask, label = counts[units].nonzero()
        return cls(
            np.full(len(units), row),
            np.full(len(units), quantile),
            units,
            on[units].astype(np.int64),
            np.bincount(mask, minlength=len(units)),
            numbers[label],
            counts[units[mask], label].astype(np.int64),
        )

    @classmethod
    def join(cls, parts: Sequence["Overlaps"]) -> Self:
        """Put the masks of several images together."""
        if not parts:
            return cls(*(np.empty(0, np.int64) for _ in cls._fields))
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    @property
    def masks(self) -> Ints:
        """Which mask each entry belongs to, int64 (N,)."""
        return np.repeat(np.arange(len(self.rows)), self.labels)

    def at(self, quantile: int) -> "Overlaps":
        """Return the masks of one quantile."""
        chosen = self.quantiles == quantile
        entries = np.repeat(chosen, self.labels)
        return Overlaps(*(array[chosen] for array in self[:5]), *(array[entries] for array in self[5:]))


class Presence(NamedTuple):
    """The labels of some images, N in all.

    Attributes
    ----------
    rows, numbers, pixels
        int64 (N,): image, label number, and how many pixels bear it.
    """

    rows: Ints
    numbers: Ints
    pixels: Ints

    @classmethod
    def join(cls, parts: Sequence["Presence"]) -> Self:
        """Put the labels of several batches together."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def read_overlaps(file: BatchFile) -> Iterator[Overlaps]:
    """Read a layer's masks back, batch by batch."""
    for arrays in file:
        yield Overlaps(*(array.astype(np.int64) for array in arrays))


def read_presence(file: BatchFile) -> Iterator[Presence]:
    """Read the images' labels back, batch by batch."""
    for arrays in file:
        yield Presence(*(array.astype(np.int64) for array in arrays))
