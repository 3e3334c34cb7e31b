"""Vehicles on land, in the air and on water."""

from netdissect.synthetic.shapes import Sketch, thing


def wheels(s: Sketch, *spots: tuple[float, float]) -> None:
    """Paint wheels of one make, each with its hub; a spot is (x, radius)."""
    tire, hub = s.paints.plain("black", "black", "grey", "brown"), s.paints.metal("grey", "white", "yellow", "red")
    for x, radius in spots:
        s.oval(x, radius, radius, radius, tire, "wheel")
        s.oval(x, radius, 0.5 * radius, 0.5 * radius, hub, "wheel")


@thing("car", 0.2)
def _car(s: Sketch) -> None:
    if s.rng.happens(0.25):
        _car_from_ahead(s)
        return
    body, glass = s.paints.lacquer(), s.paints.glass()
    nose, tail, roof = s.rng.between(0.95, 1.2), s.rng.between(-1.2, -1.0), s.rng.between(0.9, 1.05)
    s.shape([(-0.75, 0.55), (-0.5, roof), (0.3, roof), (0.65, 0.55)], body)
    s.shape([(-0.62, 0.58), (-0.44, roof - 0.1), (-0.1, roof - 0.1), (-0.1, 0.58)], glass, "pane")
    s.shape([(0.0, 0.58), (0.0, roof - 0.1), (0.25, roof - 0.1), (0.5, 0.58)], glass, "pane")
    s.shape([(tail, 0.2), (tail, 0.55), (-0.75, 0.6), (0.65, 0.6), (nose, 0.48), (nose, 0.2)], body)
    s.box(-0.1, 0.24, 0.46, 0.54, body.times(0.88), "door")
    s.oval(nose - 0.06, 0.42, 0.08, 0.08, s.paints.plain("yellow", "white"), "headlight")
    wheels(s, (-0.65, 0.24), (0.65, 0.24))


def _car_from_ahead(s: Sketch) -> None:
    body, lamp = s.paints.lacquer(), s.paints.plain("yellow", "white", "red")
    for x in (-0.42, 0.42):
        s.box(x - 0.12, 0, x + 0.12, 0.3, s.paints.plain("black"), "wheel")
    s.shape([(-0.5, 0.5), (-0.36, 1), (0.36, 1), (0.5, 0.5)], body)
    s.shape([(-0.42, 0.54), (-0.31, 0.92), (0.31, 0.92), (0.42, 0.54)], s.paints.glass(), "pane")
    s.box(-0.6, 0.15, 0.6, 0.56, body)
    s.box(-0.22, 0.2, 0.22, 0.32, s.paints.metal("grey", "black"))
    for x in (-0.44, 0.44):
        s.oval(x, 0.4, 0.1, 0.1, lamp, "headlight")


@thing("bus", 0.32)
def _bus(s: Sketch) -> None:
    body, glass, half = s.paints.lacquer(), s.paints.glass(), s.rng.between(0.95, 1.25)
    s.box(-half, 0.14, half, 1, body)
    s.box(-half, 0.3, half, 0.42, s.paints.lacquer())
    count = s.rng.integer(4, 5)
    step = (2 * half - 0.35) / count
    for i in range(count):
        s.box(-half + 0.08 + i * step, 0.52, -half + 0.02 + (i + 1) * step, 0.86, glass, "pane")
    s.box(half - 0.26, 0.18, half - 0.06, 0.84, glass.times(0.8), "door")
    s.oval(half - 0.03, 0.24, 0.05, 0.05, s.paints.plain("yellow", "white"), "headlight")
    wheels(s, (-0.6 * half, 0.18), (0.5 * half, 0.18))


@thing("truck", 0.3)
def _truck(s: Sketch) -> None:
    cab, back = s.paints.lacquer(), s.rng.between(-1.3, -1.0)
    load = s.paints.lacquer()
    if s.rng.happens(0.35):
        load = s.paints.patterned(load, 0.6)
    s.box(back, 0.16, 0.95, 0.26, s.paints.metal("black", "grey"))
    s.box(back, 0.24, 0.35, 1, load, "container")
    s.shape([(0.42, 0.14), (0.42, 0.84), (0.75, 0.84), (0.95, 0.5), (0.98, 0.14)], cab)
    s.shape([(0.52, 0.5), (0.52, 0.76), (0.72, 0.76), (0.85, 0.5)], s.paints.glass(), "pane")
    s.oval(0.93, 0.3, 0.05, 0.05, s.paints.plain("yellow", "white"), "headlight")
    wheels(s, (0.65 * back, 0.17), (0.3 * back, 0.17), (0.68, 0.17))


@thing("tractor", 0.27)
def _tractor(s: Sketch) -> None:
    body = s.paints.lacquer()
    s.bar((0.45, 0.7), (0.45, 1.0), 0.07, s.paints.metal("black", "grey"), "pipe")
    s.box(-0.1, 0.3, 0.8, 0.7, body)
    s.box(-0.6, 0.4, 0.05, 1.05, s.paints.glass(), "pane")
    s.box(-0.68, 1.0, 0.13, 1.1, body, "roof")
    wheels(s, (-0.4, 0.4), (0.6, 0.23))


