"""One labeled image of a source, before its names have label ids.

    source -> Sample (raw names, any size) -> write_dataset -> Broden's layout

A source returns what it read. Resizing, merging of names, label ids, splits and colors are common code.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from netdissect.config import Split

TRAIN_SHARE = 0.7

PixelValues = npt.NDArray[np.integer | np.bool_]
"""Raw values of one channel, any integer type (H, W)."""


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """One raw value for each pixel, and the names of the values.

    Attributes
    ----------
    values
        Integers (H, W), of the image's height and width as stored or upright; see `orientation` and `own_grid`.
    names
        Raw concept name of each value; an empty name means unlabeled. 0 is unlabeled unless it has a name. Any
        other value without a name is an error.
    origin
        File of the values, for messages.
    orientation
        EXIF orientation of `values`. None: that of the image, because label maps belong to the stored pixels; both
        are turned together. 1: drawn on the upright image, as annotation tools do.
    own_grid
        Whether the values have another height and width than the image, which they cover evenly.
    """

    values: PixelValues
    names: Mapping[int, str]
    origin: str = ""
    orientation: int | None = None
    own_grid: bool = False


LabelsByCategory = Mapping[str, Sequence[Channel | str]]
"""The channels of each category; a string is a concept of the whole image."""

ImageInput = Path | Image.Image | npt.NDArray[np.uint8]
"""A file that a worker opens, a Pillow image, or uint8 (H, W, 3)."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One labeled image.

    Attributes
    ----------
    name
        Unique path without extension: forward slashes, source first, e.g. ``msrc/9_6_s``.
    image
        The image; a path is opened by the worker that writes the sample.
    labels
        The channels and whole-image concepts of each category, dominant ones first; or a function without arguments
        that reads them in the worker (with several workers it must be picklable, e.g. a `functools.partial` of a
        module's function). It raises `SourceError` for a file that cannot be used.
    split
        ``train``, ``val``, or None: by a hash of the name, 70 to 30.
    """

    name: str
    image: ImageInput
    labels: LabelsByCategory | Callable[[], LabelsByCategory] = field(default_factory=dict)
    split: Split | None = None

    def read_labels(self) -> LabelsByCategory:
        """Return the labels; read them if `labels` is a function."""
        return self.labels() if callable(self.labels) else self.labels


def split_by_hash(name: str) -> Split:
    """Draw the split by a hash of the name: ``train`` with probability 0.7.

    Examples
    --------
    >>> split_by_hash("msrc/9_6_s")
    'train'
    """
    drawn = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    return "train" if drawn < TRAIN_SHARE else "val"
