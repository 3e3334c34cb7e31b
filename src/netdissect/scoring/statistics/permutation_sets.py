"""A compiled loop of the permutation test: images with many labels, counted by label set.

A run of mask pixels meets few label sets, one after the other. The pixels of a mask are added up by label set first,
and then for each label of the sets that it meets: most labels of an image are not where the mask is.
"""

from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from netdissect.jit import compiled_in_place, inlined
from netdissect.scoring.kernel import labels_of_image
from netdissect.scoring.kernel_arrays import ImageArrays, LabelArrays
from netdissect.scoring.statistics.permutation_runs import Runs, shifted_runs

Ints = npt.NDArray[np.int64]
UInts = npt.NDArray[np.uint32]


class SetScratch(NamedTuple):
    """Arrays that are reused from image to image.

    Attributes
    ----------
    label_sets
        uint32 (pixels,): label set of each pixel.
    changes
        uint32 (pixels,): first pixel after each one with another label set.
    set_pixels
        int64 (sets,): pixels of the current mask in each label set; 0 between masks.
    met
        int64 (sets,): label sets that the current mask meets.
    met_categories
        bool (K,): whether the current mask meets a label of each category; False between masks.
    """

    label_sets: UInts
    changes: UInts
    set_pixels: Ints
    met: Ints
    met_categories: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, labels: LabelArrays, categories: int) -> Self:
        """Return arrays for the images of a stratum."""
        _, height, width = labels.index_map.shape
        sets = int(np.diff(labels.starts[4]).max())
        return cls(
            np.empty(height * width, np.uint32),
            np.empty(height * width, np.uint32),
            np.zeros(sets, np.int64),
            np.empty(sets, np.int64),
            np.zeros(categories, np.bool_),
        )


def count_by_sets(
    masks: Any,
    labels: LabelArrays,
    draws: tuple[Ints, Ints],
    category_of: Ints,
    shifted: UInts,
    counts: tuple[UInts, Ints],
    images: Ints,
) -> None:
    """Count these images of a stratum, int64 (k,), as `permutation_kernel.count_permutations` counts the others.

    Shifted runs are written to `shifted`; `counts` are intersection and activation.
    """
    scratch = SetScratch.of(labels, counts[1].shape[2])
    _count_images(masks, labels, draws, category_of, (shifted, scratch), counts, images)


@compiled_in_place
def _count_images(
    masks: Any,
    labels: LabelArrays,
    draws: tuple[Ints, Ints],
    category_of: Ints,
    scratch: tuple[UInts, SetScratch],
    counts: tuple[UInts, Ints],
    images: Ints,
) -> None:
    (mask_images, shifts), (shifted, of_sets), (intersection, activation) = draws, scratch, counts
    for image in images:
        arrays = labels_of_image(labels, image)
        _find_changes(arrays.index_map, of_sets)
        for row in range(len(mask_images)):
            mask_image, of_row = mask_images[row, image], (intersection, activation, row)
            runs = shifted_runs(masks, mask_image, shifts[row, image], arrays.index_map.shape, shifted)
            _count_image(masks, mask_image, runs, (arrays, category_of), of_sets, of_row)


@inlined
def _find_changes(index_map: npt.NDArray[np.int32], scratch: SetScratch) -> None:
    """Write the label set of each pixel, and the first pixel after it that has another one."""
    label_sets, changes = scratch.label_sets, scratch.changes
    for pixel, label_set in enumerate(index_map.flat):
        label_sets[pixel] = label_set
    change = len(label_sets)
    for last in range(len(label_sets) - 1, -1, -1):
        if last + 1 < len(label_sets) and label_sets[last] != label_sets[last + 1]:
            change = last + 1
        changes[last] = change


@inlined
def _count_image(
    masks: Any,
    image: int,
    runs: Runs,
    labels: tuple[ImageArrays, Ints],
    scratch: SetScratch,
    counts: tuple[UInts, Ints, int],
) -> None:
    """Count the masks of one image against the labels of one."""
    (arrays, category_of), (intersection, activation, row) = labels, counts
    for mask in range(masks.image_ends[image], masks.image_ends[image + 1]):
        index, pixels = masks.masks[mask], masks.pixels[mask]
        num_met = _add_runs(masks.run_ends[mask], masks.run_ends[mask + 1], runs, scratch)
        if len(activation) > 0:
            _find_categories(arrays, category_of, num_met, scratch)
            _add_activation(arrays.categories, pixels, scratch.met_categories, activation[row, index])
        _add_counts(arrays, num_met, pixels, scratch, intersection[row, index])


@inlined
def _add_runs(begin: int, end: int, runs: Runs, scratch: SetScratch) -> int:
    """Add up the pixels of one mask by label set, and return how many sets it meets."""
    label_sets, changes, set_pixels, met, _ = scratch
    num_met = 0
    for run in range(runs.scale * (begin - runs.first), runs.scale * (end - runs.first)):
        pixel, stop = runs.starts[run], runs.ends[run]
        while pixel < stop:
            label_set, change = label_sets[pixel], changes[pixel]
            until = change if change < stop else stop
            if set_pixels[label_set] == 0:
                met[num_met] = label_set
                num_met += 1
            set_pixels[label_set] += np.int64(until) - np.int64(pixel)
            pixel = until
    return num_met


@inlined
def _find_categories(labels: ImageArrays, category_of: Ints, num_met: int, scratch: SetScratch) -> None:
    """Mark the categories of the labels that one mask meets."""
    met_categories = scratch.met_categories
    for label in labels.image_level:
        met_categories[category_of[labels.label_ids[label]]] = True
    for label_set in scratch.met[:num_met]:
        begin = labels.set_ends[label_set - 1] if label_set > 0 else 0
        for label in labels.set_labels[begin : labels.set_ends[label_set]]:
            met_categories[category_of[labels.label_ids[label]]] = True


@inlined
def _add_activation(categories: Ints, pixels: int, met: npt.NDArray[np.bool_], activation: Ints) -> None:
    """Add the pixels of one mask in each category that is marked, and remove the marks."""
    for category in categories:
        if met[category]:
            activation[category] += pixels
            met[category] = False


@inlined
def _add_counts(labels: ImageArrays, num_met: int, pixels: int, scratch: SetScratch, intersection: UInts) -> None:
    """Add the pixels of one mask by label, and forget them by label set."""
    for label_set in scratch.met[:num_met]:
        count = scratch.set_pixels[label_set]
        scratch.set_pixels[label_set] = 0
        begin = labels.set_ends[label_set - 1] if label_set > 0 else 0
        for label in labels.set_labels[begin : labels.set_ends[label_set]]:
            intersection[labels.label_ids[label]] += count
    for label in labels.image_level:
        intersection[labels.label_ids[label]] += pixels
