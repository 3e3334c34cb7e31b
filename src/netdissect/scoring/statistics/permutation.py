"""Permutation test of IoU: masks of some images against the labels of others.

Under the null hypothesis a mask fits the labels of another image as well as those of its own. A permutation shuffles
images among those annotated in the same categories and recomputes the best IoU of each unit. Masks are kept, so a
permutation costs one count and no forward pass.

    MaskPixels, ImageLabels -> AnnotationStratum -> PermutationCounts -> BestConcepts -> multiple_testing.py

Shuffling keeps the pixels of each concept. The images of a stratum have the same categories, so activations are kept,
too: only intersections change. Shifting moves each label map on a torus and keeps image-level labels.

Sources: Phipson and Smyth 2010 :cite:p:`phipson2010permutation` (p-values of permutations are never 0); Bau et al. 2017
:cite:p:`bau2017network`, section 2.2 (IoU).
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from netdissect.concepts import ConceptData
from netdissect.config import NullModel, Restriction
from netdissect.jit import compiled, inlined
from netdissect.scoring.iou import best_concepts, iou
from netdissect.scoring.iou_counter import ConceptTotals, ImageLabels, IoUCounts
from netdissect.scoring.mask_pixels import MaskPixels, UInts

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def annotation_strata(strata: Sequence[Any], size: int, seed: int) -> Iterator[Ints]:
    """Divide images into groups within which they are exchangeable.

    Parameters
    ----------
    strata
        A hashable value for each image: images of equal value have the same annotated categories.
    size
        Largest number of images in a group.
    seed
        Seed for dividing larger strata at random.

    Yields
    ------
    int64 (n,)
        Rising image indices.
    """
    order = {stratum: index for index, stratum in enumerate(dict.fromkeys(strata))}
    stratum_of = np.array([order[stratum] for stratum in strata])
    rng = np.random.default_rng(seed)
    for index in range(len(order)):
        rows = rng.permutation(np.flatnonzero(stratum_of == index))
        for part in np.array_split(rows, -(-len(rows) // size)):
            yield np.sort(part)


class AnnotationStratum(NamedTuple):
    """Masks and labels of n images of one stratum.

    Attributes
    ----------
    mask_pixels
        uint32 (n, M): pixels of each mask.
    starts
        int64 (n,): start of each image in `pixel_index`.
    pixel_index
        uint32: y * width + x of each mask pixel, image after image, mask after mask.
    label_channels
        unsigned (n, P, height, width): label ids, 0 where unlabeled.
    image_level
        int64 (n, W): image-level labels, padded with 0.
    """

    mask_pixels: UInts
    starts: Ints
    pixel_index: UInts
    label_channels: npt.NDArray[Any]
    image_level: Ints

    @classmethod
    def of(cls, masks: Sequence[MaskPixels], images: Sequence[ImageLabels]) -> Self:
        """Join images whose label maps have one size."""
        channels = max(image.label_sets.label_ids.shape[1] for image in images)
        most = max(len(image.image_level) for image in images)
        largest = max(int(image.label_ids.max(initial=0)) for image in images)
        label_channels = np.zeros((len(images), channels, *images[0].size), np.min_scalar_type(largest))
        image_level = np.zeros((len(images), most), np.int64)
        for index, image in enumerate(images):
            label_channels[index, : image.label_sets.label_ids.shape[1]] = image.label_channels
            image_level[index, : len(image.image_level)] = image.image_level
        lengths = [len(mask.pixel_index) for mask in masks]
        return cls(
            np.stack([mask.mask_pixels for mask in masks]),
            np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64),
            np.concatenate([mask.pixel_index for mask in masks]),
            label_channels,
            image_level,
        )


class BestConcepts(NamedTuple):
    """The best concept of each mask in each category.

    Attributes
    ----------
    label_ids
        int32 (M, K): label id; 0 where no concept of the category intersects the mask.
    scores
        float64 (M, K): IoU of the concept; 0 where there is none.
    """

    label_ids: npt.NDArray[np.int32]
    scores: Floats


@dataclass(frozen=True)
class PermutationCounts:
    """Counts of R permutations; adds up over strata of images.

    Attributes
    ----------
    permutations
        Numbers of the permutations. A draw depends only on `seed`, its number and the stratum.
    seed
        Seed of all draws.
    null
        ``images``: masks are compared with the labels of other images. ``locations``: labels are shifted in place.
    restriction
        See `netdissect.config.Protocol`.
    intersection
        uint32 (R, M, C).
    activation
        int64 (R, M, K); counted only under ``overlap``, where it depends on the draw.
    """

    permutations: range
    seed: int
    null: NullModel
    restriction: Restriction
    intersection: npt.NDArray[np.uint32]
    activation: Ints

    @classmethod
    def zeros(
        cls, permutations: range, masks: int, data: ConceptData, *, seed: int, null: NullModel, restriction: Restriction
    ) -> Self:
        """Return the counts of no images, for M masks."""
        count = len(permutations)
        activation = np.zeros((count if restriction == "overlap" else 0, masks, len(data.categories)), np.int64)
        intersection = np.zeros((count, masks, len(data.category_of)), np.uint32)
        return cls(permutations, seed, null, restriction, intersection, activation)

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.permutations, self.seed, self.null, self.restriction,
            self.intersection + other.intersection, self.activation + other.activation,
        )  # fmt: skip

    def update(self, stratum: AnnotationStratum, first: int, category_of: Ints, pool: ThreadPoolExecutor) -> None:
        """Count one stratum in place.

        Parameters
        ----------
        stratum
            Masks and labels.
        first
            Index of its first image, which identifies it.
        category_of
            int64 (C,).
        pool
            Threads. A permutation is one task, so the counts do not depend on the number of threads.
        """
        bits = np.where(category_of >= 0, np.uint64(1) << np.maximum(category_of, 0).astype(np.uint64), 0)

        def count(index: int) -> None:
            partners, shifts = self._draw(self.permutations[index], first, stratum)
            overlaps = self.activation[index] if self.restriction == "overlap" else np.empty((0, 0), np.int64)
            _count_permutation(stratum, partners, shifts, bits.astype(np.uint64), self.intersection[index], overlaps)

        for _ in pool.map(count, range(len(self.permutations))):
            pass

    def _draw(self, permutation: int, first: int, stratum: AnnotationStratum) -> tuple[Ints, Ints]:
        rng = np.random.default_rng((self.seed, permutation, first))
        images, (height, width) = len(stratum.mask_pixels), stratum.label_channels.shape[2:]
        if self.null == "images":
            return rng.permutation(images), np.zeros((images, 2), np.int64)
        return np.arange(images), rng.integers((0, 0), (height, width), (images, 2))

    def best_concepts(
        self, data: ConceptData, concept_totals: ConceptTotals, counts: IoUCounts, chosen: npt.NDArray[np.bool_]
    ) -> Iterator[BestConcepts]:
        """Yield the best concepts of each permutation.

        Parameters
        ----------
        data
            Data set, for its concepts.
        concept_totals, counts
            Those of the data without a permutation; its Q times U masks are the M masks.
        chosen
            bool (C,): concepts that can be a label.
        """
        for index in range(len(self.permutations)):
            activation = self.activation[index] if self.restriction == "overlap" else counts.activation
            yield find_best_concepts(data, concept_totals.pixels, self.intersection[index], activation, chosen)


def find_best_concepts(
    data: ConceptData,
    concept_pixels: Ints,
    intersection: npt.NDArray[Any],
    activation: Ints,
    chosen: npt.NDArray[np.bool_],
) -> BestConcepts:
    """Find the best of the concepts `chosen`, bool (C,), for the counts of masks, (..., C) and (..., K)."""
    label_ids = np.array([concept.label_id for concept in data.concepts if chosen[concept.label_id]], np.int64)
    categories = data.category_of[label_ids]
    intersections = intersection.reshape(-1, len(chosen))[:, label_ids].astype(np.int64)
    mask_pixels = activation.reshape(len(intersections), -1)[:, categories]
    scores = iou(intersections, mask_pixels, np.broadcast_to(concept_pixels[label_ids], intersections.shape))
    best = best_concepts(scores, categories, len(data.categories))
    has_label = best >= 0
    scores = np.concatenate([scores, np.zeros((len(intersections), 1))], axis=1)  # column -1: none
    padded = np.append(label_ids, 0)
    best_ids = padded[np.where(has_label, best, -1)].astype(np.int32)
    return BestConcepts(best_ids, np.take_along_axis(scores, best, axis=1))


@compiled
def _count_permutation(
    stratum: AnnotationStratum,
    partners: Ints,
    shifts: Ints,
    bits: npt.NDArray[np.uint64],
    intersection: npt.NDArray[np.uint32],
    activation: Ints,
) -> None:
    """Count the masks of each image against the labels of its partner, shifted by (down, right) on a torus.

    `bits` (C,) has the category of each label as one bit. Unless empty, `activation` (M, K) is increased by the pixels
    of masks that overlap a label of the category.
    """
    mask_pixels, starts, pixel_index, label_channels, image_level = stratum
    images, channels, height, width = label_channels.shape
    labels = np.empty((channels, height * width), label_channels.dtype)
    for image in range(images):
        _shift(label_channels[partners[image]], shifts[image, 0], shifts[image, 1], labels)
        begin = starts[image]
        for mask in range(mask_pixels.shape[1]):
            count = np.int64(mask_pixels[image, mask])
            if count == 0:
                continue
            overlapped = _add_mask(mask, pixel_index[begin : begin + count], labels, bits, intersection)
            for label_id in image_level[partners[image]]:
                if label_id:
                    intersection[mask, label_id] += count
                    overlapped |= bits[label_id]
            for category in range(activation.shape[1]):
                if overlapped >> np.uint64(category) & np.uint64(1):
                    activation[mask, category] += count
            begin += count


@inlined
def _add_mask(
    mask: int,
    pixels: UInts,
    labels: npt.NDArray[Any],
    bits: npt.NDArray[np.uint64],
    intersection: npt.NDArray[np.uint32],
) -> np.uint64:
    """Add the pixels of a mask to the intersections with each label, and return the categories that it overlaps."""
    overlapped = np.uint64(0)
    for channel in range(len(labels)):
        channel_labels, last, run = labels[channel], np.int64(0), np.int64(0)
        for pixel in pixels:
            label = np.int64(channel_labels[pixel])
            if label != last:  # neighbors mostly have one label: one addition for each run
                if last:
                    intersection[mask, last] += run
                    overlapped |= bits[last]
                last, run = label, np.int64(0)
            run += 1
        if last:
            intersection[mask, last] += run
            overlapped |= bits[last]
    return overlapped


@compiled
def _shift(label_channels: npt.NDArray[Any], down: int, right: int, out: npt.NDArray[Any]) -> None:
    """Write label channels (P, height, width) to `out` (P, height * width), rolled along both axes."""
    channels, height, width = label_channels.shape
    for channel in range(channels):
        for y in range(height):
            begin = (y + down) % height * width
            out[channel, begin + right : begin + width] = label_channels[channel, y, : width - right]
            out[channel, begin : begin + right] = label_channels[channel, y, width - right :]
