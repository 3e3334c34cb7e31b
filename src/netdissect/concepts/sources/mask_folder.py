"""Images with a mask of the same size for each image.

    DIR/images/NAME.jpg    any image format, also in folders
    DIR/masks/NAME.png     lossless; indexed or gray: the pixel is the value; in color: see below
    DIR/classes.csv        value,name; an empty name means unlabeled; colors in a column color or in r,g,b;
                           or class_dict.csv (name,r,g,b), or CVAT's labelmap.txt with colors

Without a folder ``masks``, two other layouts are read: semantic masks of Roboflow (see `roboflow`), and shapes of
LabelMe or VIA (see `polygon_files`; the source type ``polygons`` has more options).

A pixel of value 0 is unlabeled unless ``classes.csv`` has a name for it. Values are those of the file: 1 to 16 bits,
gray maps with another maximum, gray in three equal channels. Masks in color are read by the colors of the table, or as
R + 256 * G if it lists values above 255. An ambiguous mask is an error unless an option decides it.

Options:

- ``?read=value``: RGB is R + 256 * G, and indexed masks are read by index; ``?read=color``: by the colors of the table;
- ``?colors=voc``: values have the colors of Pascal VOC's palette;
- ``?unlisted=unlabeled``: values and colors that the table does not list are unlabeled instead of an error;
- ``?drawn=upright``: masks were drawn on images turned upright by EXIF. Otherwise a mask belongs to the stored pixels,
  and both are turned together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from netdissect.concepts.build.sample import LabelsByCategory, Sample
from netdissect.concepts.sources.annotation_tools.polygon_files import PolygonSource, is_annotated
from netdissect.concepts.sources.annotation_tools.roboflow import (
    TABLE,
    read_roboflow_classes,
    roboflow_folders,
    roboflow_pairs,
)
from netdissect.concepts.sources.class_tables import MASK_OPTIONS, MaskReading, read_class_table
from netdissect.concepts.sources.mask_values import read_mask_file
from netdissect.concepts.sources.source import find_files, find_folder, split_of
from netdissect.concepts.sources.spec import SourceSpec
from netdissect.errors import SourceError

DEFAULT_CATEGORY = "object"
TABLES = ("classes.csv", "class_dict.csv", "labelmap.txt")
LAYOUT = "images/, masks/ with a mask of the same name for each image, and classes.csv"
OTHERS = (
    ("annotations/training", "ade20k", "SceneParse150"),
    ("*/annotations/training", "ade20k", "SceneParse150"),
    ("**/SegmentationClass", "pascal", "segmentation in the layout of Pascal VOC"),
    ("leftImg8bit*", "cityscapes", "Cityscapes"),
    ("**/_annotations.coco.json", "coco", "Roboflow's export in COCO's form"),
    ("annotations/*.json", "coco", "annotations in COCO's form"),
    ("result.json", "coco", "Label Studio's export in COCO's form"),
)
"""Files of other layouts, the source type that reads each layout, and its description."""


@dataclass(frozen=True)
class MaskSource:
    """A folder of images, masks and ``classes.csv``.

    Attributes
    ----------
    folder
        Folder with ``images/``, ``masks/`` and ``classes.csv``.
    category
        Category of all concepts.
    options
        Options of reading masks, as pairs of name and value; see `MaskReading`.
    """

    folder: Path
    category: str = DEFAULT_CATEGORY
    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, spec: SourceSpec) -> "MaskSource":
        """Parse ``masks:FOLDER[=CATEGORY][?...]``; the default category is ``object``."""
        options = tuple(spec.check(*MASK_OPTIONS).options.items())
        return cls(spec.folder, spec.category or DEFAULT_CATEGORY, options)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @property
    def text(self) -> str:
        """Specification on the command line."""
        return self._spec.text

    @property
    def _spec(self) -> SourceSpec:
        return SourceSpec("masks", str(self.folder), self.category, dict(self.options))

    def samples(self, prefix: str) -> Iterator[Sample]:
        """Yield a sample for each image and each mask, by their common name; or those of the other layouts.

        Raises
        ------
        SourceError
            If a folder or the table of classes is missing or wrong, or two files have the same name.
        """
        root = find_folder(self.folder, "a folder with images/, masks/ and classes.csv")
        if (root / "masks").is_dir():
            yield from self._own(prefix)
        elif folders := roboflow_folders(root):
            yield from self._roboflow(prefix, folders)
        elif is_annotated(root) and not self.options:
            yield from PolygonSource(root, self.category).samples(prefix)
        else:
            _refuse_other(root)
            yield from self._own(prefix)

    def _roboflow(self, prefix: str, folders: Sequence[Path]) -> Iterator[Sample]:
        for folder in folders:
            reading = MaskReading.parse(self._spec, read_roboflow_classes(folder / TABLE))
            subfolder = folder.relative_to(self.folder).as_posix()
            for name, image, mask in roboflow_pairs(folder):
                labels = partial(_read_labels, mask, reading, self.category)
                yield Sample(
                    f"{prefix}/{name}" if subfolder == "." else f"{prefix}/{subfolder}/{name}",
                    image,
                    labels,
                    split_of(subfolder),
                )

    def _own(self, prefix: str) -> Iterator[Sample]:
        images, masks = (_by_name(find_folder(self.folder / name, LAYOUT)) for name in ("images", "masks"))
        tables = [self.folder / name for name in TABLES]
        table = read_class_table(next((path for path in tables if path.is_file()), tables[0]))
        reading = MaskReading.parse(self._spec, table)
        for name in sorted(images.keys() | masks.keys()):
            # A missing image or mask is reported when the sample is read, together with all other bad files.
            image = images.get(name, self.folder / "images" / f"{name}.*")
            mask = masks.get(name, self.folder / "masks" / f"{name}.png")
            yield Sample(f"{prefix}/{name}", image, partial(_read_labels, mask, reading, self.category))


def _refuse_other(root: Path) -> None:
    """Raise an error that names the right source type, if the files of a folder show it."""
    for pattern, word, what in OTHERS:
        if any(root.glob(pattern)):
            raise SourceError(
                f"{root} holds no folder masks, but it looks like {what} ({pattern}). Expected images/, masks/ and "
                f"classes.csv; say {word}:{root}."
            )


def _read_labels(mask: Path, reading: MaskReading, category: str) -> LabelsByCategory:
    return {category: (reading.channel(read_mask_file(mask, "a mask of the same name"), str(mask)),)}


def _by_name(folder: Path) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for path in find_files(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in paths:
            raise SourceError(
                f"{paths[name]} and {path} have the same name. Expected one file a name, whatever its extension; "
                "rename or remove one."
            )
        paths[name] = path
    return paths
