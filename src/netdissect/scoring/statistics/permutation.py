"""Permutation test of IoU: masks of some images against the labels of others.

Under the null hypothesis a mask fits the labels of another image as well as those of its own. A permutation shuffles
images among those annotated in the same categories and recomputes the best IoU of each unit. Masks are kept, so a
permutation costs one count and no forward pass.

    StratumMasks, LabelArrays -> PermutationCounts -> BestConcepts -> multiple_testing.py

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
from netdissect.jit import compiled_in_place
from netdissect.scoring.iou_counter import ConceptTotals
from netdissect.scoring.kernel_arrays import LabelArrays
from netdissect.scoring.mask_runs import MaskRuns, UInts
from netdissect.scoring.statistics.permutation_kernel import count_permutations

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


BLOCK_COUNTS = 2**16
"""Counts that are widened to int64 at a time: half a megabyte, which stays in the cache."""


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


class StratumMasks(NamedTuple):
    """The m non-empty masks of one layer on n images, as N runs of pixels.

    Attributes
    ----------
    image_ends
        int64 (n + 1,): first mask of each image, and the end of the last.
    run_ends
        int64 (m + 1,): first run of each mask, and the end of the last.
    masks
        uint32 (m,): index of each mask; see `netdissect.scoring.mask_runs.MaskRuns`.
    pixels
        int64 (m,): pixels of each mask.
    starts, ends
        uint32 (N,): index y * width + x of the first pixel of each run, and of the pixel after the last.
    """

    image_ends: Ints
    run_ends: Ints
    masks: UInts
    pixels: Ints
    starts: UInts
    ends: UInts

    @classmethod
    def of(cls, images: Sequence[MaskRuns]) -> Self:
        """Join the masks of some images."""
        joined = MaskRuns(*(np.concatenate(arrays) for arrays in zip(*images, strict=True)))
        return cls.joined(joined, np.array([len(image.masks) for image in images]))

    @classmethod
    def joined(cls, masks: MaskRuns, counts: Ints) -> Self:
        """Return the masks of some images that are joined already; `counts`, int64 (n,), are those of each image."""
        indices, run_counts, starts, lengths = masks
        run_ends = np.append(0, run_counts.cumsum(dtype=np.int64))
        # No mask is empty. Totals of all runs in int64 would take as much memory as the masks themselves.
        pixels = np.add.reduceat(lengths, run_ends[:-1], dtype=np.int64) if len(indices) else np.zeros(0, np.int64)
        image_ends = np.append(0, counts.cumsum())
        return cls(image_ends, run_ends, indices, pixels, starts, np.add(starts, lengths, out=lengths))


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

    def update(self, masks: StratumMasks, labels: LabelArrays, first: int, category_of: Ints, workers: int) -> None:
        """Count the images of one stratum in place.

        Parameters
        ----------
        masks, labels
            Of these images, whose label maps have one size.
        first
            Index of the first image, which identifies the stratum.
        category_of
            int64 (C,).
        workers
            Threads. Each counts some of the permutations, so the counts do not depend on their number.
        """
        draws = [self._draw(permutation, first, labels) for permutation in self.permutations]
        mask_images, shifts = (np.stack(drawn) for drawn in zip(*draws, strict=True))

        def count(some: slice) -> None:
            activation = self.activation[some] if self.restriction == "overlap" else np.empty((0, 0, 0), np.int64)
            drawn = mask_images[some], shifts[some]
            count_permutations(masks, labels, drawn, category_of, self.intersection[some], activation)

        step = -(-len(draws) // workers)
        with ThreadPoolExecutor(workers) as pool:
            for _ in pool.map(count, [slice(start, start + step) for start in range(0, len(draws), step)]):
                pass

    def _draw(self, permutation: int, first: int, labels: LabelArrays) -> tuple[Ints, Ints]:
        """Return the image whose masks meet the labels of each image, (n,), and how far these are shifted, (n, 2)."""
        rng = np.random.default_rng((self.seed, permutation, first))
        images, *size = labels.index_map.shape
        if self.null == "images":
            return np.argsort(rng.permutation(images)), np.zeros((images, 2), np.int64)
        return np.arange(images), rng.integers((0, 0), size, (images, 2))

    def best_concepts(
        self,
        data: ConceptData,
        concept_totals: ConceptTotals,
        activation: Ints,
        chosen: npt.NDArray[np.bool_],
        workers: int,
    ) -> Iterator[BestConcepts]:
        """Yield the best concepts of each permutation.

        Parameters
        ----------
        data
            Data set, for its concepts.
        concept_totals, activation
            Those of the data without a permutation; int64 (M, K).
        chosen
            bool (C,): concepts that can be a label.
        workers
            Threads, each of which takes one permutation after the other.
        """

        def best(index: int) -> BestConcepts:
            counted = self.activation[index] if self.restriction == "overlap" else activation
            return find_best_concepts(data, concept_totals.pixels, self.intersection[index], counted, chosen)

        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(best, range(len(self.permutations)))


def find_best_concepts(
    data: ConceptData,
    concept_pixels: Ints,
    intersection: npt.NDArray[Any],
    activation: Ints,
    chosen: npt.NDArray[np.bool_],
) -> BestConcepts:
    """Find the best of the concepts `chosen`, bool (C,), for the counts of masks, (..., C) and (..., K)."""
    label_ids = np.array([concept.label_id for concept in data.concepts if chosen[concept.label_id]], np.int64)
    intersections = intersection.reshape(-1, len(chosen))
    mask_pixels = activation.reshape(len(intersections), -1)
    best_ids, scores = np.zeros(mask_pixels.shape, np.int32), np.zeros(mask_pixels.shape)
    step = max(1, BLOCK_COUNTS // len(chosen))
    for first in range(0, len(intersections), step):
        some = slice(first, first + step)
        counts = np.ascontiguousarray(intersections[some], np.int64)
        best = BestConcepts(best_ids[some], scores[some])
        _find_best(counts, mask_pixels[some], concept_pixels, data.category_of, label_ids, best)
    return BestConcepts(best_ids, scores)


@compiled_in_place
def _find_best(
    intersections: Ints,
    mask_pixels: Ints,
    concept_pixels: Ints,
    category_of: Ints,
    label_ids: Ints,
    best: BestConcepts,
) -> None:
    """Write the concept of the largest IoU (tie: the first of `label_ids`) in each category to `best`."""
    for mask in range(len(intersections)):
        for label_id in label_ids:
            intersection = intersections[mask, label_id]
            if intersection:
                category = category_of[label_id]
                score = intersection / (mask_pixels[mask, category] + concept_pixels[label_id] - intersection)
                if score > best.scores[mask, category]:
                    best.label_ids[mask, category], best.scores[mask, category] = label_id, score
