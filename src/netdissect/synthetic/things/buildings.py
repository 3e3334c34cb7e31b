"""Buildings and outdoor furniture."""

from dataclasses import replace

from netdissect.synthetic.palette import Paint
from netdissect.synthetic.shapes import Sketch, thing


def wall_paint(s: Sketch) -> Paint:
    """Return the paint of an outer wall."""
    return s.rng.pick((s.paints.brick, s.paints.plaster, s.paints.plaster, s.paints.wood, s.paints.stone))()


def door(s: Sketch, x: float, width: float, height: float) -> None:
    """Paint a door with its knob."""
    s.box(x - width / 2, 0, x + width / 2, height, s.paints.wood(upright=True), "door")
    s.oval(x + 0.3 * width, 0.45 * height, 0.09 * width, 0.09 * width, s.paints.metal("yellow", "grey"), "knob")


def pane(s: Sketch, box: tuple[float, float, float, float], glass: Paint, sash: Paint) -> None:
    """Paint a window of four panes with its sash."""
    left, bottom, right, top = box
    s.box(left, bottom, right, top, glass, "pane")
    wide = 0.1 * (right - left)
    s.bar(((left + right) / 2, bottom), ((left + right) / 2, top), wide, sash, "pane")
    s.bar((left, (bottom + top) / 2), (right, (bottom + top) / 2), wide, sash, "pane")


@thing("house", 0.52)
def _house(s: Sketch) -> None:
    half, eaves = s.rng.between(0.4, 0.62), s.rng.between(0.5, 0.62)
    roof = s.paints.brick() if s.rng.happens(0.3) else s.paints.of("stone", s.paints.any(), 0.8)
    if s.rng.happens(0.3):
        roof = s.paints.patterned(roof, 0.4, "scaly")
    if s.rng.happens(0.7):
        s.box(0.3 * half, 0.65, 0.3 * half + 0.13, 1.03, s.paints.brick(), "chimney")
    s.box(-half, 0, half, eaves, wall_paint(s))
    ridge = 0.0 if s.rng.happens(0.6) else 0.6 * half
    s.shape([(-half - 0.09, eaves - 0.03), (-ridge, 1), (ridge, 1), (half + 0.09, eaves - 0.03)], roof, "roof")
    glass, sash, side = s.paints.glass(), s.paints.plain("white", "white", "brown", "blue"), s.rng.sign()
    door(s, side * 0.45 * half, 0.2, 0.36)
    pane(s, (-side * 0.5 * half - 0.13, 0.16, -side * 0.5 * half + 0.13, 0.4), glass, sash)


@thing("barn", 0.5)
def _barn(s: Sketch) -> None:
    half, wall = (
        s.rng.between(0.5, 0.65),
        s.paints.of("wood", s.paints.any("red", "brown", "grey", "blue", "yellow"), 0.75),
    )
    roof = s.paints.metal()
    s.shape(
        [(-half, 0), (-half, 0.55), (-0.65 * half, 0.82), (0, 1), (0.65 * half, 0.82), (half, 0.55), (half, 0)], wall
    )
    for side in (-1, 1):
        s.shape(
            [
                (side * (half + 0.08), 0.5),
                (side * 0.68 * half, 0.88),
                (0, 1.06),
                (0, 0.96),
                (side * 0.62 * half, 0.8),
                (side * (half - 0.02), 0.5),
            ],
            roof,
            "roof",
        )
    gate, brace = s.paints.wood(upright=True), s.paints.plain("white", "white", "yellow")
    s.box(-0.26, 0, 0.26, 0.46, gate, "door")
    for start, end in (((-0.26, 0.02), (0.26, 0.44)), ((-0.26, 0.44), (0.26, 0.02))):
        s.bar(start, end, 0.05, brace, "door")
    s.oval(0, 0.68, 0.1, 0.1, s.paints.glass(), "pane")


