"""Turn one sample into files: the squashed picture and its label maps, still numbered for this picture alone.

`render` and `renumber` are the two things that workers do. Between them the writer learns all names,
because a concept's number depends on how many pictures carry it.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from netdissect.concepts.colors import COLOR_NAMES, ColorTable, name_colors, read_color_table
from netdissect.concepts.dataset import INDEX_COLUMNS, read_label_map
from netdissect.concepts.pictures import nearest, read_picture, squash
from netdissect.concepts.sample import Channel, LabelsByCategory, PixelValues, Sample, split_by_hash
from netdissect.concepts.types import Labels, Size
from netdissect.concepts.unify import normalize_name
from netdissect.config import Split
from netdissect.errors import SourceError

CATEGORY_SPELLING = re.compile(r"[a-z][a-z0-9_]*")
COLOR_CHANNEL = dict(enumerate(COLOR_NAMES, start=1))


class WriteOptions(BaseModel):
    """How pictures and label maps are written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(224, ge=2, description="Pictures are squashed to this square; label maps to half of it.")
    colors: bool = Field(False, description="Name the color of every pixel, as the category 'color'.")
    color_table: Path | None = Field(None, description="A published 32x32x32 table of color names; None: our model.")
    image_format: Literal["jpeg", "png"] = Field("jpeg", description="jpeg: of the quality below; png: lossless.")
    quality: int = Field(92, ge=1, le=95, description="JPEG quality, without chroma subsampling.")

    @property
    def map_size(self) -> int:
        """Height and width of the label maps."""
        return self.size // 2


@dataclass(frozen=True, slots=True)
class MapFile:
    """A label map on disk.

    Attributes
    ----------
    path
        Below ``images/``.
    names
        Normalized concept names; until `renumber`, pixel value v means ``names[v - 1]``.
    """

    path: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rendered:
    """What was written of one sample.

    Attributes
    ----------
    image
        Path of the picture below ``images/``.
    split
        ``train`` or ``val``.
    items
        By category: label maps, and normalized names of the whole picture.
    pixels
        By category: on how many label-map pixels each name stands; each pixel once.
    """

    image: str
    split: Split
    items: Mapping[str, Sequence[MapFile | str]]
    pixels: Mapping[str, Mapping[str, int]]

    @property
    def maps(self) -> tuple[MapFile, ...]:
        """Its label maps."""
        return tuple(item for items in self.items.values() for item in items if isinstance(item, MapFile))

    @property
    def files(self) -> tuple[str, ...]:
        """Every file below ``images/``."""
        return (self.image, *(item.path for item in self.maps))


def render(sample: Sample, images: Path, options: WriteOptions) -> Rendered | list[str]:
    """Write the picture and provisional label maps of `sample` below `images`.

    Returns
    -------
    Rendered or list of str
        What was written, or what is wrong with the sample's files, one message a file.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    problems: list[str] = []
    picture: Image.Image | None = None
    labels: LabelsByCategory = {}
    try:
        _check_name(sample.name)
        picture = read_picture(sample.image)
    except SourceError as error:
        problems.append(str(error))
    try:
        labels = sample.read_labels()
        if picture is not None:
            for category, items in labels.items():
                _check_category(category, sample.name)
                for item in items:
                    if isinstance(item, Channel):
                        _check_channel(item, picture, sample)
    except SourceError as error:
        problems.append(str(error))
    if picture is None or problems:
        return problems
    return _write(sample, picture, _with_colors(labels, picture, options), images, options)


Renumbering = tuple[tuple[str, tuple[int, ...]], ...]
"""Path below ``images/`` of each label map of a picture, and the final number of pixel values 1, 2, ..."""


def renumber(maps: Renumbering, images: Path, map_size: int) -> None:
    """Give the label maps of one picture their final numbers.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    for name, numbers in maps:
        path = images / name
        final = np.array([0, *numbers], dtype=np.int32)
        path.write_bytes(encode_label_map(final[read_label_map(path, Size(map_size, map_size))]))


def encode_label_map(labels: npt.NDArray[np.integer], compression: int = 6) -> bytes:
    """Encode label numbers (H, W) below 65,536 as an RGB PNG: R + 256 * G; `compression` is zlib's, 0 to 9."""
    pixels = np.zeros((*labels.shape, 3), dtype=np.uint8)
    pixels[..., 0] = labels % 256
    pixels[..., 1] = labels // 256
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=compression)
    return buffer.getvalue()


def _check_name(name: str) -> None:
    parts = PurePosixPath(name).parts
    odd = any(character in name for character in ";\\\0\r\n") or name != name.strip() or name.endswith("/")
    if not parts or odd or name.startswith("/") or ".." in parts:
        raise SourceError(
            f"the sample name {name!r} cannot be a path in a data set. Expected a relative path with forward slashes "
            "and without ';', '..' or outer blanks, e.g. 'msrc/9_6_s'; rename the file."
        )


def _check_category(category: str, name: str) -> None:
    if not CATEGORY_SPELLING.fullmatch(category) or category in INDEX_COLUMNS:
        raise SourceError(
            f"{name}: {category!r} cannot be a category. Expected lower-case letters, digits and underscores, "
            f"and none of {', '.join(INDEX_COLUMNS)}, e.g. 'object'."
        )


