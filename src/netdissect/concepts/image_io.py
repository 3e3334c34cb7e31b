"""Decode images of any format to RGB, upright or as stored."""

from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps

from netdissect.concepts.build.sample import ImageInput
from netdissect.errors import SourceError
from netdissect.paths import check_regular

Scalar = TypeVar("Scalar", bound=np.generic)

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
"""Errors of Pillow for files that are damaged, of another format or too large."""

SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


GRAY_STEPS = {2: 85, 4: 17}
"""The factor by which Pillow multiplies gray values of 2 and 4 bits, so that the largest is 255."""

ORIENTATION = 0x0112  # EXIF
SIDEWAYS = (5, 6, 7, 8)  # orientations of images that are stored on their side


FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "TGA", "PCX")
if find_spec("PIL.AvifImagePlugin"):  # since Pillow 11.3
    FORMATS += ("AVIF",)
"""Formats that are read. Others are not safe: an EPS is a program, which Pillow runs in Ghostscript."""


def open_image(file: Path | IO[bytes], formats: tuple[str, ...] | list[str] = FORMATS) -> ImageFile.ImageFile:
    """Open an image of a known format; all images are opened by this function.

    Raises
    ------
    OSError
        One of `UNREADABLE`; also if the path is a named pipe or a device, where reading would block.
    """
    if isinstance(file, Path):
        check_regular(file)
    return Image.open(file, formats=formats)


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of an open image, 1 (upright) to 8; 1 if there is none or it is invalid."""
    orientation = image.getexif().get(ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def turn(values: npt.NDArray[Scalar], orientation: int) -> npt.NDArray[Scalar]:
    """Turn stored pixels (H, W, ...) upright, by an EXIF orientation from 1 to 8.

    Examples
    --------
    >>> turn(np.array([[1, 2, 3]]), 6).tolist()
    [[1], [2], [3]]
    >>> turn(np.array([[1, 2, 3]]), 3).tolist()
    [[3, 2, 1]]
    """
    quarters, mirrored = {1: (0, 0), 2: (0, 1), 3: (2, 0), 4: (2, 1), 5: (3, 1), 6: (3, 0), 7: (1, 1), 8: (1, 0)}[
        orientation
    ]
    turned = np.rot90(values, quarters)
    return turned[:, ::-1] if mirrored else turned


class Upright(NamedTuple):
    """An image that was turned upright, and its EXIF orientation before (1: it was upright)."""

    image: Image.Image
    orientation: int


def read_as_stored(path: Path) -> tuple[Image.Image, bool]:
    """Return an image of a finished data set as an RGB image, and whether its EXIF orientation asks for a turn.

    The image is not turned: networks and label maps use the pixels as stored.

    Raises
    ------
    SourceError
        As `read_upright`.
    """
    source_image, orientation = _read_file(path, turned=False)
    return source_image, orientation != 1


def read_upright(source_image: ImageInput) -> Upright:
    """Return `source_image` as an RGB image, turned upright by its EXIF orientation.

    Notes
    -----
    Gray, palette and CMYK images become RGB. Transparent pixels are blended with white. 16-bit gray keeps its high
    byte (65,535 is white).

    Raises
    ------
    SourceError
        If a file is missing, damaged or not an image, or an array is not uint8 (H, W, 3).
    """
    if isinstance(source_image, Image.Image):
        return Upright(to_rgb(source_image, "an image in memory"), 1)
    if not isinstance(source_image, Path):
        return Upright(Image.fromarray(_checked_array(source_image)), 1)
    return _read_file(source_image, turned=True)


def _read_file(source_image: Path, *, turned: bool) -> Upright:
    try:
        with open_image(source_image) as image:
            before = orientation_of(image)
            image.load()  # turns a TIFF; in other formats EXIF may be at the end of the file
            orientation = max(before, orientation_of(image))
            shown = ImageOps.exif_transpose(image) if turned else image
            return Upright(to_rgb(shown, str(source_image)), orientation)
    except SourceError:
        raise
    except FileNotFoundError:
        raise SourceError(f"{source_image} does not exist. Expected an image; restore the file.") from None
    except UNREADABLE as error:
        raise SourceError(
            f"{source_image} cannot be read as an image ({error}). Expected a whole image file; restore or remove it."
        ) from error


def to_rgb(image: Image.Image, origin: str) -> Image.Image:
    """Convert any Pillow mode to RGB; `origin` names the image in messages.

    Raises
    ------
    SourceError
        If the pixels are floating-point numbers, for which no white is defined.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise SourceError(
            f"{origin} holds floating-point pixels, whose white is not defined. "
            "Expected 8 or 16 bits a channel; convert the image first."
        )
    if image.mode in SIXTEEN_BIT:
        wide = np.asarray(image).astype(np.int64)
        return Image.fromarray((wide.clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return image.convert("RGB")


def stretch(image: Image.Image, size: int) -> Image.Image:
    """Resize the whole image to `size` x `size` (bilinear, with averaging where it shrinks)."""
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BILINEAR)


def _checked_array(source_image: Any) -> npt.NDArray[np.uint8]:
    pixels = np.asarray(source_image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise SourceError(
            f"an image in memory is {pixels.dtype} {pixels.shape}. Expected uint8 (height, width, 3), RGB; "
            "convert it, or pass a path or a Pillow image."
        )
    return pixels
