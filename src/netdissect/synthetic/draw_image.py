"""Draw one image by its index: equal index, seed and size give equal images and labels.

index, seed, size -> draw -> DrawnImage (pixels, scene, surface of each pixel)
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
SWATCHES = 0.08  # share of images that show textures only


@dataclass(frozen=True)
class DrawnImage:
    """An image with its drawing.

    Attributes
    ----------
    image
        uint8 (size, size, 3), lit and with noise.
    scene
        Name of the scene; None for an image of textures only.
    drawing
        The surface of each pixel.
    """

    image: Bytes
    scene: str | None
    drawing: Drawing


def draw(index: int, seed: int = 0, size: int = 96, *, swatch_share: float = SWATCHES) -> DrawnImage:
    """Draw one image of the synthetic data set.

    Parameters
    ----------
    index
        Index of the image; each image can be drawn alone.
    seed
        Seed of the data set.
    size
        Size of the square image in pixels.
    swatch_share
        Share of images that show textures only and no scene.
    """
    rng = PortableRandom(f"netdissect world 1/{seed}/{index}")
    canvas = Canvas(size)
    scene = None if rng.happens(swatch_share) else rng.pick(SCENE_NAMES)
    if scene is None:
        swatches(canvas, rng)
    else:
        SceneComposer(canvas, rng, SCENES[scene])
    drawing = canvas.finish()
    return DrawnImage(_light(drawing.image, rng), scene, drawing)


def _light(image: Bytes, rng: PortableRandom) -> Bytes:
    """Light the image with a tinted gradient, and add camera noise."""
    size = len(image)
    axis = np.arange(size, dtype=np.float32) * np.float32(2 / (size - 1)) - 1
    gain = rng.between(0.8, 1.15) + rng.between(-0.14, 0.14) * axis[:, None] + rng.between(-0.14, 0.14) * axis[None]
    tint = np.array([rng.between(0.9, 1.08) for _ in range(3)], dtype=np.float32)
    lit = image * (gain[:, :, None] * tint)
    lift, noise = rng.between(-4, 14), rng.between(1, 8)
    y, x = rng.integer(0, 127), rng.integer(0, 127)
    grain = _grain()[y : y + size, x : x + size]
    return np.clip(lit + (lift + 0.5) + noise * grain, 0, 255).astype(np.uint8)


@cache
def _grain() -> npt.NDArray[np.float32]:
    """Return noise of mean 0 and variance 1, float32 (512, 512, 3); each channel is a sum of three uniform numbers."""
    rng = np.random.default_rng(1)
    parts = rng.integers(0, 256, (3, 512, 512, 3)).sum(axis=0) / 256 - 1.5
    grain: npt.NDArray[np.float32] = (2 * parts).astype(np.float32)
    return grain
