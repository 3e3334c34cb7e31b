"""Turn annotations that were drawn on the stored pixels of an image to the upright image.

Cameras store images on their side and record the orientation in EXIF. netdissect, browsers and most annotation programs
turn them upright; other programs draw on the stored pixels. The image size in an annotation shows which of the two it
was. If both sizes are equal (a square image, or one that is upside down), the annotation is taken as upright. Mask
files have no such size: they belong to the stored pixels (see `Channel.orientation`).
"""

from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from netdissect.concepts.image_io import SIDEWAYS, UNREADABLE, open_image, orientation_of
from netdissect.errors import SourceError

HEIGHT, WIDTH = 257, 256  # tags of TIFF


class ImageSize(NamedTuple):
    """Size of an image, read from its header.

    Attributes
    ----------
    stored, upright
        Height and width of the stored and of the upright image.
    orientation
        EXIF orientation, 1 to 8; 1 is upright.
    """

    stored: tuple[int, int]
    upright: tuple[int, int]
    orientation: int


def image_size(source_image: Path) -> ImageSize:
    """Read the size of an image.

    Raises
    ------
    SourceError
        If the file is missing, damaged or not an image.
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
    # Pillow would decode a PNG without EXIF in its header to the end to find it there.
    seen = image.format != "PNG" or "exif" in image.info
    orientation = orientation_of(image) if seen else 1
    stored = (image.height, image.width)
    if image.format == "TIFF":  # Pillow returns the upright size, depending on its version before or after loading
        tags: Any = image.tag_v2  # type: ignore[attr-defined]
        stored = (int(tags[HEIGHT]), int(tags[WIDTH]))
    return ImageSize(stored, stored[::-1] if orientation in SIDEWAYS else stored, orientation)


def drawn_orientation(size: tuple[int, int], source_image: Path) -> int:
    """Return the EXIF orientation of an annotation for an image of this size; 1: it is upright.

    For an image that cannot be read it is 1; the error is reported when the image is read.
    """
    try:
        seen = image_size(source_image)
    except SourceError:
        return 1
    return 1 if size == seen.upright or size != seen.stored else seen.orientation
