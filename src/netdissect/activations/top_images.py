"""The images on which each unit is most active, with their activation maps.

Ordered by maximum activation, then by index row; keeping the first few is a monoid.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from netdissect.concepts import Size
from netdissect.jit import compiled

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class TopImages:
    """The `keep` images of highest maximum activation of each unit so far.

    Parameters
    ----------
    units
        How many units, U.
    cells
        Size of the layer's maps.
    keep
        How many images, K.
    """

    def __init__(self, units: int, cells: Size, keep: int) -> None:
        self._image_index: Ints = np.full((units, keep), -1, np.int64)
        self._maxima: Floats = np.full((units, keep), -np.inf, np.float32)
        self._slots: Ints = np.tile(np.arange(keep), (units, 1))  # where the map of each rank is kept
        self._maps: Floats = np.zeros((units, keep, *cells), np.float32)

    def update(self, maps: Floats, rows: Ints) -> None:
        """Take in maps, float32 (B, U, h, w), of the images `rows`, int64 (B,)."""
        _insert(maps, rows, self._image_index, self._maxima, self._slots, self._maps)

    def __add__(self, other: Self) -> Self:
        """Combine two parts of the same data."""
        units, keep, height, width = self._maps.shape
        merged = type(self)(units, Size(height, width), keep)
        for part in (self, other):
            rows, _maxima, maps = part.ranked()
            merged.merge(rows, maps)
        return merged

    def merge(self, rows: Ints, maps: Floats) -> None:
        """Take in what another part of the data kept: rows (U, K), -1 for none, and maps (U, K, h, w)."""
        for unit, kept in enumerate(rows):
            present = kept >= 0
            arrays = (array[unit : unit + 1] for array in self._arrays())
            _insert(np.array(maps[unit][: len(kept)][present])[:, None], np.array(kept[present]), *arrays)

    def ranked(self) -> tuple[Ints, Floats, Floats]:
        """Return rows (U, K), maxima (U, K) and maps (U, K, h, w), best first; row -1 where there are fewer images."""
        maps = np.take_along_axis(self._maps, self._slots[:, :, None, None], axis=1)
        return self._image_index, self._maxima, maps

    def _arrays(self) -> tuple[Ints, Floats, Ints, Floats]:
        return self._image_index, self._maxima, self._slots, self._maps

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything needed to go on later."""
        return {"rows": self._image_index, "maxima": self._maxima, "slots": self._slots, "maps": self._maps}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from a `state`."""
        self._image_index[:], self._maxima[:] = state["rows"], state["maxima"]
        self._slots[:], self._maps[:] = state["slots"], state["maps"]


@compiled
def _insert(maps: Floats, rows: Ints, kept_rows: Ints, maxima: Floats, slots: Ints, kept_maps: Floats) -> None:
    keep = kept_rows.shape[1]
    for image in range(maps.shape[0]):
        row = rows[image]
        for unit in range(maps.shape[1]):
            last = keep - 1
            least, reached = maxima[unit, last], np.int64(0)
            for value in maps[image, unit].flat:
                reached += value >= least  # an integer sum: the compiler makes vector code of it
            if reached == 0:
                continue
            largest = maps[image, unit].max()
            if kept_rows[unit, last] >= 0 and not _before(largest, row, maxima[unit, last], kept_rows[unit, last]):
                continue
            slot = slots[unit, last]
            while last > 0 and (
                kept_rows[unit, last - 1] < 0
                or _before(largest, row, maxima[unit, last - 1], kept_rows[unit, last - 1])
            ):
                maxima[unit, last] = maxima[unit, last - 1]
                kept_rows[unit, last] = kept_rows[unit, last - 1]
                slots[unit, last] = slots[unit, last - 1]
                last -= 1
            maxima[unit, last], kept_rows[unit, last], slots[unit, last] = largest, row, slot
            kept_maps[unit, slot] = maps[image, unit]


@compiled
def _before(value: np.float32, row: int, other_value: np.float32, other_row: int) -> bool:
    return bool(value > other_value or (value == other_value and row < other_row))
