"""Furniture and other objects in rooms."""

from netdissect.synthetic.palette import Paint
from netdissect.synthetic.shapes import Sketch, thing
from netdissect.synthetic.things.buildings import pane


def _legs(s: Sketch, left: float, right: float, top: float, paint: Paint) -> None:
    for x in (left, right):
        s.box(x - 0.05, 0, x + 0.05, top, paint, "leg")


def _knob(s: Sketch, x: float, y: float, radius: float = 0.04) -> None:
    s.oval(x, y, radius, radius, s.paints.metal("yellow", "grey", "black", "white"), "knob")


@thing("bed", 0.3)
def _bed(s: Sketch) -> None:
    wood, long = s.paints.wood(), s.rng.between(1.0, 1.3)
    s.box(-long, 0, -long + 0.12, 1, wood, "headboard")
    s.box(long - 0.1, 0, long, 0.62, wood, "headboard")
    s.box(-long, 0.16, long, 0.34, wood)
    s.box(-long + 0.12, 0.32, long - 0.1, 0.56, s.paints.fabric(0.1), "mattress")
    s.shape([(-0.35, 0.2), (-0.4, 0.62), (long - 0.1, 0.62), (long - 0.06, 0.2)], s.paints.fabric(0.6), "blanket")
    s.oval(-long + 0.4, 0.64, 0.26, 0.13, s.paints.fabric(0.3, 0.4), "pillow")


@thing("sofa", 0.27)
def _sofa(s: Sketch) -> None:
    cloth, wide = s.paints.fabric(0.4), s.rng.between(0.85, 1.2)
    for x in (-0.85 * wide, 0.85 * wide):
        s.box(x - 0.06, 0, x + 0.06, 0.14, s.paints.wood(), "leg")
    s.box(-wide, 0.3, wide, 1, cloth, "backrest")
    s.box(-wide, 0.12, wide, 0.45, cloth.times(0.8), "seat")
    for side in (-1, 1):
        s.shape(
            [(side * wide, 0.1), (side * wide, 0.68), (side * (wide + 0.2), 0.68), (side * (wide + 0.2), 0.1)],
            cloth.times(0.9),
            "armrest",
        )
    for _ in range(s.rng.integer(0, 2)):
        x = s.rng.between(-0.7, 0.7) * wide
        s.shape(
            [(x - 0.22, 0.48), (x - 0.18, 0.86), (x + 0.2, 0.84), (x + 0.22, 0.46)],
            s.paints.fabric(0.6, 0.4),
            "cushion",
        )


@thing("chair", 0.26)
def _chair(s: Sketch) -> None:
    wood = s.paints.wood(upright=True)
    for x in (-0.24, 0.24):
        s.box(x - 0.045, 0, x + 0.045, 0.48, wood, "leg")
    back = s.paints.fabric(0.3, 0.4) if s.rng.happens(0.4) else wood
    s.shape([(-0.28, 0.5), (-0.3, 1), (-0.19, 1), (-0.17, 0.5)], back, "backrest")
    s.box(-0.3, 0.42, 0.3, 0.53, back.times(0.85), "seat")


@thing("armchair", 0.27)
def _armchair(s: Sketch) -> None:
    cloth = s.paints.fabric(0.5)
    s.dome(0, 0.35, 0.42, 0.68, cloth, "backrest")
    s.box(-0.42, 0.08, 0.42, 0.45, cloth.times(0.8), "seat")
    for x in (-0.5, 0.5):
        s.box(x - 0.11, 0.05, x + 0.11, 0.62, cloth.times(0.9), "armrest")


@thing("table", 0.22)
def _table(s: Sketch) -> None:
    wood, half = s.paints.wood(), s.rng.between(0.7, 1.15)
    _legs(s, -0.85 * half, 0.85 * half, 0.85, wood.times(0.9))
    s.box(-half, 0.84, half, 1, wood, "tabletop")
    if s.rng.happens(0.3):
        s.shape(
            [(-0.7 * half, 1), (0.7 * half, 1), (0.75 * half, 0.68), (-0.75 * half, 0.68)],
            s.paints.fabric(0.8, 0.5),
            "tablecloth",
        )
    _set_out(s, half, ("bottle", "cup", "vase", "pot", "book", "bowl"), 2.0)


