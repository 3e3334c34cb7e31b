"""The compiled loop of the permutation test: runs of mask pixels against the labels of other images.

For each label of an image, running totals say how many of the first pixels have it. The intersection of a run of pixels
with all labels is then the difference of two rows of totals, however long the run is. Sixteen labels lie side by side
in two 64-bit words. Totals overflow from one label into the next, but arithmetic modulo 2**64 is exact: the difference
of two words holds the counts of a run, which fit into 8 bits. They are widened before they are added up over a mask.
An image with too many labels for two blocks of totals is left to `permutation_sets`.
"""

from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from netdissect.jit import compiled_in_place, inlined
from netdissect.scoring.kernel import labels_of_image
from netdissect.scoring.kernel_arrays import ImageArrays, LabelArrays
from netdissect.scoring.statistics.permutation_runs import Runs, shifted_runs
from netdissect.scoring.statistics.permutation_sets import count_by_sets

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
UInts = npt.NDArray[np.uint32]

WORDS = 2  # of totals side by side: a quarter of a cache line for each pixel
SUMS = 2 * WORDS  # words of wider sums
MOST_BLOCKS = 2  # of totals of an image: masks of 17 runs take 0.2 us a block, and 0.3 us by label set


class Lanes(NamedTuple):
    """What is counted on one image: its labels, and under `overlap` the pixels that have any label of each category.

    The arrays are reused from image to image; they have room for the image with the most labels or label sets.

    Attributes
    ----------
    targets
        int64 (L,): label ids, then categories.
    image_level
        int64 (L,): how often each is a label of the whole image.
    category_lane
        int64 (L,): lane of the category of each label.
    counts
        uint64 (K, L): how often each label set holds each target.
    increments
        uint64 (blocks, K, 2): what a pixel of each label set adds to the totals, block by block of 128 bits.
    """

    targets: Ints
    image_level: Ints
    category_lane: Ints
    counts: Words
    increments: Words

    @classmethod
    def of(cls, labels: LabelArrays) -> Self:
        """Return arrays for the images of a stratum."""
        most_labels, _, most_categories, _, num_sets = np.diff(labels.starts).max(axis=1).tolist()
        lanes = most_labels + most_categories
        blocks = -(-lanes // (2 * SUMS))  # at 16 bits
        return cls(
            np.empty(lanes, np.int64),
            np.empty(lanes, np.int64),
            np.empty(most_labels, np.int64),
            np.empty((num_sets, lanes), np.uint64),
            np.empty((blocks, num_sets, WORDS), np.uint64),
        )


class LaneSizes(NamedTuple):
    """How many lanes an image has.

    Attributes
    ----------
    labels, targets
        Number of label ids, and of these and categories.
    bits
        Bits of the count of a run: 8, or 16 where a run or a mask may need more; a sum over runs has twice as many.
    """

    labels: int
    targets: int
    bits: int


def count_permutations(
    masks: Any,
    labels: LabelArrays,
    draws: tuple[Ints, Ints],
    category_of: Ints,
    intersection: UInts,
    activation: Ints,
) -> None:
    """Count R permutations of the n images of one stratum.

    Parameters
    ----------
    masks
        `StratumMasks` of these images.
    labels
        Of these images.
    draws
        int64 (R, n): image whose masks meet the labels of each image. int64 (R, n, 2): by how much these labels are
        shifted down and to the right on a torus.
    category_of
        int64 (C,).
    intersection
        uint32 (R, M, C), added to.
    activation
        int64 (R, M, K): mask pixels where a mask overlaps a label of the category, added to. R = 0: not counted.
    """
    images, height, width = labels.index_map.shape
    most_runs = int(np.diff(masks.run_ends[masks.image_ends]).max())
    shifted, left_out = np.empty((2, 2 * most_runs), np.uint32), np.zeros(images, np.bool_)
    totals, sums = np.empty((height * width + 1, WORDS), np.uint64), np.empty(SUMS, np.uint64)
    scratch, counts = (Lanes.of(labels), totals, shifted, sums), (intersection, activation)
    _count_images(masks, labels, draws, category_of, scratch, counts, left_out)
    if left_out.any():
        count_by_sets(masks, labels, draws, category_of, shifted, counts, np.flatnonzero(left_out))


@compiled_in_place
def _count_images(
    masks: Any,
    labels: LabelArrays,
    draws: tuple[Ints, Ints],
    category_of: Ints,
    scratch: tuple[Lanes, Words, UInts, Words],
    counts: tuple[UInts, Ints],
    left_out: npt.NDArray[np.bool_],
) -> None:
    """Count the images, but mark those of too many labels; `scratch`: lanes, totals, shifted runs, sums of a mask."""
    (mask_images, shifts), (intersection, activation) = draws, counts
    lanes, totals, shifted, sums = scratch
    for image in range(len(labels.index_map)):
        arrays = labels_of_image(labels, image)
        size = arrays.index_map.shape
        sizes = _make_lanes(arrays, category_of, len(activation) > 0, lanes)
        in_block = SUMS * (32 // sizes.bits)
        blocks = (sizes.targets + in_block - 1) // in_block
        left_out[image] = blocks > MOST_BLOCKS
        for block in range(0 if blocks > MOST_BLOCKS else blocks):
            _add_up(arrays.index_map, lanes.increments[block], totals)
            for row in range(len(mask_images)):
                mask_image, of_row = mask_images[row, image], (intersection, activation, row)
                runs = shifted_runs(masks, mask_image, shifts[row, image], size, shifted)
                _count_image(masks, mask_image, runs, (totals, sums), (lanes, sizes, block), of_row)


@inlined
def _make_lanes(labels: ImageArrays, category_of: Ints, overlap: bool, lanes: Lanes) -> LaneSizes:
    """Assign bits to the labels of an image, and if `overlap` to their categories."""
    num_labels, num_sets, (height, width) = len(labels.label_ids), len(labels.set_ends), labels.index_map.shape
    num_targets = num_labels + (len(labels.categories) if overlap else 0)
    _find_targets(labels, category_of, num_targets, lanes)
    most = _count_targets(labels, num_targets, lanes)  # above 1 where a pixel has a label twice
    bits = 8 if most * width < 1 << 8 and most * width * height < 1 << 16 else 16
    counts, increments, in_sum = lanes.counts, lanes.increments, 32 // bits
    increments[:] = np.uint64(0)
    for lane in range(num_targets):
        index, offset = lane // in_sum, lane % in_sum
        block, index = index // SUMS, index % SUMS
        shift = np.uint64(bits * (2 * offset + index % 2))
        for label_set in range(num_sets):
            increments[block, label_set, index // 2] += counts[label_set, lane] << shift
    return LaneSizes(num_labels, num_targets, bits)


@inlined
def _find_targets(labels: ImageArrays, category_of: Ints, num_targets: int, lanes: Lanes) -> None:
    """Write the targets of an image, their numbers as image-level labels, and the lane of each label's category."""
    targets, image_level, category_lane = lanes.targets, lanes.image_level, lanes.category_lane
    label_ids, categories, num_labels = labels.label_ids, labels.categories, len(labels.label_ids)
    for lane in range(num_targets):
        targets[lane] = label_ids[lane] if lane < num_labels else categories[lane - num_labels]
        image_level[lane] = 0
    for label in range(num_labels):
        lane = num_labels
        while lane < num_targets and targets[lane] != category_of[label_ids[label]]:
            lane += 1
        category_lane[label] = lane
    for label in labels.image_level:
        image_level[label] += 1
        if num_targets > num_labels:
            image_level[category_lane[label]] = 1


@inlined
def _count_targets(labels: ImageArrays, num_targets: int, lanes: Lanes) -> int:
    """Count the targets of each label set, and return the largest count."""
    counts, category_lane, num_labels, begin, most = lanes.counts, lanes.category_lane, len(labels.label_ids), 0, 0
    for label_set in range(len(labels.set_ends)):
        counts[label_set, :num_targets] = np.uint64(0)
        end = labels.set_ends[label_set]
        for label in labels.set_labels[begin:end]:
            counts[label_set, label] += np.uint64(1)
            count: Any = np.int64(counts[label_set, label])
            most = count if count > most else most
            if num_targets > num_labels:
                counts[label_set, category_lane[label]] = np.uint64(1)
        begin = end
    return most


@inlined
def _add_up(index_map: npt.NDArray[np.int32], increments: Words, totals: Words) -> None:
    """Write the totals of the first 0, 1, 2, ... pixels."""
    first = second = np.uint64(0)
    totals[0] = first
    pixel = np.uint64(1)
    for label_set in index_map.flat:
        first += increments[label_set, 0]
        second += increments[label_set, 1]
        totals[pixel, 0], totals[pixel, 1] = first, second
        pixel += np.uint64(1)


@inlined
def _count_image(
    masks: Any,
    image: int,
    runs: Runs,
    scratch: tuple[Words, Words],
    block_of: tuple[Lanes, LaneSizes, int],
    counts: tuple[UInts, Ints, int],
) -> None:
    """Count the masks of one image against one block of labels."""
    (image_ends, run_ends, indices, pixels, _, _), (starts, ends, first_run, scale) = masks, runs
    (totals, sums), bits = scratch, np.uint64(block_of[1].bits)
    low = np.uint64(0x00FF00FF00FF00FF if bits == 8 else 0x0000FFFF0000FFFF)
    for mask in range(image_ends[image], image_ends[image + 1]):
        first = second = third = fourth = np.uint64(0)
        for run in range(scale * (run_ends[mask] - first_run), scale * (run_ends[mask + 1] - first_run)):
            start, end = starts[run], ends[run]
            left, right = totals[end, 0] - totals[start, 0], totals[end, 1] - totals[start, 1]
            first += left & low
            second += left >> bits & low
            third += right & low
            fourth += right >> bits & low
        sums[0], sums[1], sums[2], sums[3] = first, second, third, fourth
        _add_counts(sums, indices[mask], pixels[mask], block_of, counts)


@inlined
def _add_counts(
    sums: Words, mask: int, pixels: int, block_of: tuple[Lanes, LaneSizes, int], counts: tuple[UInts, Ints, int]
) -> None:
    """Add the counts of one mask against one block of labels."""
    (lanes, (num_labels, num_targets, lane_bits), block), (intersection, activation, row) = block_of, counts
    (targets, image_level, _, _, _), in_sum, bits = lanes, 32 // lane_bits, np.uint64(2 * lane_bits)
    lane, low = block * SUMS * in_sum, (np.uint64(1) << bits) - np.uint64(1)
    for word in sums:
        left = num_targets - lane
        for _ in range(in_sum if in_sum < left else left):
            count = np.int64(word & low) + image_level[lane] * pixels
            word >>= bits
            if count:  # most concepts of an image are not where the mask is: their counts are left alone
                if lane < num_labels:
                    intersection[row, mask, targets[lane]] += count
                else:
                    activation[row, mask, targets[lane]] += pixels
            lane += 1
