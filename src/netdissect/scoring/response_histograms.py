"""Histograms of the activations of each unit on its leading concepts, for metrics without a threshold.

    ValueBins, maps and labels of an image -> ResponseHistograms.update -> metrics.py

All pixels of the images annotated in the category of the concept count, as in the union of IoU. Each unit has one bin
for its floor (0 after a ReLU), 1,023 bins up to its threshold and 1,024 bins from there to its maximum. The order of
values within a bin is lost. Moments are exact.
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

HALF_BINS = 1024  # on either side of the threshold
BINS = 2 * HALF_BINS


class ValueBins(NamedTuple):
    """Ends of the bins of each unit, float32 (U,) each: `low` has its own bin, others end at `middle` and at `high`.

    Values below `low` fall into the first bin, values above `high` into the last.
    """

    low: Maps
    middle: Maps
    high: Maps

    @classmethod
    def of(cls, maps: Maps, thresholds: Maps, maxima: Maps) -> Self:
        """Set the bins from the lowest values of some images, (B, U, h, w), the thresholds and the maxima, (U,).

        A lowest value of several cells is taken as a floor, as after a ReLU. Otherwise the bins reach as far again
        below the lowest value, for the values of other images.
        """
        low = np.minimum(maps.min(axis=(0, 2, 3)), thresholds)
        floor = (maps == low[:, None, None]).sum(axis=(0, 2, 3)) > 1
        return cls(np.where(floor, low, low - (thresholds - low)), thresholds, maxima)


@dataclass(frozen=True)
class ResponseHistograms:
    """Values of U units on the pixels of their T leading concepts and on all pixels; adds up over images.

    Attributes
    ----------
    bins
        Bins of `positives` and `all`.
    label_ids
        int64 (U, T): concepts of each unit; 0 for none.
    positives
        uint32 or uint64 (U, T, bins): pixels with the concept.
    all
        As `positives`, (U, K, bins): pixels of the images annotated in each category.
    sums
        float64 (U, T): sum of the values of `positives`, less `bins.low`.
    moments
        float64 (U, K, 2): sums of the values of `all` and of their squares, less `bins.low`.

    Notes
    -----
    Counts add up exactly, sums of values up to rounding.
    """

    bins: ValueBins
    label_ids: Ints
    positives: npt.NDArray[Any]
    all: npt.NDArray[Any]
    sums: Floats
    moments: Floats

    @classmethod
    def zeros(cls, bins: ValueBins, label_ids: Ints, categories: int, pixels: int) -> Self:
        """Return the values of no images; counts may reach `pixels`."""
        units, leading = label_ids.shape
        dtype = np.uint32 if pixels < 2**32 else np.uint64
        return cls(
            bins, label_ids, np.zeros((units, leading, BINS), dtype), np.zeros((units, categories, BINS), dtype),
            np.zeros((units, leading)), np.zeros((units, categories, 2)),
        )  # fmt: skip

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.bins, self.label_ids, self.positives + other.positives, self.all + other.all,
            self.sums + other.sums, self.moments + other.moments,
        )  # fmt: skip

    def update(self, maps: Maps, image: ImageLabels, upsampler: Upsampler) -> None:
        """Add one image, float32 (U, h, w), in place."""
        wide_rows = _upsample_columns(upsampler.resample(maps), upsampler)
        rows = PixelRows(_lower(upsampler.rows), upsampler.rows.lower_weight, upsampler.rows.upper_weight)
        index = np.full(max(int(self.label_ids.max(initial=0)), int(image.label_ids.max(initial=0))) + 1, -1, np.int64)
        index[image.label_ids] = np.arange(len(image.label_ids))
        labels = PixelLists(
            *label_pixels(image), np.isin(image.label_ids, image.image_level), index[self.label_ids], image.categories
        )
        sums = ResponseArrays(self.positives, self.all, self.sums, self.moments)
        _update(wide_rows, rows, self.bins, labels, sums)


def _upsample_columns(cells: Maps, upsampler: Upsampler) -> Floats:
    """Interpolate along rows, (U, h, w) to float64 (U, h, sw): the first half of `Upsampler.upsample`."""
    values, axis = cells.astype(np.float64), upsampler.columns
    lower = _lower(axis)
    upper = np.minimum(lower + 1, values.shape[-1] - 1)
    wide_rows = values[..., lower] * axis.lower_weight + values[..., upper] * axis.upper_weight
    return np.ascontiguousarray(wide_rows.astype(np.float32).astype(np.float64) if upsampler.round_rows else wide_rows)


def _lower(axis: UpsamplingAxis) -> Ints:
    return np.repeat(np.arange(len(axis.start) - 1), np.diff(axis.start))


def label_pixels(image: ImageLabels) -> tuple[Ints, Ints]:
    """List the pixels of each label id of an image without duplicates, label after label, and their starts."""
    label_channels = image.label_sets.deduplicated().label_channels
    label_ids = label_channels.ravel().astype(np.uint16)  # label ids fit into two bytes, which sort fastest
    order = np.argsort(label_ids, kind="stable")
    starts = np.searchsorted(label_ids[order], image.label_ids.astype(np.uint16))
    return order % (label_channels.shape[1] * label_channels.shape[2]), np.append(starts, len(order))


class PixelRows(NamedTuple):
    """Row of cells at or above each row of pixels, int64 (sh,), and weights of it and the next, float64 (sh,)."""

    lower: Ints
    lower_weight: Floats
    upper_weight: Floats


class PixelLists(NamedTuple):
    """The labels of an image.

    Attributes
    ----------
    pixel_index, starts
        int64: pixels of each label, label after label, and the start of each label.
    image_level
        bool (n,): whether a label is image-level.
    label_index
        int64 (U, T): index of each concept of a unit among the labels; -1: the image does not have it.
    categories
        int64 (k,): categories in which the image is annotated.
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
        uint16 (sh * sw,): bin of each value.
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
def _update(wide_rows: Floats, rows: PixelRows, bins: ValueBins, labels: PixelLists, sums: ResponseArrays) -> None:
    """Add one image, interpolated along rows, (U, h, sw)."""
    units, _, width = wide_rows.shape
    pixels = len(rows.lower) * width
    unit_values = UnitValues(
        np.empty(pixels, np.float32),
        np.empty(pixels, np.uint16),
        np.empty(BINS, np.int64),
        np.empty(width),
        np.empty(width),
    )
    for unit in range(units):
        low, middle, high = bins.low[unit], bins.middle[unit], bins.high[unit]
        _bin_values(wide_rows[unit], rows, (low, middle, high), unit_values)
        total, squares = unit_values.total.sum(), unit_values.squares.sum()
        _add_all(unit, labels.categories, (total, squares), unit_values, sums)
        _add_positives(unit, labels, (low, total), unit_values, sums)


