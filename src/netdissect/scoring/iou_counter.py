"""Count the pixels of masks, of concepts, and of their intersections.

Counts are integers, so the counts of two parts of the data add up, bit for bit, to those of the whole.

    maps, thresholds, labels -> IoUCounter.update_batch -> IoUCounts -> concept_counts -> iou.py

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 2.2.
"""

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from netdissect.activations.sparse.sparse_maps import SparseMaps
from netdissect.concepts import ConceptData, Labels, Size
from netdissect.concepts.label_sets import LabelSetMap
from netdissect.config import Duplicates, Restriction
from netdissect.counted import counted
from netdissect.errors import ShapeError
from netdissect.scoring.kernel import count_batch
from netdissect.scoring.kernel_arrays import (
    ANNOTATED,
    NONE,
    OVERLAP,
    CountArrays,
    Counting,
    LabelArrays,
    UpsamplerArrays,
)
from netdissect.scoring.mask_runs import MaskRuns
from netdissect.scoring.per_image_counts import ImageIntersections
from netdissect.scoring.sparse.count_rows import CountRows
from netdissect.scoring.sparse.label_blocks import label_blocks
from netdissect.scoring.sparse.sparse_kernel import count_sparse_batch
from netdissect.scoring.upsampling import Maps, Upsampler

Ints = npt.NDArray[np.int64]

RESTRICTIONS: dict[Restriction, int] = {
    "none": NONE,
    "annotated": ANNOTATED,
    "overlap": OVERLAP,
}


@dataclass(frozen=True)
class ConceptTotals:
    """Pixels and images of each label id; adds up over images.

    Attributes
    ----------
    pixels
        int64 (C,), C = largest label id + 1.
    images
        int64 (C,).
    annotated
        int64 (K,): pixels of the images that have some label of each category.
    """

    pixels: Ints
    images: Ints
    annotated: Ints

    @classmethod
    def zeros(cls, data: ConceptData) -> Self:
        """Return the totals of no images."""
        shapes = (len(data.category_of), len(data.category_of), len(data.categories))
        return cls(*(np.zeros(shape, np.int64) for shape in shapes))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.pixels + other.pixels, self.images + other.images, self.annotated + other.annotated)

    def update(self, image: "ImageLabels") -> None:
        """Count one image in place."""
        self.pixels[image.label_ids] += image.pixels
        self.images[image.label_ids] += 1
        self.annotated[image.categories] += image.label_sets.index_map.size


@dataclass(frozen=True, eq=False)
class ImageLabels:
    """The labels of one image, prepared for counting.

    Attributes
    ----------
    label_sets
        Label set of each pixel.
    label_ids, pixels
        int64 (n,): labels that occur, and their pixels.
    categories, image_level_categories
        int64 (k,): primary categories of these labels, and of the image-level labels among them.
    """

    label_sets: LabelSetMap
    label_ids: Ints
    pixels: Ints
    categories: Ints
    image_level_categories: Ints

    @classmethod
    def of(cls, labels: Labels, data: ConceptData, duplicates: Duplicates) -> Self:
        """Count the labels of one image; under ``once`` a pixel has each label at most once."""
        label_sets = LabelSetMap.of(labels)
        if duplicates == "once":
            label_sets = label_sets.deduplicated()
        counts = np.zeros(len(data.category_of), np.int64)
        np.add.at(counts, label_sets.label_ids, label_sets.set_sizes[:, None])
        np.add.at(counts, label_sets.image_level, label_sets.index_map.size)
        counts[0] = 0
        label_ids = np.flatnonzero(counts)
        categories = np.unique(data.category_of[label_ids])
        of_images = np.unique(data.category_of[label_sets.image_level])
        return cls(label_sets, label_ids, counts[label_ids], categories, of_images)

    @property
    def label_channels(self) -> npt.NDArray[np.int32]:
        """Label id of each pixel in each channel, int32 (P, sh, sw), 0 where unlabeled."""
        return self.label_sets.label_channels

    @property
    def image_level(self) -> npt.NDArray[np.int32]:
        """Labels of the whole image, int32 (W,)."""
        return self.label_sets.image_level

    @property
    def size(self) -> Size:
        """Height and width of the label maps in pixels."""
        return self.label_sets.size


