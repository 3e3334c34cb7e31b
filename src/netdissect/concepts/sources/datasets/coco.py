"""COCO (Lin et al. 2014; panoptic: Kirillov et al. 2019; stuff: Caesar et al. 2018), and what is written in its form.

The published data set, and programs that name their files like it (CVAT: ``instances_default.json``)::

    DIR/{train2017,val2017}/*.jpg                     or DIR/images/{train2017,val2017}, or DIR/images
    DIR/annotations/panoptic_val2017.json             with the label maps annotations/panoptic_val2017/*.png
    DIR/annotations/stuff_val2017.json
    DIR/annotations/instances_val2017.json

Roboflow, a folder a split, images and annotations side by side::

    DIR/{train,valid,test}/_annotations.coco.json     or DIR/_annotations.coco.json

Anything else in COCO's form, if it is the only JSON file there (Label Studio: ``result.json``), or is named itself::

    DIR/*.json                                        or DIR/annotations/*.json, with the images below DIR
    DIR/annotations/{train,val}.json                  a file a split, with images as in the published data set
    DIR/annotations/FILE.json

Panoptic label maps hold things and stuff, so where they are the other two are not read for that split. Polygons of
instances and stuff are filled by pycocotools (the extra ``coco``); where masks of different classes overlap they lie in
several channels. Images without any annotation are left out. Splits are those of the folders or file names. Classes
are ``object`` unless another category is given.

Images are found as `ImageLocator` says; several that are listed twice are one. A polygon that covers nothing (fewer
than
three points, an odd number of coordinates, no area, not a number, outside of the image) is left out, and so is an
annotation without a mask; how many is logged.

Names of stuff lose what only tells how classes were merged: ``wall-other-merged``, ``tree-merged`` and ``mirror-stuff``
are ``wall``, ``tree`` and ``mirror``; ``wall-brick`` stays. ``other`` and ``unlabeled`` are unlabeled.

Options:

- ``?kinds=instances,stuff``: read these kinds (``panoptic``, ``stuff``, ``instances``).
- ``?missing=skip``: images that are not there are left out and counted; otherwise they are an error.
- ``?boxes=yes``: an annotation without a mask covers its box. Otherwise it is left out: a box holds much that is not
  the thing.
"""

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.concepts.build.sample import Channel, LabelsByCategory, Sample
from netdissect.concepts.build.synonyms import named_apart
from netdissect.concepts.image_io import turn
from netdissect.concepts.sources.annotation_tools.image_lookup import MISSING, ImageLocator
from netdissect.concepts.sources.annotation_tools.rle import decode_runs
from netdissect.concepts.sources.annotation_tools.shape_masks import Size, Skipped, is_sane, polygon_flaw
from netdissect.concepts.sources.mask_stacking import Mask, named_channels, read_colors
from netdissect.concepts.sources.orientation import drawn_orientation, image_size
from netdissect.concepts.sources.readers import read_json
from netdissect.concepts.sources.source import find_folder, split_of
from netdissect.concepts.sources.spec import SourceSpec
from netdissect.errors import SourceError
from netdissect.extras import need
from netdissect.paths import contained

KINDS_OF_LABELS = ("panoptic", "stuff", "instances")
FILE = re.compile(r"(panoptic|stuff|instances)_(.+)\.json")
OTHER = re.compile(r"(captions|person_keypoints|image_info)_.+\.json")
"""Of the published data set: read only if named."""
ROBOFLOW = "_annotations.coco.json"
MERGED = re.compile(r"(-other|-merged|-stuff)+$")
UNLABELED = frozenset({"other", "unlabeled", "things"})
FAULTS = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
"""What reading an annotation of another form raises."""
ANY = "any"
"""The kind of a file that does not say it in its name."""
NO_MASK = "no mask, but perhaps a box (?boxes=yes takes boxes in place of masks)"