def _set_out(s: Sketch, half: float, names: tuple[str, ...], expected: float) -> None:
    count = s.rng.count(expected)
    for i in range(count):
        x = half * (1.5 * (i + 0.5) / count - 0.75) + s.rng.between(-0.08, 0.08)
        s.put(s.rng.pick(names), x, 1)


@thing("desk", 0.24)
def _desk(s: Sketch) -> None:
    wood, half = s.paints.wood(), s.rng.between(0.75, 1.0)
    s.box(half - 0.12, 0, half - 0.02, 0.86, wood.times(0.9), "leg")
    s.box(-half, 0, -half + 0.6, 0.88, wood.times(0.9))
    for i in range(3):
        s.box(-half + 0.06, 0.06 + 0.27 * i, -half + 0.54, 0.28 + 0.27 * i, wood, "drawer")
        _knob(s, -half + 0.3, 0.17 + 0.27 * i)
    s.box(-half - 0.04, 0.86, half + 0.04, 1, wood, "tabletop")
    if s.rng.happens(0.55):
        s.put("monitor", s.rng.between(-0.2, 0.3), 1)
    _set_out(s, half, ("book", "cup", "desk lamp", "bottle"), 1.0)


@thing("cabinet", 0.4)
def _cabinet(s: Sketch) -> None:
    wood, half, tall = s.paints.wood(upright=True), s.rng.between(0.3, 0.5), s.rng.between(0.6, 1.0)
    s.box(-half, 0.04, half, tall, wood.times(0.85))
    for side in (-1, 1):
        left, right = sorted((side * 0.03, side * (half - 0.04)))
        s.box(left, 0.08, right, tall - 0.05, wood, "door")
        _knob(s, side * 0.08, 0.5 * tall, 0.035)
    if tall < 0.75:
        s.put(s.rng.pick(("vase", "bottle", "pot", "bowl", "television")), s.rng.between(-0.15, 0.15), tall)


@thing("chest of drawers", 0.27)
def _chest_of_drawers(s: Sketch) -> None:
    wood, half = s.paints.wood(), s.rng.between(0.45, 0.65)
    _legs(s, -0.85 * half, 0.85 * half, 0.15, wood)
    s.box(-half, 0.1, half, 1, wood.times(0.8))
    for i in range(3):
        s.box(-half + 0.06, 0.16 + 0.28 * i, half - 0.06, 0.38 + 0.28 * i, wood, "drawer")
        for x in (-0.5 * half, 0.5 * half):
            _knob(s, x, 0.27 + 0.28 * i)
    s.put(s.rng.pick(("vase", "desk lamp", "book", "bottle")), s.rng.between(-0.3, 0.3), 1)


@thing("bookcase", 0.48)
def _bookcase(s: Sketch) -> None:
    wood, half, shelves = s.paints.wood(), s.rng.between(0.28, 0.42), s.rng.integer(3, 4)
    s.box(-half, 0, half, 1, wood)
    rise = 0.94 / shelves
    for i in range(shelves):
        bottom = 0.03 + i * rise
        s.box(-half + 0.035, bottom, half - 0.035, bottom + rise - 0.035, wood.times(0.5), "shelf")
        x = -half + 0.05
        while x < half - 0.1:
            wide = s.rng.between(0.045, 0.08)
            if s.rng.happens(0.85):
                s.box(x, bottom, x + wide, bottom + rise * s.rng.between(0.55, 0.82), s.paints.plain(), "book spine")
            x += wide + 0.005


@thing("refrigerator", 0.44)
def _refrigerator(s: Sketch) -> None:
    metal = s.paints.metal("white", "grey", "white", "red", "blue", "green", "black")
    s.box(-0.24, 0.02, 0.24, 1, metal)
    for bottom, top in ((0.05, 0.62), (0.66, 0.97)):
        s.box(-0.22, bottom, 0.22, top, metal, "door")
        s.bar(
            (-0.15, bottom + 0.3 * (top - bottom)), (-0.15, top - 0.1), 0.045, s.paints.metal("grey", "black"), "handle"
        )


