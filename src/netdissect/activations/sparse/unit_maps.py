"""The maps of chosen images of each unit, of which only active cells are kept: top images, and images over the range.

As arrays those of 65,536 latents of 14 x 14 cells, 25 top images each, take 1.3 GB. A block of units at a time is
made dense where they are written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from netdissect.activations.activation_range import ChosenRows
from netdissect.activations.sparse.sparse_maps import SparseMaps
from netdissect.concepts import Size

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Cells = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class UnitMaps:
    """Maps of S images of each of U units; a slice of the units is an array.

    Attributes
    ----------
    shape
        (U, S, h, w).
    maps
        int64 (M,), rising: unit * S + slot of each map that is not 0.
    value_starts
        int64 (M + 1,): index of the first value of each of these maps.
    cells
        int32 (n,): cell of each value, y * w + x.
    values
        float32 (n,).
    """

    shape: tuple[int, int, int, int]
    maps: Ints
    value_starts: Ints
    cells: Cells
    values: Floats

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, units: slice) -> Floats:
        """Return the maps of neighboring units, float32 (u, S, h, w)."""
        first, last, _ = units.indices(len(self))
        _, slots, height, width = self.shape
        begin, end = np.searchsorted(self.maps, (first * slots, last * slots))
        starts = self.value_starts[begin : end + 1]
        row = np.repeat(self.maps[begin:end] - first * slots, np.diff(starts))
        maps = np.zeros(((last - first) * slots, height * width), np.float32)
        maps[row, self.cells[starts[0] : starts[-1]]] = self.values[starts[0] : starts[-1]]
        return maps.reshape(-1, slots, height, width)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what `join` takes."""
        return {"maps": self.maps, "lengths": np.diff(self.value_starts), "cells": self.cells, "values": self.values}

    @classmethod
    def join(cls, shape: tuple[int, int, int, int], parts: Sequence[Mapping[str, npt.NDArray[Any]]]) -> Self:
        """Join the `arrays` of maps of different images."""
        maps, lengths, cells, values = (
            np.concatenate([part[name] for part in parts]) for name in ("maps", "lengths", "cells", "values")
        )
        order = np.argsort(maps)
        value = _ranges((lengths.cumsum() - lengths)[order], lengths[order])
        return cls(shape, maps[order], np.append(0, lengths[order].cumsum()), cells[value], values[value])


class SparseImageMaps:
    """The maps of chosen images, collected in a pass over sparse maps.

    Parameters
    ----------
    image_index
        Chosen images of each unit, int64 (U, S); -1: none.
    cells
        Size of the layer's maps.

    Attributes
    ----------
    slots
        Number of images of each unit, S.
    """

    def __init__(self, image_index: Ints, cells: Size) -> None:
        self._shape = (*image_index.shape, *cells)  # (U, S, h, w)
        self.slots = int(image_index.shape[1])
        self._chosen = ChosenRows(image_index)
        # Maps (unit * S + slot) and the number of their values; cells and values of all maps, one after the other.
        self._parts: list[tuple[Ints, Ints, Cells, Floats]] = [
            (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
        ]

    def update(self, maps: SparseMaps, first: int) -> None:
        """Add maps of the images from index `first` on."""
        image, unit, slot = self._chosen.of_batch(first, len(maps))
        units = maps.shape[1]
        active = maps.image_of_map * units + maps.units  # rising
        wanted = image * units + unit
        position = np.searchsorted(active, wanted)
        found = np.append(active, -1)[position] == wanted
        starts, stops = maps.value_starts[position[found]], maps.value_starts[1:][position[found]]
        value = _ranges(starts, stops - starts)
        place = (unit * self.slots + slot)[found]
        self._parts.append((place, stops - starts, maps.cells[value].astype(np.int32), maps.values[value]))

    def maps(self, first: int, last: int) -> UnitMaps:
        """Return the maps of the images in the slots from `first` on, before `last`."""
        units, _, height, width = self._shape
        place, lengths, cells, values = self._joined()
        order = np.argsort(place)
        slot = place[order] % self.slots
        order = order[(slot >= first) & (slot < last)]
        unit, slot = np.divmod(place[order], self.slots)
        value = _ranges((lengths.cumsum() - lengths)[order], lengths[order])
        return UnitMaps(
            (units, last - first, height, width),
            unit * (last - first) + slot - first,
            np.append(0, lengths[order].cumsum()),
            cells[value],
            values[value],
        )

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of a checkpoint."""
        return dict(zip(("maps", "lengths", "cells", "values"), self._joined(), strict=True))

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Continue from a `state`."""
        self._parts = [(state["maps"], state["lengths"], state["cells"], state["values"])]

    def _joined(self) -> tuple[Ints, Ints, Cells, Floats]:
        maps, lengths, cells, values = (np.concatenate(arrays) for arrays in zip(*self._parts, strict=True))
        self._parts = [(maps, lengths, cells, values)]
        return maps, lengths, cells, values


def _ranges(starts: Ints, lengths: Ints) -> Ints:
    """Return the numbers of several ranges, one after the other.

    >>> _ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    stops = lengths.cumsum()
    numbers: Ints = np.repeat(starts - (stops - lengths), lengths)
    numbers += np.arange(len(numbers))
    return numbers
