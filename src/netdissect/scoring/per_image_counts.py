"""Counts of single images, sparse: mask pixels of each unit, and intersections with the labels of the image.

On real layers a unit is active in one image out of five to ten, on about five labels of it. Ten bytes a mask and three
bytes a label suffice; a dense table of images, units and concepts would not fit in memory.

    IoUCounter.update_batch -> ImageIntersections -> AppendOnlyArrayFile -> statistics/, per-image tables
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from netdissect.activations.array_log import AppendOnlyArrayFile
from netdissect.errors import ResultError

if TYPE_CHECKING:
    from netdissect.scoring.iou_counter import ImageLabels

Ints = npt.NDArray[np.int64]


class ImageIntersections(NamedTuple):
    """M non-empty masks and their intersections with N labels.

    Attributes
    ----------
    image_index, quantiles, units, mask_pixels
        int64 (M,): image, index of the quantile, unit, and pixels of the mask.
    label_counts
        int64 (M,): number of the following entries that belong to each mask.
    label_ids, intersections
        int64 (N,): label id and intersection in pixels, mask after mask.
    """

    image_index: Ints
    quantiles: Ints
    units: Ints
    mask_pixels: Ints
    label_counts: Ints
    label_ids: Ints
    intersections: Ints

    @classmethod
    def of(
        cls, image_index: int, quantile: int, mask_pixels: npt.ArrayLike, counts: npt.ArrayLike, label_ids: Ints
    ) -> Self:
        """Take the non-zero counts of one image: mask pixels (U,), and intersections (U, n) with its labels (n,)."""
        mask_pixels, counts = np.asarray(mask_pixels), np.asarray(counts)
        units = np.flatnonzero(mask_pixels)
        mask, label = counts[units].nonzero()
        return cls(
            np.full(len(units), image_index),
            np.full(len(units), quantile),
            units,
            mask_pixels[units].astype(np.int64),
            np.bincount(mask, minlength=len(units)),
            label_ids[label],
            counts[units[mask], label].astype(np.int64),
        )

    @classmethod
    def join(cls, parts: Sequence["ImageIntersections"]) -> Self:
        """Join the masks of several images."""
        if not parts:
            return cls(*(np.empty(0, np.int64) for _ in cls._fields))
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    @property
    def mask_index(self) -> Ints:
        """Index of the mask of each entry, int64 (N,)."""
        return np.repeat(np.arange(len(self.image_index)), self.label_counts)

    def at(self, quantile: int) -> "ImageIntersections":
        """Return the masks of one quantile."""
        return self.chosen(self.quantiles == quantile)

    def of_units(self, first: int, last: int) -> "ImageIntersections":
        """Return the masks of the units from `first` on, before `last`, numbered from 0."""
        chosen = self.chosen((self.units >= first) & (self.units < last))
        return chosen._replace(units=chosen.units - first)

    def chosen(self, masks: npt.NDArray[np.bool_]) -> "ImageIntersections":
        """Return some of the masks, bool (M,); all of them are not copied."""
        if masks.all():
            return self
        entries = np.repeat(masks, self.label_counts)
        return ImageIntersections(*(array[masks] for array in self[:5]), *(array[entries] for array in self[5:]))


class ImageLabelCounts(NamedTuple):
    """N labels of some images.

    Attributes
    ----------
    images
        int64 (n,): rising indices of the images, with those that have no label.
    image_index, label_ids, pixels
        int64 (N,): image, label id, and pixels of the label.
    """

    images: Ints
    image_index: Ints
    label_ids: Ints
    pixels: Ints

    @classmethod
    def of(cls, row: int, images: Sequence["ImageLabels"]) -> Self:
        """Take the labels of a batch that begins at the image `row`."""
        indices = np.arange(row, row + len(images))
        return cls(
            indices,
            np.repeat(indices, [len(image.label_ids) for image in images]),
            np.concatenate([image.label_ids for image in images]),
            np.concatenate([image.pixels for image in images]),
        )

    @classmethod
    def join(cls, parts: Sequence["ImageLabelCounts"]) -> Self:
        """Join the labels of several batches."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def check_counts(labels: ImageLabelCounts, masks: ImageIntersections, num_units: int, num_labels: int) -> None:
    """Check that images, units and label ids are those of the run.

    The sums over images use them as indices without a further check.

    Raises
    ------
    ResultError
        If one of them is not.
    """
    for name, values, known in (
        ("image", labels.image_index, labels.images),
        ("image", masks.image_index, labels.images),
        ("unit", masks.units, range(num_units)),
        ("label id", labels.label_ids, range(num_labels)),
        ("label id", masks.label_ids, range(num_labels)),
    ):
        if isinstance(known, range):
            foreign = values[(values < 0) | (values >= len(known))]
        else:
            foreign = values[~np.isin(values, known)]
        if len(foreign):
            raise ResultError(
                f"counts of single images name the {name} {foreign[0]}, which is not among those of the run: a file of "
                "its folder 'work', or of a shard, is damaged. Remove that folder, and run again."
            )
    if masks.label_counts.sum() != len(masks.label_ids) or (masks.label_counts < 0).any():
        raise ResultError(
            f"counts of single images hold {len(masks.label_ids)} labels of masks but announce "
            f"{masks.label_counts.sum()}: a file of the run's folder 'work', or of a shard, is damaged. Remove that "
            "folder, and run again."
        )


def read_intersections(file: AppendOnlyArrayFile) -> Iterator[ImageIntersections]:
    """Read the masks of a layer, batch by batch."""
    for arrays in file:
        yield ImageIntersections(*(array.astype(np.int64) for array in arrays))


def read_label_counts(file: AppendOnlyArrayFile) -> Iterator[ImageLabelCounts]:
    """Read the labels of the images, batch by batch."""
    for arrays in file:
        yield ImageLabelCounts(*(array.astype(np.int64) for array in arrays))
