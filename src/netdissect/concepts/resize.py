"""Bring images of any shape to a square: squash the whole, crop the middle, or pad with a border.

    Frame.of(height, width, resize) -> image(image, size), values(labels, size)

Images and label maps go through the same frame, so that a label stays on its pixels.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from netdissect.concepts.image_io import Scalar, squash
from netdissect.config import Resize


@dataclass(frozen=True, slots=True)
class CropBox:
    """The part of an image that is taken, in its pixels; it may reach beyond the image.

    Attributes
    ----------
    top, left, height, width
        Of the frame; `top` and `left` are negative where there is a border.
    """

    top: int
    left: int
    height: int
    width: int

    @classmethod
    def of(cls, height: int, width: int, resize: Resize) -> "CropBox":
        """Return the frame of an image of `height` x `width`: all of it, its middle square, or a square around it."""
        if resize == "stretch":
            return cls(0, 0, height, width)
        side = min(height, width) if resize == "crop" else max(height, width)
        return cls((height - side) // 2, (width - side) // 2, side, side)

    def crop_image(self, image: Image.Image, size: int) -> Image.Image:
        """Return what the frame shows at `size` x `size`; beyond the image it is black."""
        if (self.top, self.left, self.height, self.width) == (0, 0, image.height, image.width):
            return squash(image, size)
        box = (self.left, self.top, self.left + self.width, self.top + self.height)
        return squash(image.crop(box), size)

    def values(self, values: npt.NDArray[Scalar], size: int) -> npt.NDArray[Scalar]:
        """Return values (H, W, ...) at (size, size, ...): each cell takes the value at its center, or the edge's."""
        rows, columns = (
            index.clip(0, length - 1) for index, length in zip(self._centers(size), values.shape[:2], strict=True)
        )
        picked: npt.NDArray[Scalar] = values[rows[:, None], columns]
        return picked

    def inside(self, height: int, width: int, size: int) -> npt.NDArray[np.bool_] | None:
        """Tell which cells of (size, size) lie on an image of `height` x `width`; None: all of them."""
        rows, columns = (
            (index >= 0) & (index < length) for index, length in zip(self._centers(size), (height, width), strict=True)
        )
        return None if rows.all() and columns.all() else rows[:, None] & columns

    def _centers(self, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        steps = 2 * np.arange(size) + 1
        return self.top + (steps * self.height) // (2 * size), self.left + (steps * self.width) // (2 * size)
