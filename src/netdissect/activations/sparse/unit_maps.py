"""The maps of chosen images of each unit, of which only active cells are kept: top images, and images over the range.

As arrays those of 65,536 latents of 14 x 14 cells, 25 top images each, take 1.3 GB. A block of units at a time is
made dense where they are written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from netdissect.activations.activation_range import ChosenRows
from netdissect.activations.sparse.sparse_maps import SparseMaps
from netdissect.concepts import Size

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class UnitMaps:
    """Maps of S images of each of U units; a slice of the units is an array.

    Attributes
    ----------
    shape
        (U, S, h, w).
    index
        int64 (n,), rising: where an array of this shape is not 0.
    values
        float32 (n,).
    """

    shape: tuple[int, int, int, int]
    index: Ints
    values: Floats

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, units: slice) -> Floats:
        """Return the maps of neighboring units, float32 (u, S, h, w)."""
        first, last, _ = units.indices(len(self))
        size = int(np.prod(self.shape[1:]))
        begin, end = np.searchsorted(self.index, (first * size, last * size))
        maps = np.zeros((max(last - first, 0), size), np.float32)
        maps.reshape(-1)[self.index[begin:end] - first * size] = self.values[begin:end]
        return maps.reshape(-1, *self.shape[1:])


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
        self._parts: list[tuple[Ints, Floats]] = [(np.empty(0, np.int64), np.empty(0, np.float32))]

    def update(self, maps: SparseMaps, first: int) -> None:
        """Add maps of the images from index `first` on."""
        image, unit, slot = self._chosen.of_batch(first, len(maps))
        units, area = maps.shape[1], maps.shape[2] * maps.shape[3]
        active = maps.image_of_map * units + maps.units  # rising
        wanted = image * units + unit
        position = np.searchsorted(active, wanted)
        found = np.append(active, -1)[position] == wanted
        starts, stops = maps.value_starts[position[found]], maps.value_starts[1:][position[found]]
        lengths = stops - starts
        begin_of_each = np.append(0, lengths.cumsum())
        value = np.repeat(starts - begin_of_each[:-1], lengths) + np.arange(begin_of_each[-1])
        place = np.repeat((unit * self._shape[1] + slot)[found] * area, lengths) + maps.cells[value]
        self._parts.append((place, maps.values[value]))

    def maps(self, first: int, last: int) -> UnitMaps:
        """Return the maps of the images in the slots from `first` on, before `last`."""
        units, slots, height, width = self._shape
        place, values = self._joined()
        unit, rest = np.divmod(place, slots * height * width)
        slot, cell = np.divmod(rest, height * width)
        chosen = (slot >= first) & (slot < last)
        index = ((unit * (last - first) + slot - first) * height * width + cell)[chosen]
        order = np.argsort(index)
        return UnitMaps((units, last - first, height, width), index[order], values[chosen][order])

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of a checkpoint."""
        index, values = self._joined()
        return {"index": index, "values": values}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Continue from a `state`."""
        self._parts = [(state["index"], state["values"])]

    def _joined(self) -> tuple[Ints, Floats]:
        index, values = (np.concatenate(arrays) for arrays in zip(*self._parts, strict=True))
        self._parts = [(index, values)]
        return index, values
