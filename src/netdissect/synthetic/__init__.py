"""The synthetic data set: drawn scenes whose labels are exact.

    portable_random.py -> scene_composer.py (background.py, things/) -> rasterize.py -> draw_image.py -> generate.py

`scenes.py` describes the scenes, `palette.py` and `patterns.py` the colors and textures, `shapes.py` the shapes of
things. Each pixel shows one surface, and each surface has an object, part, material and texture, so that labels are
exact. Colors are named from the finished image.
"""

from netdissect.synthetic.background import STUFF_NAMES
from netdissect.synthetic.generate import render, training_objects, training_set, write_synthetic
from netdissect.synthetic.patterns import MATERIALS, TEXTURES
from netdissect.synthetic.scene_composer import THING_NAMES
from netdissect.synthetic.scenes import SCENE_NAMES

MATERIAL_NAMES = tuple(MATERIALS)
TEXTURE_NAMES = tuple(TEXTURES)

__all__ = [
    "MATERIAL_NAMES",
    "SCENE_NAMES",
    "STUFF_NAMES",
    "TEXTURE_NAMES",
    "THING_NAMES",
    "render",
    "training_objects",
    "training_set",
    "write_synthetic",
]
