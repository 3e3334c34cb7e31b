"""Parse the coordinates of annotation programs into shapes.

Each function raises `FlawedShapeError` for a shape that covers no pixel, and KeyError, TypeError or ValueError for an
object that its program does not write.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from netdissect.concepts.sources.annotation_tools.shape_masks import (
    AREALESS,
    NUMBERLESS,
    ODD,
    Ellipse,
    FlawedShapeError,
    Polygon,
    Shape,
    Stamp,
    is_sane,
)
from netdissect.concepts.sources.mask_values import read_stored

Outline = Mapping[str, Any]


def number(value: Any) -> float:
    """Read a coordinate; JSON has no NaN, and programs write null for it."""
    return math.nan if value is None else float(value)


def points_of(outline: Outline) -> list[tuple[float, float]]:
    """Read points as pairs."""
    points = outline["points"]
    if any(len(point) != 2 for point in points):
        raise FlawedShapeError(ODD)
    return [(number(x), number(y)) for x, y in points]


def polygon(points: Sequence[tuple[float, float]]) -> Polygon:
    """Return a polygon with these corners."""
    return Polygon(tuple(coordinate for point in points for coordinate in point))


def labelme_polygon(outline: Outline) -> Shape:
    """Read points in pairs."""
    return polygon(points_of(outline))


def box(left: float, top: float, right: float, bottom: float) -> Polygon:
    """Return the polygon of a box."""
    return Polygon((left, top, right, top, right, bottom, left, bottom))


def _two_points(outline: Outline) -> tuple[float, float, float, float]:
    points = points_of(outline)
    if len(points) < 2:
        raise FlawedShapeError("fewer than 2 points")
    return *points[0], *points[1]


def labelme_rectangle(outline: Outline) -> Shape:
    """Read two opposite corners, or four."""
    return box(*_two_points(outline)) if len(outline["points"]) <= 2 else polygon(points_of(outline))


def labelme_circle(outline: Outline) -> Shape:
    """Read a center and a point on the circle."""
    x, y, to_x, to_y = _two_points(outline)
    radius = math.hypot(to_x - x, to_y - y)
    return Ellipse(x, y, radius, radius)


def labelme_mask(outline: Outline) -> Shape:
    """Read a mask in Base64 that fills a box, whose corners both belong to it."""
    left, top, *_ = _two_points(outline)
    if not (math.isfinite(left) and math.isfinite(top)):
        raise FlawedShapeError(NUMBERLESS)
    stored = read_stored(base64.b64decode(outline["mask"]), "the mask of a shape", "a mask of LabelMe")
    if stored.pixels.ndim != 2:
        raise FlawedShapeError("a mask that is in color")
    covered = stored.pixels > 0
    return Stamp(round(left), round(top), covered.shape, np.packbits(covered).tobytes())


def via_polygon(outline: Outline) -> Shape:
    """Read x and y in lists of their own."""
    xs, ys = outline["all_points_x"], outline["all_points_y"]
    if len(xs) != len(ys):
        raise FlawedShapeError(ODD)
    return polygon([(number(x), number(y)) for x, y in zip(xs, ys, strict=True)])


def via_rectangle(outline: Outline) -> Shape:
    """Read a corner, a width and a height."""
    left, top, width, height = (number(outline[key]) for key in ("x", "y", "width", "height"))
    if width <= 0 or height <= 0:
        raise FlawedShapeError(AREALESS)
    return box(left, top, left + width, top + height)


def via_circle(outline: Outline) -> Shape:
    """Read a center and a radius."""
    x, y, radius = (number(outline[key]) for key in ("cx", "cy", "r"))
    return Ellipse(x, y, radius, radius)


def via_ellipse(outline: Outline) -> Shape:
    """Read a center, two radii and an angle in radians."""
    x, y, across, down = (number(outline[key]) for key in ("cx", "cy", "rx", "ry"))
    return Ellipse(x, y, across, down, number(outline.get("theta", 0)))


def cvat_polygon(outline: Outline) -> Shape:
    """Read points as ``x,y;x,y``."""
    return polygon(points_of({"points": [pair.split(",") for pair in outline["points"].split(";")]}))


def cvat_box(outline: Outline) -> Shape:
    """Read a box, which may be turned clockwise about its center by degrees."""
    left, top, right, bottom = (number(outline[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
    if right <= left or bottom <= top:
        raise FlawedShapeError(AREALESS)
    center = (left + right) / 2, (top + bottom) / 2
    return _turned(box(left, top, right, bottom), center, number(outline.get("rotation", 0)))


def cvat_ellipse(outline: Outline) -> Shape:
    """Read an ellipse, which may be turned clockwise by degrees."""
    x, y, across, down = (number(outline[key]) for key in ("cx", "cy", "rx", "ry"))
    return Ellipse(x, y, across, down, math.radians(number(outline.get("rotation", 0))))


def cvat_mask(outline: Outline) -> Shape:
    """Read run lengths of a box, row by row, beginning outside of the mask."""
    left, top, width, height = (int(outline[key]) for key in ("left", "top", "width", "height"))
    counts = [int(count) for count in outline["rle"].split(",")]
    if not is_sane(height, width) or min(counts) < 0 or sum(counts) != width * height:
        raise ValueError(f"the run lengths of a mask do not add up to {height} x {width} pixels")
    covered = np.repeat(np.arange(len(counts)) % 2 > 0, counts)
    return Stamp(left, top, (height, width), np.packbits(covered).tobytes())


def studio_polygon(outline: Outline) -> Shape:
    """Read points in per cent of width and height."""
    across, down = _percent(outline)
    return polygon([(x * across, y * down) for x, y in points_of(outline["value"])])


def studio_rectangle(outline: Outline) -> Shape:
    """Read a box in per cent, which may be turned clockwise about its upper left corner by degrees."""
    across, down = _percent(outline)
    value = outline["value"]
    left, top, width, height = (number(value[key]) for key in ("x", "y", "width", "height"))
    if width <= 0 or height <= 0:
        raise FlawedShapeError(AREALESS)
    corners = box(left * across, top * down, (left + width) * across, (top + height) * down)
    return _turned(corners, (left * across, top * down), number(value.get("rotation", 0)))


def studio_ellipse(outline: Outline) -> Shape:
    """Read an ellipse in per cent, which may be turned clockwise by degrees."""
    across, down = _percent(outline)
    value = outline["value"]
    x, y, right, below = (number(value[key]) for key in ("x", "y", "radiusX", "radiusY"))
    angle = math.radians(number(value.get("rotation", 0)))
    return Ellipse(x * across, y * down, right * across, below * down, angle)


def _percent(outline: Outline) -> tuple[float, float]:
    """Return the number of pixels in a per cent of the width and of the height."""
    return number(outline["original_width"]) / 100, number(outline["original_height"]) / 100


def _turned(shape: Polygon, center: tuple[float, float], degrees: float) -> Polygon:
    if not degrees:
        return shape
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    offsets = ((x - center[0], y - center[1]) for x, y in zip(shape.numbers[::2], shape.numbers[1::2], strict=True))
    return polygon([(center[0] + x * cos - y * sin, center[1] + x * sin + y * cos) for x, y in offsets])
