"""COCO (Lin et al. 2014; panoptic: Kirillov et al. 2019; stuff: Caesar et al. 2018), and what is written in its form.

    DIR/{train2017,val2017}/*.jpg                     or DIR/images/{train2017,val2017}
    DIR/annotations/panoptic_val2017.json             with the label maps annotations/panoptic_val2017/*.png
    DIR/annotations/stuff_val2017.json
    DIR/annotations/instances_val2017.json

Panoptic label maps hold things and stuff, so where they are the other two are not read for that split. Instances and
stuff are decoded by pycocotools (the extra ``coco``); where masks of different classes overlap they lie in several
channels. Pictures without any annotation are left out. Splits are those of the file names. Classes are ``object``
unless another category is given.

Names of stuff lose what only tells how classes were merged: ``wall-other-merged``, ``tree-merged`` and ``mirror-stuff``
are ``wall``, ``tree`` and ``mirror``; ``wall-brick`` stays. ``other`` and ``unlabeled`` are unlabeled.

Options:

- ``?kinds=instances,stuff``: read these kinds (``panoptic``, ``stuff``, ``instances``).
- ``?boxes=yes``: an annotation without a mask covers its box. Otherwise it is an error: a box holds much that is not
  the thing.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from netdissect.concepts.sample import Channel, LabelsByCategory, Sample
from netdissect.concepts.sources.extras import need
from netdissect.concepts.sources.files import read_json
from netdissect.concepts.sources.layers import Mask, read_colors, stack
from netdissect.concepts.sources.source import find_folder
from netdissect.concepts.sources.words import SourceWords
from netdissect.config import Split
from netdissect.errors import SourceError
from netdissect.paths import contained

KINDS_OF_LABELS = ("panoptic", "stuff", "instances")
FILE = re.compile(r"(panoptic|stuff|instances)_(.+)\.json")
MERGED = re.compile(r"(-other|-merged|-stuff)+$")
UNLABELED = frozenset({"other", "unlabeled", "things"})
FAULTS = (KeyError, TypeError, ValueError, IndexError, AttributeError)
"""What reading an annotation of another form raises."""


@dataclass(frozen=True)
class CocoSource:
    """A folder of COCO.

    Attributes
    ----------
    folder
        Holds ``annotations/`` and the pictures.
    category
        Of every class.
    kinds
        Which annotations to read; None: panoptic, or else stuff and instances.
    boxes
        Whether boxes stand in for missing masks.
    """

    folder: Path
    category: str = "object"
    kinds: tuple[str, ...] | None = None
    boxes: bool = False

    @classmethod
    def parse(cls, words: SourceWords) -> "CocoSource":
        """Make the source that ``coco:DIR[=CATEGORY][?kinds=...&boxes=yes]`` names."""
        kinds = words.check("kinds", "boxes").listed("kinds", KINDS_OF_LABELS)
        return cls(words.folder, words.category or "object", kinds, words.says("boxes"))

    @property
    def name(self) -> str:
        """The data set's."""
        return "coco"

    @property
    def text(self) -> str:
        """The words that name it on the command line."""
        options = [f"kinds={','.join(self.kinds)}"] if self.kinds else []
        options += ["boxes=yes"] if self.boxes else []
        return f"coco:{self.folder}={self.category}" + (f"?{'&'.join(options)}" if options else "")

    def samples(self, prefix: str) -> Iterator[Sample]:
        """Yield a sample for each picture that is annotated.

        Raises
        ------
        SourceError
            If a folder or all annotations are missing, an annotation file cannot be read, or pycocotools is missing.
        """
        find_folder(self.folder, "a folder of COCO")
        files = self._files()
        if any(kind != "panoptic" for kinds in files.values() for kind in kinds):
            need("pycocotools.mask", "coco", "coco")
        for split, kinds in sorted(files.items()):
            place = _find_pictures(self.folder, split)
            pictures: dict[str, list[_Labeled]] = {}
            for kind, path in kinds.items():
                for file, labeled in _read_annotations(path, kind, self.boxes):
                    pictures.setdefault(file, []).append(labeled)
            for file in sorted(pictures):
                name = f"{prefix}/{split}/{Path(file).with_suffix('').as_posix()}"
                labels = partial(_read_labels, tuple(pictures[file]), self.category)
                path = contained(place, file, ", ".join(map(str, kinds.values())), SourceError)
                yield Sample(name, path, labels, _split(split))

    def _files(self) -> dict[str, dict[str, Path]]:
        """Find the annotation files to read: by split and kind."""
        folder = self.folder / "annotations"
        found: dict[str, dict[str, Path]] = {}
        for path in sorted((folder if folder.is_dir() else self.folder).glob("*.json")):
            if match := FILE.fullmatch(path.name):
                found.setdefault(match[2], {})[match[1]] = path
        wanted = {split: self._wanted(kinds) for split, kinds in found.items()}
        if not any(wanted.values()):
            kinds = " or ".join(f"{kind}_*.json" for kind in self.kinds or KINDS_OF_LABELS)
            raise SourceError(f"{folder} holds no annotation. Expected {kinds}; correct the folder.")
        return {split: kinds for split, kinds in wanted.items() if kinds}

    def _wanted(self, kinds: Mapping[str, Path]) -> dict[str, Path]:
        names = self.kinds or (("panoptic",) if "panoptic" in kinds else ("stuff", "instances"))
        return {name: kinds[name] for name in names if name in kinds}


