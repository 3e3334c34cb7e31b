"""Sums over the cells of maps, from which the correlation of each unit with each concept over cells follows exactly.

    maps and labels of an image -> CellMoments.update -> CellMoments.of_concepts -> CellSums, table ``moments``

The share of a concept in a cell is the share of the pixels of the cell that have the concept. A pixel of the label map
belongs to the cell of the largest weight in its interpolation (see `UpsamplingAxis.cell_starts`), so cells are
rectangles of pixels; cells without pixels do not count. Where the whole image has a label, its share is 1.

Sums add up bit for bit in any order: the sums of each image are rounded to multiples of 2^-56 and added as integers.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from netdissect.concepts import ConceptData
from netdissect.errors import ActivationError
from netdissect.jit import compiled, inlined
from netdissect.scoring.iou_counter import ImageLabels
from netdissect.scoring.upsampling import Maps, Upsampler

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

HALVES = ("selection", "heldout")
HIGH_BITS, LOW_BITS = 8, 48
"""A sum is ``high * 2^-8 + low * 2^-56`` with 0 <= low < 2^48; both are along the second axis of an array of sums."""
MOST = 2.0**53
"""Squares of the activations of a unit may sum up to this."""


class CellSums(NamedTuple):
    """Sums over the cells of the images annotated in the category of a concept, of one or more units and concepts.

    Arrays are of one shape, or broadcast to one.

    Attributes
    ----------
    cells
        int64: number of these cells.
    activation, activation_squares
        float64: sums of the activations of the unit and of their squares.
    share, share_squares
        float64: sums of the shares of the concept and of their squares.
    products
        float64: sum of activation times share.
    """

    cells: Ints
    activation: Floats
    activation_squares: Floats
    share: Floats
    share_squares: Floats
    products: Floats

    def correlations(self) -> Floats:
        """Return the Pearson correlation of unit and concept over cells, float64; NaN where one of them is constant."""
        cells = self.cells.astype(np.float64)
        covariance = cells * self.products - self.activation * self.share
        squares = cells * self.activation_squares, cells * self.share_squares
        of_units, of_shares = squares[0] - self.activation**2, squares[1] - self.share**2
        # What rounding leaves of a constant is no variance.
        varies = (of_units > 1e-14 * squares[0]) & (of_shares > 1e-14 * squares[1])
        scale = np.sqrt(np.where(varies, of_units * of_shares, np.nan))
        return np.asarray(np.clip(covariance / scale, -1, 1))


@dataclass(frozen=True)
class CellMoments:
    """Sums over cells of U units, C label ids and K categories, of the selection and the held-out images; adds up.

    Attributes
    ----------
    cells
        int64 (2, K): cells with pixels, of the images annotated in each category.
    mask_images
        int64 (C,): images in which the label has a mask, and is not a label of the whole image.
    activation, activation_squares
        int64 (2, 2, K, U): sums of activations and of their squares over these cells; the first axis is that of
        `HALVES`, the second that of `HIGH_BITS`.
    share, share_squares
        int64 (2, 2, C): sums of the shares of each label and of their squares.
    products
        int64 (2, 2, C, U): sums of activation times share.
    """

    cells: Ints
    mask_images: Ints
    activation: Ints
    activation_squares: Ints
    share: Ints
    share_squares: Ints
    products: Ints

    @classmethod
    def zeros(cls, units: int, data: ConceptData) -> Self:
        """Return the sums of no images."""
        labels, categories = len(data.category_of), len(data.categories)
        shapes = (
            (2, categories), (labels,), (2, 2, categories, units), (2, 2, categories, units),
            (2, 2, labels), (2, 2, labels), (2, 2, labels, units),
        )  # fmt: skip
        return cls(*(np.zeros(shape, np.int64) for shape in shapes))

    def __add__(self, other: Self) -> Self:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return type(self)(*(left + right for left, right in pairs)).carried()

    def carried(self) -> Self:
        """Return the same sums with all low parts below 2^48, as `update` leaves them."""
        sums = {name: array for name, array in vars(self).items() if name not in ("cells", "mask_images")}
        mask = (1 << LOW_BITS) - 1
        carried = {
            name: np.stack([array[:, 0] + (array[:, 1] >> LOW_BITS), array[:, 1] & mask], axis=1)
            for name, array in sums.items()
        }
        return type(self)(self.cells, self.mask_images, **carried)

    def update(self, maps: Maps, image: ImageLabels, upsampler: Upsampler, *, held_out: bool) -> None:
        """Add one image in place.

        Parameters
        ----------
        maps
            float32 (U, h, w).
        image
            Labels of the image.
        upsampler
            From the size of the maps to the size of the label maps.
        held_out
            Whether the image is held out.

        Raises
        ------
        ActivationError
            If the sums become too large.
        """
        cells = LabeledCells.of(image, upsampler)
        by_cell = np.ascontiguousarray(maps.reshape(len(maps), -1).T)
        half = int(held_out)
        arrays = SumArrays(
            self.activation[half], self.activation_squares[half], self.share[half], self.share_squares[half],
            self.products[half],
        )  # fmt: skip
        self.cells[half, image.categories] += len(cells.counted)
        self.mask_images[image.label_ids[cells.with_mask]] += 1
        largest: float = _add_image(by_cell, cells, image.label_ids, image.categories, arrays)
        if max(largest, self.activation_squares[half, 0].max(initial=0) * 2.0**-HIGH_BITS) > MOST:
            raise ActivationError(
                f"the squares of the activations of a unit sum up to more than {MOST:.3g}: their moments would be "
                "rounded. Check the weights, or dissect without --moments."
            )

    def of_concepts(self, label_ids: Ints, category_of: Ints, units: slice = slice(None)) -> CellSums:
        """Return the sums of some concepts, (2, C, 1), with some units, (2, C, U); the halves come first."""
        categories = category_of[label_ids]
        return CellSums(
            self.cells[:, categories, None],
            _values(self.activation[:, :, categories, units]),
            _values(self.activation_squares[:, :, categories, units]),
            _values(self.share[:, :, label_ids, None]),
            _values(self.share_squares[:, :, label_ids, None]),
            _values(self.products[:, :, label_ids, units]),
        )


def _values(sums: Ints) -> Floats:
    high, low = sums[:, 0], sums[:, 1]
    return np.ldexp(high.astype(np.float64), -HIGH_BITS) + np.ldexp(low.astype(np.float64), -HIGH_BITS - LOW_BITS)


class LabeledCells(NamedTuple):
    """The cells of a map with the labels of one image, which has n labels.

    Attributes
    ----------
    counted
        int64 (m,): cells that have pixels, row by row.
    whole
        bool (n,): labels of the whole image.
    with_mask
        bool (n,): labels that some cells have, and not the whole image.
    cell, label, share
        int64 (e,), int64 (e,), float64 (e,): share of a label in a cell where it is above 0, label by label; labels of
        the whole image have no entries.
    """

    counted: Ints
    whole: npt.NDArray[np.bool_]
    with_mask: npt.NDArray[np.bool_]
    cell: Ints
    label: Ints
    share: Floats

    @classmethod
    def of(cls, image: ImageLabels, upsampler: Upsampler) -> Self:
        """Count the pixels of each label in each cell."""
        sets = image.label_sets
        starts = [axis.cell_starts for axis in (upsampler.rows, upsampler.columns)]
        whole = np.isin(image.label_ids, sets.image_level)
        position = np.full(int(image.label_ids.max(initial=0)) + 1, -1, np.int64)
        position[image.label_ids[~whole]] = np.flatnonzero(~whole)
        sizes = np.multiply.outer(*(np.diff(each) for each in starts)).ravel()
        entries = _label_cells(sets.index_map, position[sets.label_ids], *starts, len(whole))
        with_mask = np.bincount(entries[1], minlength=len(whole)) > 0
        return cls(np.flatnonzero(sizes), whole, with_mask, *entries)


class SumArrays(NamedTuple):
    """The sums of one half of the images; see `CellMoments`."""

    activation: Ints
    activation_squares: Ints
    share: Ints
    share_squares: Ints
    products: Ints


@compiled
def _label_cells(
    index_map: npt.NDArray[np.int32], set_labels: Ints, row_starts: Ints, column_starts: Ints, labels: int
) -> tuple[Ints, Ints, Floats]:
    """Return the entries of `LabeledCells`, from the labels of each label set, (K, P), -1 for none."""
    height, width = len(row_starts) - 1, len(column_starts) - 1
    pixels = np.zeros((labels, height * width), np.int64)
    in_cell = np.zeros(len(set_labels), np.int64)
    for cell in range(height * width):
        top, bottom = row_starts[cell // width], row_starts[cell // width + 1]
        left, right = column_starts[cell % width], column_starts[cell % width + 1]
        for y in range(top, bottom):
            for x in range(left, right):
                in_cell[index_map[y, x]] += 1
        for y in range(top, bottom):
            for x in range(left, right):
                label_set = index_map[y, x]
                if in_cell[label_set] == 0:
                    continue
                for channel in range(set_labels.shape[1]):
                    label = set_labels[label_set, channel]
                    counts = label >= 0
                    for earlier in range(channel):  # a pixel has a label at most once
                        counts = counts and set_labels[label_set, earlier] != label
                    if counts:
                        pixels[label, cell] += in_cell[label_set]
                in_cell[label_set] = 0
    entries = np.count_nonzero(pixels)
    cells, of_label, shares = np.empty(entries, np.int64), np.empty(entries, np.int64), np.empty(entries, np.float64)
    entry = 0
    for label in range(labels):
        for cell in range(height * width):
            if pixels[label, cell]:
                rows = row_starts[cell // width + 1] - row_starts[cell // width]
                columns = column_starts[cell % width + 1] - column_starts[cell % width]
                cells[entry], of_label[entry], shares[entry] = cell, label, pixels[label, cell] / (rows * columns)
                entry += 1
    return cells, of_label, shares


@inlined
def _add(high: Ints, low: Ints, values: Floats) -> None:
    """Add values (n,) to sums, (n,) each."""
    for index in range(len(values)):
        scaled = values[index] * 256.0
        whole = np.floor(scaled)
        rest = low[index] + np.int64(np.rint((scaled - whole) * 281474976710656.0))
        high[index] += np.int64(whole) + (rest >> 48)
        low[index] = rest & 281474976710655


@compiled
def _add_image(by_cell: Maps, cells: LabeledCells, label_ids: Ints, categories: Ints, sums: SumArrays) -> Any:
    """Add an image with maps (h * w, U), and return the largest sum of squares of a unit."""
    units = by_cell.shape[1]
    activation, squares, products = np.zeros(units), np.zeros(units), np.zeros((len(label_ids), units))
    share, share_squares = np.zeros(len(label_ids)), np.zeros(len(label_ids))
    for cell in cells.counted:
        for unit in range(units):
            value = np.float64(by_cell[cell, unit])
            activation[unit] += value
            squares[unit] += value * value
    for entry in range(len(cells.cell)):
        label, weight, cell = cells.label[entry], cells.share[entry], cells.cell[entry]
        share[label] += weight
        share_squares[label] += weight * weight
        for unit in range(units):
            products[label, unit] += weight * by_cell[cell, unit]
    largest = squares.max()
    if largest > 2.0**53:
        return largest
    for label in range(len(label_ids)):
        if cells.whole[label]:
            share[label] = share_squares[label] = len(cells.counted)
            products[label] = activation
        of_label = slice(label, label + 1)
        row = slice(label_ids[label], label_ids[label] + 1)
        _add(sums.products[0, label_ids[label]], sums.products[1, label_ids[label]], products[label])
        _add(sums.share[0, row], sums.share[1, row], share[of_label])
        _add(sums.share_squares[0, row], sums.share_squares[1, row], share_squares[of_label])
    for category in categories:
        _add(sums.activation[0, category], sums.activation[1, category], activation)
        _add(sums.activation_squares[0, category], sums.activation_squares[1, category], squares)
    return largest
