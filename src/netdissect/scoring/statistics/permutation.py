"""What chance would give: masks of some images against the labels of others.

A unit that knows nothing of the labels fits another image's labels as well as its own. So the images are shuffled
among those that are annotated alike, every unit's best IoU is taken anew, and what comes out again and again is
what chance gives. Masks are sparse and stay as they are: a repetition costs a tally, and no forward pass.

    MaskPixels, ImageLabels of a block of exchangeable images -> Shuffles.update -> best() -> significance.py

Shuffling keeps a category's truth and, as the images of a block carry the same categories, its activation: only
intersections change. Shifting moves every label map on a torus and leaves whole-image labels where they are.

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
from netdissect.scoring.mask_pixels import MaskPixels, Places

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def annotation_strata(strata: Sequence[Any], size: int, seed: int) -> Iterator[Ints]:
    """Cut images into blocks within which they are exchangeable.

    Parameters
    ----------
    strata
        Anything hashable for each image: images of equal value are annotated alike.
    size
        Images in a block at most.
    seed
        Larger strata are cut at random.

    Yields
    ------
    int64 (n,)
        Rows, rising.
    """
    order = {stratum: index for index, stratum in enumerate(dict.fromkeys(strata))}
    number = np.array([order[stratum] for stratum in strata])
    rng = np.random.default_rng(seed)
    for index in range(len(order)):
        rows = rng.permutation(np.flatnonzero(number == index))
        for part in np.array_split(rows, -(-len(rows) // size)):
            yield np.sort(part)


class AnnotationStratum(NamedTuple):
    """Masks and labels of n images of one stratum.

    Attributes
    ----------
    mask_pixels
        uint32 (n, M): pixels of each mask.
    starts
        int64 (n,): where each image's places begin.
    pixel_index
        uint32: y * width + x of every pixel that is on, image after image, mask after mask.
    label_channels
        unsigned (n, P, height, width): label numbers, 0 where unlabeled.
    image_level
        int64 (n, W): labels of the whole image, filled up with 0.
    """

    mask_pixels: Places
    starts: Ints
    pixel_index: Places
    label_channels: npt.NDArray[Any]
    image_level: Ints

    @classmethod
    def of(cls, masks: Sequence[MaskPixels], images: Sequence[ImageLabels]) -> Self:
        """Put images whose label maps are of one size together."""
        channels = max(image.label_sets.label_ids.shape[1] for image in images)
        whole = max(len(image.image_level) for image in images)
        largest = max(int(image.label_ids.max(initial=0)) for image in images)
        planes = np.zeros((len(images), channels, *images[0].size), np.min_scalar_type(largest))
        everywhere = np.zeros((len(images), whole), np.int64)
        for index, image in enumerate(images):
            planes[index, : image.label_sets.label_ids.shape[1]] = image.label_channels
            everywhere[index, : len(image.image_level)] = image.image_level
        lengths = [len(mask.pixel_index) for mask in masks]
        return cls(
            np.stack([mask.mask_pixels for mask in masks]),
            np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64),
            np.concatenate([mask.pixel_index for mask in masks]),
            planes,
            everywhere,
        )


class BestConcepts(NamedTuple):
    """The best concept of each mask in each category.

    Attributes
    ----------
    label_ids
        int32 (M, K): label number; 0 where no concept of the category intersects the mask.
    scores
        float64 (M, K): its IoU; 0 where there is none.
    """

    label_ids: npt.NDArray[np.int32]
    scores: Floats


@dataclass(frozen=True)
class PermutationCounts:
    """Counts of several repetitions of chance; adds up over blocks of images.

    Attributes
    ----------
    permutations
        Which repetitions, by number: what one draws depends on `seed`, its number and the block alone.
    seed
        Of all draws.
    null
        ``images``: masks meet the labels of other images. ``locations``: labels are shifted on their own image.
    restriction
        See `netdissect.config.Protocol`.
    intersection
        uint32 (R, M, C).
    activation
        int64 (R, M, K); counted under ``overlap`` alone, where it depends on the draw.
    """

    permutations: range
    seed: int
    null: NullModel
    restriction: Restriction
    intersection: npt.NDArray[np.uint32]
    activation: Ints

    @classmethod
    def zeros(
        cls, repeats: range, masks: int, data: ConceptData, *, seed: int, of: NullModel, restriction: Restriction
    ) -> Self:
        """Return the counts of no images, for M masks."""
        count = len(repeats)
        activation = np.zeros((count if restriction == "overlap" else 0, masks, len(data.categories)), np.int64)
        intersection = np.zeros((count, masks, len(data.category_of)), np.uint32)
        return cls(repeats, seed, of, restriction, intersection, activation)

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.permutations, self.seed, self.null, self.restriction,
            self.intersection + other.intersection, self.activation + other.activation,
        )  # fmt: skip

    def update(self, block: AnnotationStratum, first: int, category_of: Ints, pool: ThreadPoolExecutor) -> None:
        """Count one block in place.

        Parameters
        ----------
        block
            Masks and labels.
        first
            The first row of the block, which tells it from others.
        category_of
            int64 (C,).
        pool
            Threads: one repetition is one task, so the counts do not depend on their number.
        """
        bits = np.where(category_of >= 0, np.uint64(1) << np.maximum(category_of, 0).astype(np.uint64), 0)

        def repeat(index: int) -> None:
            partners, shifts = self._draw(self.permutations[index], first, block)
            overlaps = self.activation[index] if self.restriction == "overlap" else np.empty((0, 0), np.int64)
            _pair(block, partners, shifts, bits.astype(np.uint64), self.intersection[index], overlaps)

        for _ in pool.map(repeat, range(len(self.permutations))):
            pass

    def _draw(self, repeat: int, first: int, block: AnnotationStratum) -> tuple[Ints, Ints]:
        rng = np.random.default_rng((self.seed, repeat, first))
        images, (height, width) = len(block.mask_pixels), block.label_channels.shape[2:]
        if self.null == "images":
            return rng.permutation(images), np.zeros((images, 2), np.int64)
        return np.arange(images), rng.integers((0, 0), (height, width), (images, 2))

    def best_concepts(
        self, data: ConceptData, truth: ConceptTotals, tally: IoUCounts, chosen: npt.NDArray[np.bool_]
    ) -> Iterator[BestConcepts]:
        """Yield the best concepts of each repetition.

        Parameters
        ----------
        data
            For its concepts.
        truth, tally
            Of the run itself, (Q, U) being M masks.
        chosen
            bool (C,): concepts that take part.
        """
        for index in range(len(self.permutations)):
            activation = self.activation[index] if self.restriction == "overlap" else tally.activation
            yield find_best_concepts(data, truth.pixels, self.intersection[index], activation, chosen)


def find_best_concepts(
    data: ConceptData, truth: Ints, intersection: npt.NDArray[Any], activation: Ints, chosen: npt.NDArray[np.bool_]
) -> BestConcepts:
    """Find the best of the concepts `chosen`, bool (C,), for masks with these counts, (..., C) and (..., K)."""
    numbers = np.array([concept.label_id for concept in data.concepts if chosen[concept.label_id]], np.int64)
    categories = data.category_of[numbers]
    hits = intersection.reshape(-1, len(chosen))[:, numbers].astype(np.int64)
    masks = activation.reshape(len(hits), -1)[:, categories]
    scores = iou(hits, masks, np.broadcast_to(truth[numbers], hits.shape))
    best = best_concepts(scores, categories, len(data.categories))
    found = best >= 0
    scores = np.concatenate([scores, np.zeros((len(hits), 1))], axis=1)  # column -1: none
    padded = np.append(numbers, 0)
    return BestConcepts(padded[np.where(found, best, -1)].astype(np.int32), np.take_along_axis(scores, best, axis=1))


@compiled
def _pair(
    block: AnnotationStratum,
    partners: Ints,
    shifts: Ints,
    bits: npt.NDArray[np.uint64],
    intersection: npt.NDArray[np.uint32],
    activation: Ints,
) -> None:
    """Count every image's masks against its partner's labels, shifted by (down, right) on a torus.

    `bits` (C,) is the category of each label as one bit; `activation` (M, K), unless empty, takes the pixels of masks
    that overlap a label of the category.
    """
    on, start, places, planes, whole = block
    images, channels, height, width = planes.shape
    labels = np.empty((channels, height * width), planes.dtype)
    for image in range(images):
        _shift(planes[partners[image]], shifts[image, 0], shifts[image, 1], labels)
        begin = start[image]
        for mask in range(on.shape[1]):
            count = np.int64(on[image, mask])
            if count == 0:
                continue
            overlapped = _add_mask(mask, places[begin : begin + count], labels, bits, intersection)
            for number in whole[partners[image]]:
                if number:
                    intersection[mask, number] += count
                    overlapped |= bits[number]
            for category in range(activation.shape[1]):
                if overlapped >> np.uint64(category) & np.uint64(1):
                    activation[mask, category] += count
            begin += count


@inlined
def _add_mask(
    mask: int,
    pixels: Places,
    labels: npt.NDArray[Any],
    bits: npt.NDArray[np.uint64],
    intersection: npt.NDArray[np.uint32],
) -> np.uint64:
    """Add the pixels of a mask to those of each label, and return the categories that it overlaps."""
    overlapped = np.uint64(0)
    for channel in range(len(labels)):
        plane, last, run = labels[channel], np.int64(0), np.int64(0)
        for place in pixels:
            label = np.int64(plane[place])
            if label != last:  # neighbors mostly bear one label: one addition a run of them
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
def _shift(planes: npt.NDArray[Any], down: int, right: int, out: npt.NDArray[Any]) -> None:
    """Write planes (P, height, width) to `out` (P, height * width), rolled along both axes."""
    channels, height, width = planes.shape
    for channel in range(channels):
        for y in range(height):
            begin = (y + down) % height * width
            out[channel, begin + right : begin + width] = planes[channel, y, : width - right]
            out[channel, begin : begin + right] = planes[channel, y, width - right :]
