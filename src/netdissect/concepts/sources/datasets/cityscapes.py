"""Cityscapes (Cordts et al. 2016), as ``leftImg8bit_trainvaltest.zip`` and ``gtFine_trainvaltest.zip`` unpack.

    DIR/leftImg8bit/{train,val}/CITY/CITY_*_leftImg8bit.png
    DIR/gtFine/{train,val}/CITY/CITY_*_gtFine_labelIds.png      the class of each pixel

Archives may also be unpacked into folders of their own names (``DIR/gtFine_trainvaltest/gtFine/train``, or
``DIR/gtFine_trainvaltest/train``).

The split is that of the folders. ``test`` has no labels and is left out. Classes are ``object`` unless another
category is given. The classes ``unlabeled``, ``ego vehicle``, ``rectification border``, ``out of roi``, ``static`` and
``dynamic`` are unlabeled: they are no objects of the scene, or collect objects without a class.

Options: ``?labels=gtCoarse`` reads the coarse polygons, also of ``train_extra`` (training).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from netdissect.concepts.build.sample import Channel, LabelsByCategory, Sample
from netdissect.concepts.sources.mask_stacking import read_gray
from netdissect.concepts.sources.source import find_folder
from netdissect.concepts.sources.spec import SourceSpec
from netdissect.config import Split
from netdissect.errors import SourceError

IMAGE_ENDING = "_leftImg8bit.png"
SPLITS: Mapping[str, Split] = {"train": "train", "train_extra": "train", "val": "val"}
ANNOTATION_TYPES = ("gtFine", "gtCoarse")
LICENSE_PLATE = 34
"""Replaces the id -1 of the authors' table, which does not fit into 8 bits."""

# fmt: off
CLASSES: Mapping[int, str] = {
    0: "", 1: "", 2: "", 3: "",  # unlabeled, ego vehicle, rectification border, out of roi
    4: "", 5: "",  # static, dynamic
    6: "ground", 7: "road", 8: "sidewalk", 9: "parking", 10: "rail track", 11: "building", 12: "wall", 13: "fence",
    14: "guard rail", 15: "bridge", 16: "tunnel", 17: "pole", 18: "polegroup", 19: "traffic light", 20: "traffic sign",
    21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus",
    29: "caravan", 30: "trailer", 31: "train", 32: "motorcycle", 33: "bicycle", LICENSE_PLATE: "license plate",
}
# fmt: on


@dataclass(frozen=True)
class CityscapesSource:
    """A folder of Cityscapes.

    Attributes
    ----------
    folder
        Folder with ``leftImg8bit/`` and ``gtFine/`` or ``gtCoarse/``.
    category
        Category of all classes.
    labels
        ``gtFine`` or ``gtCoarse``.
    """

    folder: Path
    category: str = "object"
    labels: str = "gtFine"

    @classmethod
    def parse(cls, spec: SourceSpec) -> "CityscapesSource":
        """Parse ``cityscapes:DIR[=CATEGORY][?labels=gtCoarse]``."""
        labels = spec.check("labels").choices("labels", ANNOTATION_TYPES) or ("gtFine",)
        if len(labels) > 1:
            raise SourceError(f"the source {spec.text!r} names several kinds of labels. Expected gtFine or gtCoarse.")
        return cls(spec.folder, spec.category or "object", labels[0])

    @property
    def name(self) -> str:
        """Name of the data set."""
        return "cityscapes"

    @property
    def text(self) -> str:
        """Specification on the command line."""
        return f"cityscapes:{self.folder}={self.category}" + (
            "" if self.labels == "gtFine" else f"?labels={self.labels}"
        )

    def samples(self, prefix: str) -> Iterator[Sample]:
        """Yield a sample for each image of the training and validation folders.

        Raises
        ------
        SourceError
            If a folder is missing.
        """
        find_folder(self.folder, "a folder of Cityscapes")
        images = _find(self.folder, "leftImg8bit", "the images of Cityscapes")
        labels = _find(self.folder, self.labels, "the label maps of Cityscapes")
        for split, own_split in SPLITS.items():
            if not (labels / split).is_dir():
                continue
            for path in sorted((images / split).glob(f"*/*{IMAGE_ENDING}")):
                stem = path.name.removesuffix(IMAGE_ENDING)
                ids = labels / split / path.parent.name / f"{stem}_{self.labels}_labelIds.png"
                name = f"{prefix}/{split}/{path.parent.name}/{stem}"
                yield Sample(name, path, partial(_read_labels, ids, self.category), own_split)


def _find(root: Path, name: str, what: str) -> Path:
    """Return the folder of this name with the splits: in the root, or in the folder of its archive."""
    archives = sorted(root.glob(f"{name}*/"))
    candidates = (root / name, *(folder / name for folder in archives), *archives)
    held = (path for path in candidates if any((path / split).is_dir() for split in SPLITS))
    return find_folder(next(held, root / name), what)


def _read_labels(path: Path, category: str) -> LabelsByCategory:
    ids = read_gray(path, "a label map of Cityscapes with a class from 0 to 33 in each pixel")
    moved = np.where(ids == 255, LICENSE_PLATE, ids)
    return {category: (Channel(moved, CLASSES, str(path)),)}