class _Labeled(NamedTuple):
    """What one annotation file says of one picture, small enough to be sent to a worker."""

    file: Path
    kind: str
    size: tuple[int, int]
    names: Mapping[int, str]
    annotations: Sequence[Mapping[str, Any]]
    boxes: bool


def _split(split: str) -> Split | None:
    if split.startswith("train"):
        return "train"
    return "val" if split.startswith("val") else None


def _find_pictures(folder: Path, split: str) -> Path:
    places = (folder / split, folder / "images" / split, folder / "images")
    return next((place for place in places if place.is_dir()), places[0])


def _read_annotations(path: Path, kind: str, boxes: bool) -> Iterator[tuple[str, _Labeled]]:
    """Yield what a file says of each picture, with the picture's file name."""
    content = read_json(path, f"the {kind} annotations of COCO")
    try:
        names = {int(one["id"]): _class_name(str(one["name"])) for one in content["categories"]}
        images = {one["id"]: one for one in content["images"]}
        grouped: dict[Any, list[Mapping[str, Any]]] = {}
        for one in content["annotations"]:
            grouped.setdefault(one["image_id"], []).append(_needed(one, kind, path))
        for number, annotations in grouped.items():
            image = images[number]
            used = {int(a["category_id"]) for one in annotations for a in one.get("segments_info", (one,))}
            known = {value: names[value] for value in sorted(used)}
            size = (int(image["height"]), int(image["width"]))
            yield str(image["file_name"]), _Labeled(path, kind, size, known, annotations, boxes)
    except FAULTS as error:
        raise SourceError(
            f"{path} is not in the form of COCO ({error!r}). Expected images, annotations and categories that refer to "
            "each other by id; correct the file."
        ) from error


def _needed(one: Mapping[str, Any], kind: str, path: Path) -> Mapping[str, Any]:
    """Keep what is needed later: half a million annotations are held at once."""
    if kind == "panoptic":
        segments = [{"id": int(s["id"]), "category_id": int(s["category_id"])} for s in one["segments_info"]]
        place = contained(path.with_suffix(""), str(one["file_name"]), path, SourceError)
        return {"map": place, "segments_info": segments}
    return {key: one[key] for key in ("id", "category_id", "segmentation", "bbox") if key in one}


def _class_name(name: str) -> str:
    short = MERGED.sub("", name.strip())
    return "" if short in UNLABELED else short


def _read_labels(labeled: Sequence[_Labeled], category: str) -> LabelsByCategory:
    return {category: tuple(channel for one in labeled for channel in _channels(one))}


