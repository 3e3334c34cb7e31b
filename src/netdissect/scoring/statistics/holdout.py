"""Hold-out: labels chosen on some images and scored on others.

The IoU of the best of a thousand concepts is biased upward by its selection. Its IoU on images that had no part in the
selection is not. Thresholds use no labels and are those of all images.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from netdissect.scoring.iou import Floats, best_concepts, iou, top_category
from netdissect.scoring.per_image_counts import ImageIntersections, ImageLabelCounts
from netdissect.scoring.statistics.bootstrap import Bools, Ints

OTHER_STREAM = 1 << 63  # its own random numbers: the split is independent of the weights of the bootstrap


def is_held_out(seed: int, image_index: npt.ArrayLike, share: float) -> Bools:
    """Tell which images are held out, bool (n,); depends only on the seed and the image index."""
    keys = (np.array([seed + OTHER_STREAM, index], np.uint64) for index in np.asarray(image_index))
    return np.array([np.random.Philox(key=key).random_raw() for key in keys], np.float64) < share * 2.0**64


@dataclass(frozen=True)
class CountSubset:
    """Counts of a subset of the images at one quantile; adds up over images.

    Attributes
    ----------
    intersection, activation, concept_pixels
        int64 (U, C), (U, K) and (C,), in pixels.
    """

    intersection: Ints
    activation: Ints
    concept_pixels: Ints

    @classmethod
    def zeros(cls, units: int, num_labels: int, categories: int) -> "CountSubset":
        """Return the counts of no images."""
        shapes = ((units, num_labels), (units, categories), (num_labels,))
        return cls(*(np.zeros(shape, np.int64) for shape in shapes))

    def __add__(self, other: "CountSubset") -> "CountSubset":
        return CountSubset(
            *(left + right for left, right in zip(vars(self).values(), vars(other).values(), strict=True))
        )

    def __sub__(self, other: "CountSubset") -> "CountSubset":
        return CountSubset(
            *(left - right for left, right in zip(vars(self).values(), vars(other).values(), strict=True))
        )

    def update(self, labels: ImageLabelCounts, masks: ImageIntersections, counted: Bools, image_index: Ints) -> None:
        """Add those of some images that are in `image_index`.

        Parameters
        ----------
        labels, masks
            Labels and masks at one quantile.
        counted
            bool (M, K): whether a mask counts in each category; see
            `netdissect.scoring.statistics.bootstrap.counted_masks`.
        image_index
            int64, sorted.
        """
        chosen = np.isin(labels.image_index, image_index)
        np.add.at(self.concept_pixels, labels.label_ids[chosen], labels.pixels[chosen])
        of_subset = np.isin(masks.image_index, image_index)
        mask, category = (counted & of_subset[:, None]).nonzero()
        np.add.at(self.activation, (masks.units[mask], category), masks.mask_pixels[mask])
        mask_index = masks.mask_index
        entries = of_subset[mask_index]
        cells = masks.units[mask_index[entries]], masks.label_ids[entries]
        np.add.at(self.intersection, cells, masks.intersections[entries])

    def of_units(self, first: int, last: int) -> "CountSubset":
        """Return the counts of the units from `first` on, before `last`."""
        return CountSubset(self.intersection[first:last], self.activation[first:last], self.concept_pixels)

    def iou(self, category_of: Ints) -> Floats:
        """Return the IoU of each unit and label id, float64 (U, C); 0 where the id is no concept."""
        categories = np.maximum(category_of, 0)
        scores = iou(self.intersection, self.activation[:, categories], self.concept_pixels)
        return np.where(category_of >= 0, scores, 0)


class HoldoutScores(NamedTuple):
    """Labels chosen without the held-out images, and their IoU on both parts.

    Attributes
    ----------
    label_ids
        int64 (U,): label of each unit, 0 for none.
    selection_iou, heldout_iou
        float64 (U,): on the images on which it was chosen, and on the others; 0 for none.
    """

    label_ids: Ints
    selection_iou: Floats
    heldout_iou: Floats

    @classmethod
    def of(cls, selection: CountSubset, heldout: CountSubset, category_of: Ints, categories: int) -> Self:
        """Choose labels on one subset, and score them on both."""
        scores = selection.iou(category_of)
        label_ids = best_label_ids(scores, category_of, categories)
        chosen = np.arange(len(label_ids)), label_ids
        return cls(label_ids, scores[chosen], heldout.iou(category_of)[chosen])


def best_label_ids(scores: Floats, category_of: Ints, categories: int) -> Ints:
    """Return the label id of each unit, int64 (U,), 0 for none; `scores` by label id, float64 (U, C)."""
    label_ids = np.flatnonzero(category_of >= 0)
    best = best_concepts(scores[:, label_ids], category_of[label_ids], categories)
    best_scores = np.where(best >= 0, np.take_along_axis(scores[:, label_ids], np.maximum(best, 0), 1), 0)
    top = top_category(best_scores)
    return np.where(top >= 0, label_ids[best[np.arange(len(best)), top]], 0)
