"""Bring what was drawn on an image as it is stored to the image as it is seen.

Cameras store images on their side and say so in EXIF. netdissect turns them upright, and so do browsers and most
annotation programs; others draw on the stored pixels. Which of the two it was is told by the size that an annotation
states. Where both have the same size (a square image, one that is upside down), what was drawn is taken as upright.
Masks in files are not told so: they belong to the stored pixels (see `Channel.orientation`).
"""

from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from netdissect.concepts.image_io import SIDEWAYS, UNREADABLE, open_image, orientation_of
from netdissect.errors import SourceError

HEIGHT, WIDTH = 257, 256  # tags of TIFF


class ImageSize(NamedTuple):
    """Size of an image, from its header alone.

    Attributes
    ----------
    stored, upright
        Height and width as the file has them, and as they are seen.
    orientation
        EXIF's number, 1 to 8; 1 is upright.
    """

    stored: tuple[int, int]
    upright: tuple[int, int]
    orientation: int


def image_size(source_image: Path) -> ImageSize:
    """Read the size of an image.

    Raises
    ------
    SourceError
        If the file is missing, damaged or no image.
    """
    try:
        with open_image(source_image) as image:
            return size_of(image)
    except FileNotFoundError:
        raise SourceError(f"{source_image} does not exist. Expected an image; restore the file.") from None
    except UNREADABLE as error:
        raise SourceError(
            f"{source_image} cannot be read as an image ({error}). Expected a whole image file; restore or remove it."
        ) from error


def size_of(image: Image.Image) -> ImageSize:
    """Return the size of an open image."""
    # A PNG whose header holds no EXIF would be decoded to its end to look for it there.
    seen = image.format != "PNG" or "exif" in image.info
    orientation = orientation_of(image) if seen else 1
    stored = (image.height, image.width)
    if image.format == "TIFF":  # whose size Pillow gives upright, by version before or after it is loaded
        tags: Any = image.tag_v2  # type: ignore[attr-defined]
        stored = (int(tags[HEIGHT]), int(tags[WIDTH]))
    return ImageSize(stored, stored[::-1] if orientation in SIDEWAYS else stored, orientation)


def drawn_orientation(size: tuple[int, int], source_image: Path) -> int:
    """Return the EXIF orientation of what was drawn on an image of this size; 1: it is upright.

    Of an image that cannot be read it is 1: whoever reads it says what is wrong with it.
    """
    try:
        seen = image_size(source_image)
    except SourceError:
        return 1
    return 1 if size == seen.upright or size != seen.stored else seen.orientation