def _channels(one: _Labeled) -> Iterator[Channel]:
    if one.kind == "panoptic":
        for annotation in one.annotations:
            yield _panoptic(one, annotation)
        return
    height, width = one.size
    if not (height > 0 and width > 0 and height * width <= (Image.MAX_IMAGE_PIXELS or 1 << 28)):
        raise SourceError(
            f"{one.file} gives a picture of {height} x {width} pixels. Expected its real height and width."
        )
    masks = [(int(annotation["category_id"]), _decode(one, annotation)) for annotation in one.annotations]
    # 0 is unlabeled in every channel, but a class in some files.
    shifted = {value + 1: name for value, name in one.names.items()}
    for layer in stack((value + 1, mask) for value, mask in masks):
        yield Channel(layer, shifted, str(one.file))


def _panoptic(one: _Labeled, annotation: Mapping[str, Any]) -> Channel:
    path = annotation["map"]
    pixels = read_colors(path, "a panoptic label map of COCO").astype(np.int32)
    segments = pixels[..., 0] + 256 * pixels[..., 1] + 65536 * pixels[..., 2]
    ids = np.array([0, *(segment["id"] for segment in annotation["segments_info"])], dtype=np.int64)
    classes = np.array([0, *(segment["category_id"] + 1 for segment in annotation["segments_info"])], dtype=np.int32)
    order = np.argsort(ids, kind="stable")
    place = np.searchsorted(ids[order], segments).clip(max=len(ids) - 1)
    strange = ids[order][place] != segments
    if strange.any():
        raise SourceError(
            f"{path} holds the segment {int(segments[strange][0])}, which {one.file} does not list. "
            "Expected only listed segments; restore both files from the same release."
        )
    return Channel(classes[order][place], {value + 1: name for value, name in one.names.items()}, str(path))


def _decode(one: _Labeled, annotation: Mapping[str, Any]) -> Mask:
    """Decode the polygons or run lengths of an annotation; or fill its box, if asked to."""
    told = f"{one.file}, annotation {annotation.get('id', '?')}"
    shape = annotation.get("segmentation")
    if not shape:
        if not one.boxes:
            raise SourceError(
                f"{told} has no mask. Expected a segmentation; say ?boxes=yes if its box may stand in for it."
            )
        return _box(annotation, one.size, told)
    coco = need("pycocotools.mask", "coco", "coco")
    height, width = one.size
    try:
        if isinstance(shape, dict) and list(shape["size"]) != [height, width]:
            raise ValueError(f"its mask is {shape['size']}, its picture {[height, width]}")
        if isinstance(shape, dict) and isinstance(shape["counts"], str | bytes):
            runs = [shape]
        elif isinstance(shape, dict):
            if min(shape["counts"]) < 0 or sum(shape["counts"]) != height * width:
                raise ValueError("its run lengths do not add up to the picture")
            runs = [coco.frPyObjects(shape, height, width)]
        else:
            runs = coco.frPyObjects([_polygon(points, height, width) for points in shape], height, width)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2.0 does not know NumPy 2's __array__
            mask: npt.NDArray[np.uint8] = coco.decode(runs)
    except Exception as error:  # compiled code that trusts what it is given
        raise SourceError(
            f"{told} cannot be decoded ({error}). Expected polygons or run lengths of a {height} x {width} picture."
        ) from error
    united: Mask = np.asarray(mask.any(axis=2))
    return united


def _polygon(points: Sequence[Any], height: int, width: int) -> list[float]:
    """Check a polygon: pycocotools allocates memory for whatever coordinates it is given."""
    numbers = np.array([float(number) for number in points])
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError(f"a polygon of {len(numbers)} numbers")
    if not (np.abs(numbers) <= 2 * max(height, width)).all():  # NaN, too
        raise ValueError("a polygon far outside of the picture")
    return [float(number) for number in numbers]


def _box(annotation: Mapping[str, Any], size: tuple[int, int], told: str) -> Mask:
    try:
        left, top, width, height = (float(number) for number in annotation["bbox"])
        rows, columns = slice(max(round(top), 0), round(top + height)), slice(max(round(left), 0), round(left + width))
    except (*FAULTS, OverflowError) as error:
        raise SourceError(f"{told} has no box, either ({error!r}). Expected bbox: left, top, width, height.") from error
    mask = np.zeros(size, dtype=np.bool_)
    if rows.stop > 0 and columns.stop > 0:
        mask[rows, columns] = True
    return mask