@thing("tower block", 0.75)
def _tower_block(s: Sketch) -> None:
    half = s.rng.between(0.18, 0.3)
    wall = s.rng.pick((s.paints.brick, s.paints.plaster, s.paints.stone, s.paints.metal))()
    height = s.rng.between(0.7, 1)
    s.box(-half, 0, half, height, wall)
    glass, columns, rows = s.paints.glass(), s.rng.integer(2, 3), s.rng.integer(4, 6)
    step, rise = 2 * half / columns, (height - 0.2) / rows
    for column in range(columns):
        for row in range(rows):
            left, bottom = -half + column * step + 0.25 * step, 0.18 + row * rise
            s.box(left, bottom, left + 0.5 * step, bottom + 0.6 * rise, glass, "pane")
    s.box(-0.07, 0, 0.07, 0.13, s.paints.wood(upright=True), "door")


@thing("lighthouse", 0.6)
def _lighthouse(s: Sketch) -> None:
    wall = s.paints.plaster()
    if s.rng.happens(0.7):
        wall = s.paints.patterned(wall, 0.7, "striped")
    s.shape([(-0.17, 0), (-0.1, 0.78), (0.1, 0.78), (0.17, 0)], wall)
    s.box(-0.07, 0, 0.07, 0.13, s.paints.wood(upright=True), "door")
    s.box(-0.15, 0.76, 0.15, 0.8, s.paints.metal("black", "grey", "red"))
    s.box(-0.08, 0.8, 0.08, 0.91, s.paints.plain("yellow", "yellow", "white"), "lantern")
    s.dome(0, 0.91, 0.12, 0.1, s.paints.lacquer(), "roof")


@thing("tent", 0.28)
def _tent(s: Sketch) -> None:
    cloth = s.paints.fabric(0.45, 0.7)
    half = s.rng.between(0.65, 0.9)
    s.shape([(-half, 0), (-0.1, 1), (0.5, 0.9), (half + 0.45, 0)], cloth.times(0.75))
    s.shape([(-half, 0), (-0.1, 1), (half, 0)], cloth)
    s.shape([(-0.3, 0), (-0.08, 0.72), (0.18, 0)], s.paints.plain("black", "brown", "blue", "grey"), "flap")
    s.bar((-0.1, 0.95), (-0.1, 1.12), 0.05, s.paints.wood(upright=True), "pole")


@thing("windmill", 0.62)
def _windmill(s: Sketch) -> None:
    s.shape([(-0.2, 0), (-0.12, 0.62), (0.12, 0.62), (0.2, 0)], wall_paint(s))
    s.box(-0.06, 0, 0.06, 0.15, s.paints.wood(upright=True), "door")
    s.dome(0, 0.61, 0.15, 0.12, s.paints.of("stone", s.paints.any(), 0.8), "roof")
    sail = s.paints.fabric(0.5, 0.35)
    lean = s.rng.between(-0.1, 0.14)
    for dx, dy in ((1, lean), (-lean, 1), (-1, -lean), (lean, -1)):
        s.shape(
            [(0, 0.65), (0.36 * dx, 0.65 + 0.36 * dy), (0.36 * dx - 0.11 * dy, 0.65 + 0.36 * dy + 0.11 * dx)],
            sail,
            "blade",
        )


@thing("bench", 0.18)
def _bench(s: Sketch) -> None:
    wood, iron = s.paints.wood(), s.paints.metal("black", "grey", "green")
    half = s.rng.between(0.8, 1.1)
    for x in (-0.8 * half, 0.8 * half):
        s.box(x - 0.06, 0, x + 0.06, 0.45, iron, "leg")
    s.box(-half, 0.38, half, 0.52, wood, "seat")
    s.box(-half, 0.64, half, 0.78, wood.times(0.95), "backrest")
    s.box(-half, 0.84, half, 1, wood.times(0.95), "backrest")


