"""The maps of units that are mostly zero and never negative: only their active cells.

    codes of cells -> SparseMaps -> largest values, histogram, image maxima; SparseStore; IoUCounter.update_sparse

A sparse autoencoder of 65,536 latents gives 64 codes for each cell. Its maps as one array would hold a thousand zeros
for each of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from netdissect.errors import ActivationError
from netdissect.jit import compiled_in_place

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
        if (cells[1:] < cells[:-1]).any():
            order = np.argsort(cells, kind="stable")
            cells, units, values = cells[order], units[order], values[order]
        count, (images, num_units, height, width) = len(values), shape
        map_starts, map_units, value_starts = (np.empty(size, np.int64) for size in (images + 1, count, count + 1))
        map_cells, map_values = np.empty(count, np.int64), np.empty(count, np.float32)
        num_maps, num_values = _gather(
            (cells, units, values), height * width, np.zeros(num_units, np.int64),
            (map_starts, map_units, value_starts, map_cells, map_values),
        )  # fmt: skip
        return cls(
            shape, map_starts, map_units[:num_maps], value_starts[: num_maps + 1], map_cells[:num_values],
            map_values[:num_values],
        )  # fmt: skip

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

    def count_above(self, thresholds: Floats, counts: Ints) -> None:
        """Add 1 to `counts`, int64 (U, h, w), for each cell above the threshold of its unit, float32 (U,)."""
        unit = np.repeat(self.units, np.diff(self.value_starts))
        above = self.values > thresholds[unit]
        area = self.shape[2] * self.shape[3]
        np.add.at(counts.reshape(-1), unit[above] * area + self.cells[above], 1)

    def mapped(self, change: Callable[[Floats], Floats]) -> "SparseMaps":
        """Return the active cells of changed maps, image by image.

        Parameters
        ----------
        change
            Makes float32 (m, h', w') of m maps, float32 (m, h, w): of 0 where a map is 0, and never below 0.
        """
        cells, units, values, size = [], [], [], self.shape[2:]
        for image in range(len(self)):
            units_of_image, maps = self.active_maps(image)
            changed = change(maps)
            size = changed.shape[1:]
            unit, y, x = changed.nonzero()
            cells.append((image * size[0] + y) * size[1] + x)
            units.append(units_of_image[unit])
            values.append(changed[unit, y, x])
        joined = (np.concatenate(parts) for parts in (cells, units, values))
        return SparseMaps.of_codes((*self.shape[:2], *size), *joined)


@compiled_in_place
def _gather(
    codes: tuple[Ints, Ints, Floats], area: int, next_value: Ints, maps: tuple[Ints, Ints, Ints, Ints, Floats]
) -> tuple[int, int]:
    """Sort codes, which are in the order of cells, by image and unit; a unit has a bucket.

    Parameters
    ----------
    codes
        Cells, units and values.
    area
        Cells of an image.
    next_value
        int64 (U,), 0.
    maps
        Written: `map_starts`, `units`, `value_starts`, `cells` and `values` of `SparseMaps`.

    Returns
    -------
    tuple
        Number of maps, and of values.
    """
    (cells, units, values), (map_starts, map_units, value_starts, map_cells, map_values) = codes, maps
    num_maps = num_values = begin = end = 0
    for image in range(len(map_starts) - 1):
        map_starts[image] = num_maps
        while end < len(cells) and cells[end] < (image + 1) * area:
            next_value[units[end]] += values[end] != 0
            end += 1
        for unit in range(len(next_value)):
            count = next_value[unit]
            if count:
                map_units[num_maps], value_starts[num_maps], next_value[unit] = unit, num_values, num_values
                num_maps, num_values = num_maps + 1, num_values + count
        for index in range(begin, end):
            if values[index] != 0:
                place = next_value[units[index]]
                map_cells[place], map_values[place] = cells[index] - image * area, values[index]
                next_value[units[index]] = place + 1
        for unit in map_units[map_starts[image] : num_maps]:
            next_value[unit] = 0
        begin = end
    map_starts[len(map_starts) - 1], value_starts[num_maps] = num_maps, num_values
    return num_maps, num_values
