"""A world with known answers: small scenes that the package draws itself, labeled exactly.

    Dice -> Scenery, Stage (things) -> Canvas -> draw -> render, write_synthetic, training_set

Every pixel remembers which surface it shows, and a surface knows its object, part, material and
texture, so labels are exact by construction. Colors are named from the finished image.
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
