"""Concepts, and the labels of one image."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

LabelIds = npt.NDArray[np.int32]


class Size(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Concept:
    """One visual concept of a data set.

    Attributes
    ----------
    label_id
        At least 1; 0 means unlabeled and is never a concept.
    name
        Unique in the data set; scenes end in ``-s`` and colors in ``-c``.
    category
        The primary category: the chosen category in which its coverage is largest (tie: the later one).
    frequency
        Number of images that have it in its primary category.
    coverage
        Sum over images of its share of the pixels in its primary category, in images.
    synonyms
        Other spellings.
    """

    label_id: int
    name: str
    category: str
    frequency: int
    coverage: float
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of one image.

    Attributes
    ----------
    label_channels
        int32 (P, sh, sw): label id of each pixel in each channel, 0 where unlabeled.
    image_level
        int32 (W,): label ids of the whole image; each is equivalent to a constant channel.
    """

    label_channels: LabelIds
    image_level: LabelIds

    @property
    def size(self) -> Size:
        """Height and width of the label maps in pixels."""
        return Size(*self.label_channels.shape[1:])

    def deduplicated(self) -> "Labels":
        """Return the same labels without duplicates: no pixel has a label twice.

        Notes
        -----
        Labels of one id are equal, whatever their column or channel. Later duplicates become 0.
        """
        image_level = np.unique(self.image_level)
        channels = self.label_channels.copy()
        for label_id in image_level:
            channels[channels == label_id] = 0
        for later in range(1, len(channels)):
            for earlier in range(later):
                channels[later][channels[later] == channels[earlier]] = 0
        return Labels(channels, image_level)

    def resized(self, size: Size) -> "Labels":
        """Return the same labels at another size, by nearest neighbor."""
        rows, columns = (
            ((np.arange(new) + 0.5) * old / new).astype(np.int64) for new, old in zip(size, self.size, strict=True)
        )
        return Labels(np.ascontiguousarray(self.label_channels[:, rows][:, :, columns]), self.image_level)
