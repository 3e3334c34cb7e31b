"""Compose a scene: first its background, then its things from back to front."""

import math
from dataclasses import dataclass

from netdissect.synthetic.background import Background
from netdissect.synthetic.palette import Paints
from netdissect.synthetic.patterns import TEXTURES
from netdissect.synthetic.portable_random import PortableRandom
from netdissect.synthetic.rasterize import Canvas, Surface
from netdissect.synthetic.scenes import Scene
from netdissect.synthetic.shapes import THINGS, Sketch, Thing, ThingBox
from netdissect.synthetic.things import buildings, indoors, nature, vehicles  # noqa: F401 - they register things

THING_NAMES = tuple(THINGS)

FEWEST = 3  # things in a scene
TRIES = 6  # random positions for each thing; the one farthest from the others is used
_OVAL = tuple((math.cos(math.pi * i / 8), math.sin(math.pi * i / 8)) for i in range(16))
_BEHIND = {"wall": -2.0, "sky": -1.0, "flat": -0.5}


@dataclass(frozen=True, slots=True)
class PlacedThing:
    """A thing with the position of its base and its scale."""

    thing: Thing
    x: float
    base: float
    scale: float

    @property
    def depth(self) -> float:
        """Order of drawing: hanging, flying and flat things first, then standing things from back to front."""
        return _BEHIND.get(self.thing.placement, self.base)

    def distance(self, other: "PlacedThing") -> float:
        """Return the distance to the other thing; things on a wall and standing things do not block each other."""
        if (self.thing.placement == "wall") != (other.thing.placement == "wall"):
            return 1.0
        return abs(self.x - other.x) + 1.5 * abs(self.base - other.base)


class SceneComposer:
    """Composes one scene.

    Parameters
    ----------
    canvas
        Canvas to paint on.
    rng
        Random numbers.
    scene
        Description of the scene.
    """

    def __init__(self, canvas: Canvas, rng: PortableRandom, scene: Scene) -> None:
        self.canvas = canvas
        self.rng = rng
        self.is_indoors = scene.layout == "room"
        self.is_outdoors = scene.layout in ("land", "shore", "road")
        self.background = Background(canvas, rng, scene)
        self.zoom = rng.between(1.0, 1.6)
        self.placed: list[PlacedThing] = []
        for name in self._choose_things(scene):
            self._place(THINGS[name])
        if self.is_outdoors and rng.happens(0.3):
            self._place(THINGS["cloud"])
        for placed in sorted(self.placed, key=lambda one: one.depth):
            self._draw(placed)

    def _choose_things(self, scene: Scene) -> list[str]:
        names = [name for name, expected in scene.thing_counts.items() for _ in range(self.rng.count(expected))]
        missing = range(FEWEST - len(names))
        return names + [self.rng.weighted_pick(scene.thing_counts) for _ in missing]

    def _place(self, thing: Thing) -> None:
        tries = [self._propose(thing) for _ in range(TRIES)]
        self.placed.append(max(tries, key=lambda one: min(map(one.distance, self.placed), default=1.0)))

    def _propose(self, thing: Thing) -> PlacedThing:
        x = self.rng.between(0.02, 0.98)
        base, scale = self._in_room(thing) if self.is_indoors else self._outdoors(thing)
        return PlacedThing(thing, x, base, scale * self.zoom)

    def _in_room(self, thing: Thing) -> tuple[float, float]:
        rng, horizon = self.rng, self.background.horizon
        if thing.placement == "wall":
            low = horizon - 0.06
            return low - rng.between(0.0, max(0.02, low - 0.04 - thing.height * self.zoom)), 1.1
        if thing.placement == "sky":
            return rng.between(0.22, 0.34), 1.1
        base = horizon + rng.between(0.04, 0.24)
        return base, 0.9 + 1.5 * (base - horizon)

    def _outdoors(self, thing: Thing) -> tuple[float, float]:
        rng, horizon = self.rng, self.background.horizon
        if thing.placement == "sky":
            return rng.between(0.12, max(0.2, horizon)), rng.between(0.6, 1.3)
        if thing.placement == "water":
            (top, bottom), share = self.background.water, rng.between(0.15, 0.95)
            return top + share * (bottom - top), 0.55 + 0.65 * share
        share = rng.between(0.08, 1.0) if thing.height < 0.3 else rng.between(0.05, 0.8)
        return horizon + share * (1.03 - horizon), 0.45 + 0.8 * share

    def _draw(self, placed: PlacedThing) -> None:
        rng, thing = self.rng, placed.thing
        height = thing.height * placed.scale * rng.about(1, 0.12)
        if thing.placement == "ground":
            self._shadow(placed, height)
        aloft = thing.placement == "sky" and not self.is_indoors
        tilt = rng.between(-14, 14) if aloft else rng.between(-2.5, 2.5)
        frame = ThingBox.standing(placed.x, placed.base, height, flip=rng.happens(0.5), tilt=tilt)
        thing.draw(Sketch(self.canvas, self.background.paints, frame, thing.name))

    def _shadow(self, placed: PlacedThing, height: float) -> None:
        """Darken the ground under a thing; the shadow is labeled as ground."""
        wide, ground = min(0.5 * height, 0.16), self.background.ground
        points = [(placed.x + wide * cos, placed.base + 0.18 * wide * sin) for cos, sin in _OVAL]
        self.canvas.polygon(points, ground._replace(paint=ground.paint.times(0.72)), outlined=False)


def swatches(canvas: Canvas, rng: PortableRandom) -> None:
    """Fill the image with one texture, or two or three side by side."""
    paints = Paints(rng)
    edges = sorted(rng.between(0.25, 0.75) for _ in range(rng.pick((0, 0, 0, 1, 2))))
    lean, upright = rng.between(-0.2, 0.2), rng.happens(0.5)
    for low, high in zip((-1.0, *edges), (*edges, 2.0), strict=True):
        base = rng.pick((paints.plaster, paints.ceramic, paints.lacquer))()
        paint = paints.patterned(base, 1.1, rng.pick(tuple(TEXTURES)))
        corners = [(low - lean, -0.1), (high - lean, -0.1), (high + lean, 1.1), (low + lean, 1.1)]
        canvas.polygon(corners if upright else [(y, x) for x, y in corners], Surface(paint, None, None), outlined=False)
