"""The maps of units that are mostly zero and never negative: only their active cells.

    codes of cells -> SparseMaps -> largest values, histogram, image maxima; SparseStore; IoUCounter.update_sparse

A sparse autoencoder of 65,536 latents gives 64 codes for each cell. Its maps as one array would hold a thousand zeros
for each of them.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from netdissect.errors import ActivationError

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SparseMaps:
    """The active maps of one batch: those of which a cell is not zero.

    Attributes
    ----------
    shape
        (B, U, h, w): what `dense` returns.
    map_starts
        int64 (B + 1,): index of the first active map of each image.
    units
        int64 (M,): unit of each active map, rising within an image.
    value_starts
        int64 (M + 1,): index of the first value of each active map.
    cells
        int64 (n,): cell of each value, y * w + x, rising within a map.
    values
        float32 (n,): above 0.
    """

    shape: tuple[int, int, int, int]
    map_starts: Ints
    units: Ints
    value_starts: Ints
    cells: Ints
    values: Floats

    @classmethod
    def of_codes(cls, shape: tuple[int, int, int, int], cells: Ints, units: Ints, values: Floats) -> "SparseMaps":
        """Gather the codes of the cells of a batch into maps.

        Parameters
        ----------
        shape
            (B, U, h, w).
        cells
            int64 (n,): index of a cell among those of all images, in any order.
        units
            int64 (n,): unit of each code; a cell has at most one code of a unit.
        values
            float32 (n,).

        Raises
        ------
        ActivationError
            If a code is negative.
        """
        if values.min(initial=0) < 0:
            first = int(np.argmin(values))
            raise ActivationError(
                f"a sparse basis gives {values[first]:g} for its unit {units[first]}. Expected codes of 0 or more; "
                "a basis whose units may be negative is not sparse."
            )
        images, num_units, height, width = shape
        area = height * width
        active = values != 0
        image, cell = np.divmod(cells[active], area)
        place = (image * num_units + units[active]) * area + cell
        order = np.argsort(place)
        place, kept = place[order], values[active][order]
        maps = place // area
        first_of_map = np.flatnonzero(np.diff(maps, prepend=-1))
        image_of_map, unit_of_map = np.divmod(maps[first_of_map], num_units)
        return cls(
            shape,
            np.searchsorted(image_of_map, np.arange(images + 1)),
            unit_of_map,
            np.append(first_of_map, len(place)),
            place % area,
            kept,
        )

    def __len__(self) -> int:
        return self.shape[0]

    def dense(self) -> Floats:
        """Return all maps, float32 (B, U, h, w)."""
        images, units, height, width = self.shape
        maps = np.zeros((images * units, height * width), np.float32)
        rows = self.image_of_map * units + self.units
        maps[np.repeat(rows, np.diff(self.value_starts)), self.cells] = self.values
        return maps.reshape(self.shape)

    @cached_property
    def image_of_map(self) -> Ints:
        """Image in the batch of each active map, int64 (M,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.map_starts))

    @cached_property
    def map_maxima(self) -> Floats:
        """Largest value of each active map, float32 (M,)."""
        return np.maximum.reduceat(self.values, self.value_starts[:-1]) if len(self.units) else self.values

    def image_maxima(self) -> Floats:
        """Return the largest value of every map, float32 (B, U)."""
        maxima = np.zeros(self.shape[:2], np.float32)
        maxima[self.image_of_map, self.units] = self.map_maxima
        return maxima

    def __getitem__(self, images: slice) -> "SparseMaps":
        """Return the maps of neighboring images."""
        first, last, _ = images.indices(len(self))
        begin, end = self.map_starts[first], self.map_starts[last]
        start, stop = self.value_starts[begin], self.value_starts[end]
        return SparseMaps(
            (last - first, *self.shape[1:]),
            self.map_starts[first : last + 1] - begin,
            self.units[begin:end],
            self.value_starts[begin : end + 1] - start,
            self.cells[start:stop],
            self.values[start:stop],
        )

    def active_maps(self, image: int, bounds: Floats | None = None) -> tuple[Ints, Floats]:
        """Return the units that are active on an image, int64 (m,), and their maps, float32 (m, h, w).

        Parameters
        ----------
        image
            Index in the batch.
        bounds
            float32 (U,): only maps with a value above that of their unit. None: all active maps.
        """
        begin, end = self.map_starts[image], self.map_starts[image + 1]
        units, lengths = self.units[begin:end], np.diff(self.value_starts[begin : end + 1])
        chosen = np.ones(len(units), np.bool_) if bounds is None else self.map_maxima[begin:end] > bounds[units]
        values = slice(self.value_starts[begin], self.value_starts[end])
        of_chosen = np.repeat(chosen, lengths)
        maps = np.zeros((np.count_nonzero(chosen), self.shape[2] * self.shape[3]), np.float32)
        maps[np.repeat(np.arange(len(maps)), lengths[chosen]), self.cells[values][of_chosen]] = self.values[values][
            of_chosen
        ]
        return units[chosen], maps.reshape(-1, *self.shape[2:])