@dataclass(frozen=True, eq=False)
class BatchLabels:
    """The labels of a batch, prepared for counting.

    Attributes
    ----------
    images
        Labels of each image; all label maps have one size.
    arrays
        Labels of all images.
    """

    images: tuple[ImageLabels, ...]
    arrays: LabelArrays

    @classmethod
    def of(cls, images: Sequence[ImageLabels]) -> Self:
        """Join the labels of at least one image."""
        sets = [image.label_sets for image in images]
        label_ids = [image.label_ids for image in images]
        image_level = [np.searchsorted(image.label_ids, image.image_level) for image in images]
        categories = [image.categories for image in images]
        present = [label_sets.label_ids > 0 for label_sets in sets]
        set_labels = [
            np.searchsorted(ids, label_sets.label_ids[has_label])
            for ids, label_sets, has_label in zip(label_ids, sets, present, strict=True)
        ]
        set_ends = [has_label.sum(axis=1).cumsum() for has_label in present]
        parts = (label_ids, image_level, categories, set_labels, set_ends)
        starts = np.array([[0, *itertools.accumulate(map(len, part))] for part in parts])
        index_maps = np.stack([label_sets.index_map for label_sets in sets])
        arrays = [index_maps, *(np.concatenate(part) for part in parts), starts]
        return cls(tuple(images), LabelArrays(*arrays))


class BatchMasks(NamedTuple):
    """The masks of the images of a batch, as far as they were requested.

    Attributes
    ----------
    intersections
        Counts of each mask; the first image has index 0.
    runs
        Pixels of the masks of each image.
    """

    intersections: ImageIntersections
    runs: tuple[MaskRuns, ...]


FURTHER = ("further_intersection", "further_activation")


class LeadingQuantiles(NamedTuple):
    """At how many quantiles, the first ones, more is kept than the counts of masks that differ.

    Attributes
    ----------
    reported
        The counts of all units.
    record_images_for
        The counts of single images, which `update_batch` returns.
    list_runs_for
        The pixels of masks, which it returns.
    """

    reported: int = sys.maxsize
    record_images_for: int = sys.maxsize
    list_runs_for: int = 0

    def of(self, quantiles: int) -> Self:
        """Return what is kept of so many quantiles."""
        return type(self)(*(min(number, quantiles) for number in self))


ALL_QUANTILES = LeadingQuantiles()


