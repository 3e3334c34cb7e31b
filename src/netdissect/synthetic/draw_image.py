"""Images by number: the same number, seed and size give the same image and labels.

index, seed, size -> draw -> DrawnImage (pixels, scene, what each pixel shows)
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from netdissect.synthetic.portable_random import PortableRandom
from netdissect.synthetic.rasterize import Canvas, Drawing
from netdissect.synthetic.scene_composer import SceneComposer, swatches
from netdissect.synthetic.scenes import SCENE_NAMES, SCENES

Bytes = npt.NDArray[np.uint8]
SWATCHES = 0.08  # share of images that are nothing but texture


@dataclass(frozen=True)
class DrawnImage:
    """An image with its drawing.

    Attributes
    ----------
    image
        uint8 (size, size, 3), lit and with noise.
    scene
        Name of the scene, or None for an image of nothing but texture.
    drawing
        The surfaces that each pixel shows.
    """

    image: Bytes
    scene: str | None
    drawing: Drawing


def draw(index: int, seed: int = 0, size: int = 96, *, swatch_share: float = SWATCHES) -> DrawnImage:
    """Draw one image of the world.

    Parameters
    ----------
    index
        Which of the images; each can be drawn alone.
    seed
        Of the world.
    size
        Pixels of the square image.
    swatch_share
        Share of images that show nothing but texture, and so no scene.
    """
    dice = PortableRandom(f"netdissect world 1/{seed}/{index}")
    canvas = Canvas(size)
    scene = None if dice.happens(swatch_share) else dice.pick(SCENE_NAMES)
    if scene is None:
        swatches(canvas, dice)
    else:
        SceneComposer(canvas, dice, SCENES[scene])
    drawing = canvas.finish()
    return DrawnImage(_light(drawing.image, dice), scene, drawing)


def _light(image: Bytes, dice: PortableRandom) -> Bytes:
    """Shine a light from somewhere, tint it, and add the noise of a camera."""
    size = len(image)
    axis = np.arange(size, dtype=np.float32) * np.float32(2 / (size - 1)) - 1
    gain = dice.between(0.8, 1.15) + dice.between(-0.14, 0.14) * axis[:, None] + dice.between(-0.14, 0.14) * axis[None]
    tint = np.array([dice.between(0.9, 1.08) for _ in range(3)], dtype=np.float32)
    lit = image * (gain[:, :, None] * tint)
    lift, noise = dice.between(-4, 14), dice.between(1, 8)
    y, x = dice.integer(0, 127), dice.integer(0, 127)
    grain = _grain()[y : y + size, x : x + size]
    return np.clip(lit + (lift + 0.5) + noise * grain, 0, 255).astype(np.uint8)


@cache
def _grain() -> npt.NDArray[np.float32]:
    """Return noise of mean 0 and variance 1, float32 (512, 512, 3); each channel is a sum of three uniform numbers."""
    rng = np.random.default_rng(1)
    parts = rng.integers(0, 256, (3, 512, 512, 3)).sum(axis=0) / 256 - 1.5
    grain: npt.NDArray[np.float32] = (2 * parts).astype(np.float32)
    return grain