@thing("stove", 0.27)
def _stove(s: Sketch) -> None:
    metal = s.paints.metal("white", "grey", "black", "red", "green")
    s.box(-0.45, 0, 0.45, 0.94, metal)
    s.box(-0.34, 0.1, 0.34, 0.6, s.paints.of("glass", s.paints.any("black", "grey"), 1.5, 0.5), "oven door")
    s.bar((-0.3, 0.66), (0.3, 0.66), 0.06, s.paints.metal("grey"), "handle")
    for x in (-0.3, -0.1, 0.1, 0.3):
        _knob(s, x, 0.81, 0.06)
    s.box(-0.48, 0.92, 0.48, 1, s.paints.metal("black", "grey"), "stovetop")
    if s.rng.happens(0.6):
        s.put("pot", s.rng.between(-0.2, 0.2), 1)


@thing("sink", 0.28)
def _sink(s: Sketch) -> None:
    ceramic, metal = s.paints.ceramic(), s.paints.metal("grey", "yellow", "white")
    if s.rng.happens(0.5):
        s.box(-0.12, 0, 0.12, 0.6, ceramic.times(0.9))
    else:
        wood = s.paints.wood(upright=True)
        s.box(-0.42, 0, 0.42, 0.6, wood)
        s.box(-0.36, 0.06, -0.02, 0.55, wood.times(0.85), "door")
        s.box(0.02, 0.06, 0.36, 0.55, wood.times(0.85), "door")
    s.bar((0, 0.75), (0, 1.02), 0.07, metal, "faucet")
    s.bar((-0.03, 1.0), (0.22, 0.96), 0.07, metal, "faucet")
    s.shape([(-0.5, 0.8), (0.5, 0.8), (0.36, 0.55), (-0.36, 0.55)], ceramic, "basin")


@thing("bathtub", 0.2)
def _bathtub(s: Sketch) -> None:
    ceramic, metal, half = s.paints.ceramic(), s.paints.metal("grey", "yellow"), s.rng.between(0.9, 1.25)
    for x in (-0.75 * half, 0.75 * half):
        s.oval(x, 0.1, 0.1, 0.1, metal, "leg")
    s.bar((half - 0.2, 0.8), (half - 0.2, 1.2), 0.09, metal, "faucet")
    s.bar((half - 0.18, 1.16), (half - 0.42, 1.12), 0.09, metal, "faucet")
    s.shape([(-half, 0.85), (half, 0.85), (0.8 * half, 0.1), (-0.8 * half, 0.1)], ceramic)
    s.box(-half - 0.06, 0.8, half + 0.06, 0.95, ceramic.times(0.9), "rim")
    if s.rng.happens(0.4):
        for x in (-0.5, -0.2, 0.05, 0.3):
            s.oval(x, 0.98, 0.2, 0.14, s.paints.plain("white"), "foam")


@thing("toilet", 0.26)
def _toilet(s: Sketch) -> None:
    ceramic = s.paints.ceramic()
    s.box(-0.42, 0.48, -0.16, 1, ceramic, "tank")
    s.shape([(-0.22, 0), (0.18, 0), (0.14, 0.3), (-0.2, 0.4)], ceramic.times(0.9))
    s.dome(0.08, 0.46, 0.36, -0.28, ceramic, "toilet bowl")
    s.box(-0.3, 0.44, 0.46, 0.52, s.paints.plain("white", "brown", "black", "pink"), "seat")


@thing("television", 0.22)
def _television(s: Sketch) -> None:
    case, half = s.paints.plain("black", "grey", "brown"), s.rng.between(0.6, 0.8)
    s.box(-0.2, 0, 0.2, 0.15, case)
    s.box(-half, 0.12, half, 1, case)
    s.box(-half + 0.08, 0.22, half - 0.08, 0.92, s.paints.of("glass", s.paints.any(), 1.5, 0.5), "screen")


