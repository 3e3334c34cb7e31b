"""The active pixels of one mask by row of the table of label sets."""

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int32]


class ActiveRows(NamedTuple):
    """The active pixels of one mask, of A rows of a `LabelSetTable`; adds up over images.

    Attributes
    ----------
    rows
        int32 (A,): rows with active pixels, rising, each once.
    active
        int64 (A,): active pixels in each of them, at least 1 and at most the pixels of the row.
    """

    rows: Rows
    active: Ints

    @classmethod
    def of(cls, rows: npt.ArrayLike, active: npt.ArrayLike) -> Self:
        """Make it of rows in any order, some more than once, some without active pixels."""
        distinct, index = np.unique(np.asarray(rows, np.int32), return_inverse=True)
        totals = np.zeros(len(distinct), np.int64)
        np.add.at(totals, index, np.asarray(active, np.int64))
        return cls(distinct[totals > 0], totals[totals > 0])

    @property
    def mask_pixels(self) -> int:
        """Number of active pixels."""
        return int(self.active.sum())

    def moved(self, new_rows: Ints) -> Self:
        """Return the same pixels in a merged table; see `LabelSetTable.merge`."""
        return self.of(new_rows[self.rows], self.active)

    def plus(self, other: Self) -> Self:
        """Add the active pixels of other images in the same table."""
        return self.of(np.concatenate([self.rows, other.rows]), np.concatenate([self.active, other.active]))
