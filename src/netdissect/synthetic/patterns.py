"""Patterns of surfaces: named textures, and the grain of materials.

Each pattern is drawn once, as a square tile of levels between the two colors of a surface. A surface samples the tile
at its own scale, angle and offset. Only sums, products and comparisons are used, because the last bit of a sine differs
between processors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[np.float32]
Level = npt.NDArray[np.floating] | npt.NDArray[np.bool_]
Draw = Callable[[Array, Array], Level]

TILE = 1024
LEVELS = 16
PERIOD = 40.0  # tile pixels; at scale 1 a tile pixel is 1/288 of the image, a period one seventh


@dataclass(frozen=True, slots=True)
class Grain:
    """Smooth noise of grains of `wide` x `high` tile pixels; with `above`, the spots where it exceeds this level."""

    wide: int
    high: int
    above: float | None = None

    def __call__(self, u: Array, v: Array) -> Level:
        """Return the level of each pixel of a tile, from 0 to 1."""
        height, width = np.broadcast_shapes(u.shape, v.shape)
        rng = np.random.default_rng((self.wide, self.high))
        grains = rng.integers(0, 256, (height // self.high + 2, width // self.wide + 2), dtype=np.uint8)
        smooth = Image.fromarray(grains).resize((width, height), Image.Resampling.BICUBIC)
        level = np.asarray(smooth, dtype=np.float32) / np.float32(255)
        return level if self.above is None else np.asarray(level > self.above)


def _wave(t: Array, period: float) -> Array:
    """Return a triangular wave from 0 to 1 and back in one period."""
    return np.asarray(np.abs(2 * ((t / period) % 1) - 1))


def _near(t: Array, period: float) -> Array:
    """Return the signed distance to the nearest multiple of the period."""
    return (t + period / 2) % period - period / 2


def _striped(u: Array, _v: Array) -> Level:
    return np.asarray(u % PERIOD < PERIOD / 2)


def _dotted(u: Array, v: Array) -> Level:
    shifted = u + PERIOD / 2 * (np.floor(v / PERIOD) % 2)
    x, y = shifted % PERIOD - PERIOD / 2, v % PERIOD - PERIOD / 2
    return np.asarray(x * x + y * y < (0.31 * PERIOD) ** 2)


def _checkered(u: Array, v: Array) -> Level:
    return np.asarray((np.floor(u / (PERIOD / 2)) + np.floor(v / (PERIOD / 2))) % 2)


def _zigzagged(u: Array, v: Array) -> Level:
    return (v + PERIOD / 2 * _wave(u, PERIOD)) % (0.75 * PERIOD) < 0.375 * PERIOD


def _gridded(u: Array, v: Array) -> Level:
    line = 0.09 * PERIOD
    return (np.abs(_near(u, 0.75 * PERIOD)) < line) | (np.abs(_near(v, 0.75 * PERIOD)) < line)


def _honeycombed(u: Array, v: Array) -> Level:
    # Two lattices of hexagon centers; the walls are where both are equally far.
    height, width = 1.6 * PERIOD, 1.6 * PERIOD / 1.7320508
    x0, y0 = _near(u, width), _near(v, height)
    x1, y1 = _near(u + width / 2, width), _near(v + height / 2, height)

    def far(x: Array, y: Array) -> Array:
        return np.maximum(np.abs(x), 0.5 * np.abs(x) + 0.8660254 * np.abs(y))

    return np.minimum(far(x0, y0), far(x1, y1)) > 0.42 * width


def _scaly(u: Array, v: Array) -> Level:
    level: Level = np.zeros_like(u)
    step = PERIOD / 2
    row = np.floor(v / step)
    for behind in (2, 1, 0):  # the row in front hides those behind
        x = _near(u + step * ((row - behind) % 2), PERIOD)
        y = v - (row - behind) * step
        distance = (x * x + y * y) / (0.55 * PERIOD) ** 2
        level = np.where(distance < 1, np.where(distance > 0.66, 1.0, 0.35 * distance), level)
    return level


def _woven(u: Array, v: Array) -> Level:
    cell = 0.6 * PERIOD
    across = (np.floor(u / cell) + np.floor(v / cell)) % 2 < 1
    return np.where(across, u, v) % (cell / 2) < cell / 4


def _wavy(u: Array, v: Array) -> Level:
    t = _wave(u, 1.6 * PERIOD)
    smooth = t * t * (3 - 2 * t)
    return (v + 0.55 * PERIOD * smooth) % (0.6 * PERIOD) < 0.24 * PERIOD


def _crossed(u: Array, v: Array) -> Level:
    x = np.abs(_near(u + PERIOD / 2 * (np.floor(v / PERIOD + 0.5) % 2), PERIOD))
    y = np.abs(_near(v, PERIOD))
    return (np.maximum(x, y) < 0.32 * PERIOD) & (np.minimum(x, y) < 0.1 * PERIOD)


def _brick(u: Array, v: Array) -> Level:
    row = np.floor(v / 14)
    along = u + 15 * (row % 2)
    tint = (row * 7 + np.floor(along / 30) * 3) % 4 / 8
    return np.where((v % 14 < 2.2) | (along % 30 < 2.2), 1.0, tint)


def _wood(u: Array, v: Array) -> Level:
    seam = np.abs(_near(v, 46)) < 1.5
    return np.where(seam, 1.0, 0.75 * Grain(150, 5)(u, v))


def _stone(u: Array, v: Array) -> Level:
    return np.asarray(np.floor(4 * (0.6 * Grain(24, 18)(u, v) + 0.4 * Grain(8, 7)(u, v))) / 3)


def _glass(u: Array, v: Array) -> Level:
    t = (u + 0.7 * v) % 120
    return np.where(t < 24, 1.0, np.where((t > 32) & (t < 40), 0.8, 0.0))


def _foliage(u: Array, v: Array) -> Level:
    return np.asarray(np.floor(3.2 * Grain(11, 9)(u, v)) / 2.2)


TEXTURES: dict[str, Draw] = {
    "striped": _striped,
    "dotted": _dotted,
    "checkered": _checkered,
    "zigzagged": _zigzagged,
    "gridded": _gridded,
    "honeycombed": _honeycombed,
    "scaly": _scaly,
    "woven": _woven,
    "wavy": _wavy,
    "crossed": _crossed,
    "blotchy": Grain(26, 26, above=0.52),
}

MATERIALS: dict[str, Draw] = {
    "asphalt": Grain(4, 4, above=0.6),
    "brick": _brick,
    "ceramic": Grain(90, 60),
    "fabric": Grain(9, 60),
    "foliage": _foliage,
    "glass": _glass,
    "metal": Grain(120, 16),
    "plaster": Grain(30, 30),
    "sand": Grain(5, 4, above=0.68),
    "soil": Grain(40, 9),
    "stone": _stone,
    "turf": Grain(5, 14, above=0.55),
    "water": Grain(44, 6, above=0.6),
    "wood": _wood,
}


@cache
def tile(name: str) -> Image.Image:
    """Draw the tile of a texture or material: levels from 0 to `LEVELS` - 1, ``L``, `TILE` pixels square."""
    axis = np.arange(TILE, dtype=np.float32)
    u, v = np.meshgrid(axis, axis)
    level = (TEXTURES | MATERIALS)[name](u, v)
    return Image.fromarray(np.clip(level * (LEVELS - 1) + np.float32(0.5), 0, LEVELS - 1).astype(np.uint8))
