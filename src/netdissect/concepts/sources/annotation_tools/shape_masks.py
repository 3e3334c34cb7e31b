"""Masks of shapes that were drawn on images, and the flaws of shapes that cover no pixel.

Coordinates are in pixels from the upper left corner of the image, x before y: pixel (row r, column c) covers x from c
to c + 1 and y from r to r + 1. **A pixel belongs to a shape that contains its center** (c + 0.5, r + 0.5). Polygons use
the even-odd rule, so that shapes with a common edge share no pixel. COCO's masks follow pycocotools, whose rule differs
along the edges.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from logging import getLogger
from operator import mul

import numpy as np
from PIL import Image

from netdissect.concepts.sources.mask_stacking import Mask

logger = getLogger("netdissect.concepts")

FEW, ODD, NUMBERLESS = "fewer than 3 points", "an odd number of coordinates", "a coordinate that is no finite number"
AREALESS, OUTSIDE, LONG = "no area", "no point inside the image", "an outline of more than 2,000,000 pixels"
UNNAMED = "no label"
LONGEST = 2_000_000
"""Largest length of an outline in pixels: pycocotools allocates five points for each pixel."""
FLAT = 1e-9
"""A polygon of less area, as a share of its squared extent, may be a line."""

Size = tuple[int, int]
"""Height and width, in pixels."""


class FlawedShapeError(Exception):
    """The flaw of a shape that is left out."""


@dataclass
class Skipped:
    """Counts shapes that are left out.

    Attributes
    ----------
    counts
        By reason.
    first
        The first shape of each reason.
    """

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, where: str) -> None:
        """Count a shape; `where` says which."""
        self.counts[reason] += 1
        self.first.setdefault(reason, where)

    def log_summary(self, source: str) -> None:
        """Log the number of shapes that were left out, by reason."""
        if self.counts:
            reasons = "; ".join(
                f"{count} with {reason} (the first is {self.first[reason]})"
                for reason, count in self.counts.most_common()
            )
            logger.warning("%s: shapes that were left out: %d; %s", source, self.counts.total(), reasons)


def is_sane(height: int, width: int) -> bool:
    """Return whether a stated size is positive and small enough for Pillow to open."""
    largest: int = Image.MAX_IMAGE_PIXELS or 1 << 28
    return height > 0 and width > 0 and height * width <= largest


def polygon_flaw(numbers: Sequence[float], size: Size) -> str | None:
    """Return why a polygon x, y, x, y, ... covers no pixel of an image; None if it may cover some.

    Examples
    --------
    >>> polygon_flaw([0, 0, 4, 0, 4, 4], (8, 8)), polygon_flaw([0, 0, 4, 4, 2, 2], (8, 8))
    (None, 'no area')
    """
    if len(numbers) % 2:
        return ODD
    if len(numbers) < 6:
        return FEW
    if not math.isfinite(sum(numbers)):
        return LONG if all(map(math.isfinite, numbers)) else NUMBERLESS
    xs, ys = numbers[0::2], numbers[1::2]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    if right <= 0 or bottom <= 0 or left >= size[1] or top >= size[0]:
        return OUTSIDE
    if max(right - left, bottom - top) * len(xs) > LONGEST and _length(xs, ys) > LONGEST:
        return LONG
    return AREALESS if right == left or bottom == top or _is_line(xs, ys) else None


def _length(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the length of an outline, of each edge the longer of its extents."""
    with np.errstate(over="ignore"):
        steps = (np.abs(np.diff(ends, append=ends[0])) for ends in (xs, ys))
        return float(np.maximum(*steps).sum())


def _is_line(xs: Sequence[float], ys: Sequence[float]) -> bool:
    extent = max(max(xs) - min(xs), max(ys) - min(ys)) ** 2
    ahead = sum(map(mul, xs, (*ys[1:], ys[0]))) - sum(map(mul, (*xs[1:], xs[0]), ys))
    if abs(ahead) > FLAT * extent:
        return False
    # The areas of a figure eight cancel, so that the points are checked for lying on one line.
    points = np.column_stack([xs, ys]).astype(np.float64)
    offsets = points - points[0]
    furthest = offsets[np.argmax((offsets**2).sum(axis=1))]
    across = np.abs(offsets[:, 0] * furthest[1] - offsets[:, 1] * furthest[0])
    return bool(across.max() <= FLAT * extent)


