"""Combine overlapping masks into channels without losing a label, and read label maps of published data sets."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from netdissect.concepts.build.sample import Channel, PixelValues
from netdissect.concepts.sources.mask_values import Stored, read_mask_file
from netdissect.errors import SourceError

Mask = npt.NDArray[np.bool_]


def stack(masks: Iterable[tuple[int, Mask]]) -> list[PixelValues]:
    """Distribute masks of the same size over layers so that none hides another.

    Masks of one value are united first. Each value is put into the first layer in which all its pixels are free.

    Parameters
    ----------
    masks
        Pairs of a value above 0 and its pixels, bool (H, W).

    Returns
    -------
    list of int32 (H, W)
        Values, 0 at pixels without a mask. Empty if there are no masks.
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


def named_channels(masks: Iterable[tuple[str, Mask]], origin: str, orientation: int | None = None) -> Iterator[Channel]:
    """Distribute named masks over channels, see `stack`; masks without a name are left out.

    Raises
    ------
    SourceError
        If the masks have different sizes; `origin` is their file.
    """
    values: dict[str, int] = {}
    for layer in stack(_numbered(masks, values, origin)):
        yield Channel(layer, {value: name for name, value in values.items()}, origin, orientation)


def _numbered(masks: Iterable[tuple[str, Mask]], values: dict[str, int], origin: str) -> Iterator[tuple[int, Mask]]:
    size: tuple[int, ...] | None = None
    for name, mask in masks:
        if size is not None and mask.shape != size:
            raise SourceError(f"{origin}: masks of one image have the sizes {size} and {mask.shape}. Expected one.")
        size = mask.shape
        if name:
            yield values.setdefault(name, len(values) + 1), mask


def read_colors(path: Path, what: str) -> npt.NDArray[np.uint8]:
    """Read a label map that encodes classes in its colors.

    Returns
    -------
    uint8 (H, W, 3)

    Raises
    ------
    SourceError
        If the file is missing, damaged, lossy, turned or not in 8-bit color; `what` describes the expected content.
    """
    stored = _read_unturned(path, what)
    if stored.mode not in ("RGB", "RGBA") or stored.pixels.dtype != np.uint8:
        raise SourceError(
            f"{path} holds {stored.mode} pixels. Expected {what}, an RGB image of 8 bits; restore the file."
        )
    colors: npt.NDArray[np.uint8] = stored.pixels[..., :3]
    return colors


def read_gray(path: Path, what: str) -> PixelValues:
    """Read a label map of one channel, gray or indexed, with the values in the file: integers (H, W).

    Raises
    ------
    SourceError
        If the file is missing, damaged, lossy, turned or in color; `what` describes the expected content.
    """
    stored = _read_unturned(path, what)
    if stored.pixels.ndim != 2 or stored.pixels.dtype.kind not in "iub":
        raise SourceError(f"{path} holds {stored.mode} pixels. Expected {what}, gray or indexed; restore the file.")
    return stored.pixels


def _read_unturned(path: Path, what: str) -> Stored:
    stored = read_mask_file(path, what)
    if stored.orientation is not None:
        raise SourceError(
            f"{path} asks to be turned (EXIF orientation). Expected {what} without a turn of its own; restore the file."
        )
    return stored