def _check_channel(channel: Channel, picture: Image.Image, sample: Sample) -> None:
    origin = channel.origin or f"the label map of {sample.name}"
    if channel.values.dtype.kind not in "iub":
        raise SourceError(f"{origin} holds {channel.values.dtype} values. Expected whole numbers; convert them first.")
    shape = channel.values.shape
    if shape != (picture.height, picture.width):
        seen = " x ".join(map(str, shape))
        raise SourceError(
            f"{origin} is {seen} pixels (height x width) but its picture"
            f"{f' {sample.image}' if isinstance(sample.image, Path) else ''} is {picture.height} x {picture.width}"
            " (turned upright as EXIF says). Expected one mask pixel for each picture pixel; resize the mask "
            "with nearest neighbor or correct the pair."
        )
    unknown = [value for value in distinct(channel.values) if value and value not in channel.names]
    if unknown:
        raise SourceError(
            f"{origin} holds the value {unknown[0]}, which has no name"
            + (f" (and {len(unknown) - 1} more such values)" if len(unknown) > 1 else "")
            + ". Expected only named values; name it, with an empty name if its pixels are unlabeled."
        )


def distinct(values: PixelValues) -> list[int]:
    """Return the distinct values, rising."""
    if values.size and values.min() >= 0 and values.max() < 1 << 16:
        # Counting 70,000 pixels takes a tenth of sorting them.
        return [int(value) for value in np.flatnonzero(np.bincount(values.ravel().astype(np.int64)))]
    return [int(value) for value in np.unique(values)]


def _with_colors(labels: LabelsByCategory, picture: Image.Image, options: WriteOptions) -> LabelsByCategory:
    if not options.colors or "color" in labels:
        return labels
    # Naming pixel by pixel and taking the nearest are the same in either order; this order names fewer.
    pixels = nearest(np.asarray(picture), options.map_size)
    table = None if options.color_table is None else _color_table(options.color_table)
    return {**labels, "color": (Channel(name_colors(pixels, table), COLOR_CHANNEL),)}


@cache
def _color_table(path: Path) -> ColorTable:
    return read_color_table(path)


def _write(
    sample: Sample, picture: Image.Image, labels: LabelsByCategory, images: Path, options: WriteOptions
) -> Rendered:
    items: dict[str, list[MapFile | str]] = {}
    pixels: dict[str, dict[str, int]] = {}
    (images / sample.name).parent.mkdir(parents=True, exist_ok=True)
    for category, channels in labels.items():
        names, local = _localize(category, channels, options.map_size)
        if not names:
            continue
        files = _map_paths(f"{sample.name}_{category}", len(local.planes))
        for path, plane in zip(files, local.planes, strict=True):
            (images / path).write_bytes(encode_label_map(plane, compression=1))  # soon written again
        pixels[category] = dict(zip(names, _count(local, len(names)), strict=True))
        items[category] = [*(names[n - 1] for n in local.whole), *(MapFile(path, names) for path in files)]
    image = f"{sample.name}.{'jpg' if options.image_format == 'jpeg' else 'png'}"
    (images / image).write_bytes(_encode_picture(squash(picture, options.size), options))
    return Rendered(image, sample.split or split_by_hash(sample.name), items, pixels)


def _localize(category: str, items: Sequence[Channel | str], size: int) -> tuple[tuple[str, ...], Labels]:
    """Give the names that this picture carries in one category numbers, and its labels in these numbers."""
    whole = list(
        dict.fromkeys(name for item in items if isinstance(item, str) if (name := normalize_name(item, category)))
    )
    small: list[tuple[PixelValues, Mapping[int, str]]] = [
        (nearest(item.values, size), item.names) for item in items if isinstance(item, Channel)
    ]
    spelled = [
        {value: name for value in distinct(values) if (name := normalize_name(raw.get(value, ""), category))}
        for values, raw in small
    ]
    names = tuple(sorted({*whole, *(name for spelling in spelled for name in spelling.values())}))
    code = {name: number for number, name in enumerate(names, start=1)}
    planes = []
    for (values, _), spelling in zip(small, spelled, strict=True):
        plane = np.zeros((size, size), dtype=np.int32)
        for value, name in spelling.items():
            plane[values == value] = code[name]
        if spelling:
            planes.append(plane)
    stack = np.array(planes, dtype=np.int32).reshape(len(planes), size, size)
    return names, Labels(stack, np.array([code[name] for name in whole], dtype=np.int32))


def _count(local: Labels, names: int) -> list[int]:
    once = local.once()
    counts = np.bincount(once.planes.ravel(), minlength=names + 1)[1:]
    counts[once.whole - 1] = once.size.height * once.size.width
    return [int(count) for count in counts]


def _map_paths(stem: str, channels: int) -> list[str]:
    return [f"{stem}.png"] if channels == 1 else [f"{stem}_{channel}.png" for channel in range(1, channels + 1)]


def _encode_picture(picture: Image.Image, options: WriteOptions) -> bytes:
    buffer = io.BytesIO()
    # Pixels alone: EXIF and color profiles would turn or tint the picture a second time when it is read.
    plain = Image.fromarray(np.asarray(picture))
    if options.image_format == "png":
        plain.save(buffer, "PNG")
    else:
        plain.save(buffer, "JPEG", quality=options.quality, subsampling=0)
    return buffer.getvalue()
