"""The compiled loop of the permutation test: runs of mask pixels against the labels of other images.

For each label of an image, running totals say how many of the first pixels have it. The intersection of a run of pixels
with all labels is then the difference of two rows of totals, however long the run is. Sixteen labels lie side by side
in two 64-bit words. Totals overflow from one label into the next, but arithmetic modulo 2**64 is exact: the difference
of two words holds the counts of a run, which fit into 8 bits. They are widened before they are added up over a mask.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.jit import compiled, inlined
from netdissect.scoring.kernel import labels_of_image
from netdissect.scoring.kernel_arrays import ImageArrays, LabelArrays

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
UInts = npt.NDArray[np.uint32]

WORDS = 2  # of totals side by side: a quarter of a cache line for each pixel
SUMS = 2 * WORDS  # words of wider sums


class Lanes(NamedTuple):
    """What is counted on one image: its labels, and under `overlap` the pixels that have any label of each category.

    Attributes
    ----------
    targets
        int64 (L,): label ids, then categories.
    num_labels
        Number of label ids.
    image_level
        int64 (L,): how often each is a label of the whole image.
    bits
        Bits of the count of a run: 8, or 16 where a run or a mask may need more; a sum over runs has twice as many.
    increments
        uint64 (blocks, K, 2): what a pixel of each label set adds to the totals, block by block of 128 bits.
    """

    targets: Ints
    num_labels: int
    image_level: Ints
    bits: int
    increments: Words


class Runs(NamedTuple):
    """Runs of pixels of the masks of one image: run i of the masks is run `scale * (i - first)` here."""

    starts: UInts
    ends: UInts
    first: np.int64
    scale: np.int64


@compiled
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
    (mask_images, shifts), (height, width) = draws, labels.index_map.shape[1:]
    totals = np.empty((height * width + 1, WORDS), np.uint64)
    shifted = np.empty((2, 2 * _most_runs(masks)), np.uint32)
    for image in range(len(labels.index_map)):
        arrays = labels_of_image(labels, image)
        lanes = make_lanes(arrays, category_of, len(activation) > 0)
        for block in range(len(lanes.increments)):
            _add_up(arrays.index_map, lanes.increments[block], totals)
            for row in range(len(mask_images)):
                mask_image = mask_images[row, image]
                runs = _shifted_runs(masks, mask_image, shifts[row, image], (height, width), shifted)
                _count_image(masks, mask_image, runs, totals, (lanes, block), (intersection[row], activation, row))


@compiled
def _most_runs(masks: Any) -> Any:
    """Return the largest number of runs of an image."""
    return np.diff(masks.run_ends[masks.image_ends]).max()


@compiled
def make_lanes(labels: ImageArrays, category_of: Ints, overlap: bool) -> Lanes:
    """Assign bits to the labels of an image, and if `overlap` to their categories."""
    num_labels, num_sets, (height, width) = len(labels.label_ids), len(labels.set_ends), labels.index_map.shape
    targets = np.concatenate((labels.label_ids, labels.categories if overlap else labels.categories[:0]))
    category_lane = num_labels + np.searchsorted(labels.categories, category_of[labels.label_ids])
    counts = np.zeros((num_sets, len(targets)), np.uint64)
    image_level = np.zeros(len(targets), np.int64)
    for label_set in range(num_sets):
        for label in labels.set_labels[labels.set_ends[label_set - 1] if label_set else 0 : labels.set_ends[label_set]]:
            counts[label_set, label] += np.uint64(1)
            if overlap:
                counts[label_set, category_lane[label]] = np.uint64(1)
    for label in labels.image_level:
        image_level[label] += 1
        if overlap:
            image_level[category_lane[label]] = 1
    most = np.int64(counts.max()) if counts.size else 0  # above 1 where a pixel has a label twice
    bits = 8 if most * width < 1 << 8 and most * width * height < 1 << 16 else 16
    in_sum = 32 // bits
    increments = np.zeros((-(-len(targets) // (SUMS * in_sum)), num_sets, WORDS), np.uint64)
    for lane in range(len(targets)):
        index, offset = divmod(lane, in_sum)
        block, index = divmod(index, SUMS)
        increments[block, :, index // 2] += counts[:, lane] << np.uint64(bits * (2 * offset + index % 2))
    return Lanes(targets, num_labels, image_level, bits, increments)


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
def _shifted_runs(masks: Any, image: int, shift: Ints, size: tuple[int, int], out: UInts) -> Runs:
    """Return the runs of an image where they meet labels that are shifted: two for each run, since it may be cut."""
    first, last = masks.run_ends[masks.image_ends[image]], masks.run_ends[masks.image_ends[image + 1]]
    if shift[0] == 0 and shift[1] == 0:
        return Runs(masks.starts, masks.ends, np.int64(0), np.int64(1))
    (height, width), starts, ends = size, out[0], out[1]
    for run in range(first, last):
        y, x = divmod(np.int64(masks.starts[run]), width)
        row, x = (y - shift[0]) % height * width, (x - shift[1]) % width
        end, index = x + np.int64(masks.ends[run]) - np.int64(masks.starts[run]), 2 * (run - first)
        starts[index], ends[index] = row + x, row + min(end, width)
        starts[index + 1], ends[index + 1] = row, row + max(end - width, 0)
    return Runs(starts, ends, first, np.int64(2))


@inlined
def _count_image(
    masks: Any, image: int, runs: Runs, totals: Words, block_of: tuple[Lanes, int], counts: tuple[UInts, Ints, int]
) -> None:
    """Count the masks of one image against one block of labels."""
    (image_ends, run_ends, indices, pixels, _, _), (starts, ends, first_run, scale) = masks, runs
    sums, bits = np.empty(SUMS, np.uint64), np.uint64(block_of[0].bits)
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
    sums: Words, mask: int, pixels: int, block_of: tuple[Lanes, int], counts: tuple[UInts, Ints, int]
) -> None:
    """Add the counts of one mask against one block of labels."""
    ((targets, num_labels, image_level, lane_bits, _), block), (intersection, activation, row) = block_of, counts
    in_sum, bits = 32 // lane_bits, np.uint64(2 * lane_bits)
    lane, low = block * SUMS * in_sum, (np.uint64(1) << bits) - np.uint64(1)
    for word in sums:
        for _ in range(min(in_sum, len(targets) - lane)):
            count = np.int64(word & low) + image_level[lane] * pixels
            word >>= bits
            if count:  # most concepts of an image are not where the mask is: their counts are left alone
                if lane < num_labels:
                    intersection[mask, targets[lane]] += count
                else:
                    activation[row, mask, targets[lane]] += pixels
            lane += 1
