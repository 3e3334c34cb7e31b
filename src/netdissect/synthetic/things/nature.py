"""Plants, animals, people, and other outdoor objects."""

from dataclasses import replace

from netdissect.synthetic.palette import Paint
from netdissect.synthetic.shapes import Sketch, thing


@thing("tree", 0.58)
def _tree(s: Sketch) -> None:
    trunk, crown = s.paints.wood(upright=True), s.paints.leaves()
    s.shape([(-0.07, 0), (-0.045, 0.5), (0.045, 0.5), (0.07, 0)], trunk, "trunk")
    if s.rng.happens(0.5):
        s.oval(0, 0.68, s.rng.between(0.24, 0.34), 0.32, crown, "crown")
        return
    for x, y in ((-0.19, 0.54), (0.19, 0.56), (0, 0.74)):
        s.oval(s.rng.between(-0.03, 0.03) + x, y, 0.22, 0.21, crown, "crown")


@thing("fir", 0.58)
def _fir(s: Sketch) -> None:
    s.box(-0.05, 0, 0.05, 0.22, s.paints.wood(upright=True), "trunk")
    leaves, wide = s.paints.leaves(), s.rng.between(0.24, 0.34)
    for i in range(3):
        y, half = 0.14 + 0.25 * i, wide * (1 - 0.24 * i)
        s.shape([(-half, y), (0, y + 0.38), (half, y)], leaves, "crown")


@thing("palm", 0.56)
def _palm(s: Sketch) -> None:
    lean = s.rng.between(0.02, 0.2)
    s.shape(
        [
            (-0.05, 0),
            (0.4 * lean - 0.03, 0.4),
            (lean - 0.025, 0.8),
            (lean + 0.025, 0.8),
            (0.4 * lean + 0.04, 0.4),
            (0.05, 0),
        ],
        s.paints.wood(),
        "trunk",
    )
    leaf = s.paints.leaves()
    for dx, dy in ((-0.36, -0.16), (0.36, -0.16), (-0.33, 0.08), (0.33, 0.08), (-0.12, 0.2), (0.16, 0.2)):
        s.shape(
            [
                (lean, 0.76),
                (lean + 0.5 * dx, 0.86 + 0.6 * dy),
                (lean + dx, 0.78 + dy),
                (lean + 0.5 * dx, 0.76 + 0.5 * dy),
            ],
            leaf,
            "frond",
        )


@thing("cactus", 0.34)
def _cactus(s: Sketch) -> None:
    skin = s.paints.of("foliage", s.paints.any("green", "green", "green", "grey", "purple"), 1.3)
    for side, y in ((-1, s.rng.between(0.3, 0.45)), (1, s.rng.between(0.4, 0.55))):
        s.bar((0, y), (side * 0.28, y), 0.12, skin, "limb")
        s.bar((side * 0.25, y - 0.06), (side * 0.25, y + 0.3), 0.13, skin, "limb")
    s.box(-0.1, 0, 0.1, 0.88, skin)
    s.dome(0, 0.86, 0.1, 0.14, skin)


@thing("bush", 0.2)
def _bush(s: Sketch) -> None:
    leaves, berries = s.paints.leaves(), s.paints.plain("red", "pink", "purple", "white", "yellow")
    for x, r in ((-0.45, 0.4), (0.45, 0.42), (0, 0.55)):
        s.dome(x, 0, r, 1.8 * r, leaves)
    if s.rng.happens(0.4):
        for _ in range(6):
            s.oval(s.rng.between(-0.5, 0.5), s.rng.between(0.15, 0.6), 0.07, 0.07, berries, "berry")


@thing("flower", 0.17)
def _flower(s: Sketch) -> None:
    petal, middle = (
        s.paints.plain("red", "pink", "purple", "white", "yellow", "orange", "blue"),
        s.paints.plain("yellow", "brown", "orange"),
    )
    leaf = s.paints.of("foliage", s.paints.any("green"), 1.3)
    s.bar((0, 0), (0, 0.7), 0.07, leaf, "stem")
    s.shape([(0, 0.15), (0.3, 0.45), (0.22, 0.2)], leaf, "leaf")
    s.shape([(0, 0.1), (-0.3, 0.38), (-0.22, 0.14)], leaf, "leaf")
    for dx, dy in ((0, 0.2), (0.19, 0.06), (0.12, -0.16), (-0.12, -0.16), (-0.19, 0.06)):
        s.oval(dx, 0.76 + dy, 0.14, 0.14, petal, "petal")
    s.oval(0, 0.76, 0.11, 0.11, middle)


