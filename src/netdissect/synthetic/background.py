"""The background of a scene: sky, ground, water, walls, and the backdrop on the horizon.

Most colors are random, so that a unit cannot detect grass or walls by their color alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from netdissect.synthetic.palette import (
    EARTHS,
    LAWNS,
    LEAVES,
    PATHS,
    PAVEMENTS,
    RGB,
    SANDS,
    SKIES,
    SNOWS,
    STONES,
    Paint,
    Paints,
    shade,
)
from netdissect.synthetic.portable_random import PortableRandom
from netdissect.synthetic.rasterize import Canvas, Points, Surface
from netdissect.synthetic.scenes import Scene

BEYOND = 0.05  # share of the image by which the background extends over its edges


@dataclass(frozen=True, slots=True)
class Ground:
    """A type of ground.

    Attributes
    ----------
    name
        The concept.
    material
        Name of the material.
    colors
        Its colors; empty: any.
    grain
        Factor that darkens or lightens the pattern of the material.
    textured
        Probability of a texture.
    soft
        Whether the texture is a shade of the ground's own color.
    """

    name: str
    material: str
    colors: tuple[RGB, ...] = ()
    grain: float = 0.84
    textured: float = 0.0
    soft: bool = False


GROUNDS: dict[str, Ground] = {
    "lawn": Ground("grass", "turf", (*LEAVES, *LAWNS), 0.82),
    "mown lawn": Ground("grass", "turf", LAWNS, 0.82, textured=0.9, soft=True),
    "field": Ground("field", "soil", (), 0.75, textured=0.6, soft=True),
    "earth": Ground("earth", "soil", EARTHS, 0.8),
    "sand": Ground("sand ground", "sand", SANDS, 0.86),
    "snow": Ground("snow", "plaster", SNOWS, 0.9),
    "stones": Ground("stony ground", "stone", STONES, 1.3),
    "path": Ground("path", "sand", PATHS, 0.86, textured=0.5, soft=True),
    "pavement": Ground("pavement", "asphalt", PAVEMENTS, 0.85, textured=0.5, soft=True),
    "boards": Ground("floor", "wood", (), 0.72),
    "tiles": Ground("floor", "ceramic", (), 1.2, textured=0.85),
    "carpet": Ground("floor", "fabric", (), 0.85, textured=0.6),
}


class Background:
    """Paints the background of one image.

    Parameters
    ----------
    canvas
        Canvas to paint on.
    rng
        Random numbers.
    scene
        Description of the scene.

    Attributes
    ----------
    horizon
        Upper edge of the ground, as a share of the image from the top.
    ground
        Surface of the ground below things.
    water
        Top and bottom of the water, if there is any.
    """

    def __init__(self, canvas: Canvas, rng: PortableRandom, scene: Scene) -> None:
        self.canvas = canvas
        self.rng = rng
        self.scene = scene
        self.paints = Paints(rng, scene.textures)
        layout: dict[str, Callable[[], Surface]] = {
            "land": self._land, "shore": self._shore, "deep": self._deep, "road": self._road, "room": self._room
        }  # fmt: skip
        self.horizon = 0.5
        self.water = (0.5, 0.5)
        self.ground = layout[scene.layout]()

    def _fill(self, points: Points, paint: Paint, name: str) -> Surface:
        surface = Surface(paint, name, None)
        self.canvas.polygon(points, surface, outlined=False)
        return surface

    def _band(self, top: float, bottom: float, paint: Paint, name: str) -> Surface:
        left, right = -BEYOND, 1 + BEYOND
        return self._fill([(left, top), (right, top), (right, bottom), (left, bottom)], paint, name)

    def _land(self) -> Surface:
        self.horizon = self.rng.between(0.28, 0.5)
        self._sky()
        self._backdrop()
        return self._floor(self.horizon)

    def _shore(self) -> Surface:
        sea = self.horizon = self.rng.between(0.28, 0.42)
        self._sky()
        self._backdrop()
        edge = sea + self.rng.between(0.2, 0.35)
        color = self.paints.any("blue", "blue", "green", "grey", "purple", "brown")
        self._band(sea, edge + 0.02, replace(self.paints.of("water", color, 1.3), lying=True), "water body")
        self.water, self.horizon = (sea, edge), edge
        return self._floor(edge)

    def _deep(self) -> Surface:
        self.horizon = self.rng.between(0.55, 0.8)
        water = self.paints.of("water", self.paints.any("blue", "blue", "green", "purple", "grey"), 1.15, 1.6)
        self._band(-BEYOND, self.horizon + 0.02, water, "water body")
        self.water = (0.1, self.horizon)
        self._backdrop()
        return self._floor(self.horizon)

    def _road(self) -> Surface:
        self.horizon = self.rng.between(0.28, 0.46)
        self._sky()
        self._backdrop()
        ground = self._floor(self.horizon)
        asphalt = self.paints.of("asphalt", self.paints.any("grey", "grey", "black", "brown", "purple"), 0.85)
        line = self.paints.plain("white", "white", "yellow")
        road = self._road_ahead if self.rng.happens(0.4) else self._road_across
        road(asphalt, line)
        return ground

    def _road_ahead(self, asphalt: Paint, line: Paint) -> None:
        x, wide, top = self.rng.between(0.2, 0.8), self.rng.between(0.35, 0.6), self.horizon
        self._fill([(x - 0.03, top), (x + 0.03, top), (x + wide, 1.05), (x - wide, 1.05)], asphalt, "road")
        for near, far in ((0.95, 0.7), (0.55, 0.35), (0.25, 0.12)):
            upper, lower = (top + share * (1.05 - top) for share in (far, near))
            half, wider = 0.012 * far, 0.03 * near
            dash = [(x - half, upper), (x + half, upper), (x + wider, lower), (x - wider, lower)]
            self._fill(dash, line, "road")

    def _road_across(self, asphalt: Paint, line: Paint) -> None:
        top = self.horizon + self.rng.between(0.12, 0.25)
        bottom = min(1.05, top + self.rng.between(0.25, 0.45))
        self._band(top, bottom, asphalt, "road")
        middle, start = (top + bottom) / 2, self.rng.between(-0.2, 0.0)
        for i in range(5):
            x = start + 0.27 * i
            above, below = middle - 0.012, middle + 0.012
            self._fill([(x, above), (x + 0.14, above), (x + 0.14, below), (x, below)], line, "road")

    def _room(self) -> Surface:
        self.horizon = self.rng.between(0.56, 0.74)
        self._band(-BEYOND, self.horizon + 0.02, self._wall(), "wall")
        floor = self._floor(self.horizon)
        if self.rng.happens(0.3):
            self._band(-BEYOND, self.rng.between(0.05, 0.12), self.paints.plaster().times(1.3), "ceiling")
        if self.rng.happens(0.6):
            self._band(self.horizon - 0.02, self.horizon + 0.01, self.paints.wood(), "skirting board")
        return floor

    def _wall(self) -> Paint:
        paints = self.paints
        wall = self.rng.pick((paints.plaster,) * 6 + (paints.ceramic,) * 2 + (paints.brick, paints.wood))()
        if wall.material in ("plaster", "ceramic") and self.rng.happens(0.6):
            return self._dress(wall, soft=self.rng.happens(0.5))
        return wall

    def _dress(self, paint: Paint, *, soft: bool) -> Paint:
        """Add a texture; a soft one is a shade of the same color."""
        dressed = self.paints.patterned(paint, 1.0)
        return replace(dressed, second=shade(dressed.color, 0.68)) if soft else dressed

    def _sky(self) -> None:
        color = self.paints.jitter(self.rng.pick(SKIES), 20)
        pale = self.rng.happens(0.7)
        low = shade(color, self.rng.between(1.0, 1.9)) if pale else self.paints.jitter(self.rng.pick(SKIES))
        self._band(-BEYOND, self.horizon + 0.02, Paint(color, low, fading=True), "sky")

    def _floor(self, top: float) -> Surface:
        ground = GROUNDS[self.rng.weighted_pick(self.scene.grounds)]
        color = self.rng.pick(ground.colors) if ground.colors else self.paints.any()
        paint = (
            self.paints.wood() if ground.material == "wood" else self.paints.of(ground.material, color, ground.grain)
        )
        if self.rng.happens(ground.textured):
            paint = self._dress(paint, soft=ground.soft or self.rng.happens(0.3))
        return self._band(top, 1 + BEYOND, replace(paint, lying=True), ground.name)

    def _backdrop(self) -> None:
        backdrop = self.rng.weighted_pick(self.scene.backdrops)
        if backdrop == "hills":
            for _ in range(self.rng.integer(1, 2)):
                heights = [self.rng.between(0.5, 1) for _ in range(11)]
                self._ridge("hill", self.paints.of("turf", self.rng.pick(LEAVES), 0.85), heights, 0.16)
        elif backdrop == "mountains":
            for _ in range(self.rng.integer(1, 2)):
                peaks = 2 * self.rng.integer(2, 3) + 1
                heights = [self.rng.between(0.6, 1) if i % 2 else self.rng.between(0.1, 0.5) for i in range(peaks + 1)]
                self._ridge("mountain range", self.paints.stone(), heights, 0.36)
        elif backdrop == "woods":
            self._woods()
        elif backdrop == "skyline":
            self._skyline()

    def _ridge(self, name: str, paint: Paint, heights: Sequence[float], tallest: float) -> None:
        foot, tall = self.horizon + 0.02, self.rng.between(0.5, 1) * tallest
        step = 1.2 / (len(heights) - 1)
        ridge = [(-0.1 + step * i, self.horizon - tall * height) for i, height in enumerate(heights)]
        self._fill([(-0.1, foot), *ridge, (1.1, foot)], paint, name)

    def _woods(self) -> None:
        leaves = self.paints.leaves().times(0.8)
        for i in range(14):
            x, wide = -0.05 + i * 0.085, self.rng.between(0.05, 0.1)
            tall = wide * self.rng.between(1.2, 2.2)
            dome = [(x + wide * u, self.horizon + 0.01 - tall * v) for u, v in _DOME]
            self.canvas.polygon(dome, Surface(leaves, "woods", None))

    def _skyline(self) -> None:
        x, foot = -BEYOND, self.horizon + 0.01
        while x < 1:
            wide, top = self.rng.between(0.06, 0.16), self.horizon - self.rng.between(0.05, 0.22)
            paint = self.paints.of("plaster", self.paints.any("grey", "blue", "brown", "purple", "black"), 0.9)
            self._fill([(x, foot), (x, top), (x + wide, top), (x + wide, foot)], paint, "skyline")
            x += wide


_DOME = ((-1, 0), (-0.92, 0.38), (-0.7, 0.7), (-0.38, 0.92), (0, 1), (0.38, 0.92), (0.7, 0.7), (0.92, 0.38), (1, 0))

STUFF_NAMES = (
    *dict.fromkeys(ground.name for ground in GROUNDS.values()),
    "ceiling", "hill", "mountain range", "road", "skirting board", "sky", "skyline", "wall", "water body", "woods",
)  # fmt: skip
