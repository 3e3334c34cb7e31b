"""Where the counts of each quantile and unit are kept: a unit whose thresholds are equal has equal masks there.

Intervals need counts at two quantiles near each one of the protocol. Most latents of a wide dictionary are active on
fewer cells than any of these quantiles asks, so that all their thresholds are 0: of 65,536 latents 99 %, whose counts
at 1,197 concepts take 0.6 GB at each quantile.
"""

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class CountRows(NamedTuple):
    """The row of the counts of each mask.

    Attributes
    ----------
    rows
        int64 (Q, U). The first Q' U rows are those of the first Q' quantiles, for all units; then come the masks at
        further quantiles that differ from all of these. A mask that equals one of them has its row.
    reported
        Q'.
    """

    rows: Ints
    reported: int

    @classmethod
    def of(cls, thresholds: npt.NDArray[np.float32], reported: int) -> Self:
        """Compare thresholds, float32 (Q, U), with those of the first `reported` quantiles, at least one.

        >>> CountRows.of(np.array([[0, 3], [0, 4], [0, 3]], np.float32), reported=1).rows
        array([[0, 1],
               [0, 2],
               [0, 1]])
        """
        units = thresholds.shape[1]
        dense = np.arange(reported * units).reshape(reported, units)
        equal = thresholds[None, reported:] == thresholds[:reported, None]  # (Q', Q - Q', U)
        rows = equal.argmax(axis=0) * units + np.arange(units)
        own = ~equal.any(axis=0)
        rows[own] = dense.size + np.arange(own.sum())
        return cls(np.concatenate([dense, rows]), reported)

    @property
    def dense(self) -> int:
        """Number of rows of the first quantiles."""
        return self.reported * int(self.rows.shape[1])

    @property
    def further(self) -> Ints:
        """Row of each mask at the further quantiles among those that differ, int64 (Q - Q', U); -1: it has none."""
        return np.maximum(self.rows[self.reported :] - self.dense, -1)

    @property
    def num_further(self) -> int:
        """Number of masks at further quantiles that differ."""
        return int((self.further >= 0).sum())

    def select(self, of_first: Ints, of_further: Ints, quantile: int, pairs: tuple[Ints, Ints]) -> Ints:
        """Return counts at one quantile.

        Parameters
        ----------
        of_first, of_further
            int64 (Q', U, n) and (N, n).
        quantile
            Index of the quantile.
        pairs
            int64 (P,) each: units, and which of the n counts.
        """
        units, columns = pairs
        rows = self.rows[quantile, units]
        found: Ints = of_first.reshape(self.dense, -1)[np.minimum(rows, self.dense - 1), columns]
        own = rows >= self.dense
        found[own] = of_further[rows[own] - self.dense, columns[own]]
        return found
