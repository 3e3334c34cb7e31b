"""Shapes as annotation programs write them: one reader, and a table of keys for each program.

LabelMe (Russell et al. 2008; the program by Wada), and programs that write its form (X-AnyLabeling)::

    {"imagePath": "a.jpg", "imageHeight": 480, "imageWidth": 640, "imageData": null or the picture in Base64,
     "shapes": [{"label": "car", "shape_type": "polygon", "points": [[x, y], ...]}, ...]}

VGG Image Annotator (Dutta and Zisserman 2019), versions 1 and 2, a project or its annotations alone::

    {"_via_img_metadata": {"a.jpg1234": {"filename": "a.jpg",
     "regions": [{"shape_attributes": {"name": "polygon", "all_points_x": [...], "all_points_y": [...]},
                  "region_attributes": {"class": "car"}}, ...]}, ...}}
"""

import base64
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netdissect.concepts.sources.mask_values import read_stored
from netdissect.concepts.sources.shapes import (
    AREALESS,
    NUMBERLESS,
    ODD,
    Ellipse,
    FlawedShapeError,
    Polygon,
    Shape,
    Stamp,
)

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Keys:
    """Where a program writes what.

    Attributes
    ----------
    program
        Its name.
    picture
        Of a picture: its file name.
    shapes
        Of a picture: its shapes, as a list, or as an object with numbers for keys.
    label
        Of a shape: its label, or its attributes by name.
    outline
        Of a shape: the object with its kind and coordinates; None: the shape itself.
    kind
        Of an outline: its kind.
    outlines
        By kind, how an outline becomes a shape; None: the kind covers no area.
    size
        Of a picture: height and width.
    embedded
        Of a picture: the picture itself, in Base64.
    """

    program: str
    picture: str
    shapes: str
    label: str
    outline: str | None
    kind: str
    outlines: Mapping[str, Callable[[Object], Shape] | None]
    size: tuple[str, str] = ("", "")
    embedded: str = ""


def pictures_of(content: Any) -> tuple[Keys, Sequence[Object]] | None:
    """Return what a JSON file says of pictures, and by which keys; None if it is of no known program."""
    if not isinstance(content, Mapping):
        return None
    if LABELME.picture in content and LABELME.shapes in content:
        return LABELME, [content]
    project = content.get("_via_img_metadata", content)
    listed = list(project.values()) if isinstance(project, Mapping) else []
    if (listed or project is not content) and all(
        isinstance(one, Mapping) and VIA.picture in one and VIA.shapes in one for one in listed
    ):
        return VIA, listed
    return None


def shapes_of(picture: Object, keys: Keys) -> Iterator[tuple[Any, Shape | str]]:
    """Yield the label of each shape, and the shape or what is wrong with it.

    Raises
    ------
    KeyError, TypeError, ValueError, AttributeError
        If the picture is not written as its program writes it.
    """
    shapes = picture[keys.shapes]
    for shape in shapes.values() if isinstance(shapes, Mapping) else shapes or ():
        outline = shape[keys.outline] if keys.outline else shape
        kind = outline.get(keys.kind, "polygon") or "polygon"
        try:
            yield shape.get(keys.label), _shape(kind, outline, keys)
        except FlawedShapeError as flaw:
            yield shape.get(keys.label), str(flaw)


def _shape(kind: str, outline: Object, keys: Keys) -> Shape:
    if kind not in keys.outlines:
        raise FlawedShapeError(f"the unknown kind {kind!r}")
    make = keys.outlines[kind]
    if make is None:
        raise FlawedShapeError(f"the kind {kind!r}, which covers no area")
    return make(outline)


def _number(value: Any) -> float:
    """Read a coordinate; JSON has no NaN, and programs write null for it."""
    return math.nan if value is None else float(value)


def _points(outline: Object) -> list[tuple[float, float]]:
    """Read points as pairs."""
    points = outline["points"]
    if any(len(point) != 2 for point in points):
        raise FlawedShapeError(ODD)
    return [(_number(x), _number(y)) for x, y in points]


def _polygon(points: Sequence[tuple[float, float]]) -> Polygon:
    return Polygon(tuple(number for point in points for number in point))


def _box(left: float, top: float, right: float, bottom: float) -> Polygon:
    return Polygon((left, top, right, top, right, bottom, left, bottom))


def _two_points(outline: Object) -> tuple[float, float, float, float]:
    points = _points(outline)
    if len(points) < 2:
        raise FlawedShapeError("fewer than 2 points")
    return *points[0], *points[1]


def _rectangle(outline: Object) -> Shape:
    """Read two opposite corners, or four."""
    return _box(*_two_points(outline)) if len(outline["points"]) <= 2 else _polygon(_points(outline))


def _circle(outline: Object) -> Shape:
    """Read a center and a point on the circle."""
    x, y, to_x, to_y = _two_points(outline)
    radius = math.hypot(to_x - x, to_y - y)
    return Ellipse(x, y, radius, radius)


def _mask(outline: Object) -> Shape:
    """Read a mask in Base64 that fills a box, whose corners both belong to it."""
    left, top, *_ = _two_points(outline)
    if not (math.isfinite(left) and math.isfinite(top)):
        raise FlawedShapeError(NUMBERLESS)
    stored = read_stored(base64.b64decode(outline["mask"]), "the mask of a shape", "a mask of LabelMe")
    if stored.pixels.ndim != 2:
        raise FlawedShapeError("a mask that is in color")
    covered = stored.pixels > 0
    return Stamp(round(left), round(top), covered.shape, np.packbits(covered).tobytes())


def _via_polygon(outline: Object) -> Shape:
    xs, ys = outline["all_points_x"], outline["all_points_y"]
    if len(xs) != len(ys):
        raise FlawedShapeError(ODD)
    return _polygon([(_number(x), _number(y)) for x, y in zip(xs, ys, strict=True)])


def _via_rectangle(outline: Object) -> Shape:
    left, top, width, height = (_number(outline[key]) for key in ("x", "y", "width", "height"))
    if width <= 0 or height <= 0:
        raise FlawedShapeError(AREALESS)
    return _box(left, top, left + width, top + height)


def _via_circle(outline: Object) -> Shape:
    x, y, radius = (_number(outline[key]) for key in ("cx", "cy", "r"))
    return Ellipse(x, y, radius, radius)


def _via_ellipse(outline: Object) -> Shape:
    x, y, across, down = (_number(outline[key]) for key in ("cx", "cy", "rx", "ry"))
    return Ellipse(x, y, across, down, _number(outline.get("theta", 0)))


LABELME = Keys(
    program="LabelMe",
    picture="imagePath",
    shapes="shapes",
    label="label",
    outline=None,
    kind="shape_type",
    outlines={
        "polygon": lambda outline: _polygon(_points(outline)),
        "rotation": lambda outline: _polygon(_points(outline)),
        "rectangle": _rectangle,
        "circle": _circle,
        "mask": _mask,
        **dict.fromkeys(("point", "points", "line", "linestrip")),
    },
    size=("imageHeight", "imageWidth"),
    embedded="imageData",
)
VIA = Keys(
    program="VIA",
    picture="filename",
    shapes="regions",
    label="region_attributes",
    outline="shape_attributes",
    kind="name",
    outlines={
        "polygon": _via_polygon,
        "rect": _via_rectangle,
        "circle": _via_circle,
        "ellipse": _via_ellipse,
        **dict.fromkeys(("point", "polyline")),
    },
)
