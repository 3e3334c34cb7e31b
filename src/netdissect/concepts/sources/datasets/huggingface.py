"""Data sets of the library ``datasets`` (the extra ``hf``): each row has an image, and a mask or a class.

    hf:DIR[=CATEGORY][?...]      a folder that save_to_disk wrote, or one of Parquet files
    hf:NAME[=CATEGORY][?...]     a data set of the hub, downloaded by ``datasets``

The columns are found by their types and names. Images have the type ``Image``; of two, the one called ``mask``,
``annotation``, ``label``, ``segmentation`` or similarly is the mask. With one image column, a ``ClassLabel`` column has
labels of the whole image. A mask is an image, read as in ``masks:``, or an array of two dimensions.

Options, for columns that are not found or are found wrongly:

- ``image=COLUMN``, ``mask=COLUMN``, ``label=COLUMN`` (of whole images: classes, words, whole numbers, lists of these;
  for a boolean column without names the label is the name of the column, where it is true);
- ``names=FILE``: names of values or labels, JSON (``{"1": "wall"}``, or ``config.json`` of a model) or CSV
  (``value,name``); or ``names=COLUMN`` of class labels. Default: ``id2label.json`` in DIR, or the column's classes;
- ``shift=-1``: a value v has the name of v - 1, as after ``reduce_labels``; required if 0 is a class in ``id2label`` of
  a model, or if a value is one beyond the names;
- ``ignore=255``: a value that is unlabeled;
- ``separator=;``: separator of several labels in a cell of text, as in ``labels:``;
- ``read=``, ``colors=``, ``unlisted=``, ``drawn=``, as in ``masks:``;
- ``config=NAME``, ``split=train,validation`` (all splits unless given).

Masks are ``object`` unless another category is given; labels need one. Splits whose name begins with ``train`` are for
training, those that begin with ``val``, ``dev`` or ``test`` are not; others are drawn by name.
"""

import contextlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from netdissect.concepts.build.sample import LabelsByCategory, Sample
from netdissect.concepts.csv_numbers import LARGEST, whole_number
from netdissect.concepts.image_io import UNREADABLE, open_image, orientation_of, to_rgb
from netdissect.concepts.sources.class_tables import MASK_OPTIONS, MaskReading
from netdissect.concepts.sources.datasets.huggingface_labels import LabelNames, check_values, mask_table, shift_of
from netdissect.concepts.sources.mask_values import Stored, read_stored
from netdissect.concepts.sources.spec import SourceSpec
from netdissect.config import Split
from netdissect.errors import SourceError
from netdissect.extras import need
from netdissect.paths import contained

OPTIONS = ("image", "names", "shift", "ignore", "config", "split")
OF_LABELS = ("label", "separator")
OF_MASKS = ("mask", *MASK_OPTIONS)
MASK_WORDS = ("mask", "annot", "label", "seg", "semantic", "target", "ground")


