"""Read the exact values of the pixels of masks; files that lost them are an error.

    file or bytes -> read_stored -> Stored (pixels, palette, EXIF orientation) -> plain_values (one value a pixel)

Pillow decodes images for display: it scales gray of 2 or 4 bits and gray maps with another maximum to 255, keeps the
high byte of 16-bit colors, inverts TIFFs whose 0 is white, and turns TIFFs. This module undoes that. All sources read
their masks with it.
"""

import io
import re
import struct
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from netdissect.concepts.build.sample import PixelValues
from netdissect.concepts.image_io import GRAY_STEPS, UNREADABLE, open_image, orientation_of
from netdissect.errors import SourceError

EXACT = ("PNG", "TIFF", "BMP", "DIB", "PPM", "TGA", "PCX", "WEBP")
LOSSY = ("JPEG", "MPO", "JPEG2000", "AVIF")
LOSSY_IN_TIFF = ("jpeg", "tiff_jpeg", "webp")
Image.init()
FORMATS = tuple(name for name in (*EXACT, *LOSSY, "GIF") if name in Image.OPEN)

WIDE = ("RGB", "RGBA", "RGBX", "LA")
"""Pixel types of 16 bits in several channels that can be read without loss."""

BITS, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF
BLANK = rb"(?:\s|#[^\n]*\n)+"  # comments count as blanks
PPM_HEADER = re.compile(rb"P[2356]" + BLANK + rb"\d+" + BLANK + rb"\d+" + BLANK + rb"(\d+)")


class Stored(NamedTuple):
    """The pixels of a mask with the values in the file.

    Attributes
    ----------
    pixels
        Values (H, W), or (H, W, C).
    mode
        Pillow's pixel mode, for messages: ``L``, ``P``, ``RGB``, ``I;16``, ...
    palette
        For indexed masks the color of each value, uint8 (N, 3); otherwise None.
    orientation
        EXIF orientation of `pixels` if the file has one (1: upright); otherwise None.
    """

    pixels: npt.NDArray[Any]
    mode: str
    palette: npt.NDArray[np.uint8] | None = None
    orientation: int | None = None


def read_mask_file(path: Path, what: str) -> Stored:
    """Read the mask in a file.

    Raises
    ------
    SourceError
        As `read_stored`, or if the file is missing; `what` describes the expected content.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SourceError(
            f"{path} does not exist. Expected {what}, one for each image; restore the file or remove its image."
        ) from None
    except OSError as error:
        raise SourceError(
            f"{path} cannot be read as a mask ({error}). Expected {what}, a whole PNG; restore or remove it."
        ) from error
    return read_stored(data, str(path), what)


def read_stored(data: bytes, origin: str, what: str = "a mask") -> Stored:
    """Read the pixels of an encoded mask with the values in the file.

    Parameters
    ----------
    data
        Content of the file.
    origin
        Name of the file, for messages.
    what
        Description of the expected content.

    Raises
    ------
    SourceError
        If it is damaged or of a lossy format, or Pillow cannot decode its pixels without loss.
    """
    try:
        with open_image(io.BytesIO(data), FORMATS) as image:
            if fault := _fault(image, data):
                raise SourceError(
                    f"{origin} is a {image.format}{fault}. Expected {what}, one lossless image such as a PNG; export "
                    "it anew (converting this file does not bring its values back)."
                )
            rawmode = _rawmode(image)  # before reading EXIF, which loads a PNG
            turn = orientation_of(image)
            pixels = _wide(data, rawmode) if _is_wide(image, rawmode) else _narrow(image, data)
            image.load()  # turns a TIFF and removes its orientation
            palette = np.array(image.getpalette("RGB") or (), np.uint8).reshape(-1, 3) if image.mode == "P" else None
            own = None if turn == orientation_of(image) == 1 else orientation_of(image)
            return Stored(pixels, image.mode, palette, own)
    except SourceError:
        raise
    except (*UNREADABLE, TypeError, KeyError, IndexError, struct.error) as error:  # the latter: damaged tags of a TIFF
        raise SourceError(
            f"{origin} cannot be read as a mask ({error or type(error).__name__}). Expected {what}, a whole PNG; "
            "restore or remove it."
        ) from error


def plain_values(stored: Stored, origin: str) -> PixelValues:
    """Return one value a pixel: gray and indexed masks unchanged, color as R + 256 * G or as three equal channels.

    Raises
    ------
    SourceError
        If the colors are neither, or the pixels are not whole numbers; `origin` names the mask in messages.
    """
    pixels, mode = stored.pixels, stored.mode
    if pixels.ndim == 2 and pixels.dtype.kind in "iub":
        return pixels
    if mode not in ("RGB", "RGBA"):
        raise SourceError(
            f"{origin} holds {mode} pixels. Expected an indexed or gray mask of whole numbers, or RGB; convert it."
        )
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return red
    if blue.any() or (pixels.dtype == np.uint16 and (red[green > 0] > 255).any()):
        raise SourceError(
            f"{origin} holds blue pixels, as if classes were painted in colors. Expected an indexed or gray mask, or "
            "RGB with value = R + 256 * G and no blue; convert it, say ?colors=voc for those of Pascal VOC, "
            "or name the colors of the classes in classes.csv (a column color such as #800000, or columns r,g,b)."
        )
    return red + 256 * green


def _fault(image: Image.Image, data: bytes) -> str:
    """Return why a file of this format does not have exact values; empty if it does."""
    if image.format == "GIF":
        return ", whose writers renumber values as they like"
    if getattr(image, "n_frames", 1) > 1:
        return f" of {image.n_frames} pages, of which only the first would be read"  # type: ignore[attr-defined]
    lossy = image.format in LOSSY or image.info.get("compression") in LOSSY_IN_TIFF
    if lossy or (image.format == "WEBP" and b"VP8L" not in _webp_chunks(data)):
        return " compressed with loss, which changes pixel values"
    return ""


def _webp_chunks(data: bytes) -> set[bytes]:
    chunks, offset = set(), 12
    while offset + 8 <= len(data):
        chunks.add(data[offset : offset + 4])
        size = int.from_bytes(data[offset + 4 : offset + 8], "little")
        offset += 8 + size + size % 2
    return chunks


def _rawmode(image: Image.Image) -> str:
    """Return Pillow's mode of the pixels in the file, e.g. ``RGB;16B``; empty if the decoder has none."""
    tiles = getattr(image, "tile", ())
    args = tiles[0].args if tiles else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def _is_wide(image: Image.Image, rawmode: str) -> bool:
    """Return whether the file has more than the 8 bits a channel of Pillow's mode."""
    bits = image.tag_v2.get(BITS, (1,)) if image.format == "TIFF" else (8,)  # type: ignore[attr-defined]
    return image.mode not in ("I;16", "I;16B", "I", "F") and (";16" in rawmode or max(bits) > 8)


