"""Semantic segmentation of Pascal VOC (Everingham et al. 2010), as ``VOCtrainval_11-May-2012.tar`` unpacks.

    DIR/.../JPEGImages/NAME.jpg
    DIR/.../SegmentationClass/NAME.png                     indexed, 0 is background, 255 the border of things
    DIR/.../ImageSets/Segmentation/{train,val}.txt         names, a line each; may be missing

Exports of other programs in this layout are read with their classes: ``class_names.txt`` of LabelMe's ``labelme2voc``
(a line for each value, from 0), or ``labelmap.txt`` of CVAT (``car:128,0,0::``), whose masks are in color. Images and
masks of CVAT may be in folders. Without either file the classes are the 20 of VOC, and colors are those of VOC.

Background and borders are unlabeled. The split is that of the lists; for images in neither list it is drawn by name.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from netdissect.concepts.build.sample import LabelsByCategory, Sample
from netdissect.concepts.build.synonyms import named_apart
from netdissect.concepts.sources.class_tables import ClassTable, MaskReading, read_class_table, voc_colors
from netdissect.concepts.sources.mask_values import read_mask_file
from netdissect.concepts.sources.readers import read_text
from netdissect.concepts.sources.source import find_files
from netdissect.config import Split
from netdissect.errors import SourceError

MASKS = "SegmentationClass"
OLD_MASKS = "SegmentationClassPNG"
"""Folder of labelme2voc before version 5, which has NumPy arrays in `MASKS`."""
VOID = 255
UNLABELED = frozenset({"_background_", "background", "__ignore__"})
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""In the order of their values, from 1."""


def voc_samples(masks: Path, images: Path, prefix: str) -> Iterator[Sample]:
    """Yield a sample for each mask.

    Parameters
    ----------
    masks, images
        The folders ``SegmentationClass`` and ``JPEGImages``.

    Raises
    ------
    SourceError
        If there is no mask, or a list of classes is there and wrong.
    """
    table = _classes(masks.parent)
    splits = _read_splits(masks.parent / "ImageSets" / "Segmentation")
    folder = masks if _masks(masks) else masks.with_name(OLD_MASKS)
    found = _masks(folder)
    if not found:
        raise SourceError(f"{masks} holds no PNG. Expected masks of images; export them anew as PNG.")
    for mask in found:
        name = mask.relative_to(folder).with_suffix("").as_posix()
        yield Sample(f"{prefix}/{name}", _image(images, name), partial(_read_labels, mask, table), splits.get(name))


def _masks(folder: Path) -> list[Path]:
    return [path for path in find_files(folder) if path.suffix.lower() == ".png"]


def _image(folder: Path, stem: str) -> Path:
    paths = [folder / f"{stem}{ending}" for ending in (".jpg", ".jpeg", ".png", ".JPG")]
    return next((path for path in paths if path.is_file()), paths[0])


def _classes(root: Path) -> ClassTable:
    if (root / "labelmap.txt").is_file():
        return read_class_table(root / "labelmap.txt")
    names: dict[int, str] = {0: "", **dict(enumerate(CLASSES, start=1))}
    path = root / "class_names.txt"
    if path.is_file():
        lines = [line.strip() for line in read_text(path, "the names of classes, a line each").splitlines()]
        # LabelMe numbers __ignore__ -1, which is 255 in a mask, and what follows from 0.
        names = dict(enumerate("" if name in UNLABELED else name for name in lines if name != "__ignore__"))
    return ClassTable(named_apart(names) | {VOID: ""}, voc_colors(), origin=str(path))


def _read_splits(folder: Path) -> dict[str, Split]:
    splits: dict[str, Split] = {}
    lists: tuple[Split, ...] = ("val", "train")
    for split in lists:
        path = folder / f"{split}.txt"
        if path.is_file():
            lines = read_text(path, "the names of images, a line each").splitlines()
            splits |= dict.fromkeys((line.split()[0] for line in lines if line.strip()), split)
    return splits


def _read_labels(mask: Path, table: ClassTable) -> LabelsByCategory:
    stored = read_mask_file(mask, "a mask of Pascal VOC")
    # The value of an indexed mask is its class, whatever colors its palette has.
    reading = MaskReading(table, "value" if stored.pixels.ndim == 2 and table.has_values else "color")
    return {"object": (reading.channel(stored, str(mask)),)}
