"""IoU of composed segments with labels, from the counts of single images: weighted sums give bootstrap replicates."""

from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse

from netdissect.scoring.iou import Floats, iou
from netdissect.scoring.per_image_counts import ImageIntersections, ImageLabelCounts
from netdissect.scoring.statistics.bootstrap import counted_masks

Ints = npt.NDArray[np.int64]

AT_A_TIME = 64  # replicates whose weights are int64 in memory


class ConceptPixels(NamedTuple):
    """Pixels of single images by label id, sparse int64 (n, C); sums over images give IoUs.

    Attributes
    ----------
    intersection
        Pixels of the concept's segment that have its label.
    segments
        Pixels of its segment, in images that are annotated in its category.
    labels
        Pixels that have its label.
    """

    intersection: scipy.sparse.csr_array
    segments: scipy.sparse.csr_array
    labels: scipy.sparse.csr_array

    @classmethod
    def of(cls, labels: ImageLabelCounts, segments: ImageIntersections, label_of: Ints, category_of: Ints) -> Self:
        """Join the segments of units that have one label.

        Parameters
        ----------
        labels
            Labels of all images, by image.
        segments
            Segments of units on these images.
        label_of
            int64 (U,): label id of each unit; 0: none.
        category_of
            int64 (C,): category of each label id; -1 where the id is no concept.
        """
        shape = (len(labels.images), len(category_of))
        own = label_of[segments.units]
        annotated = counted_masks(labels, segments, category_of, int(category_of.max()) + 1, "annotated")
        counts = (own > 0) & annotated[np.arange(len(own)), category_of[own]]
        position = np.searchsorted(labels.images, segments.image_index)
        segment = segments.mask_index
        hits = segments.label_ids == own[segment]
        of_labels = np.searchsorted(labels.images, labels.image_index)

        def table(values: Ints, images: Ints, label_ids: Ints) -> scipy.sparse.csr_array:
            return scipy.sparse.csr_array((values, (images, label_ids)), shape, dtype=np.int64)

        return cls(
            table(segments.intersections[hits], position[segment[hits]], own[segment[hits]]),
            table(segments.mask_pixels[counts], position[counts], own[counts]),
            table(labels.pixels, of_labels, labels.label_ids),
        )

    def sums(self, weights: npt.NDArray[np.uint8]) -> tuple[Ints, Ints, Ints]:
        """Sum over images that are weighted by the columns of uint8 (n, R): int64 (C, R) each."""
        parts = [tuple(table.T @ part for table in self) for part in _parts(weights)]
        intersection, segments, labels = (np.concatenate(sums, axis=1) for sums in zip(*parts, strict=True))
        return intersection, segments, labels


def _parts(weights: npt.NDArray[np.uint8]) -> Iterator[Ints]:
    for start in range(0, weights.shape[1], AT_A_TIME):
        yield weights[:, start : start + AT_A_TIME].astype(np.int64)


def mean_iou(pixels: tuple[Ints, Ints, Ints], label_ids: Ints) -> tuple[Floats, Floats]:
    """Return the IoU of each concept, and the mean over those that have a label.

    Parameters
    ----------
    pixels
        int64 (C, R) each; see `ConceptPixels.sums`.
    label_ids
        int64 (n,): concepts over which the mean is taken, as far as they have a labeled pixel.

    Returns
    -------
    by_concept
        float64 (C, R).
    mean
        float64 (R,); NaN where none of the concepts is labeled.
    """
    intersection, segments, labels = pixels
    by_concept = iou(intersection, segments, labels)
    present = labels[label_ids] > 0
    with np.errstate(invalid="ignore"):
        mean = np.where(present, by_concept[label_ids], 0).sum(axis=0) / present.sum(axis=0)
    return by_concept, mean
