"""A network with planted units, whose concepts are known: of one concept, of two, thinned, blurred and shifted."""

from itertools import combinations
from pathlib import Path

from netdissect.experiments.labelers.labeled_network import LabeledNetwork
from netdissect.synthetic.planted import (
    LAYER,
    OBJECTS,
    PARTS,
    PlantedUnit,
    planted_dataset,
    planted_network,
)

UNITS = (
    *(PlantedUnit(name) for name in (*OBJECTS, *PARTS)),
    *(PlantedUnit(name, keep=0.5) for name in OBJECTS),
    *(PlantedUnit(name, blur=1) for name in OBJECTS[:3]),
    *(PlantedUnit(name, shift=(1, -1)) for name in OBJECTS[3:6]),
    *(PlantedUnit(first, other=second, share=1.0) for first, second in combinations(OBJECTS[:5], 2)),
)
"""33 units, of which ten fire on two concepts alike."""
MOST_IMAGES = 300


def planted_units(folder: Path, images: int, size: int = 64) -> LabeledNetwork:
    """Write the images of planted units, and return the network and its truth.

    Parameters
    ----------
    folder
        Of the images; what is there already is used.
    images
        How many, at most 300.
    size
        Of the images in pixels.
    """
    data = folder
    if not (folder / "index.csv").exists():
        data = planted_dataset(folder, images=min(images, MOST_IMAGES), size=size, seed=1, unlabeled=0)
    truth = [unit.concepts for unit in UNITS]
    return LabeledNetwork(planted_network(UNITS, size), data, (LAYER,), planted=truth)
