"""Uploaded images: limited in bytes and pixels, of three formats, decoded in memory, never written to disk."""

from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from netdissect.concepts.image_io import UNREADABLE, open_image, to_rgb
from netdissect.dissect.image_maps import network_pixels
from netdissect.errors import NetdissectError, NetworkError, RequestError
from netdissect.result import NetworkInfo

MAX_BYTES = 10 * 2**20
MAX_PIXELS = 40_000_000
MAX_SIDE = 20_000
FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
DISPLAY_SIDE = 768
"""Longest side, in pixels, of the copy that is displayed."""

Pixels = npt.NDArray[np.uint8]


def decode_upload(data: bytes) -> Image.Image:
    """Decode one image from memory.

    Parameters
    ----------
    data
        A JPEG, PNG or WebP file; of an animation the first frame is used.

    Returns
    -------
    PIL.Image.Image
        RGB, with EXIF orientation applied.

    Raises
    ------
    RequestError
        If the file exceeds `MAX_BYTES` or `MAX_PIXELS`, has another format, or is damaged.

    Notes
    -----
    The format is determined from the bytes, not from the content type. The size is read from the header, before any
    pixel is decoded.
    """
    check_bytes(len(data))
    try:
        with open_image(BytesIO(data), list(FORMATS.values())) as image:
            _check_size(*image.size)
            image.verify()
        with open_image(BytesIO(data), list(FORMATS.values())) as image:
            image.load()
            return to_rgb(ImageOps.exif_transpose(image), "the image")
    except RequestError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels("far too large") from error
    except (*UNREADABLE, NetdissectError) as error:
        raise RequestError(
            f"the image cannot be decoded ({type(error).__name__}). Expected a whole JPEG, PNG or WebP file.", 415
        ) from error


def check_bytes(size: int) -> None:
    """Refuse a file of more than `MAX_BYTES`."""
    if size > MAX_BYTES:
        raise RequestError(f"the image has more than {MAX_BYTES:,} bytes; send a smaller copy.", 413)


def display_copy(image: Image.Image) -> Pixels:
    """Return a copy for display: uint8 (H, W, 3), its longest side at most `DISPLAY_SIDE`."""
    copy = image.convert("RGB")
    copy.thumbnail((DISPLAY_SIDE, DISPLAY_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(copy)


def network_input(image: Image.Image, network: NetworkInfo) -> Pixels:
    """Return an image as the dissection gives it to a network, uint8 (C, H, W), stretched to its input size.

    Raises
    ------
    RequestError
        If the image does not have the number of channels that the network expects.
    """
    try:
        return network_pixels(image, network)
    except NetworkError as error:
        raise RequestError(str(error), 415) from error


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise _too_many_pixels(f"{width:,} x {height:,} pixels")


def _too_many_pixels(size: str) -> RequestError:
    return RequestError(
        f"the image is {size}. Expected at most {MAX_PIXELS:,} pixels in all and {MAX_SIDE:,} a side; send a smaller "
        "copy.",
        413,
    )
