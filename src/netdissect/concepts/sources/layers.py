"""Values of pixels from overlapping masks and from colors, without losing a label."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from netdissect.concepts.pictures import UNREADABLE
from netdissect.concepts.sample import PixelValues
from netdissect.errors import SourceError

Mask = npt.NDArray[np.bool_]


def stack(masks: Iterable[tuple[int, Mask]]) -> list[PixelValues]:
    """Lay masks of the same size in as few layers as the order allows, so that none hides another.

    Masks of one value are united first. A value then goes into the first layer where all its pixels are free.

    Parameters
    ----------
    masks
        A value above 0 and where it holds, bool (H, W).

    Returns
    -------
    list of int32 (H, W)
        Values, 0 where none holds. Empty without masks.
    """
    united: dict[int, Mask] = {}
    for value, mask in masks:
        united[value] = united[value] | mask if value in united else mask
    layers: list[npt.NDArray[np.int32]] = []
    for value, mask in united.items():
        for layer in layers:
            if not layer[mask].any():
                layer[mask] = value
                break
        else:
            layers.append(np.where(mask, np.int32(value), np.int32(0)))
    return list(layers)


def read_colors(path: Path, what: str) -> npt.NDArray[np.uint8]:
    """Read a label map that encodes classes in its colors.

    Returns
    -------
    uint8 (H, W, 3)

    Raises
    ------
    SourceError
        If the file is missing, damaged, lossy or not in 8-bit color; `what` says what should be in it.
    """
    pixels, mode = read_lossless(path, what)
    if mode not in ("RGB", "RGBA"):
        raise SourceError(f"{path} holds {mode} pixels. Expected {what}, an RGB image of 8 bits; restore the file.")
    return pixels[..., :3]


def read_gray(path: Path, what: str) -> PixelValues:
    """Read a label map of one channel, gray or indexed: integers (H, W).

    Raises
    ------
    SourceError
        If the file is missing, damaged, lossy or colored; `what` says what should be in it.
    """
    pixels, mode = read_lossless(path, what)
    if pixels.ndim != 2 or pixels.dtype.kind not in "iub":
        raise SourceError(f"{path} holds {mode} pixels. Expected {what}, gray or indexed; restore the file.")
    return pixels


def read_lossless(path: Path, what: str) -> tuple[npt.NDArray[Any], str]:
    """Read the pixels of a lossless image as they are, and Pillow's name of their mode.

    Raises
    ------
    SourceError
        If the file is missing, damaged or lossy; `what` says what should be in it.
    """
    try:
        with Image.open(path) as image:
            if image.format == "JPEG":
                raise SourceError(f"{path} is a JPEG, which changes pixel values. Expected {what}, a PNG.")
            return np.asarray(image), image.mode
    except SourceError:
        raise
    except FileNotFoundError:
        raise SourceError(f"{path} does not exist. Expected {what}; restore the file or remove its picture.") from None
    except UNREADABLE as error:
        raise SourceError(
            f"{path} cannot be read ({error}). Expected {what}, a whole PNG; restore or remove it."
        ) from error
