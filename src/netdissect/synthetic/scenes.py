"""The scenes: their things and frequencies, grounds and backdrops.

Every thing occurs in several scenes, and most scenes of one layout differ only in their things, so that a network has
to recognize things to classify scenes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Layout = Literal["land", "shore", "deep", "road", "room"]


@dataclass(frozen=True, slots=True)
class Scene:
    """Description of the images of one scene class.

    Attributes
    ----------
    layout
        Division of the image: sky and ground; sky, water and ground; water and its bed; sky and road; or wall and
        floor.
    grounds
        Types of ground and their weights.
    backdrops
        Types of backdrop on the horizon and their weights; rooms have none.
    thing_counts
        Expected number of each thing.
    textures
        Preferred textures of walls, floors and pavements; each is preferred in several scenes.
    """

    layout: Layout
    grounds: Mapping[str, float]
    backdrops: Mapping[str, float]
    thing_counts: Mapping[str, float]
    textures: tuple[str, ...] = ()


def _table(text: str) -> dict[str, float]:
    """Parse ``name 1.5, other name 0.3``."""
    pairs = (entry.rsplit(maxsplit=1) for entry in text.split(",") if entry.strip())
    return {name.strip(): float(weight) for name, weight in pairs}


def _scene(layout: Layout, grounds: str, backdrops: str, cast: str, fashion: str = "") -> Scene:
    return Scene(layout, _table(grounds), _table(backdrops), _table(cast), tuple(fashion.split()))


SCENES: dict[str, Scene] = {
    "park": _scene(
        "land", "lawn 5, path 1, earth 1", "woods 2, hills 1, skyline 2, none 1",
        "bench 1.3, tree 1.6, street lamp 0.7, dog 0.8, bush 0.8, flower 0.6, person 1, ball 0.3, bicycle "
        "0.5, bird 0.4, bin 0.4, picnic blanket 0.5, swing 0.25, slide 0.2, goal 0.1",
        "woven honeycombed",
    ),
    "playground": _scene(
        "land", "lawn 3, sand 2, path 1", "woods 2, hills 1, skyline 2, none 1",
        "swing 0.9, slide 0.9, ball 0.9, person 1.3, tree 0.6, bench 0.4, fence 0.4, balloon 0.15, bicycle "
        "0.3, goal 0.25",
        "dotted checkered",
    ),
    "farm": _scene(
        "land", "field 3, lawn 2, earth 1", "hills 2, woods 2, mountains 1, none 1",
        "barn 0.8, cow 1.1, sheep 0.6, horse 0.4, tractor 0.7, fence 0.7, windmill 0.25, tree 0.5, dog 0.2",
        "striped wavy",
    ),
    "village": _scene(
        "land", "lawn 2, path 2, earth 1, field 1", "hills 2, mountains 1, woods 1, none 1",
        "house 1.7, barn 0.25, horse 0.3, sheep 0.2, cow 0.2, tree 0.8, market stall 0.2, fence 0.6, car 0.4, "
        "flower 0.4, dog 0.3, windmill 0.3, person 0.4, tractor 0.2, train 0.2",
        "striped scaly",
    ),
    "garden": _scene(
        "land", "lawn 4, earth 2, path 1", "woods 3, hills 1, none 1",
        "flower 3, bush 1.3, fence 0.9, parasol 0.4, house 0.4, bird 0.4, tree 0.4, bench 0.3, swing 0.25, "
        "cactus 0.25",
    ),
    "forest": _scene(
        "land", "earth 3, lawn 2, path 1", "woods 6, none 1",
        "tree 2.6, fir 2.2, bush 0.8, rock 0.5, bird 0.4, flower 0.2, campfire 0.3, tent 0.2",
    ),
    "campsite": _scene(
        "land", "lawn 3, earth 2, sand 1", "woods 3, mountains 2, hills 1",
        "tent 1.4, campfire 0.9, picnic blanket 0.4, flag 0.2, fir 0.8, tree 0.5, person 0.5, rock 0.3, "
        "bicycle 0.3, car 0.2",
    ),
    "mountain": _scene(
        "land", "lawn 2, snow 2, earth 1, stones 2", "mountains 7",
        "fir 1.3, rock 1.4, house 0.3, sheep 0.4, cow 0.2, bird 0.5, cloud 0.7, tent 0.15, balloon 0.2, "
        "airplane 0.3, train 0.15",
    ),
    "desert": _scene(
        "land", "sand 5, earth 2, stones 1", "hills 2, mountains 1, none 3",
        "cactus 1.9, rock 1, palm 0.4, sun 0.7, bird 0.3, tent 0.2, horse 0.15, truck 0.15",
    ),
    "airfield": _scene(
        "land", "lawn 2, pavement 4", "none 2, hills 1, skyline 1, woods 1",
        "airplane 1.8, balloon 0.5, tower block 0.3, truck 0.5, cloud 0.6, bus 0.2, sign 0.2",
        "striped zigzagged",
    ),
    "savanna": _scene(
        "land", "lawn 2, earth 2, sand 2, field 1", "hills 2, mountains 1, none 2, woods 1",
        "zebra 1.2, giraffe 0.9, elephant 0.7, palm 0.4, tree 0.5, bush 0.5, rock 0.3, sun 0.4, horse 0.2, "
        "bird 0.2, cactus 0.5, campfire 0.15",
    ),
    "zoo": _scene(
        "land", "path 3, pavement 3, lawn 1", "woods 3, skyline 1, none 1",
        "fence 1.1, elephant 0.7, zebra 0.6, giraffe 0.5, person 0.9, bench 0.5, bird 0.3, sign 0.4, aquarium "
        "0.2, balloon 0.2, bin 0.3, market stall 0.3",
        "honeycombed gridded",
    ),
    "market": _scene(
        "land", "pavement 4, path 2, earth 1", "skyline 2, hills 1, none 1",
        "market stall 1.8, person 1.2, flag 0.4, parasol 0.5, house 0.4, bicycle 0.3, balloon 0.2, truck 0.3, "
        "tower block 0.4, train 0.1",
        "woven checkered",
    ),
    "sports field": _scene(
        "land", "mown lawn 6, lawn 1", "woods 1, skyline 2, none 1",
        "goal 1.1, person 1.4, ball 0.9, flag 0.7, bench 0.4, sign 0.2, bird 0.2",
        "striped",
    ),
    "seabed": _scene(
        "deep", "sand 4, stones 2, earth 1", "mountains 1, none 3",
        "fish 2.2, seaweed 1.2, coral 1, rock 0.6, bottle 0.2, ship 0.3",
    ),
    "beach": _scene(
        "shore", "sand 6, stones 1", "none 3, hills 1, mountains 1",
        "parasol 1.4, palm 0.8, coral 0.3, seaweed 0.35, ship 0.2, lighthouse 0.3, picnic blanket 0.3, flag 0.3, "
        "fish 0.2, market stall 0.2, person 1.1, ball 0.7, sailboat 0.8, sun 0.4, bird 0.4, dog 0.2, slide 0.15, "
        "campfire 0.2, airplane 0.25, bottle 0.2",
    ),
    "harbor": _scene(
        "shore", "pavement 4, stones 2, lawn 1", "none 2, skyline 1, hills 1",
        "ship 1.2, sailboat 1, lighthouse 0.8, house 0.4, flag 0.4, person 0.4, bird 0.6, truck 0.3, street "
        "lamp 0.2, market stall 0.2, fish 0.4, airplane 0.1",
        "scaly woven",
    ),
    "street": _scene(
        "road", "pavement 4, lawn 1", "skyline 2, none 2",
        "tower block 1.7, car 1.1, bus 0.6, traffic light 0.7, street lamp 0.6, person 0.7, bicycle 0.4, tree "
        "0.3, sign 0.2, market stall 0.15",
        "gridded honeycombed",
    ),
    "race track": _scene(
        "road", "lawn 3, earth 1, sand 1", "hills 2, skyline 1, woods 1, none 1",
        "car 2, flag 1.6, person 0.4, sign 0.3, tent 0.3, truck 0.2, bush 0.2",
        "checkered striped",
    ),
    "highway": _scene(
        "road", "lawn 3, field 2, earth 1, sand 1", "hills 2, mountains 1, woods 1, none 1",
        "truck 1.2, car 1.2, bus 0.3, sign 1.1, fence 0.2, bush 0.4, street lamp 0.2, airplane 0.3, tractor "
        "0.2, train 0.25",
    ),
    "station": _scene(
        "road", "pavement 4, earth 1, stones 1", "skyline 2, none 1, hills 1",
        "train 1.2, sign 0.5, bench 0.6, traffic light 0.5, person 0.8, street lamp 0.5, bin 0.3, tower block "
        "0.4",
        "checkered gridded",
    ),
    "bedroom": _scene(
        "room", "boards 3, carpet 3", "",
        "bed 1, chest of drawers 0.6, curtain 0.6, floor lamp 0.4, rug 0.6, picture frame 0.6, window 0.5, "
        "cabinet 0.4, mirror 0.2, armchair 0.2, television 0.4, sofa 0.15",
        "dotted wavy",
    ),
    "living room": _scene(
        "room", "boards 3, carpet 3", "",
        "sofa 1, television 0.4, armchair 0.6, floor lamp 0.6, rug 0.7, picture frame 0.8, curtain 0.5, "
        "potted plant 0.5, aquarium 0.35, bookcase 0.2, table 0.2, window 0.3, chest of drawers 0.2, bed "
        "0.15, stove 0.15",
        "zigzagged woven",
    ),
    "kitchen": _scene(
        "room", "tiles 4, boards 1", "",
        "stove 0.8, refrigerator 0.7, sink 0.5, cabinet 0.5, table 0.5, wall shelf 0.8, chair 0.4, window "
        "0.4, clock 0.4, bin 0.3, towel 0.2",
        "checkered gridded",
    ),
    "dining room": _scene(
        "room", "boards 3, carpet 1, tiles 1", "",
        "table 1, chair 1.8, ceiling lamp 0.9, picture frame 0.5, curtain 0.4, potted plant 0.3, cabinet 0.3, "
        "rug 0.3, window 0.3, clock 0.2, stove 0.25, refrigerator 0.25, chest of drawers 0.2",
        "striped crossed",
    ),
    "bathroom": _scene(
        "room", "tiles 5, boards 1", "",
        "bathtub 0.8, toilet 0.7, sink 0.7, mirror 0.8, towel 0.9, window 0.2, wall shelf 0.2, potted plant "
        "0.2, rug 0.2",
        "scaly gridded honeycombed",
    ),
    "office": _scene(
        "room", "carpet 3, boards 2", "",
        "desk 1.1, chair 0.7, aquarium 0.25, bookcase 0.5, ceiling lamp 0.4, window 0.5, potted plant 0.5, "
        "clock 0.4, bin 0.5, picture frame 0.2, cabinet 0.2, sofa 0.2, refrigerator 0.25, blackboard 0.3, "
        "television 0.15",
        "woven striped",
    ),
    "classroom": _scene(
        "room", "boards 3, tiles 1, carpet 1", "",
        "blackboard 1, desk 0.7, table 0.5, chair 1.4, clock 0.6, person 0.5, window 0.4, ceiling lamp 0.4, "
        "bookcase 0.2, wall shelf 0.2, television 0.2",
        "zigzagged dotted",
    ),
    "fabric shop": _scene(
        "room", "boards 3, carpet 2", "",
        "sample board 2.3, desk 0.5, person 0.7, mirror 0.3, rug 0.3, curtain 0.5, armchair 0.2, bed 0.3, "
        "chest of drawers 0.2, towel 0.4",
        "striped dotted wavy",
    ),
    "tile shop": _scene(
        "room", "tiles 3, boards 2", "",
        "sample board 2.3, desk 0.5, person 0.7, sink 0.3, bathtub 0.25, cabinet 0.2, bin 0.2, toilet 0.4, "
        "stove 0.15",
        "gridded honeycombed scaly",
    ),
    "carpet shop": _scene(
        "room", "carpet 3, boards 2", "",
        "sample board 2.3, desk 0.5, person 0.7, rug 1.2, sofa 0.2, floor lamp 0.3",
        "zigzagged woven crossed",
    ),
    "library": _scene(
        "room", "boards 2, carpet 3", "",
        "bookcase 2, armchair 0.6, table 0.4, desk 0.2, floor lamp 0.4, ceiling lamp 0.3, rug 0.3, person "
        "0.3, window 0.2, potted plant 0.2, sofa 0.2, blackboard 0.15",
        "blotchy crossed",
    ),
}  # fmt: skip

SCENE_NAMES = tuple(SCENES)
