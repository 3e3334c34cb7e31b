"""Image by image: which units are on, on how many pixels, and on which labels. The sparse part of what a tally sums.

On real layers a unit is on in one image out of five or ten, on some five labels of it: ten bytes a mask and three
a label suffice, where the dense table of images, units and concepts would not fit anywhere.

    Tallier -> Overlaps of a batch -> AppendOnlyArrayFile -> bootstrap, halves, and every later question about images
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from netdissect.activations.array_log import AppendOnlyArrayFile
from netdissect.errors import ResultError

Ints = npt.NDArray[np.int64]


class ImageIntersections(NamedTuple):
    """Masks that are not empty, M of them, and the labels below them, N in all.

    Attributes
    ----------
    image_index, quantiles, units, mask_pixels
        int64 (M,): image, index of the quantile, unit, and pixels on.
    label_counts
        int64 (M,): how many of the following entries are the mask's.
    label_ids, intersections
        int64 (N,): label number, and pixels on which the mask is on and the label lies, mask after mask.
    """

    image_index: Ints
    quantiles: Ints
    units: Ints
    mask_pixels: Ints
    label_counts: Ints
    label_ids: Ints
    intersections: Ints

    @classmethod
    def of(cls, row: int, quantile: int, on: npt.ArrayLike, counts: npt.ArrayLike, numbers: Ints) -> Self:
        """Take what is not zero of one image: pixels on (U,), and counts (U, n) of its labels `numbers` (n,)."""
        on, counts = np.asarray(on), np.asarray(counts)
        units = np.flatnonzero(on)
        mask, label = counts[units].nonzero()
        return cls(
            np.full(len(units), row),
            np.full(len(units), quantile),
            units,
            on[units].astype(np.int64),
            np.bincount(mask, minlength=len(units)),
            numbers[label],
            counts[units[mask], label].astype(np.int64),
        )

    @classmethod
    def join(cls, parts: Sequence["ImageIntersections"]) -> Self:
        """Put the masks of several images together."""
        if not parts:
            return cls(*(np.empty(0, np.int64) for _ in cls._fields))
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    @property
    def mask_index(self) -> Ints:
        """Which mask each entry belongs to, int64 (N,)."""
        return np.repeat(np.arange(len(self.image_index)), self.label_counts)

    def at(self, quantile: int) -> "ImageIntersections":
        """Return the masks of one quantile."""
        chosen = self.quantiles == quantile
        entries = np.repeat(chosen, self.label_counts)
        return ImageIntersections(*(array[chosen] for array in self[:5]), *(array[entries] for array in self[5:]))


class ImageLabelCounts(NamedTuple):
    """The labels of some images, N in all.

    Attributes
    ----------
    images
        int64 (n,): rows of the images, rising; those without any label, too.
    image_index, label_ids, pixels
        int64 (N,): image, label number, and how many pixels bear it.
    """

    images: Ints
    image_index: Ints
    label_ids: Ints
    pixels: Ints

    @classmethod
    def join(cls, parts: Sequence["ImageLabelCounts"]) -> Self:
        """Put the labels of several batches together."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def check_counts(presence: ImageLabelCounts, masks: ImageIntersections, units: int, numbers: int) -> None:
    """See that labels and masks are of the images that are named, and of units and label numbers that there are.

    What sums them up takes images, units and numbers as indices, and does not look again.

    Raises
    ------
    ResultError
        If one is not.
    """
    for name, found, known in (
        ("image", presence.image_index, presence.images),
        ("image", masks.image_index, presence.images),
        ("unit", masks.units, range(units)),
        ("label number", presence.label_ids, range(numbers)),
        ("label number", masks.label_ids, range(numbers)),
    ):
        if isinstance(known, range):
            foreign = found[(found < 0) | (found >= len(known))]
        else:
            foreign = found[~np.isin(found, known)]
        if len(foreign):
            raise ResultError(
                f"counts of single images name the {name} {foreign[0]}, which is not among those of the run: a file of "
                "its folder 'work', or of a shard, is damaged. Remove that folder, and run again."
            )
    if masks.label_counts.sum() != len(masks.label_ids) or (masks.label_counts < 0).any():
        raise ResultError(
            f"counts of single images hold {len(masks.label_ids)} labels of masks, which say that they are "
            f"{masks.label_counts.sum()}: a file of the run's folder 'work', or of a shard, is damaged. Remove that "
            "folder, and run again."
        )


def read_intersections(file: AppendOnlyArrayFile) -> Iterator[ImageIntersections]:
    """Read a layer's masks back, batch by batch."""
    for arrays in file:
        yield ImageIntersections(*(array.astype(np.int64) for array in arrays))


def read_label_counts(file: AppendOnlyArrayFile) -> Iterator[ImageLabelCounts]:
    """Read the images' labels back, batch by batch."""
    for arrays in file:
        yield ImageLabelCounts(*(array.astype(np.int64) for array in arrays))