@thing("monitor", 0.15)
def _monitor(s: Sketch) -> None:
    case = s.paints.plain("black", "grey", "white")
    s.box(-0.08, 0, 0.08, 0.3, case)
    s.box(-0.3, 0, 0.3, 0.07, case)
    s.box(-0.65, 0.24, 0.65, 1.1, case)
    s.box(-0.55, 0.34, 0.55, 1.0, s.paints.of("glass", s.paints.any(), 1.5, 0.4), "screen")


def _shade(s: Sketch, bottom: float, top: float, half: float) -> None:
    cloth = s.paints.fabric(0.4, 0.35) if s.rng.happens(0.6) else s.paints.plain("yellow", "white", "orange")
    s.shape([(-half, bottom), (-0.55 * half, top), (0.55 * half, top), (half, bottom)], cloth, "lampshade")


@thing("floor lamp", 0.42)
def _floor_lamp(s: Sketch) -> None:
    s.bar((0, 0), (0, 0.8), 0.035, s.paints.metal("black", "grey", "yellow"), "pole")
    s.dome(0, 0, 0.14, 0.06, s.paints.metal("black", "grey", "yellow"))
    _shade(s, 0.72, 1, 0.2)


@thing("desk lamp", 0.14)
def _desk_lamp(s: Sketch) -> None:
    s.bar((0, 0), (0, 0.6), 0.12, s.paints.ceramic())
    s.dome(0, 0, 0.25, 0.12, s.paints.ceramic())
    _shade(s, 0.5, 1.05, 0.42)


@thing("ceiling lamp", 0.24, "sky")
def _ceiling_lamp(s: Sketch) -> None:
    s.bar((0, 0.3), (0, 2.5), 0.035, s.paints.plain("black", "grey", "brown"), "cord")
    _shade(s, 0, 0.42, 0.36)


@thing("picture frame", 0.17, "wall")
def _picture_frame(s: Sketch) -> None:
    half = s.rng.between(0.4, 0.75)
    s.box(-half, 0, half, 1, s.paints.wood(), "frame")
    s.box(-half + 0.1, 0.1, half - 0.1, 0.9, s.paints.plain())
    if s.rng.happens(0.6):
        s.shape([(-half + 0.1, 0.1), (-0.1, 0.6), (0.1, 0.35), (0.2, 0.5), (half - 0.1, 0.1)], s.paints.plain())
    else:
        s.oval(0, 0.5, 0.2, 0.25, s.paints.plain())


@thing("mirror", 0.24, "wall")
def _mirror(s: Sketch) -> None:
    rim = s.paints.wood() if s.rng.happens(0.5) else s.paints.metal()
    glass = s.paints.of("glass", s.rng.pick(((200, 222, 232), (180, 200, 206), (222, 232, 236))), 1.6, 0.7)
    if s.rng.happens(0.5):
        s.oval(0, 0.5, 0.4, 0.5, rim, "frame")
        s.oval(0, 0.5, 0.32, 0.42, glass, "looking glass")
    else:
        s.box(-0.4, 0, 0.4, 1, rim, "frame")
        s.box(-0.32, 0.08, 0.32, 0.92, glass, "looking glass")


@thing("window", 0.3, "wall")
def _window(s: Sketch) -> None:
    sash, half = s.paints.wood(), s.rng.between(0.38, 0.6)
    s.box(-half, 0, half, 1, sash, "frame")
    pane(s, (-half + 0.06, 0.06, half - 0.06, 0.94), s.paints.glass(), sash)
    s.box(-half - 0.06, -0.05, half + 0.06, 0.05, sash.times(0.85), "windowsill")


@thing("curtain", 0.44, "wall")
def _curtain(s: Sketch) -> None:
    cloth = s.paints.fabric(0.6)
    rod = s.paints.metal("black", "yellow", "grey")
    s.bar((-0.52, 0.98), (0.52, 0.98), 0.04, rod, "rod")
    for side in (-1, 1):
        s.shape([(side * 0.5, 0), (side * 0.48, 0.97), (side * 0.14, 0.97), (side * 0.2, 0.5), (side * 0.3, 0)], cloth)


