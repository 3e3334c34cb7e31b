"""Histograms of each unit's activations on its leading concepts: what metrics without a threshold are computed from.

    ValueBins (places of the bins), maps and labels of an image -> ResponseHistograms.update -> metrics.py

Every pixel of the images annotated in the concept's category counts, as in the union of IoU. Values go into bins, of
which each unit has one for its floor (0 after a ReLU), 1,023 up to its threshold and 1,024 from there to its maximum:
what is unknown is the order within a bin. Moments are exact.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from netdissect.jit import compiled, inlined
from netdissect.scoring.iou_counter import ImageLabels
from netdissect.scoring.upsampling import Maps, Upsampler, UpsamplingAxis

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

HALF = 1024  # bins below the threshold, and above
BINS = 2 * HALF


class ValueBins(NamedTuple):
    """Where each unit's bins lie, float32 (U,) each: one for `low`, others up to `middle`, and from there to `high`.

    Values below `low` fall into the first bin, values above `high` into the last.
    """

    low: Maps
    middle: Maps
    high: Maps

    @classmethod
    def of(cls, maps: Maps, thresholds: Maps, maxima: Maps) -> Self:
        """Place the bins by the lowest values of some images, (B, U, h, w), the thresholds and the maxima, (U,).

        A lowest value that cells share is taken to be a floor, as after a ReLU; below any other there is as much room
        again for what other images hold.
        """
        low = np.minimum(maps.min(axis=(0, 2, 3)), thresholds)
        floor = (maps == low[:, None, None]).sum(axis=(0, 2, 3)) > 1
        return cls(np.where(floor, low, low - (thresholds - low)), thresholds, maxima)


@dataclass(frozen=True)
class ResponseHistograms:
    """Values of U units on the pixels of their T leading concepts, and of everything around; adds up over images.

    Attributes
    ----------
    bins
        Where the bins of `positives` and `all` lie.
    label_ids
        int64 (U, T): each unit's concepts; 0 for none.
    positives
        uint32 or uint64 (U, T, bins): pixels that bear the concept.
    all
        As `positives`, (U, K, bins): pixels of the images annotated in each category.
    sums
        float64 (U, T): sum of the values within, less `bins.low`.
    moments
        float64 (U, K, 2): sum of the values around, and of their squares, less `bins.low`.

    Notes
    -----
    Counts add up exactly, sums of values to rounding.
    """

    bins: ValueBins
    label_ids: Ints
    positives: npt.NDArray[Any]
    all: npt.NDArray[Any]
    sums: Floats
    moments: Floats

    @classmethod
    def zeros(cls, bins: ValueBins, numbers: Ints, categories: int, pixels: int) -> Self:
        """Return the values of no images, with room for `pixels` in all."""
        units, leading = numbers.shape
        kind = np.uint32 if pixels < 2**32 else np.uint64
        return cls(
            bins, numbers, np.zeros((units, leading, BINS), kind), np.zeros((units, categories, BINS), kind),
            np.zeros((units, leading)), np.zeros((units, categories, 2)),
        )  # fmt: skip

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.bins, self.label_ids, self.positives + other.positives, self.all + other.all,
            self.sums + other.sums, self.moments + other.moments,
        )  # fmt: skip

    def update(self, maps: Maps, image: ImageLabels, grid: Upsampler) -> None:
        """Take in one image, float32 (U, h, w), in place."""
        across = _across(grid.resample(maps), grid)
        rows = PixelRows(_lower(grid.rows), grid.rows.lower_weight, grid.rows.upper_weight)
        index = np.full(max(int(self.label_ids.max(initial=0)), int(image.label_ids.max(initial=0))) + 1, -1, np.int64)
        index[image.label_ids] = np.arange(len(image.label_ids))
        labels = PixelLists(
            *_places(image), np.isin(image.label_ids, image.image_level), index[self.label_ids], image.categories
        )
        sums = ResponseArrays(self.positives, self.all, self.sums, self.moments)
        _respond(across, rows, self.bins, labels, sums)


def _across(cells: Maps, grid: Upsampler) -> Floats:
    """Interpolate along rows, (U, h, w) to float64 (U, h, sw): the first half of `Upsampler.upsample`."""
    wide, axis = cells.astype(np.float64), grid.columns
    lower = _lower(axis)
    upper = np.minimum(lower + 1, wide.shape[-1] - 1)
    across = wide[..., lower] * axis.lower_weight + wide[..., upper] * axis.upper_weight
    return np.ascontiguousarray(across.astype(np.float32).astype(np.float64) if grid.round_rows else across)


def _lower(axis: UpsamplingAxis) -> Ints:
    return np.repeat(np.arange(len(axis.start) - 1), np.diff(axis.start))


def _places(image: ImageLabels) -> tuple[Ints, Ints]:
    """List the pixels of each label number of an image once, one number after the other, and where each begins."""
    planes = image.label_sets.deduplicated().label_channels
    numbers = planes.ravel().astype(np.uint16)  # all that a label map holds; sorting is fastest on two bytes
    order = np.argsort(numbers, kind="stable")
    start = np.searchsorted(numbers[order], image.label_ids.astype(np.uint16))
    return order % (planes.shape[1] * planes.shape[2]), np.append(start, len(order))


class PixelRows(NamedTuple):
    """How rows of pixels lie between rows of cells: the upper one, int64 (sh,), and weights of both, float64 (sh,)."""

    lower: Ints
    lower_weight: Floats
    upper_weight: Floats


class PixelLists(NamedTuple):
    """The labels of an image.

    Attributes
    ----------
    pixel_index, starts
        int64: the pixels of each label, one label after the other, and where each begins.
    image_level
        bool (n,): whether a label is of the whole image.
    label_index
        int64 (U, T): where each unit's concepts stand among the labels; -1: they do not.
    categories
        int64 (k,): those that the image is annotated in.
    """

    pixel_index: Ints
    starts: Ints
    image_level: npt.NDArray[np.bool_]
    label_index: Ints
    categories: Ints


class ResponseArrays(NamedTuple):
    """The arrays of `ResponseHistograms` that an image adds to."""

    positives: npt.NDArray[Any]
    all: npt.NDArray[Any]
    sums: Floats
    moments: Floats


class UnitValues(NamedTuple):
    """Values of one unit on an image.

    Attributes
    ----------
    values
        float32 (sh * sw,).
    binned
        uint16 (sh * sw,): the bin of each.
    counts
        int64 (bins,).
    total, squares
        float64 (sw,): sums of the values of each column, less `low`, and of their squares.
    """

    values: Maps
    binned: npt.NDArray[np.uint16]
    counts: Ints
    total: Floats
    squares: Floats


@compiled
def _respond(across: Floats, rows: PixelRows, bins: ValueBins, labels: PixelLists, sums: ResponseArrays) -> None:
    """Take in one image, interpolated along rows, (U, h, sw)."""
    units, _, width = across.shape
    pixels = len(rows.lower) * width
    found = UnitValues(
        np.empty(pixels, np.float32),
        np.empty(pixels, np.uint16),
        np.empty(BINS, np.int64),
        np.empty(width),
        np.empty(width),
    )
    for unit in range(units):
        low, middle, high = bins.low[unit], bins.middle[unit], bins.high[unit]
        _bin_values(across[unit], rows, (low, middle, high), found)
        total, squares = found.total.sum(), found.squares.sum()
        _add_around(unit, labels.categories, (total, squares), found, sums)
        _add_within(unit, labels, (low, total), found, sums)


@inlined
def _bin_values(
    across: Floats, rows: PixelRows, bins: tuple[np.float32, np.float32, np.float32], found: UnitValues
) -> None:
    """Interpolate one unit (h, sw) along columns and sort its values into bins."""
    (height, width), (lower, row_near, row_far), (low, middle, high) = across.shape, rows, bins
    values, binned, counts, first, second = found
    below = np.float32(HALF - 1) / (middle - low) if middle > low else np.float32(0)
    above = np.float32(HALF) / (high - middle) if high > middle else np.float32(0)
    counts[:] = 0
    first[:] = 0
    second[:] = 0
    for y in range(len(lower)):
        top, bottom, near, far = across[lower[y]], across[min(lower[y] + 1, height - 1)], row_near[y], row_far[y]
        row = values[y * width : (y + 1) * width]
        for x in range(width):
            row[x] = np.float32(top[x] * near + bottom[x] * far)
            value = np.float64(row[x]) - np.float64(low)
            first[x] += value
            second[x] += value * value
        for x in range(width):
            value = row[x]
            if value > middle:
                step, first_bin = (value - middle) * above, HALF
            else:
                step, first_bin = np.ceil((value - low) * below), 0  # the first bin is for the floor alone
            binned[y * width + x] = first_bin + np.int64(min(max(step, np.float32(0)), np.float32(HALF - 1)))
            counts[binned[y * width + x]] += 1


@inlined
def _add_around(
    unit: int, categories: Ints, powers: tuple[float, float], found: UnitValues, sums: ResponseArrays
) -> None:
    counts, around, moments = found.counts, sums.all, sums.moments
    for category in categories:
        for place in range(BINS):
            around[unit, category, place] += counts[place]
        moments[unit, category, 0] += powers[0]
        moments[unit, category, 1] += powers[1]


@inlined
def _add_within(
    unit: int, labels: PixelLists, of: tuple[np.float32, float], found: UnitValues, sums: ResponseArrays
) -> None:
    """Add the values on a unit's concepts; `of` is its low end, and the sum of all values less that."""
    (places, start, everywhere, present, _), (low, whole) = labels, of
    values, binned, counts, within, sums_within = found.values, found.binned, found.counts, sums.positives, sums.sums
    for slot in range(present.shape[1]):
        label = present[unit, slot]
        if label < 0:
            continue
        if everywhere[label]:
            for place in range(BINS):
                within[unit, slot, place] += counts[place]
            sums_within[unit, slot] += whole
            continue
        total = 0.0
        for pixel in places[start[label] : start[label + 1]]:
            within[unit, slot, binned[pixel]] += 1
            total += np.float64(values[pixel]) - np.float64(low)
        sums_within[unit, slot] += total
