"""The top-activating images of each unit, with their activation maps.

Ordered by maximum activation, then by image index. Keeping the first few is a monoid.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from netdissect.concepts import Size
from netdissect.jit import compiled_in_place, inlined

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class TopImages:
    """The `keep` images of highest maximum activation of each unit so far.

    Parameters
    ----------
    units
        Number of units, U.
    cells
        Size of the layer's maps.
    keep
        Number of images, K.
    """

    def __init__(self, units: int, cells: Size, keep: int) -> None:
        self._image_index: Ints = np.full((units, keep), -1, np.int64)
        self._maxima: Floats = np.full((units, keep), -np.inf, np.float32)
        self._slots: Ints = np.tile(np.arange(keep), (units, 1))  # index of the map of each rank
        self._maps: Floats = np.zeros((units, keep, *cells), np.float32)

    def update(self, maps: Floats, maxima: Floats, image_index: Ints) -> None:
        """Add maps, float32 (B, U, h, w), and their maxima (B, U), of the images `image_index`, int64 (B,)."""
        _insert(maps, maxima, image_index, self._image_index, self._maxima, self._slots, self._maps)

    def __add__(self, other: Self) -> Self:
        """Merge two parts of the same data."""
        units, keep, height, width = self._maps.shape
        merged = type(self)(units, Size(height, width), keep)
        for part in (self, other):
            image_index, maxima, maps = part.ranked()
            merged.merge(image_index, maxima, maps)
        return merged

    def merge(self, image_index: Ints, maxima: Floats, maps: Floats) -> None:
        """Add the images of another part of the data: indices (U, K), -1 for none, maxima (U, K), maps (U, K, h, w)."""
        for unit, kept in enumerate(image_index):
            present = kept >= 0
            arrays = (array[unit : unit + 1] for array in self._arrays())
            of_unit = np.array(maps[unit][: len(kept)][present])[:, None]
            _insert(of_unit, np.array(maxima[unit][present])[:, None], np.array(kept[present]), *arrays)

    def ranked(self) -> tuple[Ints, Floats, Floats]:
        """Return indices (U, K), maxima (U, K) and maps (U, K, h, w), best first; index -1 where there are fewer."""
        maps = np.take_along_axis(self._maps, self._slots[:, :, None, None], axis=1)
        return self._image_index, self._maxima, maps

    def _arrays(self) -> tuple[Ints, Floats, Ints, Floats]:
        return self._image_index, self._maxima, self._slots, self._maps

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of a checkpoint."""
        return {"image_index": self._image_index, "maxima": self._maxima, "slots": self._slots, "maps": self._maps}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Continue from a `state`."""
        self._image_index[:], self._maxima[:] = state["image_index"], state["maxima"]
        self._slots[:], self._maps[:] = state["slots"], state["maps"]


@compiled_in_place
def _insert(
    maps: Floats, largest: Floats, image_index: Ints, kept_index: Ints, maxima: Floats, slots: Ints, kept_maps: Floats
) -> None:
    keep = kept_index.shape[1]
    for image in range(maps.shape[0]):
        index = image_index[image]
        for unit in range(maps.shape[1]):
            last, value = keep - 1, largest[image, unit]
            full = kept_index[unit, last] >= 0
            if full and not _ranks_before(value, index, maxima[unit, last], kept_index[unit, last]):
                continue
            slot = slots[unit, last]
            while last > 0 and (
                kept_index[unit, last - 1] < 0
                or _ranks_before(value, index, maxima[unit, last - 1], kept_index[unit, last - 1])
            ):
                maxima[unit, last] = maxima[unit, last - 1]
                kept_index[unit, last] = kept_index[unit, last - 1]
                slots[unit, last] = slots[unit, last - 1]
                last -= 1
            maxima[unit, last], kept_index[unit, last], slots[unit, last] = value, index, slot
            for i in range(maps.shape[2]):
                for j in range(maps.shape[3]):
                    kept_maps[unit, slot, i, j] = maps[image, unit, i, j]


@inlined
def _ranks_before(value: np.float32, index: int, other_value: np.float32, other_index: int) -> bool:
    return bool(value > other_value or (value == other_value and index < other_index))