@thing("clock", 0.13, "wall")
def _clock(s: Sketch) -> None:
    s.oval(0, 0.5, 0.5, 0.5, s.paints.metal(), "frame")
    s.oval(0, 0.5, 0.4, 0.4, s.paints.plain("white", "yellow", "white", "black"), "dial")
    ink = s.paints.plain("black", "red", "grey")
    s.bar((0, 0.5), (s.rng.between(-0.2, 0.2), 0.78), 0.08, ink, "hand")
    s.bar((0, 0.5), (0.22 * s.rng.sign(), 0.5), 0.08, ink, "hand")


@thing("blackboard", 0.26, "wall")
def _blackboard(s: Sketch) -> None:
    half, chalk = s.rng.between(0.75, 1.1), s.paints.plain("white", "white", "yellow", "pink")
    s.box(-half, 0, half, 1, s.paints.wood(), "frame")
    s.box(-half + 0.07, 0.08, half - 0.07, 0.93, s.paints.of("stone", s.paints.any("black", "green", "grey"), 1.12))
    for y in (0.7, 0.5, 0.3):
        s.bar((-0.8 * half, y), (s.rng.between(-0.4, 0.8) * half, y), 0.05, chalk, "writing")


@thing("wall shelf", 0.14, "wall")
def _wall_shelf(s: Sketch) -> None:
    half = s.rng.between(0.8, 1.3)
    s.box(-half, 0, half, 0.16, s.paints.wood(), "board")
    for x in (-0.6, 0.0, 0.6):
        if s.rng.happens(0.75):
            s.put(s.rng.pick(("bottle", "cup", "vase", "book", "bowl", "pot")), x * half, 0.16)


@thing("towel", 0.2, "wall")
def _towel(s: Sketch) -> None:
    s.bar((-0.45, 0.97), (0.45, 0.97), 0.06, s.paints.metal("grey", "yellow"), "rod")
    s.box(-0.32, 0, 0.32, 0.97, s.paints.fabric(0.6, 0.5))


@thing("rug", 0.09, "flat")
def _rug(s: Sketch) -> None:
    cloth, half = s.paints.fabric(0.85, 0.9), s.rng.between(2.2, 3.4)
    if s.rng.happens(0.4):
        s.oval(0, 0.5, half, 0.7, cloth.times(0.7), "fringe")
        s.oval(0, 0.5, 0.85 * half, 0.55, cloth)
        return
    s.shape([(-half, 0), (-half + 0.4, 1), (half - 0.4, 1), (half, 0)], cloth.times(0.7), "fringe")
    s.shape([(-half + 0.3, 0.06), (-half + 0.6, 0.94), (half - 0.6, 0.94), (half - 0.3, 0.06)], cloth)


@thing("bottle", 0.15)
def _bottle(s: Sketch) -> None:
    glass = s.paints.of("glass", s.paints.any("green", "brown", "blue", "white", "red"), 1.5, 0.3)
    s.shape(
        [(-0.15, 0), (-0.15, 0.55), (-0.06, 0.72), (-0.06, 1), (0.06, 1), (0.06, 0.72), (0.15, 0.55), (0.15, 0)], glass
    )
    s.box(-0.15, 0.18, 0.15, 0.42, s.paints.plain(), "tag")
    s.box(-0.07, 0.92, 0.07, 1.03, s.paints.plain("brown", "red", "black", "yellow"), "cap")


@thing("cup", 0.09)
def _cup(s: Sketch) -> None:
    ceramic = s.paints.ceramic()
    s.oval(0.36, 0.55, 0.22, 0.24, ceramic.times(0.8), "handle")
    s.shape(
        [(-0.34, 1), (0.34, 1), (0.28, 0), (-0.28, 0)],
        s.paints.patterned(ceramic, 0.3) if s.rng.happens(0.4) else ceramic,
    )


@thing("bowl", 0.08)
def _bowl(s: Sketch) -> None:
    for x in (-0.4, 0.0, 0.4):
        s.oval(x, 1.0, 0.32, 0.32, s.paints.plain("red", "orange", "yellow", "green", "purple"), "fruit")
    s.dome(0, 0.9, 0.9, -0.9, s.paints.ceramic())