@dataclass(frozen=True)
class HuggingFaceSource:
    """A data set of the library ``datasets``.

    Attributes
    ----------
    spec
        The specification: location, category, options.
    """

    spec: SourceSpec

    @classmethod
    def parse(cls, spec: SourceSpec) -> "HuggingFaceSource":
        """Parse ``hf:NAME_OR_DIR[=CATEGORY][?...]``."""
        ignore = spec.check(*OPTIONS, *OF_LABELS, *OF_MASKS).options.get("ignore", "0")
        value = whole_number(ignore)
        if value is None or value == LARGEST:
            raise SourceError(
                f"the source {spec.text!r} says ignore={ignore[:80]}. Expected the value of a pixel, e.g. 255."
            )
        if "mask" in spec.options and "label" in spec.options:
            raise SourceError(
                f"the source {spec.text!r} names a mask and a label. Expected one; name it as two sources."
            )
        shift_of(spec)
        return cls(spec)

    @property
    def name(self) -> str:
        """Name of the folder, or the last part of the data set's name."""
        folder = self.spec.folder
        return folder.resolve().name if folder.is_dir() else folder.name

    @property
    def text(self) -> str:
        """Specification on the command line."""
        return self.spec.text

    def samples(self, prefix: str) -> Iterator[Sample]:
        """Yield a sample for each row of each split.

        Raises
        ------
        SourceError
            If ``datasets`` is missing, the data set cannot be opened, or it does not say which column is what.
        """
        folder = self.spec.folder
        root = folder if folder.is_dir() else Path(need("datasets", "hf", "A source hf:").config.HF_CACHE_HOME)
        for split, table in _load(self.spec).items():
            plan = self._plan(table)
            row = 0
            for file in _files(table, self.spec):
                for index in range(len(_open(file))):
                    at = _HuggingFaceRow(file, index, f"{self.spec.text}, {split} row {row}", root)
                    yield Sample(
                        f"{prefix}/{split}/{row:06d}",
                        _image(at, plan),
                        partial(_read_labels, at, plan),
                        _split(split),
                    )
                    row += 1

    def _plan(self, table: Any) -> "_ColumnPlan":
        image, mask, label = _columns(table.features, self.spec)
        strange = [option for option in self.spec.options if option in (OF_MASKS if label else OF_LABELS)]
        if strange:
            raise SourceError(
                f"the source {self.text!r} says {strange[0]}=, but its column {label or mask!r} holds "
                f"{'labels of whole images' if label else 'masks'}. Leave the option out."
            )
        if not label:
            names = mask_table(table.features, mask or "", self.spec)
            reading = MaskReading.parse(self.spec, names)
            return _ColumnPlan(image, mask or "", self.spec.category or "object", reading, self.spec)
        if self.spec.category is None:
            raise SourceError(
                f"the source {self.text!r} labels whole images by its column {label!r} and names no category. "
                f"Expected what they are, e.g. hf:{self.spec.location}=scene."
            )
        return _ColumnPlan(image, label, self.spec.category, LabelNames.of(table, label, self.spec), self.spec)


class _ColumnPlan(NamedTuple):
    """The columns of images and labels, and the names of the labels' values."""

    image: str
    column: str
    category: str
    meaning: MaskReading | LabelNames
    spec: SourceSpec


class _HuggingFaceRow(NamedTuple):
    """A row of an Arrow file on disk, below `root` like all its images; this is sent to a worker."""

    file: Path
    row: int
    where: str
    root: Path

    def read(self, column: str) -> Any:
        """Read one undecoded cell."""
        return _open(self.file).with_format("arrow", columns=[column])[self.row].to_pylist()[0][column]


@dataclass(frozen=True)
class _LazyImage:
    """An image that is decoded when NumPy asks for its pixels, in the worker."""

    row: _HuggingFaceRow
    column: str

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[np.uint8]:
        image = _decode(self.row, self.column)
        try:
            upright = ImageOps.exif_transpose(image)
            return np.asarray(to_rgb(upright, self.row.where), dtype=dtype)
        except UNREADABLE as error:
            raise _broken(self.row.where, self.column, error) from error


def _image(row: _HuggingFaceRow, plan: _ColumnPlan) -> npt.NDArray[np.uint8]:
    return cast("npt.NDArray[np.uint8]", _LazyImage(row, plan.image))


def _load(spec: SourceSpec) -> dict[str, Any]:
    """Open the data set: its splits by name."""
    datasets = need("datasets", "hf", "A source hf:")
    folder, config = spec.folder, spec.options.get("config")
    with _quiet(datasets):
        try:
            if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
                loaded = datasets.load_from_disk(str(folder))
            else:
                loaded = datasets.load_dataset(str(folder) if folder.is_dir() else spec.location, config)
        except Exception as error:  # the hub, the network and files may raise any error
            raise SourceError(
                f"{spec.text} cannot be opened by the library datasets ({type(error).__name__}: {error}). Expected a "
                "folder of save_to_disk or of Parquet files, or a name on the hub; correct it, or say config=NAME."
            ) from error
    splits = dict(loaded) if isinstance(loaded, dict) else {str(loaded.split or "all"): loaded}
    selected = spec.choices("split", tuple(splits)) or tuple(splits)
    return {split: splits[split] for split in selected}


@contextlib.contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Keep the library from drawing progress bars."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _files(table: Any, spec: SourceSpec) -> list[Path]:
    files = [Path(file["filename"]) for file in table.cache_files]
    if not files or sum(len(_open(file)) for file in files) != len(table):
        raise SourceError(
            f"{spec.text} is not held in Arrow files as it stands, so that workers cannot read it row by row. "
            "Expected a data set as saved; write it with save_to_disk(DIR) and use hf:DIR."
        )
    return files


