"""Count the pixels of masks, of concepts, and of their intersections.

Counts are integers, so the counts of two parts of the data add up, bit for bit, to those of the whole.

    maps, thresholds, labels -> IoUCounter.update_batch -> IoUCounts -> concept_counts -> iou.py

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 2.2.
"""

import itertools
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


@dataclass(frozen=True)
class IoUCounts:
    """Counts of one layer, in pixels of the label map; adds up over images.

    Attributes
    ----------
    intersection
        int64 (Q, U, C): pixels at which a unit is active and that have the label, for each quantile.
    activation
        int64 (Q, U, K): mask pixels summed over the images in which each category counts.
    firing_map
        int64 (U, h, w): images in which each cell is above the first threshold; empty: not counted.
    histogram
        int64 (U, bins): histogram of all activations; empty: not counted. See `netdissect.activations.histogram`.
    """

    intersection: Ints
    activation: Ints
    firing_map: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    histogram: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def zeros(cls, quantiles: int, units: int, data: ConceptData) -> Self:
        """Return the counts of no images."""
        return cls(
            np.zeros((quantiles, units, len(data.category_of)), np.int64),
            np.zeros((quantiles, units, len(data.categories)), np.int64),
        )

    def __add__(self, other: Self) -> Self:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return type(self)(*(left + right for left, right in pairs))

    def first(self, quantiles: int) -> Self:
        """Return the counts of the first quantiles only."""
        return replace(self, intersection=self.intersection[:quantiles], activation=self.activation[:quantiles])

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
    record_images_for
        Number of leading quantiles for which `update_batch` returns the counts of single images; None: all.
    list_runs_for
        Number of leading quantiles for which it returns the pixels of the masks.
    """

    def __init__(
        self,
        data: ConceptData,
        thresholds: Maps,
        restriction: Restriction,
        record_images_for: int | None = None,
        list_runs_for: int = 0,
    ) -> None:
        quantiles, units = thresholds.shape
        self.counts = IoUCounts.zeros(quantiles, units, data)
        # A smaller quantile has a higher threshold in every unit, so units agree in the order of quantiles.
        threshold_order = np.lexsort(thresholds.T)
        self._counting = Counting(
            thresholds[threshold_order],
            np.argsort(threshold_order),
            quantiles if record_images_for is None else record_images_for,
            list_runs_for,
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
        return CountArrays(self.counts.intersection, self.counts.activation, firing_map)


def concept_counts(label_ids: Ints, counts: IoUCounts, category_of: Ints) -> tuple[Ints, Ints]:
    """Select the counts of some concepts.

    Returns
    -------
    intersection, activation
        int64 (Q, U, concepts): the counts of each unit and concept, the activation being that of the
        concept's primary category.
    """
    return counts.intersection[:, :, label_ids], counts.activation[:, :, category_of[label_ids]]
