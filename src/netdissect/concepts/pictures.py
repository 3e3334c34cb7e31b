"""Decode pictures of any kind to RGB, and bring pictures and label values to the data set's size."""

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from netdissect.concepts.sample import Picture
from netdissect.errors import SourceError

Scalar = TypeVar("Scalar", bound=np.generic)

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
"""What Pillow raises for files that are damaged, foreign or absurdly large."""

SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def read_picture(picture: Picture) -> Image.Image:
    """Return `picture` as an RGB image.

    Notes
    -----
    Turned upright as EXIF says. Gray, palette and CMYK become RGB; transparent pixels lie on white; 16-bit gray
    keeps its high byte (65,535 is white).

    Raises
    ------
    SourceError
        If a file is missing, damaged or no picture, or an array is not uint8 (H, W, 3).
    """
    if isinstance(picture, Image.Image):
        return to_rgb(picture, "a picture in memory")
    if not isinstance(picture, Path):
        return Image.fromarray(_checked_array(picture))
    try:
        with Image.open(picture) as image:
            upright = ImageOps.exif_transpose(image)
            upright.load()
            return to_rgb(upright, str(picture))
    except SourceError:
        raise
    except FileNotFoundError:
        raise SourceError(f"{picture} does not exist. Expected a picture; restore the file.") from None
    except UNREADABLE as error:
        raise SourceError(
            f"{picture} cannot be read as a picture ({error}). Expected a whole image file; restore or remove it."
        ) from error


def to_rgb(image: Image.Image, origin: str) -> Image.Image:
    """Convert any Pillow mode to RGB; `origin` names the picture in messages.

    Raises
    ------
    SourceError
        If the pixels are floating-point numbers, for which no white is defined.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise SourceError(
            f"{origin} holds floating-point pixels, for which nothing says what is white. "
            "Expected 8 or 16 bits a channel; convert the picture first."
        )
    if image.mode in SIXTEEN_BIT:
        wide = np.asarray(image).astype(np.int64)
        return Image.fromarray((wide.clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return image.convert("RGB")


def squash(image: Image.Image, size: int) -> Image.Image:
    """Bring the whole picture to `size` x `size`, whatever its shape (bilinear, averaging where it shrinks)."""
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BILINEAR)


def nearest(values: npt.NDArray[Scalar], size: int) -> npt.NDArray[Scalar]:
    """Bring values (H, W, ...) to (size, size, ...): each cell takes the value at its center."""
    rows, columns = (((2 * np.arange(size) + 1) * length) // (2 * size) for length in values.shape[:2])
    picked: npt.NDArray[Scalar] = values[rows[:, None], columns]
    return picked


def _checked_array(picture: Any) -> npt.NDArray[np.uint8]:
    pixels = np.asarray(picture)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise SourceError(
            f"a picture in memory is {pixels.dtype} {pixels.shape}. Expected uint8 (height, width, 3), RGB; "
            "convert it, or pass a path or a Pillow image."
        )
    return pixels