def _wide(data: bytes, rawmode: str) -> npt.NDArray[np.uint16]:
    """Read 16 bits in several channels, uint16 (H, W, C); of gray with alpha the gray channel, (H, W).

    Pillow has no such mode, but its decoders can return either byte of a value: the file is decoded twice.
    """
    mode, _, order = rawmode.partition(";16")
    if mode not in WIDE:
        raise ValueError(f"its pixels of more than 8 bits are stored as {rawmode}, which cannot be read whole")
    if mode == "LA":  # the four bytes of a pixel: high and low of gray, high and low of alpha
        four = _decode_as(data, "RGBA").astype(np.uint16)
        return four[..., 0] * np.uint16(256) + four[..., 1]
    first, second = (_decode_as(data, f"{mode};16{byte}").astype(np.uint16) for byte in "BL")
    little = order == "L" or (order == "N" and sys.byteorder == "little")
    high, low = (second, first) if little else (first, second)
    return high * np.uint16(256) + low


def _decode_as(data: bytes, rawmode: str) -> npt.NDArray[np.uint8]:
    with open_image(io.BytesIO(data), FORMATS) as image:
        image.tile = [
            tile._replace(args=(rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode)
            for tile in image.tile
        ]
        return np.asarray(image)


def _narrow(image: Image.Image, data: bytes) -> npt.NDArray[Any]:
    """Read pixels that Pillow can hold, and undo its scaling and inverting."""
    pixels = np.asarray(image.getchannel(0) if image.mode in ("LA", "La", "PA") else image)
    if image.format == "PNG" and data[25] == 0 and data[24] in GRAY_STEPS:  # of IHDR: gray, and its bits
        return pixels // GRAY_STEPS[data[24]]
    if image.format == "PPM":
        return _unstretch(pixels, data)
    if image.format == "TIFF" and image.mode == "L":
        return _of_tiff(pixels, image)
    return pixels  # of one bit: white is 1


def _unstretch(pixels: npt.NDArray[Any], data: bytes) -> npt.NDArray[Any]:
    """Scale gray or color maps of Netpbm from Pillow's maximum of 255 or 65,535 back to their own."""
    header = PPM_HEADER.match(data)
    largest = int(header[1]) if header else 255
    if pixels.ndim == 3 and largest > 255:
        raise ValueError("its colors have 16 bits, of which only the high bytes can be read")
    white = 65535 if largest > 255 else 255
    # Pillow rounds to the nearest and keeps values distinct, so that rounding back is exact.
    return np.rint(pixels * (largest / white)).astype(np.int32) if largest != white else pixels


def _of_tiff(pixels: npt.NDArray[Any], image: Image.Image) -> npt.NDArray[Any]:
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    bits, inverted = tags.get(BITS, (1,))[0], tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    stretched = 255 - pixels if inverted else pixels
    return stretched // GRAY_STEPS.get(bits, 1)