@thing("bicycle", 0.19)
def _bicycle(s: Sketch) -> None:
    frame, tire = s.paints.metal(), s.paints.plain("black", "brown", "grey")
    inner = s.paints.plain("white", "grey", "yellow")
    for x in (-0.55, 0.55):
        s.oval(x, 0.36, 0.36, 0.36, tire, "wheel")
        s.oval(x, 0.36, 0.25, 0.25, inner, "wheel")
    for start, end in (
        ((-0.55, 0.36), (-0.2, 0.8)), ((-0.2, 0.8), (0.0, 0.36)), ((-0.55, 0.36), (0.0, 0.36)),
        ((0.0, 0.36), (0.4, 0.82)), ((-0.2, 0.8), (0.4, 0.82)), ((0.55, 0.36), (0.36, 0.98)),
    ):  # fmt: skip
        s.bar(start, end, 0.09, frame)
    s.bar((-0.36, 0.86), (-0.06, 0.86), 0.1, s.paints.plain("black", "brown", "red"), "saddle")
    s.bar((0.36, 0.98), (0.6, 0.94), 0.09, frame.times(0.7), "handlebar")


@thing("sailboat", 0.42, "water")
def _sailboat(s: Sketch) -> None:
    sail, second = s.paints.fabric(0.5), s.paints.fabric(0.2)
    s.bar((0, 0.15), (0, 1), 0.04, s.paints.wood(upright=True), "mast")
    s.shape([(0.05, 0.28), (0.05, 0.97), (0.5, 0.28)], sail, "sail")
    s.shape([(-0.05, 0.28), (-0.05, 0.85), (-0.38, 0.28)], second, "sail")
    s.shape([(-0.5, 0.2), (0.6, 0.22), (0.42, 0), (-0.36, 0)], s.paints.wood(), "hull")


@thing("ship", 0.3, "water")
def _ship(s: Sketch) -> None:
    deck = s.paints.metal("white", "grey", "yellow", "blue")
    for x in (-0.35, 0.05):
        s.shape([(x, 0.7), (x + 0.03, 1), (x + 0.25, 1), (x + 0.22, 0.7)], s.paints.lacquer(), "funnel")
    s.box(-0.7, 0.38, 0.55, 0.74, deck)
    for i in range(5):
        s.oval(-0.55 + i * 0.24, 0.56, 0.07, 0.07, s.paints.glass(), "pane")
    s.shape([(-1.1, 0.42), (1.25, 0.46), (0.95, 0), (-0.95, 0)], s.paints.lacquer(), "hull")


@thing("airplane", 0.22, "sky")
def _airplane(s: Sketch) -> None:
    body, wing = s.paints.metal("white", "grey", "blue", "red", "yellow"), s.paints.lacquer()
    s.shape([(-1.0, 0.5), (-1.22, 1), (-0.95, 1), (-0.65, 0.55)], wing, "tail fin")
    s.shape([(-1.15, 0.5), (-0.9, 0.3), (0.75, 0.26), (1.1, 0.38), (1.15, 0.48), (0.9, 0.62), (-0.9, 0.6)], body)
    for i in range(6):
        s.oval(-0.6 + i * 0.24, 0.5, 0.055, 0.055, s.paints.plain("black", "blue"), "pane")
    s.shape([(-0.2, 0.42), (0.25, 0.42), (-0.35, -0.1), (-0.65, -0.1)], wing.times(0.9), "wing")
    s.oval(-0.1, 0.16, 0.15, 0.08, s.paints.metal("grey", "black"), "engine")


@thing("train", 0.28)
def _train(s: Sketch) -> None:
    body, band, glass = s.paints.lacquer(), s.paints.lacquer(), s.paints.glass()
    for car_x in (-1.85, 0.0):
        nose = 0.35 if car_x == 0.0 else 0.0
        s.shape(
            [(car_x, 0.16), (car_x, 1), (car_x + 1.55, 1), (car_x + 1.75 + nose, 0.5), (car_x + 1.75 + nose, 0.16)],
            body,
        )
        s.box(car_x, 0.3, car_x + 1.7, 0.4, band)
        for i in range(4):
            s.box(car_x + 0.1 + i * 0.38, 0.54, car_x + 0.38 + i * 0.38, 0.84, glass, "pane")
        wheels(s, *((car_x + x, 0.13) for x in (0.3, 0.65, 1.1, 1.45)))


@thing("balloon", 0.34, "sky")
def _balloon(s: Sketch) -> None:
    skin = s.paints.fabric(0.75, 0.7)
    for x in (-0.09, 0.09):
        s.bar((x, 0.12), (2.2 * x, 0.4), 0.02, s.paints.plain("brown", "black"))
    s.shape(
        [
            (-0.12, 0.3),
            (0.12, 0.3),
            (0.3, 0.5),
            (0.36, 0.7),
            (0.26, 0.91),
            (0, 1),
            (-0.26, 0.91),
            (-0.36, 0.7),
            (-0.3, 0.5),
        ],
        skin,
        "envelope",
    )
    s.box(-0.11, 0, 0.11, 0.15, s.paints.wood(), "basket")
