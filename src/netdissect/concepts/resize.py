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

    def values(
        self, values: npt.NDArray[Scalar], size: int, image: tuple[int, int] | None = None
    ) -> npt.NDArray[Scalar]:
        """Return values (h, w, ...) at (size, size, ...): each cell has the value at its center, or of the edge.

        They cover an image of height and width `image` evenly; None: they are the pixels of the image.
        """
        height, width = values.shape[:2]
        centers = self._centers(size, (height, width), image or (height, width))
        rows, columns = (index.clip(0, own - 1) for index, own in zip(centers, (height, width), strict=True))
        picked: npt.NDArray[Scalar] = values[rows[:, None], columns]
        return picked

    def inside(self, height: int, width: int, size: int) -> npt.NDArray[np.bool_] | None:
        """Return which cells of (size, size) lie on an image of `height` x `width`, bool; None: all of them."""
        centers = self._centers(size, (height, width), (height, width))
        rows, columns = ((index >= 0) & (index < own) for index, own in zip(centers, (height, width), strict=True))
        return None if rows.all() and columns.all() else rows[:, None] & columns

    def _centers(
        self, size: int, grid: tuple[int, int], image: tuple[int, int]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the rows and columns of a grid that covers the image at which the centers of the cells are."""
        steps = 2 * np.arange(size) + 1
        rows, columns = 2 * size * self.top + steps * self.height, 2 * size * self.left + steps * self.width
        return rows * grid[0] // (2 * size * image[0]), columns * grid[1] // (2 * size * image[1])
