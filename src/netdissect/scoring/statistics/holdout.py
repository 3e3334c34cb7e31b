"""Hold-out: labels chosen on some images and scored on others.

The best of a thousand concepts looks better than it is, since its luck is chosen along. On images that had no part in
the choice it has no luck left. Thresholds use no labels and stay those of all images.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from netdissect.scoring.iou import Floats, best_concepts, iou, top_category
from netdissect.scoring.per_image_counts import ImageIntersections, ImageLabelCounts
from netdissect.scoring.statistics.bootstrap import Bools, Ints

OTHER_STREAM = 1 << 63  # of random numbers: halves do not depend on the weights of the bootstrap


def is_held_out(seed: int, rows: npt.ArrayLike, share: float) -> Bools:
    """Say which images are held out, bool (n,): by the seed and an image's row alone."""
    generators = (np.random.Philox(key=np.array([seed + OTHER_STREAM, row], np.uint64)) for row in np.asarray(rows))
    return np.array([generator.random_raw() for generator in generators], np.float64) < share * 2.0**64


@dataclass(frozen=True)
class CountSubset:
    """Counts of some of the images at one quantile; adds up over images.

    Attributes
    ----------
    intersection, activation, concept_pixels
        int64 (U, C), (U, K) and (C,), in pixels.
    """

    intersection: Ints
    activation: Ints
    concept_pixels: Ints

    @classmethod
    def zeros(cls, units: int, numbers: int, categories: int) -> "CountSubset":
        """Return the counts of no images."""
        shapes = ((units, numbers), (units, categories), (numbers,))
        return cls(*(np.zeros(shape, np.int64) for shape in shapes))

    def __add__(self, other: "CountSubset") -> "CountSubset":
        return CountSubset(
            *(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True))
        )

    def __sub__(self, other: "CountSubset") -> "CountSubset":
        return CountSubset(
            *(mine - theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True))
        )

    def update(self, presence: ImageLabelCounts, masks: ImageIntersections, counted: Bools, rows: Ints) -> None:
        """Add, of some images, those whose `rows` are named.

        Parameters
        ----------
        presence, masks
            Labels and masks at one quantile.
        counted
            bool (M, K): whether a mask counts in each category; see
            `netdissect.scoring.statistics.bootstrap.counted_masks`.
        rows
            int64, sorted.
        """
        chosen = np.isin(presence.image_index, rows)
        np.add.at(self.concept_pixels, presence.label_ids[chosen], presence.pixels[chosen])
        mine = np.isin(masks.image_index, rows)
        mask, category = (counted & mine[:, None]).nonzero()
        np.add.at(self.activation, (masks.units[mask], category), masks.mask_pixels[mask])
        of = masks.mask_index
        entries = mine[of]
        cells = masks.units[of[entries]], masks.label_ids[entries]
        np.add.at(self.intersection, cells, masks.intersections[entries])

    def iou(self, category_of: Ints) -> Floats:
        """Return the IoU of each unit and label number, float64 (U, C); 0 where no concept is."""
        categories = np.maximum(category_of, 0)
        scores = iou(self.intersection, self.activation[:, categories], self.concept_pixels)
        return np.where(category_of >= 0, scores, 0)


def best_label_ids(scores: Floats, category_of: Ints, categories: int) -> Ints:
    """Return each unit's label number, int64 (U,), 0 for none; `scores` by label number, float64 (U, C)."""
    numbers = np.flatnonzero(category_of >= 0)
    best = best_concepts(scores[:, numbers], category_of[numbers], categories)
    reached = np.where(best >= 0, np.take_along_axis(scores[:, numbers], np.maximum(best, 0), 1), 0)
    top = top_category(reached)
    return np.where(top >= 0, numbers[best[np.arange(len(best)), top]], 0)