@thing("rock", 0.13)
def _rock(s: Sketch) -> None:
    a, b = s.rng.between(-0.4, 0.1), s.rng.between(0.3, 0.6)
    s.shape([(-0.9, 0), (-0.7, 0.5), (a, 1), (b, 0.8), (0.85, 0.3), (0.95, 0)], s.paints.stone())


@thing("cloud", 0.13, "sky")
def _cloud(s: Sketch) -> None:
    puff = s.paints.plain("white", "white", "grey", "pink")
    for x, y, r in ((-0.7, 0.3, 0.35), (0.7, 0.32, 0.36), (-0.2, 0.5, 0.5), (0.35, 0.48, 0.42)):
        s.oval(x, y, r, r, puff)


@thing("sun", 0.14, "sky")
def _sun(s: Sketch) -> None:
    s.oval(0, 0.5, 0.5, 0.5, s.paints.plain("yellow", "orange", "white", "red"))


def head(s: Sketch, x: float, y: float, size: float, skin: Paint) -> None:
    """Paint a person's head with hair and eyes."""
    hair = s.paints.plain("black", "brown", "yellow", "grey", "orange")
    s.oval(x, y, size, 1.15 * size, skin, "head")
    s.dome(x, y + 0.3 * size, 1.06 * size, 1.05 * size, hair, "hair")
    for dx in (-0.4, 0.4):
        s.oval(x + dx * size, y - 0.05 * size, 0.16 * size, 0.16 * size, s.paints.plain("black"), "head")


@thing("person", 0.4)
def _person(s: Sketch) -> None:
    skin, shirt, trousers = s.paints.skin(), s.paints.fabric(0.4, 0.4), s.paints.fabric(0.1)
    step, swing = s.rng.between(0.0, 0.1), s.rng.between(0.04, 0.16)
    for side in (-1, 1):
        s.bar((side * 0.06, 0.46), (side * (0.05 + step), 0), 0.1, trousers, "leg")
        s.bar((side * 0.13, 0.72), (side * (0.14 + swing), 0.42), 0.075, shirt, "arm")
        s.oval(side * (0.145 + swing), 0.4, 0.045, 0.045, skin, "arm")
    if s.rng.happens(0.3):
        s.shape([(-0.1, 0.5), (0.1, 0.5), (0.22, 0.22), (-0.22, 0.22)], trousers, "skirt")
    s.shape([(-0.14, 0.77), (0.14, 0.77), (0.11, 0.42), (-0.11, 0.42)], shirt, "torso")
    head(s, 0, 0.87, 0.105, skin)


def _legs(s: Sketch, xs: tuple[float, ...], top: float, width: float, paint: Paint) -> None:
    for i, x in enumerate(xs):
        s.bar((x, top), (x + s.rng.between(-0.06, 0.06), 0), width, paint.times(0.85 if i % 2 else 1), "leg")


@thing("cow", 0.22)
def _cow(s: Sketch) -> None:
    hide = s.paints.plain("white", "brown", "black", "grey")
    if s.rng.happens(0.6):
        hide = s.paints.patterned(hide, 0.5, "blotchy")
    _legs(s, (-0.5, -0.35, 0.35, 0.5), 0.45, 0.13, hide)
    s.bar((-0.66, 0.75), (-0.78, 0.25), 0.06, hide, "tail")
    s.oval(0, 0.58, 0.68, 0.28, hide, "torso")
    s.oval(-0.2, 0.33, 0.14, 0.1, s.paints.plain("pink"), "udder")
    for side in (-0.12, 0.1):
        s.bar((0.78 + side, 0.92), (0.76 + 1.8 * side, 1.08), 0.06, s.paints.plain("white", "yellow", "grey"), "horn")
    s.oval(0.78, 0.8, 0.2, 0.18, hide, "head")
    s.oval(0.92, 0.7, 0.14, 0.11, s.paints.plain("pink", "brown"), "muzzle")
    s.oval(0.8, 0.85, 0.035, 0.035, s.paints.plain("black"), "head")