@dataclass(frozen=True)
class IoUCounts:
    """Counts of one layer, in pixels of the label map; adds up over images.

    Attributes
    ----------
    intersection
        int64 (Q, U, C): pixels at which a unit is active and that have the label, for each quantile.
    activation
        int64 (Q, U, K): mask pixels summed over the images in which each category counts.
    further_intersection, further_activation
        int64 (N, C) and (N, K): the same of those masks at further quantiles that differ from these; see
        `netdissect.scoring.sparse.count_rows`.
    firing_map
        int64 (U, h, w): images in which each cell is above the first threshold; empty: not counted.
    histogram
        int64 (U, bins): histogram of all activations; empty: not counted. See `netdissect.activations.histogram`.
    """

    intersection: Ints
    activation: Ints
    firing_map: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    histogram: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    further_intersection: Ints = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    further_activation: Ints = field(default_factory=lambda: np.zeros((0, 0), np.int64))

    @classmethod
    def zeros(cls, quantiles: int, units: int, data: ConceptData, further: int = 0) -> Self:
        """Return the counts of no images, with those of so many masks at further quantiles."""
        sizes = len(data.category_of), len(data.categories)
        intersection, activation = (np.zeros((quantiles, units, size), np.int64) for size in sizes)
        of_further = {name: np.zeros((further, size), np.int64) for name, size in zip(FURTHER, sizes, strict=True)}
        return cls(intersection, activation, **of_further)

    def __add__(self, other: Self) -> Self:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return type(self)(*(left + right for left, right in pairs))

    def first(self, quantiles: int) -> Self:
        """Return the counts of the first quantiles only."""
        return replace(self, intersection=self.intersection[:quantiles], activation=self.activation[:quantiles])

    def at(self, quantile: int, masks: CountRows, pairs: tuple[Ints, Ints, Ints]) -> tuple[Ints, Ints]:
        """Return the counts of pairs of units and concepts at any quantile.

        Parameters
        ----------
        quantile
            Index of the quantile.
        masks
            Of the thresholds at which was counted.
        pairs
            int64 (P,) each: units, label ids, and their categories.

        Returns
        -------
        intersection, activation
            int64 (P,).
        """
        units, label_ids, categories = pairs
        return (
            masks.select(self.intersection, self.further_intersection, quantile, (units, label_ids)),
            masks.select(self.activation, self.further_activation, quantile, (units, categories)),
        )

    def blocks(self, entries: int) -> Iterator[tuple[int, int, Self]]:
        """Yield quantile after quantile the counts of some units at a time, so that about `entries` are in one block.

        Yields
        ------
        tuple
            Index of the quantile, first unit, and intersection and activation of one quantile.
        """
        quantiles, units, labels = self.intersection.shape
        step = max(1, entries // labels)
        for quantile, first in itertools.product(range(quantiles), range(0, units, step)):
            part = slice(quantile, quantile + 1), slice(first, first + step)
            yield quantile, first, type(self)(self.intersection[part], self.activation[part])


class IoUCounter:
    """Counts images of one layer.

    Parameters
    ----------
    data
        The data set, for its categories.
    thresholds
        float32 (Q, U).
    restriction
        In which images a mask counts towards the union; see `netdissect.config.Protocol`.
    leading
        What is kept at how many quantiles.
    """

    def __init__(
        self,
        data: ConceptData,
        thresholds: Maps,
        restriction: Restriction,
        leading: LeadingQuantiles = ALL_QUANTILES,
    ) -> None:
        quantiles, units = thresholds.shape
        leading = leading.of(quantiles)
        masks = CountRows.of(thresholds, leading.reported)
        self.counts = IoUCounts.zeros(leading.reported, units, data, masks.num_further)
        # A smaller quantile has a higher threshold in every unit, so units agree in the order of quantiles.
        threshold_order = np.lexsort(thresholds.T)
        self._counting = Counting(
            thresholds[threshold_order],
            np.argsort(threshold_order),
            masks.further,
            leading.record_images_for,
            leading.list_runs_for,
            data.category_of,
            RESTRICTIONS[restriction],
        )

    def restore(self, counts: IoUCounts) -> None:
        """Continue from earlier counts."""
        self.counts = counts

    def update_batch(self, maps: npt.ArrayLike | SparseMaps, labels: BatchLabels, upsampler: Upsampler) -> BatchMasks:
        """Count a batch in one compiled call, which releases the interpreter lock.

        Parameters
        ----------
        maps
            float32 (B, U, h, w) on the host. Cells more than one away from any cell above the threshold may hold any
            value below it. Of sparse maps only those with a cell above the threshold are visited.
        labels
            Labels of the images.
        upsampler
            From the size of the maps to the size of the label maps.

        Returns
        -------
        BatchMasks
            Counts at the first `record_images_for` quantiles and runs at the first `list_runs_for`.

        Raises
        ------
        ShapeError
            If maps, thresholds, upsampler and label maps do not fit each other.
        """
        if not isinstance(maps, SparseMaps):
            maps = np.ascontiguousarray(maps)
        images, units = len(labels.images), self._counting.thresholds.shape[1]
        if len(maps.shape) != 4 or maps.shape[:2] != (images, units):
            raise ShapeError(
                f"maps are of shape {maps.shape} but there are labels of {counted(images, 'images')} and thresholds of "
                f"{counted(units, 'units')}. Pass maps of shape ({images}, {units}, height, width)."
            )
        size = labels.arrays.index_map.shape[1:]
        if (upsampler.rows.pixels, upsampler.columns.pixels) != size:
            raise ShapeError(
                f"the upsampler leads to {upsampler.rows.pixels} x {upsampler.columns.pixels} pixels (height x width) "
                f"but the label maps are {size[0]} x {size[1]}. Make one for this size with make_upsampler()."
            )
        upsampler.check_cells(maps.shape)
        if isinstance(maps, SparseMaps):
            masks, entries, run_masks, runs = self._count_sparse(maps, labels, upsampler)
        else:
            masks, entries, run_masks, runs = self._count_dense(maps, labels, upsampler)
        return BatchMasks(ImageIntersections(*masks, *entries), tuple(MaskRuns.split(run_masks, runs, images, units)))

    def _count_dense(self, maps: Maps, labels: BatchLabels, upsampler: Upsampler) -> tuple[Ints, Ints, Ints, Ints]:
        return count_batch(
            maps,
            np.ascontiguousarray(upsampler.resample(maps)),
            self._counting,
            UpsamplerArrays.of(upsampler),
            labels.arrays,
            self._count_arrays(maps.shape),
        )

    def _count_sparse(
        self, maps: SparseMaps, labels: BatchLabels, upsampler: Upsampler
    ) -> tuple[Ints, Ints, Ints, Ints]:
        counts = self._count_arrays(maps.shape)
        if counts.firing_map.size:
            maps.count_above(self._counting.thresholds[self._counting.order[0]], counts.firing_map)
        return count_sparse_batch(
            maps.mapped(upsampler.resample) if upsampler.shrinks else maps,
            self._counting,
            UpsamplerArrays.of(upsampler),
            labels.arrays,
            label_blocks([image.label_sets for image in labels.images], upsampler),
            counts,
        )

    def _count_arrays(self, shape: tuple[int, ...]) -> CountArrays:
        """Return the counts that a batch of maps of this shape, (B, U, h, w), adds to."""
        firing_map = self.counts.firing_map.reshape(-1, *shape[2:])
        counts = self.counts
        further = counts.further_intersection, counts.further_activation
        return CountArrays(counts.intersection, counts.activation, firing_map, *further)


def concept_counts(label_ids: Ints, counts: IoUCounts, category_of: Ints) -> tuple[Ints, Ints]:
    """Select the counts of some concepts.

    Returns
    -------
    intersection, activation
        int64 (Q, U, concepts): the counts of each unit and concept, the activation being that of the
        concept's primary category.
    """
    return counts.intersection[:, :, label_ids], counts.activation[:, :, category_of[label_ids]]
