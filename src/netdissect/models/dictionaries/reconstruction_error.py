"""How well a basis keeps the cells of a layer.

Source: normalized mean squared error of saev, :cite:p:`stevens2025openended`.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Cells = npt.NDArray[np.float32]


def normalized_error(cells: Cells, reconstructed: Iterable[Cells]) -> float:
    """Return the squared error of reconstructed cells over that of the mean cell; NaN where all cells are equal.

    Parameters
    ----------
    cells
        float32 (N, U).
    reconstructed
        The same cells in order, in parts: float32 (n, U).

    Examples
    --------
    >>> cells = np.array([[0.0, 0.0], [2.0, 0.0]], np.float32)
    >>> normalized_error(cells, [cells[:1], cells[1:] - 1])
    1.0
    """
    mean, error, spread, done = cells.mean(axis=0, dtype=np.float64), 0.0, 0.0, 0
    for part in reconstructed:
        of_part = cells[done : done + len(part)].astype(np.float64)
        error += float(((of_part - part) ** 2).sum())
        spread += float(((of_part - mean) ** 2).sum())
        done += len(part)
    return error / spread if spread > 0 else float("nan")