@dataclass(frozen=True)
class CocoSource:
    """A folder of COCO, or an annotation file.

    Attributes
    ----------
    folder
        Holds annotations and images; or the annotation file.
    category
        Of every class.
    kinds
        Which annotations to read; None: panoptic, or else stuff and instances.
    boxes
        Whether boxes stand in for missing masks.
    skip_missing
        Whether images that are not there are left out.
    """

    folder: Path
    category: str = "object"
    kinds: tuple[str, ...] | None = None
    boxes: bool = False
    skip_missing: bool = False

    @classmethod
    def parse(cls, spec: SourceSpec) -> "CocoSource":
        """Make the source that ``coco:DIR[=CATEGORY][?kinds=...&boxes=yes&missing=skip]`` names."""
        kinds = spec.check("kinds", "boxes", "missing").choices("kinds", KINDS_OF_LABELS)
        skip = spec.choice("missing", MISSING) == "skip"
        return cls(spec.folder, spec.category or "object", kinds, spec.flag("boxes"), skip)

    @property
    def name(self) -> str:
        """The data set's."""
        return "coco"

    @property
    def text(self) -> str:
        """The words that name it on the command line."""
        options = [f"kinds={','.join(self.kinds)}"] if self.kinds else []
        options += ["boxes=yes"] if self.boxes else []
        options += ["missing=skip"] if self.skip_missing else []
        return f"coco:{self.folder}={self.category}" + (f"?{'&'.join(options)}" if options else "")

    def samples(self, prefix: str) -> Iterator[Sample]:
        """Yield a sample for each image that is annotated.

        Raises
        ------
        SourceError
            If a folder or all annotations are missing, an annotation file cannot be read, no annotation has a mask, a
            image lies outside of the folder, or pycocotools is missing.
        """
        root, parts = self._parts()
        notes = _CocoNotes(self.text, ImageLocator(root, self.skip_missing))
        for part in parts:
            images: dict[Path, tuple[str, list[_Labeled]]] = {}
            for kind, path in part.files.items():
                for image_file, name, labeled in _read_annotations(path, kind, part.folders, self.boxes, notes):
                    images.setdefault(image_file, (name, []))[1].append(labeled)
            for image_file, (name, found) in sorted(images.items()):
                stem = "/".join(filter(None, (prefix, part.name, PurePosixPath(name).with_suffix("").as_posix())))
                yield Sample(stem, image_file, partial(_read_labels, tuple(found), self.category), split_of(part.name))
        notes.log_summary()

    def _parts(self) -> tuple[Path, list["_CocoSplit"]]:
        """Find the annotation files to read, and the folder below which all images lie."""
        if self.folder.is_file():
            above = self.folder.parent
            root = above.parent if above.name == "annotations" else above
            return root, [_part(self.folder, root)]
        root = find_folder(self.folder, "a folder of COCO, or an annotation file")
        parts = [part for part in _published(root) if part.files] or _roboflow(root) or _lone(root)
        selected = [part._replace(files=self._selected(part.files)) for part in parts]
        if not any(part.files for part in selected):
            kinds = " or ".join(f"{kind}_*.json" for kind in self.kinds or KINDS_OF_LABELS)
            raise SourceError(
                f"{root} holds no annotation. Expected {kinds}, {ROBOFLOW} beside images, or one other "
                "file in COCO's form; correct the folder, or name the file: coco:DIR/FILE.json."
            )
        return root, [part for part in selected if part.files]

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
        Of the split, a part of its images' names; may be empty.
    files
        By kind.
    folders
        Where its images may lie, below the folder of the source.
    """

    name: str
    files: Mapping[str, Path]
    folders: tuple[str, ...]


@dataclass
class _CocoNotes:
    """What is where once all annotations are read."""

    source: str
    locator: ImageLocator
    skipped: Skipped = field(default_factory=Skipped)
    masks: int = 0

    def log_summary(self) -> None:
        if not self.masks and NO_MASK in self.skipped.counts:
            raise SourceError(
                f"{self.skipped.first[NO_MASK]} has no mask, nor has any other of {self.skipped.counts[NO_MASK]} "
                "annotations. Expected segmentations; say ?boxes=yes if boxes may stand in for them."
            )
        self.skipped.log_summary(self.source)
        self.locator.log_summary(self.source)


class _CocoMasks(NamedTuple):
    """What one annotation file says of one image, small enough to be sent to a worker.

    Attributes
    ----------
    size
        Height and width, stated or read.
    masks
        Name, number of the annotation, and polygons or run lengths.
    """

    file: Path
    image_file: Path
    size: Size
    masks: Sequence[tuple[str, str, Any]]

    def named(self) -> Iterator[tuple[str, Mask]]:
        """Decode the masks."""
        if not is_sane(*self.size):
            raise SourceError(
                f"{self.file} gives an image of {self.size[0]} x {self.size[1]} pixels. Expected its real height and "
                "width."
            )
        orientation = drawn_orientation(self.size, self.image_file)
        for name, number, shape in self.masks:
            yield name, turn(_decode(shape, self.size, f"{self.file}, annotation {number}"), orientation)


class _Segments(NamedTuple):
    """A panoptic label map, and the value of each segment."""

    file: Path
    path: Path
    values: Mapping[int, int]
    names: Mapping[int, str]

    def channel(self) -> Channel:
        """Read the label map."""
        pixels = read_colors(self.path, "a panoptic label map of COCO").astype(np.int32)
        segments = pixels[..., 0] + 256 * pixels[..., 1] + 65536 * pixels[..., 2]
        listed = {0: 0, **self.values}
        ids = np.array(sorted(listed), dtype=np.int64)
        position = np.searchsorted(ids, segments).clip(max=len(ids) - 1)
        strange = ids[position] != segments
        if strange.any():
            raise SourceError(
                f"{self.path} holds the segment {int(segments[strange][0])}, which {self.file} does not list. "
                "Expected only listed segments; restore both files from the same release."
            )
        values = np.array([listed[number] for number in ids.tolist()], dtype=np.int32)
        return Channel(values[position], self.names, str(self.path), orientation=1)


_Labeled = _CocoMasks | _Segments


def _part(path: Path, root: Path) -> _CocoSplit:
    """Make a part of one annotation file."""
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
    found: dict[str, _CocoSplit] = {}
    for path in _json_files(root / "annotations" if (root / "annotations").is_dir() else root):
        if FILE.fullmatch(path.name):
            part = _part(path, root)
            found[part.name] = part._replace(files={**found.get(part.name, part).files, **part.files})
    return [found[name] for name in sorted(found)]


def _roboflow(root: Path) -> list[_CocoSplit]:
    return [_part(path, root) for path in (root / ROBOFLOW, *sorted(root.glob(f"*/{ROBOFLOW}"))) if path.is_file()]


def _lone(root: Path) -> list[_CocoSplit]:
    for folder in (root, root / "annotations"):
        files = [path for path in _json_files(folder) if not OTHER.fullmatch(path.name)]
        if files and all(split_of(path.stem) for path in files):
            return [_part(path, root) for path in files]
        if len(files) > 1:
            raise SourceError(
                f"{folder} holds {len(files)} JSON files, {', '.join(path.name for path in files[:3])} among them, and "
                "none is named as COCO names its annotations. Expected one; name it: coco:DIR/FILE.json."
            )
        if files:
            return [_part(files[0], root)]
    return []


def _json_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")]


def _read_annotations(
    path: Path, kind: str, folders: tuple[str, ...], boxes: bool, notes: _CocoNotes
) -> Iterator[tuple[Path, str, _Labeled]]:
    """Yield what a file says of each image, with the image and its name."""
    content = read_json(path, "annotations in COCO's form")
    try:
        names = named_apart({int(one["id"]): _class_name(str(one["name"])) for one in content["categories"]})
        images = {str(one["id"]): one for one in content["images"]}
        grouped: dict[str, list[Mapping[str, Any]]] = {}
        for one in content["annotations"]:
            grouped.setdefault(str(one["image_id"]), []).append(one)
        panoptic = kind == "panoptic" or (kind == ANY and any("segments_info" in one for one in content["annotations"]))
        if not panoptic:
            need("pycocotools.mask", "coco", "A source coco:")
        for number, annotations in grouped.items():
            image_file, name = notes.locator.find(str(images[number]["file_name"]), folders, path)
            if notes.locator.skips(image_file):
                continue
            if panoptic:
                yield from ((image_file, name, _segments(one, names, path)) for one in annotations)
            elif (masks := _masks(annotations, images[number], names, image_file, path, boxes, notes)).masks:
                yield image_file, name, masks
    except FAULTS as error:
        raise SourceError(
            f"{path} is not in the form of COCO ({error!r}). Expected images, annotations and categories that refer to "
            "each other by id; correct the file (polygons:DIR reads what LabelMe, VIA and Label Studio write)."
        ) from error


def _segments(one: Mapping[str, Any], names: Mapping[int, str], path: Path) -> _Segments:
    mask_folder = contained(path.with_suffix(""), str(one["file_name"]).replace("\\", "/"), path, SourceError)
    classes = {int(segment["id"]): int(segment["category_id"]) for segment in one["segments_info"]}
    # 0 is unlabeled in every channel, but a class in some files.
    values = {category: value for value, category in enumerate(sorted(set(classes.values())), start=1)}
    return _Segments(
        path, mask_folder, {n: values[c] for n, c in classes.items()}, {value: names[c] for c, value in values.items()}
    )


def _masks(
    annotations: Sequence[Mapping[str, Any]], image: Mapping[str, Any], names: Mapping[int, str], image_file: Path,
    path: Path, boxes: bool, notes: _CocoNotes,
) -> _CocoMasks:  # fmt: skip
    size = _size(image, image_file)
    shapes = []
    for one in annotations:
        number = str(one.get("id", "?"))
        shape = _shape(one, size, boxes, notes.skipped, f"{path}, annotation {number}")
        if shape:
            shapes.append((names[int(one["category_id"])], number, shape))
    notes.masks += len(shapes)
    return _CocoMasks(path, image_file, size, shapes)


def _size(image: Mapping[str, Any], image_file: Path) -> Size:
    """Return the stated height and width, or else those of the image as it is seen."""
    if image.get("height") and image.get("width"):
        return int(image["height"]), int(image["width"])
    return image_size(image_file).upright


def _shape(one: Mapping[str, Any], size: Size, boxes: bool, skipped: Skipped, where: str) -> Any:
    """Return the run lengths of an annotation or its sound polygons; nothing if there are none."""
    shape = one.get("segmentation")
    if not shape and not boxes:
        skipped.add(NO_MASK, where)
        return None
    if isinstance(shape, Mapping):
        return {"size": shape.get("size"), "counts": shape.get("counts")}
    try:
        polygons = _polygons(shape) if shape else [_box(one)]
    except FAULTS as error:
        raise SourceError(
            f"{where} cannot be decoded ({error!r}). Expected polygons, run lengths, or with ?boxes=yes a bbox: left, "
            "top, width, height."
        ) from error
    flaws = [polygon_flaw(polygon, size) for polygon in polygons]
    for flaw in filter(None, flaws):
        skipped.add(flaw, where)
    return [polygon for polygon, flaw in zip(polygons, flaws, strict=True) if flaw is None]


def _polygons(shape: Sequence[Any]) -> list[list[float]]:
    """Read polygons: lists of x, y, x, y, ..., one such list alone, or points as pairs."""
    alone = not isinstance(shape[0], list) or all(len(one) == 2 and not isinstance(one[0], list) for one in shape)
    return [_numbers(polygon) for polygon in ([shape] if alone else shape)]


def _numbers(polygon: Sequence[Any]) -> list[float]:
    try:
        return list(map(float, polygon))
    except TypeError:  # points as pairs, or null for a number that is none
        numbers = (number for one in polygon for number in (one if isinstance(one, list) else [one]))
        return [math.nan if number is None else float(number) for number in numbers]


def _box(one: Mapping[str, Any]) -> list[float]:
    """Return the corners of a box as pycocotools takes them."""
    left, top, width, height = (float(number) for number in one["bbox"])
    right, bottom = left + max(width, 0), top + max(height, 0)
    return [left, top, left, bottom, right, bottom, right, top]


def _class_name(name: str) -> str:
    short = MERGED.sub("", name.strip())
    return "" if short in UNLABELED else short


def _read_labels(labeled: Sequence[_Labeled], category: str) -> LabelsByCategory:
    segments = [one.channel() for one in labeled if isinstance(one, _Segments)]
    masks = [one for one in labeled if isinstance(one, _CocoMasks)]
    named = (pair for one in masks for pair in one.named())
    files = ", ".join(dict.fromkeys(str(one.file) for one in masks))
    return {category: (*segments, *named_channels(named, files, orientation=1))}


def _decode(shape: Any, size: Size, where: str) -> Mask:
    """Decode sound polygons or run lengths, bool (H, W)."""
    height, width = size
    try:
        if isinstance(shape, list):
            return _fill(shape, height, width)
        if list(shape["size"]) != [height, width]:
            raise ValueError(f"its mask is {shape['size']}, its image {[height, width]}")
        return decode_runs(shape["counts"], height, width)
    except Exception as error:  # compiled code that trusts what it is given
        raise SourceError(
            f"{where} cannot be decoded ({error}). Expected polygons or run lengths of a {height} x {width} image."
        ) from error


def _fill(polygons: Sequence[Sequence[float]], height: int, width: int) -> Mask:
    coco = need("pycocotools.mask", "coco", "A source coco:")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2.0 does not know NumPy 2's __array__
        # United before they are decoded: a crowd may have thousands of polygons.
        mask: npt.NDArray[np.uint8] = coco.decode(coco.merge(coco.frPyObjects(polygons, height, width)))
    return mask > 0
