"""What a pixel means: concepts, and the labels of one image."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Planes = npt.NDArray[np.int32]


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
        Its label number, at least 1; 0 means unlabeled and is never a concept.
    name
        Unique in the data set; scenes end in ``-s`` and colors in ``-c``.
    category
        The primary category: the chosen category in which its coverage is largest (tie: the later one).
    frequency
        Images that carry it in its primary category.
    coverage
        Sum over images of the share of pixels that bear it in its primary category, in images.
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
    """What one image is labeled with, as its index row says.

    Attributes
    ----------
    label_channels
        int32 (P, sh, sw): one label number per pixel and channel, 0 where unlabeled.
    image_level
        int32 (W,): labels of the whole image, each standing for a constant plane.
    """

    label_channels: Planes
    image_level: npt.NDArray[np.int32]

    @property
    def size(self) -> Size:
        """Height and width of the label maps in pixels."""
        return Size(*self.label_channels.shape[1:])

    def deduplicated(self) -> "Labels":
        """Return the same labels as sets: no pixel bears a label twice.

        Notes
        -----
        A label is its number, whichever column or channel it stands in. Later repetitions become 0.
        """
        whole = np.unique(self.image_level)
        planes = self.label_channels.copy()
        for number in whole:
            planes[planes == number] = 0
        for later in range(1, len(planes)):
            for earlier in range(later):
                planes[later][planes[later] == planes[earlier]] = 0
        return Labels(planes, whole)

    def resized(self, size: Size) -> "Labels":
        """Return the same labels at another size: the nearest pixel to each center."""
        rows, columns = (
            ((np.arange(new) + 0.5) * old / new).astype(np.int64) for new, old in zip(size, self.size, strict=True)
        )
        return Labels(np.ascontiguousarray(self.label_channels[:, rows][:, :, columns]), self.image_level)