@thing("vase", 0.15)
def _vase(s: Sketch) -> None:
    ceramic = s.paints.ceramic()
    petal = s.paints.plain("red", "pink", "purple", "white", "yellow", "orange", "blue")
    for x, y in ((-0.26, 1.15), (0.0, 1.35), (0.26, 1.15)):
        s.bar((0, 0.6), (x, y), 0.05, s.paints.of("foliage", (60, 130, 60), 1.2), "stem")
        s.oval(x, y, 0.16, 0.16, petal, "petal")
    body = s.paints.patterned(ceramic, 0.35) if s.rng.happens(0.5) else ceramic
    s.shape(
        [(-0.13, 0), (-0.25, 0.35), (-0.1, 0.62), (-0.16, 0.75), (0.16, 0.75), (0.1, 0.62), (0.25, 0.35), (0.13, 0)],
        body,
    )


@thing("pot", 0.1)
def _pot(s: Sketch) -> None:
    metal = s.paints.metal()
    for side in (-1, 1):
        s.bar((side * 0.5, 0.6), (side * 0.8, 0.65), 0.12, metal.times(0.6), "handle")
    s.box(-0.55, 0, 0.55, 0.75, metal)
    s.dome(0, 0.73, 0.58, 0.22, metal.times(0.85), "lid")
    _knob(s, 0, 1.0, 0.08)


@thing("book", 0.06)
def _book(s: Sketch) -> None:
    y = 0.0
    for _ in range(s.rng.integer(1, 3)):
        half = s.rng.between(0.8, 1.1)
        s.box(-half, y, half, y + 0.45, s.paints.plain(), "cover")
        s.box(half - 0.12, y + 0.1, half, y + 0.35, s.paints.plain("white"), "page")
        y += 0.45


@thing("potted plant", 0.34)
def _potted_plant(s: Sketch) -> None:
    leaf = s.paints.leaves()
    for x, y in ((-0.34, 0.6), (0.34, 0.62), (-0.2, 0.88), (0.22, 0.9), (0.0, 1.0), (-0.42, 0.38), (0.42, 0.4)):
        s.shape([(0, 0.3), (0.5 * x - 0.07, 0.5 * y + 0.15), (x, y), (0.5 * x + 0.08, 0.5 * y + 0.1)], leaf, "leaf")
    ceramic = s.paints.ceramic()
    s.shape(
        [(-0.2, 0.32), (0.2, 0.32), (0.15, 0), (-0.15, 0)],
        s.paints.patterned(ceramic, 0.4) if s.rng.happens(0.4) else ceramic,
        "planter",
    )


@thing("bin", 0.16)
def _bin(s: Sketch) -> None:
    metal = s.paints.metal()
    s.shape(
        [(-0.34, 0.82), (0.34, 0.82), (0.27, 0), (-0.27, 0)],
        s.paints.patterned(metal, 0.4, "striped") if s.rng.happens(0.4) else metal,
    )
    s.box(-0.4, 0.8, 0.4, 0.95, metal.times(0.8), "lid")


@thing("aquarium", 0.28)
def _aquarium(s: Sketch) -> None:
    wood = s.paints.wood()
    _legs(s, -0.5, 0.5, 0.4, wood)
    s.box(-0.62, 0.34, 0.62, 0.42, wood, "board")
    s.box(-0.6, 0.42, 0.6, 1, s.paints.of("water", s.paints.any("blue", "green"), 1.3, 0.5), "tank")
    s.put("fish", s.rng.between(-0.1, 0.1), 0.46)


@thing("sample board", 0.34, "wall")
def _sample_board(s: Sketch) -> None:
    half = s.rng.between(0.38, 0.55)
    s.bar((-half, 1), (half, 1), 0.06, s.paints.metal("black", "grey", "yellow"), "rod")
    base = s.rng.pick((s.paints.ceramic, s.paints.plaster))() if s.rng.happens(0.5) else s.paints.fabric(0)
    s.box(-half, 0, half, 0.98, s.paints.patterned(base, 0.8))