@lru_cache(maxsize=16)
def _open(file: Path) -> Any:
    """Map an Arrow file into memory, once a process."""
    return need("datasets", "hf", "A source hf:").Dataset.from_file(str(file))


def _columns(features: Mapping[str, Any], spec: SourceSpec) -> tuple[str, str | None, str | None]:
    """Find the columns of image, mask and label; of the last two, one is None."""
    given = spec.options
    for option in ("image", "mask", "label"):
        if option in given and given[option] not in features:
            raise SourceError(f"the source {spec.text!r} says {option}={given[option]}. {_there(features)}")
    images = [name for name, feature in features.items() if _kind(feature) == "Image"]
    mask = given.get("mask")
    if not mask and "label" not in given:
        mask = _only([name for name in images if name != given.get("image") and _sounds_like_mask(name)])
    image = given.get("image") or _only([name for name in images if name != mask])
    if image is None and not mask:
        image = _only([name for name in images if not _sounds_like_mask(name)])
    label = given.get("label")
    if not mask and not label:
        label = _only([name for name, feature in features.items() if _kind(feature) == "ClassLabel"])
    if image is None or not (mask or label):
        unknown = "image" if image is None else "mask or label"
        raise SourceError(
            f"the source {spec.text!r} does not say which column is the {unknown}. "
            f"{_there(features)} Name them: ?image=COLUMN&mask=COLUMN, or label=COLUMN."
        )
    return image, mask, None if mask else label


def _kind(feature: Any) -> str:
    return type(feature).__name__


def _sounds_like_mask(name: str) -> bool:
    return any(word in name.lower() for word in MASK_WORDS)


def _only(names: Sequence[str]) -> str | None:
    return names[0] if len(names) == 1 else None


def _there(features: Mapping[str, Any]) -> str:
    return "Its columns are " + ", ".join(f"{name} ({_kind(feature)})" for name, feature in features.items()) + "."


def _split(split: str) -> Split | None:
    if split.startswith("train"):
        return "train"
    return "val" if split.startswith(("val", "dev", "test")) else None


def _read_labels(row: _HuggingFaceRow, plan: _ColumnPlan) -> LabelsByCategory:
    origin = f"{row.where}, column {plan.column}"
    if isinstance(plan.meaning, LabelNames):
        return {plan.category: plan.meaning.read(row.read(plan.column), origin)}
    channel = plan.meaning.channel(_stored(row, plan.column), origin)
    turned = channel.orientation
    if turned is None:  # as the image beside it
        turned = orientation_of(_decode(row, plan.image))
    return {plan.category: (check_values(replace(channel, orientation=turned), plan.spec),)}


def _stored(row: _HuggingFaceRow, column: str) -> Stored:
    table = _open(row.file)
    origin = f"{row.where}, column {column}"
    if _kind(table.features[column]) != "Image":
        array = np.asarray(table.with_format("numpy", columns=[column])[row.row][column])
        return Stored(array, "floating-point" if array.dtype.kind == "f" else "odd")
    return read_stored(_content(row, column), origin)


def _decode(row: _HuggingFaceRow, column: str) -> Image.Image:
    try:
        return open_image(io.BytesIO(_content(row, column)))
    except UNREADABLE as error:
        raise _broken(row.where, column, error) from error


def _content(row: _HuggingFaceRow, column: str) -> bytes:
    """Return the encoded image in a cell."""
    cell = row.read(column)
    try:
        if cell["bytes"] is not None:
            return bytes(cell["bytes"])
        # A table that was built from a folder of images has their absolute paths.
        root = row.root.resolve()
        name = os.path.relpath(Path(root, cell["path"]), root)
        return contained(root, name, f"{row.where}, column {column}", SourceError).read_bytes()
    except (OSError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise _broken(row.where, column, error) from error


def _broken(where: str, column: str, error: Exception) -> SourceError:
    return SourceError(
        f"{where}, column {column} cannot be read as an image ({error or type(error).__name__}). Expected a whole "
        "image; restore or drop the row."
    )
