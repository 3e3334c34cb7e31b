"""Pixels of each unit between many thresholds, on each label: one pass gives the counts at all of them.

levels of each unit; maps and labels of an image -> LevelHistograms.update -> counts_above
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from netdissect.jit import compiled
from netdissect.scoring.iou_counter import ImageLabels
from netdissect.scoring.response_histograms import label_pixels
from netdissect.scoring.upsampling import Maps, Upsampler

Ints = npt.NDArray[np.int64]


class LevelCounts(NamedTuple):
    """Pixels of masks at each level, the highest level first.

    Attributes
    ----------
    hits
        int64 (F, U, T): pixels of each mask with each label.
    active
        int64 (F, U, K): pixels of each mask in the images annotated in each category.
    """

    hits: Ints
    active: Ints


@dataclass(frozen=True)
class LevelHistograms:
    """Pixels of U units between F levels, on T labels and on all pixels; adds up over images.

    Attributes
    ----------
    levels
        float32 (U, F), rising. A pixel is in bin b if b levels are below its value.
    label_ids
        int64 (T,): the labels.
    positives
        int64 (U, T, F + 1): pixels with the label.
    all
        int64 (U, K, F + 1): pixels of the images annotated in each category.
    """

    levels: Maps
    label_ids: Ints
    positives: Ints
    all: Ints

    @classmethod
    def zeros(cls, levels: Maps, label_ids: Ints, categories: int) -> Self:
        """Return the counts of no images."""
        units, bins = levels.shape[0], levels.shape[1] + 1
        positives = np.zeros((units, len(label_ids), bins), np.int64)
        return cls(levels, label_ids, positives, np.zeros((units, categories, bins), np.int64))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.levels, self.label_ids, self.positives + other.positives, self.all + other.all)

    def update(self, maps: Maps, image: ImageLabels, upsampler: Upsampler) -> None:
        """Add one image, float32 (U, h, w), in place."""
        values = upsampler.upsample(maps).reshape(len(maps), -1)
        known = np.full(max(self.label_ids.max(initial=0), image.label_ids.max(initial=0)) + 1, -1, np.int64)
        known[self.label_ids] = np.arange(len(self.label_ids))
        pixel_index, starts = label_pixels(image)
        whole = np.isin(image.label_ids, image.image_level)
        labels = _Pixels(pixel_index, starts, whole, known[image.label_ids], image.categories)
        _update(np.ascontiguousarray(values), self.levels, labels, self.positives, self.all)

    def counts_above(self) -> LevelCounts:
        """Return the counts at each level."""
        hits, active = (
            np.cumsum(counts[..., ::-1], axis=-1)[..., :-1].transpose(2, 0, 1)
            for counts in (self.positives, self.all)
        )  # fmt: skip
        return LevelCounts(hits, active)


class _Pixels(NamedTuple):
    """Labels of an image: their pixels, label after label; whether they are image-level; rows in `positives`, or -1."""

    pixel_index: Ints
    starts: Ints
    image_level: npt.NDArray[np.bool_]
    row_of_label: Ints
    categories: Ints


@compiled
def _update(values: Maps, levels: Maps, labels: _Pixels, positives: Ints, everything: Ints) -> None:
    """Add the values of each unit on one image, float32 (U, P)."""
    units, pixels = values.shape
    bins = np.empty(pixels, np.int64)
    counts = np.empty(levels.shape[1] + 1, np.int64)
    for unit in range(units):
        counts[:] = 0
        for pixel in range(pixels):
            value, low, high = values[unit, pixel], 0, levels.shape[1]
            while low < high:
                middle = (low + high) // 2
                if levels[unit, middle] < value:
                    low = middle + 1
                else:
                    high = middle
            bins[pixel] = low
            counts[low] += 1
        for category in labels.categories:
            everything[unit, category] += counts
        for label in range(len(labels.row_of_label)):
            row = labels.row_of_label[label]
            if row < 0:
                continue
            if labels.image_level[label]:
                positives[unit, row] += counts
            else:
                for pixel in labels.pixel_index[labels.starts[label] : labels.starts[label + 1]]:
                    positives[unit, row, bins[pixel]] += 1
