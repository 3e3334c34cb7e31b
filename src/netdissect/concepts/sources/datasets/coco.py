"""COCO (Lin et al. 2014; panoptic: Kirillov et al. 2019; stuff: Caesar et al. 2018), and other files in its format.

The published data set, and programs that name their files like it (CVAT: ``instances_default.json``)::

    DIR/{train2017,val2017}/*.jpg                     or DIR/images/{train2017,val2017}, or DIR/images
    DIR/annotations/panoptic_val2017.json             with the label maps annotations/panoptic_val2017/*.png
    DIR/annotations/stuff_val2017.json
    DIR/annotations/instances_val2017.json

Roboflow, with a folder for each split that holds images and annotations::

    DIR/{train,valid,test}/_annotations.coco.json     or DIR/_annotations.coco.json

Another file in COCO's format, if it is the only JSON file (Label Studio: ``result.json``) or is named itself::

    DIR/*.json                                        or DIR/annotations/*.json, with the images below DIR
    DIR/annotations/{train,val}.json                  a file for each split, with images as in the published data set
    DIR/annotations/FILE.json

Panoptic label maps hold things and stuff; a split that has them is read from them alone. Polygons of instances and
stuff are filled by pycocotools (the extra ``coco``). Overlapping masks of different classes become several channels.
Images without an annotation are left out. Splits are those of the folders or file names. Classes are ``object`` unless
another category is given.

`ImageLocator` finds the images; an image that is listed twice is read once. A polygon without area is left out (fewer
than three points, an odd number of coordinates, no area, not a number, outside of the image), and so is an annotation
without a mask. Their number is logged.

Suffixes that only say how classes of stuff were merged are removed: ``wall-other-merged``, ``tree-merged`` and
``mirror-stuff`` become ``wall``, ``tree`` and ``mirror``; ``wall-brick`` stays. ``other`` and ``unlabeled`` are
unlabeled.

Options:

- ``?kinds=instances,stuff``: annotation types to read (``panoptic``, ``stuff``, ``instances``).
- ``?missing=skip``: missing images are left out and counted; otherwise they are an error.
- ``?boxes=yes``: an annotation without a mask covers its box. Otherwise it is left out, because a box has many pixels
  beside the object.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from netdissect.concepts.build.sample import Sample
from netdissect.concepts.build.synonyms import named_apart
from netdissect.concepts.sources.annotation_tools.image_lookup import MISSING, ImageLocator
from netdissect.concepts.sources.annotation_tools.shape_masks import Size, Skipped
from netdissect.concepts.sources.datasets.coco_labels import (
    FAULTS,
    NO_MASK,
    CocoLabels,
    CocoMasks,
    PanopticSegments,
    read_labels,
    sound_shape,
)
from netdissect.concepts.sources.orientation import image_size
from netdissect.concepts.sources.readers import read_json
from netdissect.concepts.sources.source import find_folder, split_of
from netdissect.concepts.sources.spec import SourceSpec
from netdissect.errors import SourceError
from netdissect.extras import need
from netdissect.paths import contained

ANNOTATION_TYPES = ("panoptic", "stuff", "instances")
FILE = re.compile(r"(panoptic|stuff|instances)_(.+)\.json")
OTHER = re.compile(r"(captions|person_keypoints|image_info)_.+\.json")
"""Other annotations of the published data set, which are read only if the user names them."""
ROBOFLOW = "_annotations.coco.json"
MERGED = re.compile(r"(-other|-merged|-stuff)+$")
UNLABELED = frozenset({"other", "unlabeled", "things"})
ANY = "any"
"""Annotation type of a file whose name does not say it."""


@dataclass(frozen=True)
class CocoSource:
    """A folder of COCO, or an annotation file.

    Attributes
    ----------
    folder
        Folder of annotations and images, or the annotation file.
    category
        Category of all classes.
    kinds
        Annotation types to read; None: panoptic if there are any, otherwise stuff and instances.
    boxes
        Whether an annotation without a mask covers its box.
    skip_missing
        Whether missing images are left out.
    """

    folder: Path
    category: str = "object"
    kinds: tuple[str, ...] | None = None
    boxes: bool = False
    skip_missing: bool = False

    @classmethod
    def parse(cls, spec: SourceSpec) -> "CocoSource":
        """Parse ``coco:DIR[=CATEGORY][?kinds=...&boxes=yes&missing=skip]``."""
        kinds = spec.check("kinds", "boxes", "missing").choices("kinds", ANNOTATION_TYPES)
        skip = spec.choice("missing", MISSING) == "skip"
        return cls(spec.folder, spec.category or "object", kinds, spec.flag("boxes"), skip)

    @property
    def name(self) -> str:
        """Name of the data set."""
        return "coco"

    @property
    def text(self) -> str:
        """Specification on the command line."""
        options = [f"kinds={','.join(self.kinds)}"] if self.kinds else []
        options += ["boxes=yes"] if self.boxes else []
        options += ["missing=skip"] if self.skip_missing else []
        return f"coco:{self.folder}={self.category}" + (f"?{'&'.join(options)}" if options else "")

    def samples(self, prefix: str) -> Iterator[Sample]:
        """Yield a sample for each image that is annotated.

        Raises
        ------
        SourceError
            If a folder or all annotations are missing, an annotation file cannot be read, no annotation has a mask, an
            image is outside of the folder, or pycocotools is missing.
        """
        root, splits = self._splits()
        notes = _CocoNotes(self.text, ImageLocator(root, self.skip_missing))
        for split in splits:
            images: dict[Path, tuple[str, list[CocoLabels]]] = {}
            for annotation_type, path in split.files.items():
                for image_file, name, image_labels in _read_annotations(
                    path, annotation_type, split.folders, self.boxes, notes
                ):
                    images.setdefault(image_file, (name, []))[1].append(image_labels)
            for image_file, (name, labels) in sorted(images.items()):
                stem = "/".join(filter(None, (prefix, split.name, PurePosixPath(name).with_suffix("").as_posix())))
                yield Sample(stem, image_file, partial(read_labels, tuple(labels), self.category), split_of(split.name))
        notes.log_summary()

    def _splits(self) -> tuple[Path, list["_CocoSplit"]]:
        """Find the annotation files to read, and the folder that holds all images."""
        if self.folder.is_file():
            above = self.folder.parent
            root = above.parent if above.name == "annotations" else above
            return root, [_split_of_file(self.folder, root)]
        root = find_folder(self.folder, "a folder of COCO, or an annotation file")
        splits = [split for split in _published(root) if split.files] or _roboflow(root) or _unnamed(root)
        selected = [split._replace(files=self._selected(split.files)) for split in splits]
        if not any(split.files for split in selected):
            patterns = " or ".join(f"{annotation_type}_*.json" for annotation_type in self.kinds or ANNOTATION_TYPES)
            raise SourceError(
                f"{root} holds no annotation. Expected {patterns}, {ROBOFLOW} next to images, or one other "
                "file in COCO's format; correct the folder, or name the file: coco:DIR/FILE.json."
            )
        return root, [split for split in selected if split.files]

    def _selected(self, files: Mapping[str, Path]) -> dict[str, Path]:
        if ANY in files:
            return dict(files)
        names = self.kinds or (("panoptic",) if "panoptic" in files else ("stuff", "instances"))
        return {name: files[name] for name in names if name in files}


class _CocoSplit(NamedTuple):
    """Annotation files of one split.

    Attributes
    ----------
    name
        Name of the split, a part of the names of its images; may be empty.
    files
        Annotation file of each type.
    folders
        Folders of its images, below the folder of the source.
    """

    name: str
    files: Mapping[str, Path]
    folders: tuple[str, ...]


@dataclass
class _CocoNotes:
    """Counts of masks and of left-out shapes and images, over all annotation files."""

    source: str
    locator: ImageLocator
    skipped: Skipped = field(default_factory=Skipped)
    masks: int = 0

    def log_summary(self) -> None:
        if not self.masks and NO_MASK in self.skipped.counts:
            raise SourceError(
                f"none of {self.skipped.counts[NO_MASK]} annotations has a mask; the first is "
                f"{self.skipped.first[NO_MASK]}. Expected segmentations; add ?boxes=yes to use the boxes as masks."
            )
        self.skipped.log_summary(self.source)
        self.locator.log_summary(self.source)


def _split_of_file(path: Path, root: Path) -> _CocoSplit:
    """Return the split of one annotation file."""
    above = path.parent.relative_to(root).as_posix().removeprefix(".")
    if match := FILE.fullmatch(path.name):
        split = match[2]
        return _CocoSplit(split, {match[1]: path}, (split, f"images/{split}", "images", "", above))
    if path.name == ROBOFLOW:
        return _CocoSplit(above, {ANY: path}, (above,))
    if split_of(path.stem):
        return _CocoSplit(path.stem, {ANY: path}, (path.stem, f"images/{path.stem}", "images", "", above, "data"))
    return _CocoSplit("", {ANY: path}, ("images", "", above, "data"))


def _published(root: Path) -> list[_CocoSplit]:
    splits: dict[str, _CocoSplit] = {}
    for path in _json_files(root / "annotations" if (root / "annotations").is_dir() else root):
        if FILE.fullmatch(path.name):
            split = _split_of_file(path, root)
            splits[split.name] = split._replace(files={**splits.get(split.name, split).files, **split.files})
    return [splits[name] for name in sorted(splits)]


def _roboflow(root: Path) -> list[_CocoSplit]:
    return [
        _split_of_file(path, root) for path in (root / ROBOFLOW, *sorted(root.glob(f"*/{ROBOFLOW}"))) if path.is_file()
    ]


def _unnamed(root: Path) -> list[_CocoSplit]:
    for folder in (root, root / "annotations"):
        files = [path for path in _json_files(folder) if not OTHER.fullmatch(path.name)]
        if files and all(split_of(path.stem) for path in files):
            return [_split_of_file(path, root) for path in files]
        if len(files) > 1:
            raise SourceError(
                f"{folder} holds {len(files)} JSON files, e.g. {', '.join(path.name for path in files[:3])}, and none "
                "has a name of COCO's annotations. Expected one file; name it: coco:DIR/FILE.json."
            )
        if files:
            return [_split_of_file(files[0], root)]
    return []


def _json_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")]


def _read_annotations(
    path: Path, annotation_type: str, folders: tuple[str, ...], boxes: bool, notes: _CocoNotes
) -> Iterator[tuple[Path, str, CocoLabels]]:
    """Yield each image of an annotation file with its name and labels."""
    content = read_json(path, "annotations in COCO's format")
    try:
        names = named_apart({int(entry["id"]): _class_name(str(entry["name"])) for entry in content["categories"]})
        images = {str(entry["id"]): entry for entry in content["images"]}
        grouped: dict[str, list[Mapping[str, Any]]] = {}
        for entry in content["annotations"]:
            grouped.setdefault(str(entry["image_id"]), []).append(entry)
        panoptic = annotation_type == "panoptic" or (
            annotation_type == ANY and any("segments_info" in entry for entry in content["annotations"])
        )
        if not panoptic:
            need("pycocotools.mask", "coco", "A source coco:")
        for number, annotations in grouped.items():
            image_file, name = notes.locator.find(str(images[number]["file_name"]), folders, path)
            if notes.locator.skips(image_file):
                continue
            if panoptic:
                yield from ((image_file, name, _segments(entry, names, path)) for entry in annotations)
            elif (masks := _masks(annotations, images[number], names, image_file, path, boxes, notes)).masks:
                yield image_file, name, masks
    except FAULTS as error:
        raise SourceError(
            f"{path} is not in COCO's format ({error!r}). Expected images, annotations and categories that refer to "
            "each other by id; correct the file (polygons:DIR reads files of LabelMe, VIA and Label Studio)."
        ) from error


def _segments(annotation: Mapping[str, Any], names: Mapping[int, str], path: Path) -> PanopticSegments:
    mask_folder = contained(path.with_suffix(""), str(annotation["file_name"]).replace("\\", "/"), path, SourceError)
    classes = {int(segment["id"]): int(segment["category_id"]) for segment in annotation["segments_info"]}
    # 0 is unlabeled in every channel, but some files have a class with id 0.
    values = {category: value for value, category in enumerate(sorted(set(classes.values())), start=1)}
    return PanopticSegments(
        path, mask_folder, {n: values[c] for n, c in classes.items()}, {value: names[c] for c, value in values.items()}
    )


def _masks(
    annotations: Sequence[Mapping[str, Any]], image: Mapping[str, Any], names: Mapping[int, str], image_file: Path,
    path: Path, boxes: bool, notes: _CocoNotes,
) -> CocoMasks:  # fmt: skip
    size = _size(image, image_file)
    shapes = []
    for annotation in annotations:
        annotation_id = str(annotation.get("id", "?"))
        shape = sound_shape(annotation, size, boxes, notes.skipped, f"{path}, annotation {annotation_id}")
        if shape:
            shapes.append((names[int(annotation["category_id"])], annotation_id, shape))
    notes.masks += len(shapes)
    return CocoMasks(path, image_file, size, shapes)


def _size(image: Mapping[str, Any], image_file: Path) -> Size:
    """Return the height and width in the annotation, otherwise those of the upright image."""
    if image.get("height") and image.get("width"):
        return int(image["height"]), int(image["width"])
    return image_size(image_file).upright


def _class_name(name: str) -> str:
    short = MERGED.sub("", name.strip())
    return "" if short in UNLABELED else short
