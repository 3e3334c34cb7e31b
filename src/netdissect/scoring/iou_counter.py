"""Count how often each unit and each concept light up the same pixel.

Counts are plain integers, so tallies of two halves of the data add up (`left + right`) to, bit for
bit, the tally of the whole.

    maps, thresholds, labels -> Tally -> counts() -> labels.py

Nothing here knows about networks, files or plots.

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 2.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Self

import numpy as np
import numpy.typing as npt

from netdissect.concepts import ConceptData, Labels, Size
from netdissect.concepts.label_sets import LabelSetMap
from netdissect.config import Duplicates, Restriction
from netdissect.errors import ShapeError
from netdissect.scoring.kernel import tally_batch
from netdissect.scoring.kernel_arrays import (
    ANNOTATED,
    NONE,
    OVERLAP,
    Counting,
    LabelArrays,
    TallyArrays,
    UpsamplerArrays,
)
from netdissect.scoring.per_image_counts import ImageIntersections
from netdissect.scoring.upsampling import Maps, Upsampler

Ints = npt.NDArray[np.int64]

RESTRICTIONS: dict[Restriction, int] = {
    "none": NONE,
    "annotated": ANNOTATED,
    "overlap": OVERLAP,
}


@dataclass(frozen=True)
class ConceptTotals:
    """How many pixels, and in how many images, each label number was seen; adds up over images.

    Attributes
    ----------
    pixels
        int64 (C,), C = largest label number + 1.
    images
        int64 (C,).
    annotated
        int64 (K,): pixels of the images that carry some label of each category.
    """

    pixels: Ints
    images: Ints
    annotated: Ints

    @classmethod
    def zeros(cls, data: ConceptData) -> Self:
        """Return the truth of no images."""
        numbers = len(data.category_of)
        return cls(np.zeros(numbers, np.int64), np.zeros(numbers, np.int64), np.zeros(len(data.categories), np.int64))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.pixels + other.pixels, self.images + other.images, self.annotated + other.annotated)

    def update(self, image: "ImageLabels") -> None:
        """Count one image in place."""
        self.pixels[image.label_ids] += image.pixels
        self.images[image.label_ids] += 1
        self.annotated[image.categories] += image.label_sets.index_map.size


@dataclass(frozen=True, eq=False)
class ImageLabels:
    """The labels of one image, made ready for counting.

    Attributes
    ----------
    label_sets
        What each pixel bears.
    label_ids, pixels
        int64 (n,): which labels occur, and on how many pixels each.
    categories, image_level_categories
        int64 (k,): the primary categories of those labels, and of the whole-image ones among them.
    """

    label_sets: LabelSetMap
    label_ids: Ints
    pixels: Ints
    categories: Ints
    image_level_categories: Ints

    @classmethod
    def of(cls, labels: Labels, data: ConceptData, duplicates: Duplicates) -> Self:
        """Count the labels of one image; under ``once`` a pixel bears each label once."""
        kinds = LabelSetMap.of(labels)
        if duplicates == "once":
            kinds = kinds.deduplicated()
        counts = np.zeros(len(data.category_of), np.int64)
        np.add.at(counts, kinds.label_ids, kinds.set_sizes[:, None])
        np.add.at(counts, kinds.image_level, kinds.index_map.size)
        counts[0] = 0
        numbers = np.flatnonzero(counts)
        categories = np.unique(data.category_of[numbers])
        return cls(kinds, numbers, counts[numbers], categories, np.unique(data.category_of[kinds.image_level]))

    @property
    def label_channels(self) -> npt.NDArray[np.int32]:
        """Label number of each pixel in each channel, int32 (P, sh, sw), 0 where unlabeled."""
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
    """The labels of a batch, made ready for counting.

    Attributes
    ----------
    images
        Of each image; their label maps are of one size.
    arrays
        All together.
    """

    images: tuple[ImageLabels, ...]
    arrays: LabelArrays

    @classmethod
    def of(cls, images: Sequence[ImageLabels]) -> Self:
        """Put the labels of some images, one at least, together."""
        kinds = [image.label_sets for image in images]
        numbers = [image.label_ids for image in images]
        whole = [np.searchsorted(image.label_ids, image.image_level) for image in images]
        categories = [image.categories for image in images]
        borne = [
            np.searchsorted(image.label_ids, image.label_sets.label_ids[image.label_sets.label_ids > 0])
            for image in images
        ]
        ends = [(kind.label_ids > 0).sum(axis=1).cumsum() for kind in kinds]
        parts = (numbers, whole, categories, borne, ends)
        starts = np.array([[0, *accumulate(map(len, part))] for part in parts])
        joined = [np.stack([kind.index_map for kind in kinds]), *(np.concatenate(part) for part in parts), starts]
        return cls(tuple(images), LabelArrays(*joined))


@dataclass(frozen=True)
class IoUCounts:
    """Counts of one layer, in pixels of the segmentation; adds up over images.

    Attributes
    ----------
    intersection
        int64 (Q, U, C): pixels on which a unit is on and the label lies, for each quantile.
    activation
        int64 (Q, U, K): mask pixels summed over the images in which each category counts.
    firing_map
        int64 (U, h, w): images in which each cell of a map lies above the first threshold; empty: not counted.
    histogram
        int64 (U, bins): how all activations are distributed; empty: not counted. See
        `netdissect.activations.histogram`.
    """

    intersection: Ints
    activation: Ints
    firing_map: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    histogram: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def zeros(cls, quantiles: int, units: int, data: ConceptData) -> Self:
        """Return the tally of no images."""
        return cls(
            np.zeros((quantiles, units, len(data.category_of)), np.int64),
            np.zeros((quantiles, units, len(data.categories)), np.int64),
        )

    def __add__(self, other: Self) -> Self:
        return type(self)(*(mine + its for mine, its in zip(vars(self).values(), vars(other).values(), strict=True)))

    def first(self, quantiles: int) -> Self:
        """Return the counts of the first quantiles alone."""
        return replace(self, intersection=self.intersection[:quantiles], activation=self.activation[:quantiles])


class IoUCounter:
    """Adds images of one layer to a tally.

    Parameters
    ----------
    data
        The data set, for its categories.
    thresholds
        float32 (Q, U).
    restriction
        In which images a mask counts towards the union; see `netdissect.config.Protocol`.
    listed
        At how many quantiles, the first ones, the masks of single images are returned; None: at all.
    """

    def __init__(
        self, data: ConceptData, thresholds: Maps, restriction: Restriction, listed: int | None = None
    ) -> None:
        quantiles, units = thresholds.shape
        self.counts = IoUCounts.zeros(quantiles, units, data)
        # A smaller quantile has a higher threshold in every unit, so units agree in the order of quantiles.
        rising = np.lexsort(thresholds.T)
        self._counting = Counting(
            thresholds[rising],
            np.argsort(rising),
            quantiles if listed is None else listed,
            data.category_of,
            RESTRICTIONS[restriction],
        )

    def restore(self, tally: IoUCounts) -> None:
        """Go on from an earlier tally."""
        self.counts = tally

    def update_batch(self, maps: npt.ArrayLike, labels: BatchLabels, grid: Upsampler) -> ImageIntersections:
        """Count a batch in one compiled call, which leaves the interpreter to other threads.

        Parameters
        ----------
        maps
            float32 (B, U, h, w) on the host. Cells more than one away from any cell above the threshold may hold
            anything below it.
        labels
            Those of the images.
        grid
            From the maps' size to the label maps'.

        Returns
        -------
        Overlaps
            The masks of the batch at each quantile that is listed, the first image being row 0.
        """
        size = labels.arrays.kinds.shape[1:]
        if (grid.rows.pixels, grid.columns.pixels) != size:
            raise ShapeError(
                f"the grid leads to {grid.rows.pixels} x {grid.columns.pixels} pixels (height x width) but the label "
                f"maps are {size[0]} x {size[1]}. Make a grid for this segmentation size."
            )
        maps = np.ascontiguousarray(maps)
        images, units = len(labels.images), self._counting.thresholds.shape[1]
        if maps.ndim != 4 or maps.shape[:2] != (images, units):
            raise ShapeError(
                f"maps are of shape {maps.shape} but there are labels of {images} images and thresholds of {units} "
                f"units. Pass maps of shape ({images}, {units}, height, width)."
            )
        places = self.counts.firing_map.reshape(-1, *maps.shape[2:])
        masks, entries = tally_batch(
            maps,
            np.ascontiguousarray(grid.resample(maps)),
            self._counting,
            UpsamplerArrays.of(grid),
            labels.arrays,
            TallyArrays(self.counts.intersection, self.counts.activation, places),
        )
        return ImageIntersections(*masks, *entries)


def concept_counts(numbers: Ints, tally: IoUCounts, category_of: Ints) -> tuple[Ints, Ints]:
    """Pick concepts out of a tally.

    Returns
    -------
    intersection, activation
        int64 (Q, U, concepts): the counts of each unit and concept, the activation being that of the
        concept's primary category.
    """
    return tally.intersection[:, :, numbers], tally.activation[:, :, category_of[numbers]]
