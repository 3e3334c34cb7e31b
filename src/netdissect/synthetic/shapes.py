"""Draw shapes in the coordinates of a thing: base at (0, 0), x to the right, y up, in units of the thing's height."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

from netdissect.synthetic.palette import Paint, Paints
from netdissect.synthetic.rasterize import Canvas, Points, Surface

Habit = Literal["ground", "wall", "sky", "water", "flat"]

_CIRCLE = tuple((math.cos(math.pi * i / 12), math.sin(math.pi * i / 12)) for i in range(24))


class ThingBox(NamedTuple):
    """Position of a thing's coordinates on the image: (x, y) = origin + u * right + v * up."""

    x: float
    y: float
    right: tuple[float, float]
    up: tuple[float, float]

    @classmethod
    def standing(cls, x: float, y: float, height: float, *, flip: bool = False, tilt: float = 0.0) -> Self:
        """Return a frame of this height with its base at (x, y), mirrored by `flip` and turned by `tilt` degrees."""
        turn = math.radians(tilt)
        cos, sin = height * math.cos(turn), height * math.sin(turn)
        side = -1 if flip else 1
        return cls(x, y, (side * cos, side * sin), (sin, -cos))

    def at(self, u: float, v: float) -> tuple[float, float]:
        """Return the position (u, v) of the thing on the image."""
        return (self.x + u * self.right[0] + v * self.up[0], self.y + u * self.right[1] + v * self.up[1])

    def inner(self, u: float, v: float, scale: float) -> "ThingBox":
        """Return a smaller frame whose base is at (u, v)."""
        x, y = self.at(u, v)
        right, up = self.right, self.up
        return ThingBox(x, y, (right[0] * scale, right[1] * scale), (up[0] * scale, up[1] * scale))


@dataclass(frozen=True)
class Thing:
    """A type of object, and how to draw it.

    Attributes
    ----------
    name
        The concept.
    height
        Height in the foreground, as a share of the image.
    placement
        Position: standing or flat on the ground, on a wall, in the sky, or in water.
    draw
        Function that draws it with a sketch.
    """

    name: str
    height: float
    placement: Habit
    draw: Callable[["Sketch"], None]


THINGS: dict[str, Thing] = {}


def thing(
    name: str, height: float, habit: Habit = "ground"
) -> Callable[[Callable[["Sketch"], None]], Callable[["Sketch"], None]]:
    """Register a function that draws a type of object."""

    def register(draw: Callable[["Sketch"], None]) -> Callable[["Sketch"], None]:
        THINGS[name] = Thing(name, height, habit, draw)
        return draw

    return register


class Sketch:
    """Draws the shapes of one thing.

    Parameters
    ----------
    canvas
        Canvas to paint on.
    paints
        Source of colors, patterns and random numbers.
    frame
        Coordinates of the thing.
    name
        Object of the shapes.
    """

    def __init__(self, canvas: Canvas, paints: Paints, frame: ThingBox, name: str) -> None:
        self.canvas = canvas
        self.paints = paints
        self.rng = paints.rng
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
        """Paint the upper half of an ellipse above y; with a negative `ry` the lower half."""
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
        """Draw another thing with its base at (x, y), at its natural height relative to this one."""
        other = THINGS[name]
        frame = self.frame.inner(x, y, other.height / THINGS[self.name].height)
        other.draw(Sketch(self.canvas, self.paints, frame, name))
