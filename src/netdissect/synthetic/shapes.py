"""A pen in a thing's own coordinates: base at (0, 0), x to the right, y up, 1 as tall as the thing."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

from netdissect.synthetic.palette import Paint, Paints
from netdissect.synthetic.rasterize import Canvas, Points, Surface

Habit = Literal["ground", "wall", "sky", "water", "flat"]

_CIRCLE = tuple((math.cos(math.pi * i / 12), math.sin(math.pi * i / 12)) for i in range(24))


class ThingBox(NamedTuple):
    """Where a thing's own coordinates lie on the image: (x, y) = origin + u * right + v * up."""

    x: float
    y: float
    right: tuple[float, float]
    up: tuple[float, float]

    @classmethod
    def standing(cls, x: float, y: float, height: float, *, flip: bool = False, tilt: float = 0.0) -> Self:
        """Return a frame with its base at (x, y), so tall, mirrored and turned by `tilt` degrees as told."""
        turn = math.radians(tilt)
        cos, sin = height * math.cos(turn), height * math.sin(turn)
        side = -1 if flip else 1
        return cls(x, y, (side * cos, side * sin), (sin, -cos))

    def at(self, u: float, v: float) -> tuple[float, float]:
        """Return the place on the image."""
        return (self.x + u * self.right[0] + v * self.up[0], self.y + u * self.right[1] + v * self.up[1])

    def inner(self, u: float, v: float, scale: float) -> "ThingBox":
        """Return a smaller frame whose base is at (u, v)."""
        x, y = self.at(u, v)
        right, up = self.right, self.up
        return ThingBox(x, y, (right[0] * scale, right[1] * scale), (up[0] * scale, up[1] * scale))


@dataclass(frozen=True)
class Thing:
    """How to draw one kind of object.

    Attributes
    ----------
    name
        The concept.
    height
        As a share of the image, in the foreground.
    placement
        Where it is found: standing or lying flat on the ground, hung on a wall, in the sky, on water.
    draw
        Draws it with a sketch.
    """

    name: str
    height: float
    placement: Habit
    draw: Callable[["Sketch"], None]


THINGS: dict[str, Thing] = {}


def thing(
    name: str, height: float, habit: Habit = "ground"
) -> Callable[[Callable[["Sketch"], None]], Callable[["Sketch"], None]]:
    """Register a function that draws a kind of object."""

    def register(draw: Callable[["Sketch"], None]) -> Callable[["Sketch"], None]:
        THINGS[name] = Thing(name, height, habit, draw)
        return draw

    return register


class Sketch:
    """Draws the shapes of one thing.

    Parameters
    ----------
    canvas
        Where they go.
    paints
        Where colors, patterns and chance come from.
    frame
        The thing's own coordinates.
    name
        The object that the shapes belong to.
    """

    def __init__(self, canvas: Canvas, paints: Paints, frame: ThingBox, name: str) -> None:
        self.canvas = canvas
        self.paints = paints
        self.dice = paints.dice
        self.frame = frame
        self.name = name

    def shape(self, points: Points, paint: Paint, part: str | None = None) -> None:
        """Paint a polygon."""
        at = self.frame.at
        self.canvas.polygon([at(u, v) for u, v in points], Surface(paint, self.name, part))

    def box(self, left: float, bottom: float, right: float, top: float, paint: Paint, part: str | None = None) -> None:
        """Paint a rectangle."""
        self.shape([(left, bottom), (right, bottom), (right, top), (left, top)], paint, part)

    def oval(self, x: float, y: float, rx: float, ry: float, paint: Paint, part: str | None = None) -> None:
        """Paint an ellipse around (x, y)."""
        self.shape([(x + rx * cos, y + ry * sin) for cos, sin in _CIRCLE], paint, part)

    def dome(self, x: float, y: float, rx: float, ry: float, paint: Paint, part: str | None = None) -> None:
        """Paint the upper half of an ellipse that stands on y; a negative `ry` the lower half."""
        self.shape([(x + rx * cos, y + ry * sin) for cos, sin in _CIRCLE[:13]], paint, part)

    def bar(
        self, start: tuple[float, float], end: tuple[float, float], width: float, paint: Paint, part: str | None = None
    ) -> None:
        """Paint a straight bar between two points."""
        (x0, y0), (x1, y1) = start, end
        length = math.hypot(x1 - x0, y1 - y0) or 1.0
        dx, dy = (y1 - y0) / length * width / 2, (x0 - x1) / length * width / 2
        self.shape([(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)], paint, part)

    def put(self, name: str, x: float, y: float) -> None:
        """Draw another thing with its base at (x, y), as tall beside this one as it is by nature."""
        other = THINGS[name]
        frame = self.frame.inner(x, y, other.height / THINGS[self.name].height)
        other.draw(Sketch(self.canvas, self.paints, frame, name))