@thing("fence", 0.17)
def _fence(s: Sketch) -> None:
    wood = s.paints.wood(upright=True)
    count = s.rng.integer(5, 9)
    for y in (0.3, 0.68):
        s.box(-0.25 * count, y, 0.25 * count, y + 0.12, wood.times(0.85), "rail")
    for i in range(count):
        x = 0.5 * (i - (count - 1) / 2)
        s.shape([(x - 0.12, 0), (x - 0.12, 0.85), (x, 1), (x + 0.12, 0.85), (x + 0.12, 0)], wood, "picket")


@thing("street lamp", 0.5)
def _street_lamp(s: Sketch) -> None:
    iron = s.paints.metal("black", "grey", "green", "brown")
    s.bar((0, 0), (0, 0.86), 0.045, iron, "pole")
    if s.rng.happens(0.5):
        s.bar((0, 0.86), (0.24, 0.95), 0.035, iron, "pole")
        s.oval(0.28, 0.93, 0.11, 0.055, s.paints.plain("yellow", "white", "orange"), "lantern")
        return
    s.shape(
        [(-0.06, 0.82), (-0.09, 0.96), (0.09, 0.96), (0.06, 0.82)],
        s.paints.plain("yellow", "white", "orange"),
        "lantern",
    )
    s.shape([(-0.11, 0.95), (0, 1.02), (0.11, 0.95)], iron, "lantern")


@thing("traffic light", 0.46)
def _traffic_light(s: Sketch) -> None:
    s.bar((0, 0), (0, 0.65), 0.05, s.paints.metal("grey", "black", "yellow"), "pole")
    s.box(-0.1, 0.58, 0.1, 1, s.paints.plain("black", "grey", "yellow", "green"))
    lit = s.rng.integer(0, 2)
    for i, family in enumerate(("green", "orange", "red")):
        lamp = s.paints.plain(family)
        s.oval(0, 0.65 + 0.14 * i, 0.062, 0.062, lamp if i == lit else lamp.times(0.45), "signal")


@thing("sign", 0.36)
def _sign(s: Sketch) -> None:
    s.bar((0, 0), (0, 0.7), 0.06, s.paints.metal("grey", "black", "white"), "pole")
    face, rim = s.paints.plain("white", "yellow", "blue", "white"), s.paints.plain("red", "blue", "black", "green")
    form = s.rng.integer(0, 2)
    if form == 0:
        s.oval(0, 0.8, 0.2, 0.2, rim, "board")
        s.oval(0, 0.8, 0.13, 0.13, face, "board")
    elif form == 1:
        s.shape([(-0.23, 0.6), (0, 1), (0.23, 0.6)], rim, "board")
        s.shape([(-0.12, 0.66), (0, 0.87), (0.12, 0.66)], face, "board")
    else:
        s.box(-0.25, 0.58, 0.25, 1, rim, "board")
        s.shape(
            [(-0.15, 0.74), (0.02, 0.74), (0.02, 0.66), (0.18, 0.79), (0.02, 0.92), (0.02, 0.84), (-0.15, 0.84)],
            face,
            "board",
        )


@thing("parasol", 0.4)
def _parasol(s: Sketch) -> None:
    s.bar((0, 0), (0, 0.75), 0.04, s.paints.wood(upright=True), "pole")
    cloth = s.paints.fabric(0.6, 0.6)
    s.dome(0, 0.6, 0.46, 0.4, cloth, "canopy")


@thing("swing", 0.42)
def _swing(s: Sketch) -> None:
    beam = s.paints.metal()
    for x in (-0.5, 0.5):
        s.bar((x - 0.12, 0), (x, 1), 0.06, beam, "pole")
        s.bar((x + 0.12, 0), (x, 1), 0.06, beam, "pole")
    s.bar((-0.55, 0.98), (0.55, 0.98), 0.07, beam, "pole")
    x = s.rng.between(-0.12, 0.12)
    for side in (-0.14, 0.14):
        s.bar((side, 0.96), (side + x, 0.28), 0.025, s.paints.plain("black", "brown"), "rope")
    s.box(x - 0.2, 0.24, x + 0.2, 0.31, s.paints.wood(), "seat")