@thing("horse", 0.28)
def _horse(s: Sketch) -> None:
    coat, mane = (
        s.paints.plain("brown", "black", "white", "grey", "orange"),
        s.paints.plain("black", "brown", "yellow", "white"),
    )
    _legs(s, (-0.4, -0.28, 0.26, 0.38), 0.42, 0.09, coat)
    s.shape([(-0.48, 0.6), (-0.66, 0.5), (-0.68, 0.15), (-0.58, 0.3)], mane, "tail")
    s.oval(-0.02, 0.5, 0.52, 0.18, coat, "torso")
    s.shape([(0.25, 0.5), (0.42, 0.88), (0.6, 0.86), (0.5, 0.45)], coat, "neck")
    s.shape([(0.24, 0.58), (0.36, 0.95), (0.5, 0.95), (0.38, 0.6)], mane, "mane")
    s.shape([(0.42, 0.82), (0.46, 1.02), (0.56, 0.98), (0.82, 0.72), (0.74, 0.64)], coat, "head")


@thing("zebra", 0.28)
def _zebra(s: Sketch) -> None:
    coat = replace(
        s.paints.plain("white", "white", "yellow", "grey"),
        texture="striped",
        scale=s.rng.between(0.45, 0.65),
        angle=90.0,
    )
    coat = replace(coat, second=s.paints.any("black", "black", "brown", "purple"))
    _legs(s, (-0.4, -0.28, 0.26, 0.38), 0.42, 0.1, replace(coat, angle=0.0))
    s.bar((-0.5, 0.58), (-0.64, 0.22), 0.05, s.paints.plain("black", "brown"), "tail")
    s.oval(-0.02, 0.5, 0.54, 0.21, coat, "torso")
    s.shape([(0.22, 0.5), (0.4, 0.9), (0.58, 0.86), (0.5, 0.45)], replace(coat, angle=20.0), "neck")
    s.shape([(0.42, 0.82), (0.46, 1.02), (0.56, 0.98), (0.82, 0.74), (0.74, 0.66)], coat, "head")


@thing("giraffe", 0.5)
def _giraffe(s: Sketch) -> None:
    coat = replace(s.paints.plain("orange", "yellow", "brown"), texture="honeycombed", scale=s.rng.between(0.4, 0.6))
    coat = replace(coat, second=s.paints.any("white", "yellow"))
    _legs(s, (-0.22, -0.15, 0.14, 0.21), 0.36, 0.05, coat)
    s.bar((-0.25, 0.44), (-0.32, 0.24), 0.03, s.paints.plain("brown", "black"), "tail")
    s.oval(0, 0.4, 0.27, 0.12, coat, "torso")
    s.shape([(0.1, 0.42), (0.3, 0.9), (0.4, 0.9), (0.28, 0.4)], coat, "neck")
    for x in (0.31, 0.37):
        s.bar((x, 0.92), (x, 1.02), 0.025, s.paints.plain("brown", "black"), "horn")
    s.shape([(0.28, 0.95), (0.4, 0.95), (0.54, 0.84), (0.5, 0.8), (0.3, 0.86)], coat, "head")


@thing("elephant", 0.36)
def _elephant(s: Sketch) -> None:
    hide = s.paints.of("stone", s.paints.any("grey", "grey", "brown", "blue", "pink"), 1.1)
    _legs(s, (-0.4, -0.2, 0.18, 0.36), 0.4, 0.15, hide)
    s.bar((-0.55, 0.6), (-0.66, 0.3), 0.04, hide, "tail")
    s.oval(-0.05, 0.58, 0.54, 0.32, hide, "torso")
    s.shape([(0.7, 0.72), (0.86, 0.6), (0.86, 0.2), (0.98, 0.12), (0.78, 0.08), (0.74, 0.5)], hide, "elephant trunk")
    s.oval(0.56, 0.72, 0.25, 0.24, hide, "head")
    s.shape([(0.72, 0.55), (0.95, 0.5), (0.74, 0.48)], s.paints.plain("white", "yellow"), "tusk")
    s.oval(0.42, 0.72, 0.16, 0.24, hide.times(0.8), "ear")


