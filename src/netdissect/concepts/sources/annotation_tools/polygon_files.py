"""Images with shapes that were drawn in LabelMe, VIA, CVAT or Label Studio.

    DIR/**/*.json      next to the images (``a.jpg``, ``a.json``), or in a folder next to ``images/``
    DIR/**/*.xml       of CVAT: ``annotations.xml`` and ``images/``
    DIR/FILE.json      a single file

The program is identified by the keys of the file (`formats`). The pixels of polygons, rectangles, circles and ellipses
are defined in `shape_masks`. Points, lines, shapes without a label and shapes that cover no pixel are left out, and
their numbers are logged. Where shapes of different classes overlap, a pixel has all their labels, in several channels.
Classes are ``object`` unless another category is given.

`ImageLocator` finds the images. A missing image is read from its LabelMe file if that contains it. An image in several
files has all their shapes. Images without a shape are left out. Images in a folder ``train``, ``val`` or ``test`` have
that split; for others it is drawn by name.

Options:

- ``?label=NAME``: the attribute of VIA that is the label, if shapes have several;
- ``?name=NAME``: the label of shapes without one;
- ``?missing=skip``: missing images are left out and counted; otherwise they are an error.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from netdissect.concepts.build.sample import ImageInput, LabelsByCategory, Sample
from netdissect.concepts.build.synonyms import keep_apart
from netdissect.concepts.image_io import UNREADABLE, open_image, to_rgb, turn
from netdissect.concepts.sources.annotation_tools.formats import (
    ENDINGS,
    LARGEST,
    WHAT,
    FormatKeys,
    Object,
    read_images,
    shapes_of,
)
from netdissect.concepts.sources.annotation_tools.image_lookup import MISSING, ImageLocator
from netdissect.concepts.sources.annotation_tools.shape_masks import UNNAMED, Shape, Size, Skipped, is_sane
from netdissect.concepts.sources.mask_stacking import Mask, named_channels
from netdissect.concepts.sources.orientation import ImageSize, drawn_orientation, image_size, size_of
from netdissect.concepts.sources.readers import read_any_json
from netdissect.concepts.sources.source import find_folder, split_of
from netdissect.concepts.sources.spec import SourceSpec
from netdissect.errors import SourceError

logger = getLogger("netdissect.concepts")

UNLABELED = frozenset({"__ignore__", "_background_"})
LABEL_NAMES = ("label", "class", "name", "category", "type", "object")
"""Attributes of VIA that are taken for the label if one of them is there among others."""
PROBLEMS_SHOWN = 10
FAULTS = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
"""Errors of reading an annotation of another format."""


@dataclass(frozen=True)
class PolygonSource:
    """A folder of images and annotation files.

    Attributes
    ----------
    folder
        Folder with both, at any depth; or one annotation file in the folder of its images.
    category
        Category of all classes.
    label
        The attribute that is the label; None: the only one.
    unnamed
        The label of shapes without one; None: they are left out.
    skip_missing
        Whether missing images are left out.
    """

    folder: Path
    category: str = "object"
    label: str | None = None
    unnamed: str | None = None
    skip_missing: bool = False

    @classmethod
    def parse(cls, spec: SourceSpec) -> "PolygonSource":
        """Parse ``polygons:DIR[=CATEGORY][?label=NAME&name=NAME&missing=skip]``."""
        options = spec.check("label", "name", "missing").options
        skip = spec.choice("missing", MISSING) == "skip"
        return cls(spec.folder, spec.category or "object", options.get("label"), options.get("name"), skip)

    @property
    def name(self) -> str:
        """Name of the folder, or of the file."""
        return self.folder.resolve().stem if self.folder.is_file() else self.folder.resolve().name

    @property
    def text(self) -> str:
        """Specification on the command line."""
        given = {"label": self.label, "name": self.unnamed, "missing": "skip" if self.skip_missing else None}
        options = {key: value for key, value in given.items() if value is not None}
        return SourceSpec("polygons", str(self.folder), self.category, options).text

    def samples(self, prefix: str) -> Iterator[Sample]:
        """Yield a sample for each image that has a shape.

        Raises
        ------
        SourceError
            If the folder or all annotations are missing, files cannot be read or images are missing (the message names
            the first ten), or the attribute of the label is ambiguous.
        """
        if self.folder.is_file():
            root, files = self.folder.parent, [self.folder]
        else:
            root = find_folder(self.folder, "a folder with images and annotations")
            files = annotation_files(root)
        reader = _Reader(ImageLocator(root, self.skip_missing), self.label, self.unnamed)
        if not files:
            raise SourceError(
                f"{root} holds no annotation. Expected {WHAT} (*.json, *.xml) beside the images, or in a folder of "
                "their own."
            )
        for file in files:
            reader.read(file)
        for image_path, (name, sheets) in reader.sheets().items():
            labels = partial(_read_labels, tuple(sheets), self.category)
            split = split_of(name) if "/" in name else None
            yield Sample(f"{prefix}/{name}", cast("ImageInput", image_path), labels, split)
        reader.log_summary(self.text)


def annotation_files(root: Path) -> list[Path]:
    """List the JSON and XML files below a folder, without hidden ones, sorted by their path."""
    found = [path for path in root.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file()]
    shown = [path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)]
    return sorted(shown, key=lambda path: path.relative_to(root).as_posix())


def is_annotated(root: Path) -> bool:
    """Return whether a folder holds an annotation of a known program."""
    for file in annotation_files(root):
        try:
            if read_images(file):
                return True
        except SourceError:
            continue
    return False


class _Sheet(NamedTuple):
    """The shapes of one image in one file, encoded, so that they can be sent to a worker."""

    file: Path
    image_path: "Path | _Embedded"
    size: Size
    shapes: tuple[tuple[str, Shape], ...]


@dataclass
class _RawShape:
    """The shapes of one image in one file, before the attribute of the label is known."""

    file: Path
    image_path: "Path | _Embedded"
    name: str
    size: Size
    shapes: list[tuple[Any, Shape | str]]


@dataclass
class _Reader:
    """Reads annotation files one by one."""

    locator: ImageLocator
    label: str | None
    unnamed: str | None
    problems: list[str] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    raw: list[_RawShape] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)
    apart: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """The folder of the source."""
        return self.locator.root

    def read(self, file: Path) -> None:
        """Read a file; files of another format are ignored, errors of annotation files are collected."""
        try:
            found = read_images(file)
        except SourceError as error:
            self.problems.append(str(error))
            return
        except FAULTS as error:
            self.problems.append(_other_form(file, error))
            return
        if found is None:
            self.others.append(file)
            return
        keys, images = found
        for image_path in images:
            try:
                if image_path[keys.shapes] and (raw := self._image(image_path, keys, file)):
                    self.raw.append(raw)
            except SourceError as error:
                self.problems.append(str(error))
            except FAULTS as error:
                self.problems.append(_other_form(file, error))

    def _image(self, image_path: Object, keys: FormatKeys, file: Path) -> _RawShape | None:
        shapes = list(shapes_of(image_path, keys))
        image, name = self._find(image_path, keys, file)
        if isinstance(image, Path) and self.locator.skips(image):
            return None
        size = _stated(image_path, keys) or (image_size(image) if isinstance(image, Path) else image.size()).upright
        if not is_sane(*size):
            raise SourceError(f"{file} gives an image of {size[0]} x {size[1]} pixels. Expected its real size.")
        return _RawShape(file, image, name, size, shapes)

    def _find(self, image_path: Object, keys: FormatKeys, file: Path) -> tuple["Path | _Embedded", str]:
        embedded = image_path.get(keys.embedded)
        folder = file.parent.relative_to(self.root).as_posix()
        try:
            subset = (f"images/{image_path[keys.subset]}",) if image_path.get(keys.subset) else ()
            folders = ("" if folder == "." else folder, "images", *subset, "")
            image, _ = self.locator.find(str(image_path[keys.image]), folders, file)
        except SourceError:
            if not embedded:
                raise
        else:
            if image.is_file() or not embedded:
                return image, image.relative_to(self.root).with_suffix("").as_posix()
        return _Embedded(file, keys.embedded), file.relative_to(self.root).with_suffix("").as_posix()

    def sheets(self) -> dict["Path | _Embedded", tuple[str, list[_Sheet]]]:
        """Return the name and the shapes of each image."""
        if self.problems:
            listing = "".join(f"\n  - {problem}" for problem in self.problems[:PROBLEMS_SHOWN])
            more = f"\n  ... and {more} more." if (more := len(self.problems) - PROBLEMS_SHOWN) > 0 else ""
            raise SourceError(f"{len(self.problems)} annotations cannot be used. Mend or remove them:{listing}{more}")
        key = self.label or self._only_attribute()
        self.apart = keep_apart(name for raw in self.raw for label, _ in raw.shapes for name in _names(label, key))
        found: dict[Path | _Embedded, tuple[str, list[_Sheet]]] = {}
        for raw in sorted(self.raw, key=lambda raw: raw.name):
            shapes = [pair for number, one in enumerate(raw.shapes) for pair in self._sound(one, number, key, raw)]
            if shapes:
                sheet = _Sheet(raw.file, raw.image_path, raw.size, tuple(shapes))
                found.setdefault(raw.image_path, (raw.name, []))[1].append(sheet)
        if not found:
            raise SourceError(self._nothing())
        return found

    def _sound(
        self, one: tuple[Any, Shape | str], number: int, key: str | None, raw: _RawShape
    ) -> Iterator[tuple[str, Shape]]:
        label, shape = one
        where = f"{raw.file}, shape {number} of {raw.name}"
        names = _names(label, key) or ([self.unnamed] if self.unnamed else [])
        flaw = shape if isinstance(shape, str) else shape.flaw(raw.size)
        if flaw or not names:
            self.skipped.add(flaw or UNNAMED, where)
        elif not isinstance(shape, str):
            yield from ((self.apart.get(name, name), shape) for name in names if name not in UNLABELED)

    def _only_attribute(self) -> str | None:
        """Return the attribute that is the label."""
        attributes = dict.fromkeys(
            key for raw in self.raw for label, _ in raw.shapes if isinstance(label, dict) for key in label
            if _names(label, key)
        )  # fmt: skip
        likely = [key for key in attributes if key.lower() in LABEL_NAMES] if len(attributes) > 1 else list(attributes)
        if len(attributes) > 1 and len(likely) != 1:
            raise SourceError(
                f"the shapes in {self.root} have the attributes {', '.join(map(repr, attributes))}. Expected one that "
                "is the label; name it: ?label=NAME."
            )
        return likely[0] if likely else None

    def _nothing(self) -> str:
        if UNNAMED in self.skipped.counts:
            return (
                f"no shape in {self.root} has a label (the first is {self.skipped.first[UNNAMED]}). Expected labels; "
                "if all shapes are of one class, name it: ?name=NAME."
            )
        if self.locator.absent:
            return f"{self.root} holds no image that its annotations name. Expected at least one; put them there."
        seen = f"files of another form, e.g. {self.others[0]}" if self.others else "no shape that covers anything"
        return (
            f"{self.root} holds {seen}. Expected {WHAT} with at least one polygon, rectangle, circle or ellipse (for "
            "annotations in COCO's form say coco:DIR)."
        )

    def log_summary(self, source: str) -> None:
        """Log what was left out."""
        if self.others:
            others = len(self.others), self.others[0]
            logger.info("%s: files of another form that were passed over: %d (the first is %s)", source, *others)
        self.skipped.log_summary(source)
        self.locator.log_summary(source)


def _other_form(file: Path, error: Exception) -> str:
    return f"{file} lacks what {WHAT} holds ({error!r}). Correct or remove the file."


def _stated(image_path: Object, keys: FormatKeys) -> Size | None:
    height, width = (image_path.get(key) for key in keys.size)
    return (int(height), int(width)) if height and width else None


def _names(label: Any, key: str | None) -> list[str]:
    """Return the labels of a shape: a string, or the value of an attribute (a string, a list, or ticked boxes)."""
    value = label.get(key) if isinstance(label, dict) else label
    if isinstance(value, dict):
        value = [name for name, ticked in value.items() if ticked]
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [name for one in values if (name := str(one).strip())]


@dataclass(frozen=True)
class _Embedded:
    """An image that an annotation file holds in Base64, decoded when NumPy asks for its pixels, in the worker."""

    file: Path
    key: str

    def size(self) -> ImageSize:
        """Read the size of the image from its header."""
        return size_of(self._open())

    def _open(self) -> Image.Image:
        try:
            data = base64.b64decode(read_any_json(self.file, WHAT, LARGEST)[self.key])
            return open_image(io.BytesIO(data))
        except (*UNREADABLE, TypeError, KeyError) as error:
            raise SourceError(
                f"{self.file} holds an image that cannot be read ({error!r}). Put the image beside it."
            ) from error

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[np.uint8]:
        try:
            shown = ImageOps.exif_transpose(self._open())
            return np.asarray(to_rgb(shown, str(self.file)), dtype=dtype)
        except UNREADABLE as error:
            raise SourceError(
                f"{self.file} holds an image that cannot be read ({error!r}). Put the image beside it."
            ) from error


def _read_labels(sheets: Sequence[_Sheet], category: str) -> LabelsByCategory:
    return {category: tuple(named_channels(_masks(sheets), str(sheets[0].file), orientation=1))}


def _masks(sheets: Sequence[_Sheet]) -> Iterator[tuple[str, Mask]]:
    for sheet in sheets:
        orientation = drawn_orientation(sheet.size, sheet.image_path) if isinstance(sheet.image_path, Path) else 1
        yield from ((name, turn(shape.fill(sheet.size), orientation)) for name, shape in sheet.shapes)