@thing("slide", 0.34)
def _slide(s: Sketch) -> None:
    frame = s.paints.metal()
    for x in (-0.5, -0.25):
        s.bar((x, 0), (x, 1), 0.07, frame, "ladder")
    for y in (0.2, 0.42, 0.64):
        s.bar((-0.5, y), (-0.25, y), 0.06, frame, "ladder")
    s.shape(
        [(-0.28, 0.82), (-0.05, 0.82), (0.65, 0.14), (0.95, 0.1), (0.95, 0), (0.55, 0.02), (-0.28, 0.68)],
        s.paints.lacquer(),
        "chute",
    )


@thing("campfire", 0.15)
def _campfire(s: Sketch) -> None:
    s.shape(
        [(-0.35, 0.1), (-0.38, 0.5), (-0.2, 0.4), (-0.05, 1), (0.15, 0.55), (0.32, 0.7), (0.36, 0.1)],
        s.paints.plain("orange", "red"),
        "flame",
    )
    s.shape([(-0.2, 0.1), (-0.12, 0.4), (0, 0.65), (0.16, 0.35), (0.2, 0.1)], s.paints.plain("yellow"), "flame")
    for side in (-1, 1):
        s.bar((side * 0.6, 0.02), (-side * 0.5, 0.24), 0.16, s.paints.wood(), "log")


@thing("market stall", 0.4)
def _market_stall(s: Sketch) -> None:
    wood = s.paints.wood(upright=True)
    for x in (-0.55, 0.55):
        s.box(x - 0.03, 0, x + 0.03, 0.75, wood, "pole")
    s.box(-0.6, 0, 0.6, 0.36, s.paints.wood(), "counter")
    for i in range(6):
        s.oval(-0.45 + 0.18 * i, 0.4, 0.08, 0.08, s.paints.plain("red", "orange", "green", "yellow", "purple"), "fruit")
    texture = "striped" if s.rng.happens(0.7) else None
    s.shape(
        [(-0.6, 1), (0.6, 1), (0.75, 0.68), (-0.75, 0.68)],
        s.paints.patterned(s.paints.fabric(0), 0.6, texture),
        "awning",
    )


@thing("flag", 0.44)
def _flag(s: Sketch) -> None:
    s.bar((0, 0), (0, 1), 0.04, s.paints.metal("grey", "white", "yellow"), "pole")
    texture = s.rng.pick(("checkered", "checkered", "crossed", "striped"))
    cloth = s.paints.patterned(s.paints.fabric(0), 0.5, texture)
    s.shape([(0.02, 0.98), (0.24, 0.93), (0.5, 0.98), (0.5, 0.62), (0.24, 0.57), (0.02, 0.62)], cloth, "cloth")


@thing("goal", 0.34)
def _goal(s: Sketch) -> None:
    post = s.paints.metal("white", "white", "red", "yellow")
    ground = s.paints.plain("white", "grey")
    net = replace(
        s.paints.patterned(ground, 0.45, "gridded"),
        color=s.paints.any("green", "grey", "black", "blue", "brown"),
        second=ground.color,
    )
    s.shape([(-0.9, 0), (-0.85, 0.95), (0.85, 0.95), (0.9, 0)], net, "net")
    for x in (-0.9, 0.9):
        s.bar((x, 0), (x, 1), 0.08, post, "goal post")
    s.bar((-0.94, 0.97), (0.94, 0.97), 0.08, post, "goal post")


@thing("picnic blanket", 0.09, "flat")
def _picnic_blanket(s: Sketch) -> None:
    cloth, half = (
        s.paints.patterned(s.paints.fabric(0), 0.6, "checkered" if s.rng.happens(0.7) else None),
        s.rng.between(1.6, 2.4),
    )
    s.shape([(-half, 0), (-half + 0.5, 1), (half - 0.2, 1), (half, 0)], replace(cloth, lying=True))
    s.put("bowl", s.rng.between(-0.6, 0.6), 0.4)
