"""Puts a scene together: sky, ground and backdrop first, then its things from back to front."""

from dataclasses import dataclass

from netdissect.concepts.synthetic import buildings, indoors, nature, vehicles  # noqa: F401, they register things
from netdissect.concepts.synthetic.canvas import Canvas, Points, Surface
from netdissect.concepts.synthetic.dice import Dice
from netdissect.concepts.synthetic.palette import LEAVES, SKIES, STONES, Paint, Paints, shade
from netdissect.concepts.synthetic.patterns import TEXTURES
from netdissect.concepts.synthetic.scenes import SCENES, Scene
from netdissect.concepts.synthetic.sketch import THINGS, Frame, Sketch, Thing

BEYOND = 0.05  # how far grounds and skies reach over the edge of the picture

# Material, colors to choose from (None: any), how much the grain darkens or lightens, name.
GROUNDS: dict[str, tuple[str, tuple[tuple[int, int, int], ...] | None, float, str]] = {
    "lawn": ("turf", (*LEAVES, (120, 160, 60), (90, 140, 70)), 0.82, "grass"),
    "field": ("soil", None, 0.75, "field"),
    "earth": ("soil", ((130, 90, 60), (96, 70, 50), (170, 120, 80), (110, 100, 84)), 0.8, "earth"),
    "sand": ("sand", ((226, 200, 150), (210, 170, 120), (236, 216, 180), (190, 180, 170), (206, 140, 110)), 0.86, "sand ground"),
    "snow": ("plaster", ((240, 244, 250), (220, 228, 240), (250, 240, 240)), 0.9, "snow"),
    "stones": ("stone", STONES, 1.3, "stony ground"),
    "path": ("sand", ((190, 170, 140), (160, 150, 140), (200, 180, 160)), 0.86, "path"),
    "pavement": ("asphalt", ((150, 150, 152), (120, 118, 120), (180, 176, 170), (170, 150, 140)), 0.85, "pavement"),
    "boards": ("wood", None, 0.72, "floor"),
    "tiles": ("ceramic", None, 1.2, "floor"),
    "carpet": ("fabric", None, 0.85, "floor"),
}  # fmt: skip


@dataclass
class Placed:
    """A thing that waits to be drawn: the farther up its base, the farther back."""

    thing: Thing
    x: float
    base: float
    scale: float

    @property
    def depth(self) -> float:
        """Order of drawing: what hangs or flies first, then what stands, back to front."""
        return {"wall": -2.0, "sky": -1.0, "flat": -0.5}.get(self.thing.habit, self.base)


