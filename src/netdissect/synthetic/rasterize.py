"""A canvas that records the surface of each pixel.

    polygon, surface -> Canvas -> Drawing (image, surface of each pixel)

Shapes are painted back to front into one map of surface indices with three times the resolution of the image. Image and
label maps are both made from this map: a pixel is the average of 3 x 3 samples, a label is that of the middle sample.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from netdissect.synthetic.palette import Paint, shade
from netdissect.synthetic.patterns import LEVELS, TILE, tile

FINE = 3
TILE_PER_IMAGE = 288  # tile pixels across the image at scale 1

Points = Sequence[tuple[float, float]]
Bytes = npt.NDArray[np.uint8]


class Surface(NamedTuple):
    """A paint, and the object and part that it belongs to."""

    paint: Paint
    thing: str | None
    part: str | None


@dataclass
class _Extent:
    left: float = math.inf
    top: float = math.inf
    right: float = -math.inf
    bottom: float = -math.inf

    def add(self, points: Points) -> None:
        for x, y in points:
            self.left, self.right = min(self.left, x), max(self.right, x)
            self.top, self.bottom = min(self.top, y), max(self.bottom, y)


@dataclass(frozen=True)
class Drawing:
    """A finished canvas.

    Attributes
    ----------
    image
        uint8 (size, size, 3), evenly lit.
    surface_of
        int64 (size, size): index into `surfaces` for each pixel.
    surfaces
        Every surface that was painted, hidden ones too.
    """

    image: Bytes
    surface_of: npt.NDArray[np.int64]
    surfaces: tuple[Surface, ...]


@dataclass
class Canvas:
    """Paints shapes back to front.

    Parameters
    ----------
    size
        Pixels of the square image.
    outlines
        Width of the outlines as a share of the image; 0 for none.
    """

    size: int
    outlines: float = 0.007
    _numbers: dict[Surface, int] = field(default_factory=dict)
    _extents: list[_Extent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._fine = FINE * self.size
        # 16 bits hold 32,767 surfaces; an 8-bit map would end at 127.
        self._map = Image.new("I;16", (self._fine, self._fine))
        self._draw = ImageDraw.Draw(self._map)
        self._line = round(self.outlines * self._fine)

    def polygon(self, points: Points, surface: Surface, *, outlined: bool = True) -> None:
        """Paint a polygon given in shares of the image, (0, 0) at the top left."""
        number = self._numbers.setdefault(surface, len(self._numbers))
        if number == len(self._extents):
            self._extents.append(_Extent())
        fine = [(x * self._fine, y * self._fine) for x, y in points]
        self._extents[number].add(fine)
        self._draw.polygon(fine, fill=2 * number)
        if outlined and self._line:
            self._draw.line([*fine, fine[0]], fill=2 * number + 1, width=self._line)

    def finish(self) -> Drawing:
        """Color the map and take the label samples."""
        ids = np.asarray(self._map).astype(np.int64)
        levels = np.zeros_like(ids)
        for surface, number in self._numbers.items():
            self._fill_levels(levels, ids, surface.paint, number)
        colors = _lookup([surface.paint for surface in self._numbers]).take(ids * LEVELS + levels)
        fine = Image.frombuffer("RGBX", (self._fine, self._fine), colors.tobytes(), "raw", "RGBX", 0, 1)
        image = np.asarray(fine.reduce(FINE))[:, :, :3]
        middle = slice(FINE // 2, None, FINE)
        return Drawing(image, ids[middle, middle] // 2, tuple(self._numbers))

    def _fill_levels(
        self, levels: npt.NDArray[np.int64], ids: npt.NDArray[np.int64], paint: Paint, number: int
    ) -> None:
        extent = self._extents[number]
        left, top = max(0, math.floor(extent.left)), max(0, math.floor(extent.top))
        right, bottom = min(self._fine, math.ceil(extent.right) + 1), min(self._fine, math.ceil(extent.bottom) + 1)
        if left >= right or top >= bottom or not (paint.fading or paint.pattern):
            return
        window = (slice(top, bottom), slice(left, right))
        pattern: npt.NDArray[np.generic]
        if paint.fading:
            pattern = (np.arange(bottom - top) * LEVELS // (bottom - top))[:, None]
        else:
            pattern = np.asarray(_sample_tile(paint, right - left, bottom - top, TILE_PER_IMAGE / self._fine))
        np.copyto(levels[window], pattern, where=ids[window] == 2 * number)


def _lookup(paints: Sequence[Paint]) -> npt.NDArray[np.uint32]:
    """Return each surface's color at each level, and its outline's, as packed RGBX."""
    ends = np.array([(paint.color, paint.second) for paint in paints], dtype=np.int64)
    level = np.arange(LEVELS)[None, :, None]
    mixed = (ends[:, :1] * (LEVELS - 1 - level) + ends[:, 1:] * level) // (LEVELS - 1)
    outline = np.array([shade(paint.color, 0.45) for paint in paints], dtype=np.int64)[:, None]
    table = np.zeros((len(paints), 2, LEVELS, 4), dtype=np.uint8)
    table[:, 0, :, :3] = mixed
    table[:, 1, :, :3] = outline
    return table.reshape(-1).view(np.uint32)


def _sample_tile(paint: Paint, width: int, height: int, unit: float) -> Image.Image:
    """Return the paint's tile through a window of fine pixels, each `unit` tile pixels wide at scale 1."""
    step = unit / paint.scale
    turn = math.radians(paint.angle)
    cos, sin = math.cos(turn) * step, math.sin(turn) * step
    squeeze = 2.0 if paint.lying else 1.0
    a, b, d, e = cos, sin * squeeze, -sin, cos * squeeze
    # The offset depends on the colors: equal paints show equal patterns.
    x = TILE / 2 + paint.color[0] % 90 - 45
    y = TILE / 2 + paint.second[2] % 90 - 45
    c, f = x - a * width / 2 - b * height / 2, y - d * width / 2 - e * height / 2
    return tile(paint.pattern or "").transform(
        (width, height), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.NEAREST
    )
