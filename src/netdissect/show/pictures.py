"""Pictures of units: their top images, dimmed where the unit is off and outlined where it is on.

Image files become tiles, small and remembered; masks are drawn on them; a sheet holds the tiles of one unit.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from threading import Lock

import numpy as np
import numpy.typing as npt
from PIL import Image

from netdissect.concepts import Size
from netdissect.config import Anchor
from netdissect.result import LayerInfo
from netdissect.score import grid

Pixels = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]

EDGE = 128
"""Height and width of a tile in pixels."""

OUTLINE = np.array([255, 221, 51], np.float32)
# Outside the mask this much of the light and of the color stay: enough to see what the picture is of.
DIMMED, COLORED = 0.45, 0.6
GAP = 4
"""Transparent pixels between tiles."""
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class Tiles:
    """Small versions of a data set's pictures.

    Parameters
    ----------
    folder
        What the image names are relative to.
    remembered
        How many tiles are kept for the next unit: 1,024 of them are 50 MB.

    Attributes
    ----------
    missing
        Names of the pictures that could not be read.
    """

    def __init__(self, folder: Path, remembered: int = 1024) -> None:
        self.missing: set[str] = set()
        self._folder = folder
        self._remembered = remembered
        self._kept: OrderedDict[str, Pixels | None] = OrderedDict()
        self._lock = Lock()  # units are drawn in several threads

    def tile(self, name: str) -> Pixels | None:
        """Return one picture squashed to a square, uint8 (EDGE, EDGE, 3), or None if it cannot be read."""
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        pixels = self._read(name)
        with self._lock:
            if pixels is None:
                self.missing.add(name)
            self._kept[name] = pixels
            if len(self._kept) > self._remembered:
                self._kept.popitem(last=False)
        return pixels

    def _read(self, name: str) -> Pixels | None:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            return None
        try:
            with Image.open(self._folder / name) as image:
                image.draft("RGB", (EDGE, EDGE))
                small = image.convert("RGB").resize((EDGE, EDGE), Image.Resampling.BOX, reducing_gap=3.0)
        except UNREADABLE:
            return None
        return np.asarray(small)


def unit_masks(
    maps: npt.NDArray[np.float32], threshold: float, layer: LayerInfo, source: tuple[int, int], anchor: Anchor
) -> Masks:
    """Say where a unit is on, at the size of a tile.

    Parameters
    ----------
    maps
        float32 (K, h, w): activation maps of one unit.
    threshold
        The unit's.
    layer
        The layer, for its receptive field.
    source
        Height and width of the network's input.
    anchor
        The protocol's.

    Returns
    -------
    bool (K, EDGE, EDGE)
    """
    cells = Size(*maps.shape[-2:])
    to_tile = grid(cells, Size(EDGE, EDGE), source=Size(*source), field=layer.field, anchor=anchor)
    return np.asarray(to_tile.upsample(maps) > np.float32(threshold))


def draw_mask(pixels: Pixels, mask: Masks) -> Pixels:
    """Dim what lies outside a mask and outline what lies in it.

    Parameters
    ----------
    pixels
        uint8 (H, W, 3).
    mask
        bool (H, W).
    """
    wide = pixels.astype(np.float32)
    gray = wide @ np.array([0.299, 0.587, 0.114], np.float32)
    dim = DIMMED * (COLORED * wide + (1 - COLORED) * gray[..., None])
    drawn = np.where(mask[..., None], wide, dim)
    drawn[_outline(mask)] = OUTLINE
    return np.rint(drawn).astype(np.uint8)


def sheet(tiles: Sequence[Pixels | None], masks: Masks, columns: int) -> Image.Image:
    """Lay the top images of one unit out in rows, their masks drawn; a picture that is missing stays gray."""
    rows, step = -(-len(tiles) // columns), EDGE + GAP
    page = np.zeros((rows * step - GAP, min(columns, len(tiles)) * step - GAP, 4), np.uint8)
    for index, (tile, mask) in enumerate(zip(tiles, masks, strict=True)):
        top, left = (step * place for place in divmod(index, columns))
        cell = page[top : top + EDGE, left : left + EDGE]
        cell[..., :3] = 128 if tile is None else draw_mask(tile, mask)
        cell[..., 3] = 255
    return Image.fromarray(page)


def _outline(mask: Masks) -> Masks:
    """Return the pixels just outside the mask: two wide, so that they survive the shrinking on a page."""
    around = np.pad(mask, 2)
    height, width = mask.shape
    near = np.zeros_like(mask)
    for down in range(5):
        for right in range(5):
            if abs(down - 2) + abs(right - 2) <= 2:
                near |= around[down : down + height, right : right + width]
    return np.asarray(near & ~mask)