@inlined
def _bin_values(
    wide_rows: Floats, rows: PixelRows, bins: tuple[np.float32, np.float32, np.float32], unit_values: UnitValues
) -> None:
    """Interpolate one unit (h, sw) along columns and count its values in bins."""
    (height, width), (lower, row_lower_weight, row_upper_weight), (low, middle, high) = wide_rows.shape, rows, bins
    values, binned, counts, first, second = unit_values
    below = np.float32(HALF_BINS - 1) / (middle - low) if middle > low else np.float32(0)
    above = np.float32(HALF_BINS) / (high - middle) if high > middle else np.float32(0)
    counts[:] = 0
    first[:] = 0
    second[:] = 0
    for y in range(len(lower)):
        top, bottom = wide_rows[lower[y]], wide_rows[min(lower[y] + 1, height - 1)]
        lower_weight, upper_weight = row_lower_weight[y], row_upper_weight[y]
        row = values[y * width : (y + 1) * width]
        for x in range(width):
            row[x] = np.float32(top[x] * lower_weight + bottom[x] * upper_weight)
            value = np.float64(row[x]) - np.float64(low)
            first[x] += value
            second[x] += value * value
        for x in range(width):
            value = row[x]
            if value > middle:
                step, first_bin = (value - middle) * above, HALF_BINS
            else:
                step, first_bin = np.ceil((value - low) * below), 0  # the first bin holds the floor only
            binned[y * width + x] = first_bin + np.int64(min(max(step, np.float32(0)), np.float32(HALF_BINS - 1)))
            counts[binned[y * width + x]] += 1


@inlined
def _add_all(
    unit: int, categories: Ints, powers: tuple[float, float], unit_values: UnitValues, sums: ResponseArrays
) -> None:
    counts, all_values, moments = unit_values.counts, sums.all, sums.moments
    for category in categories:
        for bin_index in range(BINS):
            all_values[unit, category, bin_index] += counts[bin_index]
        moments[unit, category, 0] += powers[0]
        moments[unit, category, 1] += powers[1]


@inlined
def _add_positives(
    unit: int, labels: PixelLists, offsets: tuple[np.float32, float], unit_values: UnitValues, sums: ResponseArrays
) -> None:
    """Add the values on the concepts of a unit; `offsets` are its `low` and the sum of all its values less that."""
    (pixel_index, starts, image_level, label_index, _), (low, unit_total) = labels, offsets
    values, binned, counts, _, _ = unit_values
    positives, positive_sums = sums.positives, sums.sums
    for slot in range(label_index.shape[1]):
        label = label_index[unit, slot]
        if label < 0:
            continue
        if image_level[label]:
            for bin_index in range(BINS):
                positives[unit, slot, bin_index] += counts[bin_index]
            positive_sums[unit, slot] += unit_total
            continue
        total = 0.0
        for pixel in pixel_index[starts[label] : starts[label + 1]]:
            positives[unit, slot, binned[pixel]] += 1
            total += np.float64(values[pixel]) - np.float64(low)
        positive_sums[unit, slot] += total
