"""Resize images of any shape to a square: stretch the whole image, crop its middle, or pad it with a border.

    CropBox.of(height, width, resize) -> crop_image(image, size), values(labels, size)

Images and label maps use the same box, so that a label stays on its pixels.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from netdissect.concepts.image_io import Scalar, stretch
from netdissect.config import Resize


@dataclass(frozen=True, slots=True)
class CropBox:
    """The box of an image that becomes the square, in pixels of the image; it may extend beyond the image.

    Attributes
    ----------
    top, left, height, width
        Position and size of the box; `top` and `left` are negative if the image is padded.
    """

    top: int
    left: int
    height: int
    width: int

    @classmethod
    def of(cls, height: int, width: int, resize: Resize) -> "CropBox":
        """Return the box of an image of `height` x `width`: all of it, its middle square, or a square around it."""
        if resize == "stretch":
            return cls(0, 0, height, width)
        side = min(height, width) if resize == "crop" else max(height, width)
        return cls((height - side) // 2, (width - side) // 2, side, side)

    def crop_image(self, image: Image.Image, size: int) -> Image.Image:
        """Return the content of the box at `size` x `size`; pixels beyond the image are black."""
        if (self.top, self.left, self.height, self.width) == (0, 0, image.height, image.width):
            return stretch(image, size)
        box = (self.left, self.top, self.left + self.width, self.top + self.height)
        return stretch(image.crop(box), size)

    def values(self, values: npt.NDArray[Scalar], size: int) -> npt.NDArray[Scalar]:
        """Return values (H, W, ...) at (size, size, ...): each cell has the value at its center, or of the edge."""
        rows, columns = (
            index.clip(0, length - 1) for index, length in zip(self._centers(size), values.shape[:2], strict=True)
        )
        picked: npt.NDArray[Scalar] = values[rows[:, None], columns]
        return picked

    def inside(self, height: int, width: int, size: int) -> npt.NDArray[np.bool_] | None:
        """Return which cells of (size, size) lie on an image of `height` x `width`, bool; None: all of them."""
        rows, columns = (
            (index >= 0) & (index < length) for index, length in zip(self._centers(size), (height, width), strict=True)
        )
        return None if rows.all() and columns.all() else rows[:, None] & columns

    def _centers(self, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        steps = 2 * np.arange(size) + 1
        return self.top + (steps * self.height) // (2 * size), self.left + (steps * self.width) // (2 * size)
