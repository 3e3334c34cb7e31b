"""Crops of training images around labeled pixels: small things fill them, and rare labels are seen more often.

image, label maps -> a label of the image -> a pixel that has it -> a box that holds the pixel -> both, stretched
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

STRETCH = 1.3
"""Largest ratio of the sides of a crop to those of the image, in either direction."""


class Crop(NamedTuple):
    """A box in cells of the label map, each two pixels of the image wide."""

    top: int
    left: int
    height: int
    width: int


def draw_crop(maps: npt.NDArray[np.int32], smallest: float, rng: np.random.Generator) -> Crop:
    """Draw a crop.

    Parameters
    ----------
    maps : int32 (L, h, w)
        Label maps of the image; 0 is unlabeled.
    smallest
        Smallest side of a crop, as a share of the image's; its logarithm is uniform between this and 1.
    rng
        Random numbers.
    """
    height, width = maps.shape[1:]
    share, ratio = smallest ** rng.random(), STRETCH ** (rng.random() - 0.5)
    high, wide = (max(2, round(side * min(1.0, by))) for side, by in ((height, share * ratio), (width, share / ratio)))
    y, x = _labeled_pixel(maps, rng)
    top, left = (
        int(rng.integers(max(0, at - of + 1), min(at, side - of) + 1))
        for at, of, side in ((y, high, height), (x, wide, width))
    )
    return Crop(top, left, high, wide)


def _labeled_pixel(maps: npt.NDArray[np.int32], rng: np.random.Generator) -> tuple[int, int]:
    """Return row and column of a pixel of a label drawn at random; of any pixel if there is no label."""
    pairs = [(head, label) for head, one in enumerate(maps) for label in np.unique(one).tolist() if label]
    if not pairs:
        return int(rng.integers(maps.shape[1])), int(rng.integers(maps.shape[2]))
    head, label = pairs[rng.integers(len(pairs))]
    rows, columns = np.nonzero(maps[head] == label)
    chosen = rng.integers(len(rows))
    return int(rows[chosen]), int(columns[chosen])


def cropped(image: Tensor, maps: Tensor, crop: Crop, size: int) -> tuple[Tensor, Tensor]:
    """Cut a crop out of an image and its label maps, and stretch it.

    Parameters
    ----------
    image : uint8 (3, 2 h, 2 w)
        The image.
    maps : int32 (L, h, w)
        Its label maps.
    crop
        The box.
    size
        Side of the result.

    Returns
    -------
    uint8 (3, size, size), int64 (L, size / 2, size / 2)
        The image, and its label maps, each cell with the label at its center.
    """
    top, left, high, wide = crop
    pixels = image[:, 2 * top : 2 * (top + high), 2 * left : 2 * (left + wide)]
    part = maps[:, top : top + high, left : left + wide].float()
    labels = interpolate(part[None], (size // 2, size // 2), mode="nearest-exact")[0]
    return stretched(pixels[None], size)[0], labels.long()


def stretched(images: Tensor, size: int) -> Tensor:
    """Return images, uint8 (B, 3, H, W), as uint8 (B, 3, size, size)."""
    found = interpolate(images.float(), (size, size), mode="bilinear", align_corners=False, antialias=True)
    return found.round().clamp(0, 255).byte()


def crops_of(
    images: npt.NDArray[np.uint8], maps: npt.NDArray[np.int32], size: int, smallest: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return a crop of each image, uint8 (B, 3, size, size), and of its label maps, int64 (B, L, size / 2, size / 2).

    Parameters
    ----------
    images : uint8 (B, H, H, 3)
        The images.
    maps : int32 (B, L, H / 2, H / 2)
        Their label maps.
    size, smallest, rng
        See `cropped` and `draw_crop`.
    """
    pairs = [
        cropped(torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(one), draw_crop(one, smallest, rng), size)
        for image, one in zip(images, maps, strict=True)
    ]
    return torch.stack([image for image, _ in pairs]), torch.stack([one for _, one in pairs])


def darkened(images: Tensor, stops: float, rng: np.random.Generator) -> Tensor:
    """Return images, uint8 (B, 3, H, W), each darkened by 0 to so many halvings of its pixels."""
    factors = torch.from_numpy(0.5 ** (stops * rng.random(len(images)))).float()
    return (images.float() * factors[:, None, None, None]).round().byte()