@thing("fish", 0.13, "water")
def _fish(s: Sketch) -> None:
    skin = s.paints.patterned(s.paints.plain(), 0.4, s.rng.pick(("scaly", "scaly", "striped")))
    fin = s.paints.plain()
    s.shape([(-0.6, 0.5), (-1.1, 0.95), (-1.0, 0.5), (-1.1, 0.05)], fin, "fin")
    s.shape([(-0.2, 0.85), (0.0, 1.15), (0.3, 0.85)], fin, "fin")
    s.oval(0, 0.5, 0.75, 0.42, skin)
    s.oval(0.46, 0.58, 0.09, 0.09, s.paints.plain("white", "black", "yellow"), "eye")


@thing("seaweed", 0.3)
def _seaweed(s: Sketch) -> None:
    leaf = s.paints.leaves()
    for x in (-0.2, 0.0, 0.2):
        sway, top = s.rng.between(0.05, 0.12), s.rng.between(0.7, 1.0)
        left = [(x - 0.05 + sway * side, top * y) for side, y in ((0, 0), (1, 0.25), (-1, 0.5), (1, 0.75))]
        right = [(u + 0.11, v) for u, v in reversed(left)]
        s.shape([*left, (x, top), *right], leaf, "leaf")


@thing("coral", 0.2)
def _coral(s: Sketch) -> None:
    skin = s.paints.of("stone", s.paints.any("red", "pink", "orange", "purple", "yellow", "white"), 1.3)
    for start, end in (
        ((0, 0), (0, 1)),
        ((0, 0.3), (-0.4, 0.75)),
        ((0, 0.4), (0.4, 0.9)),
        ((-0.25, 0.55), (-0.5, 0.5)),
        ((0.2, 0.62), (0.5, 0.55)),
    ):
        s.bar(start, end, 0.17, skin, "branch")


@thing("dog", 0.17)
def _dog(s: Sketch) -> None:
    coat, ear = s.paints.plain("brown", "black", "white", "orange", "grey"), s.paints.plain("brown", "black", "orange")
    _legs(s, (-0.45, -0.32, 0.28, 0.42), 0.4, 0.12, coat)
    s.bar((-0.5, 0.55), (-0.78, s.rng.between(0.7, 0.95)), 0.09, coat, "tail")
    s.oval(-0.05, 0.48, 0.52, 0.2, coat, "torso")
    s.oval(0.52, 0.75, 0.22, 0.21, coat, "head")
    s.oval(0.74, 0.68, 0.15, 0.1, coat.times(0.9), "muzzle")
    s.oval(0.86, 0.71, 0.05, 0.05, s.paints.plain("black"), "muzzle")
    s.oval(0.4, 0.72, 0.09, 0.2, ear, "ear")


@thing("sheep", 0.18)
def _sheep(s: Sketch) -> None:
    face, wool = (
        s.paints.plain("black", "brown", "grey"),
        s.paints.of("foliage", s.paints.any("white", "white", "grey", "brown"), 0.88),
    )
    _legs(s, (-0.35, -0.22, 0.22, 0.35), 0.35, 0.1, face)
    for x, y in ((-0.4, 0.5), (0.35, 0.5), (-0.05, 0.46), (-0.2, 0.68), (0.18, 0.68)):
        s.oval(x, y, 0.32, 0.27, wool, "torso")
    s.oval(0.64, 0.68, 0.17, 0.22, face, "head")
    s.dome(0.6, 0.8, 0.17, 0.16, wool, "head")


@thing("bird", 0.12, "sky")
def _bird(s: Sketch) -> None:
    coat = s.paints.plain("white", "grey", "black", "brown", "blue", "red")
    lift = s.rng.between(0.3, 0.5) * s.rng.sign()
    s.shape([(-0.5, 0.5), (-0.9, 0.65), (-0.85, 0.4)], coat, "tail")
    s.oval(0, 0.5, 0.5, 0.2, coat, "torso")
    s.oval(0.48, 0.62, 0.2, 0.18, coat, "head")
    s.shape([(0.64, 0.68), (0.9, 0.6), (0.64, 0.55)], s.paints.plain("orange", "yellow"), "beak")
    s.shape([(-0.25, 0.55), (0.22, 0.55), (-0.25, 0.5 + 1.6 * lift)], coat.times(0.75), "wing")


@thing("ball", 0.12)
def _ball(s: Sketch) -> None:
    color = s.paints.plain()
    if s.rng.happens(0.6):
        color = s.paints.patterned(color, 0.5)
    s.oval(0, 0.5, 0.5, 0.5, color)