@dataclass(frozen=True, slots=True)
class Polygon:
    """A polygon: x, y, x, y, ..."""

    numbers: tuple[float, ...]

    def flaw(self, size: Size) -> str | None:
        """Say why it covers nothing of an image."""
        return polygon_flaw(self.numbers, size)

    def fill(self, size: Size) -> Mask:
        """Return the pixels whose centers lie inside, bool (H, W)."""
        points = np.array(self.numbers, dtype=np.float64).reshape(-1, 2)
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        lines, columns = _centers(top, bottom, size[0]), _centers(left, right, size[1])
        toggles = np.zeros((len(lines), len(columns) + 1), dtype=np.bool_)
        for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
            # From the upper end, whichever way it was drawn: shapes that share an edge share its rounding.
            (x0, y0), (x1, y1) = (start, end) if start[1] <= end[1] else (end, start)
            # Rows whose center lies at the upper end or below it, and above the lower one: a corner is of one edge.
            rows = np.array(_centers(y0, y1, size[0]))
            if len(rows):
                crossing = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
                first = np.ceil(crossing - 0.5).clip(columns.start, columns.stop).astype(np.int64)
                toggles[rows - lines.start, first - columns.start] ^= True
        inside = np.zeros(size, dtype=np.bool_)
        inside[lines.start : lines.stop, columns.start : columns.stop] = np.logical_xor.accumulate(toggles, axis=1)[
            :, :-1
        ]
        return inside


def _centers(low: float, high: float, length: int) -> range:
    """Return the pixels of an axis whose centers lie at `low` or above it, and below `high`."""
    first, last = (min(max(math.ceil(end - 0.5), 0), length) for end in (low, high))
    return range(first, max(first, last))


@dataclass(frozen=True, slots=True)
class Ellipse:
    """A circle or an ellipse, turned clockwise by an angle in radians."""

    x: float
    y: float
    across: float
    down: float
    angle: float = 0.0

    def flaw(self, size: Size) -> str | None:
        """Say why it covers nothing of an image."""
        if not all(map(math.isfinite, (self.x, self.y, self.across, self.down, self.angle))):
            return NUMBERLESS
        if self.across <= 0 or self.down <= 0:
            return AREALESS
        reach = max(self.across, self.down)
        near = -reach < self.x < size[1] + reach and -reach < self.y < size[0] + reach
        return None if near else OUTSIDE

    def fill(self, size: Size) -> Mask:
        """Return the pixels whose centers lie inside, bool (H, W)."""
        rows, columns = (np.arange(length) + 0.5 for length in size)
        down, right = rows[:, None] - self.y, columns[None] - self.x
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        inside: Mask = ((right * cos + down * sin) / self.across) ** 2 + (
            (down * cos - right * sin) / self.down
        ) ** 2 < 1
        return inside


@dataclass(frozen=True, slots=True)
class Stamp:
    """A small mask at a position of an image: packed bits (h, w), and the position of the upper left corner."""

    left: int
    top: int
    shape: Size
    bits: bytes

    def flaw(self, size: Size) -> str | None:
        """Say why it covers nothing of an image."""
        (height, width), (tall, wide) = size, self.shape
        away = self.left >= width or self.top >= height or self.left + wide <= 0 or self.top + tall <= 0
        return OUTSIDE if away else None if any(self.bits) else AREALESS

    def fill(self, size: Size) -> Mask:
        """Return its pixels, bool (H, W)."""
        tall, wide = self.shape
        own = np.unpackbits(np.frombuffer(self.bits, np.uint8), count=tall * wide).reshape(tall, wide)
        inside = np.zeros(size, dtype=np.bool_)
        above, before = max(-self.top, 0), max(-self.left, 0)
        piece = own[above : max(size[0] - self.top, 0), before : max(size[1] - self.left, 0)]
        top, left = self.top + above, self.left + before
        inside[top : top + piece.shape[0], left : left + piece.shape[1]] = piece
        return inside


Shape = Polygon | Ellipse | Stamp
