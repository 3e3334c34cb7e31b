"""Colors by family, and the paints of surfaces."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from netdissect.synthetic.patterns import TEXTURES
from netdissect.synthetic.portable_random import PortableRandom

RGB = tuple[int, int, int]

# A few shades of each of the 11 basic color terms; every use adds random jitter.
FAMILIES: dict[str, tuple[RGB, ...]] = {
    "black": ((28, 28, 32), (44, 42, 46)),
    "blue": ((38, 80, 184), (70, 130, 210), (28, 48, 118), (110, 165, 225)),
    "brown": ((120, 76, 40), (92, 58, 34), (150, 104, 62)),
    "grey": ((128, 130, 132), (98, 100, 106), (160, 160, 158)),
    "green": ((52, 140, 64), (34, 98, 52), (110, 170, 70), (90, 190, 130)),
    "orange": ((240, 140, 30), (226, 110, 24), (250, 168, 70)),
    "pink": ((240, 150, 180), (226, 110, 160), (250, 190, 204)),
    "purple": ((128, 60, 160), (92, 50, 124), (164, 112, 200)),
    "red": ((206, 40, 40), (160, 26, 34), (226, 70, 60)),
    "white": ((244, 244, 240), (232, 232, 236)),
    "yellow": ((246, 214, 50), (232, 190, 40), (250, 232, 120)),
}
WOODS: tuple[RGB, ...] = ((150, 100, 58), (104, 66, 40), (190, 146, 96), (70, 46, 34), (212, 176, 130))
SKINS: tuple[RGB, ...] = ((244, 208, 180), (224, 172, 136), (176, 122, 86), (112, 74, 52))
STONES: tuple[RGB, ...] = ((140, 136, 130), (110, 108, 112), (170, 156, 136), (150, 110, 90), (96, 86, 84))
LEAVES: tuple[RGB, ...] = (
    (60, 130, 56), (36, 98, 50), (104, 150, 50), (84, 120, 66), (170, 150, 50), (214, 130, 40), (190, 70, 44),
    (60, 120, 110),
)  # fmt: skip
LAWNS: tuple[RGB, ...] = ((90, 150, 60), (120, 160, 60), (60, 120, 56), (150, 150, 60))
EARTHS: tuple[RGB, ...] = ((130, 90, 60), (96, 70, 50), (170, 120, 80), (110, 100, 84))
SANDS: tuple[RGB, ...] = ((226, 200, 150), (210, 170, 120), (236, 216, 180), (206, 140, 110), (190, 180, 170))
SNOWS: tuple[RGB, ...] = ((240, 244, 250), (220, 228, 240), (250, 240, 240))
PATHS: tuple[RGB, ...] = ((190, 170, 140), (160, 150, 140), (200, 180, 160))
PAVEMENTS: tuple[RGB, ...] = ((150, 150, 152), (120, 118, 120), (180, 176, 170), (170, 150, 140))
SKIES: tuple[RGB, ...] = (
    (120, 180, 236), (90, 150, 220), (176, 196, 214), (200, 204, 208), (238, 170, 130), (240, 196, 200),
    (90, 96, 120), (44, 52, 92), (246, 224, 170), (150, 210, 220), (170, 150, 200),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Paint:
    """The colors, material and texture of a surface.

    Attributes
    ----------
    color, second
        RGB at the lowest and the highest level of the pattern.
    material, texture
        Names, or None. The pattern of the texture hides that of the material.
    scale
        Scale of the pattern; at 1 the period of a texture is one seventh of the image.
    angle
        Angle of the pattern in degrees.
    lying
        Whether the surface lies flat, so that its pattern is foreshortened.
    fading
        Whether the color fades from `color` at the top to `second` at the bottom.
    """

    color: RGB
    second: RGB
    material: str | None = None
    texture: str | None = None
    scale: float = 1.0
    angle: float = 0.0
    lying: bool = False
    fading: bool = False

    @property
    def pattern(self) -> str | None:
        """Name of the tile to draw, if any."""
        return self.texture or self.material

    def times(self, factor: float) -> "Paint":
        """Return the same paint, darker or lighter."""
        return replace(self, color=shade(self.color, factor), second=shade(self.second, factor))


def shade(color: RGB, factor: float) -> RGB:
    """Return the color darkened (below 1) or lightened (above 1, towards white)."""
    if factor <= 1:
        return (round(color[0] * factor), round(color[1] * factor), round(color[2] * factor))
    rest = 1 / factor
    return (
        round(255 - (255 - color[0]) * rest),
        round(255 - (255 - color[1]) * rest),
        round(255 - (255 - color[2]) * rest),
    )


class Paints:
    """Draws random paints.

    Parameters
    ----------
    rng
        Random numbers.
    textures
        Preferred textures: a pattern is one of these with probability 0.75.
    """

    def __init__(self, rng: PortableRandom, fashion: Sequence[str] = ()) -> None:
        self.rng = rng
        self.textures = fashion

    def jitter(self, color: RGB, spread: int = 14) -> RGB:
        """Return a color near this one."""
        light = self.rng.between(-spread, spread)
        red, green, blue = (
            min(255, max(0, round(channel + light + self.rng.between(-spread, spread) / 2))) for channel in color
        )
        return red, green, blue

    def any(self, *families: str) -> RGB:
        """Return a color of one of these families, or of any."""
        return self.jitter(self.rng.pick(FAMILIES[self.rng.pick(families or tuple(FAMILIES))]))

    def contrast(self, color: RGB) -> RGB:
        """Return a color that contrasts with this one."""
        for _ in range(8):
            other = self.any()
            if sum(abs(a - b) for a, b in zip(color, other, strict=True)) > 180:
                return other
        return (250, 250, 246) if sum(color) < 380 else (30, 30, 36)

    def plain(self, *families: str) -> Paint:
        """Return a flat color of no particular material."""
        color = self.any(*families)
        return Paint(color, color)

    def of(self, material: str, color: RGB, grain: float = 0.8, scale: float = 1.0) -> Paint:
        """Return a material in this color; `grain` darkens or lightens its pattern."""
        base = self.jitter(color)
        return Paint(base, shade(base, grain), material, scale=self.rng.about(scale, 0.25))

    def wood(self, upright: bool = False) -> Paint:
        """Return wood, sometimes painted."""
        color = self.rng.pick(WOODS) if self.rng.happens(0.75) else self.any()
        paint = self.of("wood", color, 0.72)
        return replace(paint, angle=90.0) if upright else paint

    def metal(self, *families: str) -> Paint:
        """Return metal: bare, or lacquered in one of these colors or any."""
        color = self.any(*families) if families or self.rng.happens(0.5) else self.any("grey", "grey", "black")
        return self.of("metal", color, 1.35)

    def lacquer(self) -> Paint:
        """Return lacquered metal of any color, as on vehicles."""
        return self.of("metal", self.any(), 1.25)

    def glass(self) -> Paint:
        """Return glass with a glare."""
        color = self.jitter(
            self.rng.pick(((120, 160, 190), (70, 90, 110), (160, 200, 214), (60, 66, 80), (240, 214, 130)))
        )
        return Paint(color, shade(color, 1.6), "glass", scale=self.rng.between(0.35, 0.6))

    def stone(self) -> Paint:
        """Return rough stone."""
        return self.of("stone", self.rng.pick(STONES), 1.3)

    def brick(self) -> Paint:
        """Return a brick wall with light or dark mortar."""
        color = self.any("red", "brown", "orange", "grey", "yellow", "white")
        return Paint(
            color, self.jitter(self.rng.pick(((206, 200, 190), (90, 80, 76)))), "brick", scale=self.rng.about(0.9)
        )

    def plaster(self) -> Paint:
        """Return a plastered wall of any color, mostly a light one."""
        color = self.any()
        return self.of("plaster", shade(color, self.rng.between(1.0, 2.2)), 0.92)

    def ceramic(self) -> Paint:
        """Return glazed ceramic."""
        color = self.any("white", "white", "blue", "green", "pink", "yellow", "grey", "black", "brown")
        return self.of("ceramic", color, 1.25)

    def leaves(self) -> Paint:
        """Return foliage, green or of autumn."""
        return self.of("foliage", self.rng.pick(LEAVES), 1.4, 0.9)

    def fabric(self, textured: float = 0.4, scale: float = 0.6) -> Paint:
        """Return cloth, patterned with the probability `textured`."""
        base = self.of("fabric", self.any(), 0.84)
        return self.patterned(base, scale) if self.rng.happens(textured) else base

    def patterned(self, base: Paint, scale: float = 1.0, texture: str | None = None) -> Paint:
        """Return the paint with a texture in a second, contrasting color."""
        worn = self.textures if self.textures and self.rng.happens(0.75) else tuple(TEXTURES)
        return replace(
            base,
            second=self.contrast(base.color),
            texture=texture or self.rng.pick(worn),
            scale=self.rng.about(scale, 0.3),
            angle=self.rng.between(-20, 20) + (90 if self.rng.happens(0.5) else 0),
        )

    def skin(self) -> Paint:
        """Return a skin color."""
        color = self.jitter(self.rng.pick(SKINS), 8)
        return Paint(color, color)