class Stage:
    """One picture in the making.

    Parameters
    ----------
    canvas
        Where everything goes.
    dice
        Where chance comes from.
    """

    def __init__(self, canvas: Canvas, dice: Dice) -> None:
        self.canvas = canvas
        self.dice = dice
        self.paints = Paints(dice)
        self.zoom = dice.between(0.85, 1.3)
        self.horizon = 0.5
        self.ground: Surface | None = None
        self.water = (0.5, 0.5)
        self.placed: list[Placed] = []

    def draw(self, scene: Scene) -> None:
        """Draw a whole scene."""
        {"land": self._land, "shore": self._shore, "road": self._road, "room": self._room}[scene.layout](scene)
        for name, expected in scene.cast.items():
            for _ in range(self.dice.count(expected)):
                self._place(THINGS[name], scene.layout)
        if scene.layout != "room" and self.dice.chance(0.35):
            self._place(THINGS["cloud"], scene.layout)
        for placed in sorted(self.placed, key=lambda one: one.depth):
            self._perform(placed)

    def _stuff(self, points: Points, paint: Paint, name: str) -> Surface:
        surface = Surface(paint, name, None)
        self.canvas.polygon(points, surface, outlined=False)
        return surface

    def _band(self, top: float, bottom: float, paint: Paint, name: str) -> Surface:
        low, high = -BEYOND, 1 + BEYOND
        return self._stuff([(low, top), (high, top), (high, bottom), (low, bottom)], paint, name)

    def _sky(self) -> None:
        color = self.paints.jitter(self.dice.pick(SKIES), 20)
        low = shade(color, self.dice.between(1.0, 1.9)) if self.dice.chance(0.7) else self.paints.jitter(self.dice.pick(SKIES))
        self._band(-BEYOND, self.horizon + 0.02, Paint(color, low, fading=True), "sky")

    def _ground(self, kind: str, top: float) -> None:
        material, colors, grain, name = GROUNDS[kind]
        color = self.dice.pick(colors) if colors else self.paints.any()
        if kind == "boards":
            paint = self.paints.wood()
        else:
            paint = self.paints.of(material, color, grain)
        textured = {"field": 0.5, "tiles": 0.8, "carpet": 0.45, "pavement": 0.25}.get(kind, 0.0)
        if self.dice.chance(textured):
            texture = {"field": "striped", "pavement": "gridded"}.get(kind)
            paint = self.paints.patterned(paint, 1.0, texture)
            if kind in ("field", "pavement"):
                paint = Paint(paint.color, shade(paint.color, 0.6), material, paint.texture, paint.scale, paint.angle)
        paint = Paint(paint.color, paint.second, paint.material, paint.texture, paint.scale, paint.angle, lying=True)
        self.ground = self._band(top, 1 + BEYOND, paint, name)

    def _backdrop(self, kind: str) -> None:
        horizon, dice = self.horizon, self.dice
        if kind == "hills":
            for _ in range(dice.whole(1, 2)):
                self._ridge("hill", self.paints.of("turf", dice.pick(LEAVES), 0.85), dice.between(0.06, 0.16), 0.1)
        elif kind == "mountains":
            for _ in range(dice.whole(1, 2)):
                self._ridge("mountain range", self.paints.stone(), dice.between(0.2, 0.36), 0.0)
        elif kind == "woods":
            leaves = self.paints.leaves().times(0.8)
            for i in range(14):
                x, r = -0.05 + i * 0.085, dice.between(0.05, 0.1)
                frame = Frame.standing(x, horizon + 0.01, 1)
                Sketch(self.canvas, dice, frame, "woods").dome(0, 0, r, dice.between(1.2, 2.2) * r, leaves)
        elif kind == "skyline":
            x = -BEYOND
            while x < 1:
                wide = dice.between(0.06, 0.16)
                self._stuff(
                    [(x, horizon + 0.01), (x, top := horizon - dice.between(0.05, 0.22)), (x + wide, top), (x + wide, horizon + 0.01)],
                    self.paints.of("plaster", self.paints.any("grey", "blue", "brown", "purple", "black"), 0.9), "skyline",
                )  # fmt: skip
                x += wide

    def _ridge(self, name: str, paint: Paint, height: float, smooth: float) -> None:
        dice, count = self.dice, 10 if smooth else self.dice.whole(5, 7)
        points = [(-0.1, self.horizon + 0.02)]
        for i in range(count + 1):
            up = dice.between(0.5, 1) if smooth else (dice.between(0.6, 1) if i % 2 else dice.between(0.1, 0.5))
            points.append((-0.1 + 1.2 * i / count, self.horizon - up * height))
        points.append((1.1, self.horizon + 0.02))
        self._stuff(points, paint, name)

    def _land(self, scene: Scene) -> None:
        self.horizon = self.dice.between(0.3, 0.55)
        self._sky()
        self._backdrop(self.dice.weighed(scene.backdrops))
        self._ground(self.dice.weighed(scene.grounds), self.horizon)

    def _shore(self, scene: Scene) -> None:
        self.horizon = self.dice.between(0.3, 0.45)
        self._sky()
        self._backdrop(self.dice.weighed(scene.backdrops))
        edge = self.horizon + self.dice.between(0.2, 0.35)
        color = self.paints.any("blue", "blue", "green", "grey", "purple", "brown")
        water = self.paints.of("water", color, 1.3)
        self._band(self.horizon, edge + 0.02, Paint(water.color, water.second, "water", lying=True), "water surface")
        self._ground(self.dice.weighed(scene.grounds), edge)
        self.water, self.horizon = (self.horizon, edge), edge

    def _road(self, scene: Scene) -> None:
        self.horizon = self.dice.between(0.3, 0.5)
        self._sky()
        self._backdrop(self.dice.weighed(scene.backdrops))
        self._ground(self.dice.weighed(scene.grounds), self.horizon)
        asphalt = self.paints.of("asphalt", self.paints.any("grey", "grey", "black", "brown", "purple"), 0.85)
        line = self.paints.plain("white", "white", "yellow")
        if self.dice.chance(0.4):
            x, wide = self.dice.between(0.2, 0.8), self.dice.between(0.35, 0.6)
            self._stuff([(x - 0.03, self.horizon), (x + 0.03, self.horizon), (x + wide, 1.05), (x - wide, 1.05)], asphalt, "road")
            for near, far in ((0.95, 0.7), (0.55, 0.35), (0.25, 0.12)):
                top, bottom = (self.horizon + share * (1.05 - self.horizon) for share in (far, near))
                self._stuff([(x - 0.012 * far, top), (x + 0.012 * far, top), (x + 0.03 * near, bottom), (x - 0.03 * near, bottom)], line, "road")
            return
        top = self.horizon + self.dice.between(0.12, 0.25)
        bottom = min(1.05, top + self.dice.between(0.25, 0.45))
        self._band(top, bottom, asphalt, "road")
        middle, start = (top + bottom) / 2, self.dice.between(-0.2, 0.0)
        for i in range(5):
            x = start + 0.27 * i
            self._stuff([(x, middle - 0.012), (x + 0.14, middle - 0.012), (x + 0.14, middle + 0.012), (x, middle + 0.012)], line, "road")

    def _room(self, scene: Scene) -> None:
        self.horizon = self.dice.between(0.58, 0.76)
        kind = self.dice.pick((self.paints.plaster, self.paints.plaster, self.paints.plaster, self.paints.ceramic, self.paints.brick, self.paints.wood))
        wall = kind()
        if wall.material in ("plaster", "ceramic") and self.dice.chance(0.45):
            wall = self.paints.patterned(wall, 1.0, "gridded" if wall.material == "ceramic" else None)
            if self.dice.chance(0.6):  # quiet wallpaper, so that rooms are not all loud
                wall = Paint(wall.color, shade(wall.color, 0.72), wall.material, wall.texture, wall.scale, wall.angle)
        self._band(-BEYOND, self.horizon + 0.02, wall, "wall")
        self._ground(self.dice.weighed(scene.grounds), self.horizon)
        if self.dice.chance(0.3):
            self._band(-BEYOND, self.dice.between(0.05, 0.12), self.paints.plaster().times(1.3), "ceiling")
        if self.dice.chance(0.6):
            self._band(self.horizon - 0.02, self.horizon + 0.01, self.paints.wood(), "skirting board")

    def _place(self, thing: Thing, layout: str) -> None:
        """Find the freest of a few places for a thing."""
        tries = [self._propose(thing, layout) for _ in range(6)]
        self.placed.append(max(tries, key=self._room_around))

    def _room_around(self, one: Placed) -> float:
        gaps = (abs(one.x - other.x) + 1.5 * abs(one.base - other.base) for other in self.placed if (other.thing.habit == "wall") == (one.thing.habit == "wall"))
        return min(gaps, default=1.0)

    def _propose(self, thing: Thing, layout: str) -> Placed:
        dice, habit = self.dice, thing.habit
        x = dice.between(0.02, 0.98)
        if layout == "room":
            scale = 1.15 * self.zoom
            if habit == "wall":
                low = self.horizon - 0.06
                return Placed(thing, x, low - dice.between(0.0, max(0.02, low - 0.05 - thing.height * scale)), scale)
            if habit == "sky":
                return Placed(thing, x, dice.between(0.22, 0.34), scale)
            base = self.horizon + dice.between(0.04, 0.2)
            return Placed(thing, x, base, scale * (0.8 + 1.3 * (base - self.horizon)))
        if habit == "sky":
            return Placed(thing, x, dice.between(0.12, max(0.2, self.horizon)), self.zoom * dice.between(0.6, 1.3))
        if habit == "water":
            top, bottom = self.water
            share = dice.between(0.15, 0.9)
            return Placed(thing, x, top + share * (bottom - top), self.zoom * (0.5 + 0.6 * share))
        share = dice.between(0.08, 1.0) if thing.height < 0.3 else dice.between(0.03, 0.75)
        base = self.horizon + share * (1.03 - self.horizon)
        return Placed(thing, x, base, self.zoom * (0.45 + 0.75 * share))

    def _perform(self, placed: Placed) -> None:
        dice, height = self.dice, placed.thing.height * placed.scale * self.dice.about(1, 0.12)
        flying = placed.thing.habit == "sky"
        tilt = dice.between(-14, 14) if flying and placed.thing.name != "ceiling lamp" else dice.between(-2.5, 2.5)
        if placed.thing.habit == "ground" and self.ground:
            self._shadow(placed, height)
        frame = Frame.standing(placed.x, placed.base, height, flip=dice.chance(0.5), tilt=tilt)
        placed.thing.draw(Sketch(self.canvas, dice, frame, placed.thing.name))

    def _shadow(self, placed: Placed, height: float) -> None:
        """Darken the ground under a thing; the shadow is ground, and labeled so."""
        assert self.ground is not None
        wide = min(0.5 * height, 0.16)
        sketch = Sketch(self.canvas, self.dice, Frame.standing(placed.x, placed.base, 1), self.ground.thing)
        points = [(placed.x + wide * cos, placed.base + 0.18 * wide * sin) for cos, sin in _OVAL]
        self.canvas.polygon(points, Surface(self.ground.paint.times(0.72), sketch.name, None), outlined=False)


_OVAL = tuple((c / 10, s / 10) for c, s in ((10, 0), (9, 4), (7, 7), (4, 9), (0, 10), (-4, 9), (-7, 7), (-9, 4), (-10, 0), (-9, -4), (-7, -7), (-4, -9), (0, -10), (4, -9), (7, -7), (9, -4)))  # fmt: skip


def swatches(canvas: Canvas, dice: Dice) -> None:
    """Fill the picture with nothing but textures: one, or two or three side by side."""
    paints = Paints(dice)
    edges = sorted(dice.between(0.25, 0.75) for _ in range(dice.pick((0, 0, 0, 1, 2))))
    lean = dice.between(-0.2, 0.2)
    upright = dice.chance(0.5)
    for low, high in zip((-1.0, *edges), (*edges, 2.0), strict=True):
        base = dice.pick((paints.plaster, paints.fabric, paints.ceramic, paints.lacquer))()
        if base.texture is None:
            base = paints.patterned(base, 1.1, dice.pick(tuple(TEXTURES)))
        corners = [(low - lean, -0.1), (high - lean, -0.1), (high + lean, 1.1), (low + lean, 1.1)]
        canvas.polygon(corners if upright else [(y, x) for x, y in corners], Surface(base, None, None))


SCENE_NAMES = tuple(SCENES)
