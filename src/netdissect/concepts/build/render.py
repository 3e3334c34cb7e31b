"""Write the files of one sample: the resized image and draft label maps with ids that hold for this image only.

`render` and `renumber` run in workers. Between them the writer collects all names, because the label id of a concept
depends on the number of its images. Draft and final label maps are in separate folders (`Folders`), so that a build
that was killed in `renumber` finds the drafts unchanged.
"""

import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from netdissect.concepts.broden_files import INDEX_COLUMNS, read_label_map
from netdissect.concepts.build.rendered import Folders, MapFile, Rendered
from netdissect.concepts.build.sample import Channel, LabelsByCategory, PixelValues, Sample, split_by_hash
from netdissect.concepts.build.synonyms import split_names
from netdissect.concepts.build.write_options import CATEGORY_SPELLING, WriteOptions
from netdissect.concepts.colors import COLOR_NAMES, ColorTable, name_colors, read_color_table
from netdissect.concepts.image_io import SIDEWAYS, Upright, read_upright, turn
from netdissect.concepts.labels import Labels, Size
from netdissect.concepts.resize import CropBox
from netdissect.errors import SourceError

COLOR_CHANNEL = dict(enumerate(COLOR_NAMES, start=1))


def render(sample: Sample | Rendered, folders: Folders, options: WriteOptions) -> Rendered | list[str]:
    """Write the image and draft label maps of `sample`; a `Rendered` of an earlier run is returned unchanged.

    Returns
    -------
    Rendered or list of str
        The record of the written files, or the errors of the sample's files, one message a file.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    if isinstance(sample, Rendered):
        return sample
    problems: list[str] = []
    source_image: Upright | None = None
    labels: LabelsByCategory = {}
    try:
        _check_name(sample.name)
        source_image = read_upright(sample.image)
    except SourceError as error:
        problems.append(str(error))
    try:
        labels = sample.read_labels()
        if source_image is not None:
            labels = {category: _turned(category, items, source_image, sample) for category, items in labels.items()}
    except SourceError as error:
        problems.append(str(error))
    if source_image is None or problems:
        return problems
    return _write(sample, source_image, _with_colors(labels, source_image.image, options), folders, options)


def _turned(
    category: str, items: Sequence[Channel | str], source_image: Upright, sample: Sample
) -> list[Channel | str]:
    """Check the labels of one category, and turn its channels upright with the image."""
    _check_category(category, sample.name)
    turned: list[Channel | str] = []
    for item in items:
        if isinstance(item, Channel):
            by = source_image.orientation if item.orientation is None else item.orientation
            _check_channel(item, by, source_image, sample)
            item = replace(item, values=turn(item.values, by), orientation=1)
        turned.append(item)
    return turned


Renumbering = tuple[tuple[str, tuple[int, ...]], ...]
"""Path below ``images/`` of each label map of an image, and the label ids of the pixel values 1, 2, ..."""


def renumber(maps: Renumbering, folders: Folders, map_size: int) -> None:
    """Write the label maps of one image with their label ids.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    for name, numbers in maps:
        draft = read_label_map(folders.drafts / name, Size(map_size, map_size))
        path = folders.images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_label_map(np.array([0, *numbers], dtype=np.int32)[draft]))


def encode_label_map(labels: npt.NDArray[np.integer], compression: int = 6) -> bytes:
    """Encode label ids (H, W) below 65,536 as an RGB PNG: R + 256 * G; `compression` is zlib's, 0 to 9."""
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


def _check_channel(channel: Channel, by: int, source_image: Upright, sample: Sample) -> None:
    origin = channel.origin or f"the label map of {sample.name}"
    if channel.values.dtype.kind not in "iub":
        raise SourceError(f"{origin} holds {channel.values.dtype} values. Expected whole numbers; convert them first.")
    size = (source_image.image.height, source_image.image.width)
    if not channel.own_grid and channel.values.shape != (size[::-1] if by in SIDEWAYS else size):
        raise SourceError(_unequal(origin, channel, by, size, sample))
    unknown = [value for value in distinct(channel.values) if value and value not in channel.names]
    if unknown:
        raise SourceError(
            f"{origin} holds the value {unknown[0]}, which has no name"
            + (f" (and {len(unknown) - 1} more such values)" if len(unknown) > 1 else "")
            + ". Expected only named values; name it, with an empty name if its pixels are unlabeled, or say "
            "?unlisted=unlabeled (masks: and hf:)."
        )


def _unequal(origin: str, channel: Channel, by: int, upright: tuple[int, int], sample: Sample) -> str:
    """Return the message for a label map that has another size than its image after the turn by EXIF."""
    seen = " x ".join(map(str, channel.values.shape))
    of = f" {sample.image}" if isinstance(sample.image, Path) else ""
    height, width = upright[::-1] if by in SIDEWAYS else upright
    how = ""
    if by != 1:
        how = (
            f", which EXIF turns to {upright[0]} x {upright[1]}. A mask belongs to the pixels as stored and is turned "
            "with them; say ?drawn=upright (masks: and hf:) if masks were drawn on the upright image"
        )
    return (
        f"{origin} is {seen} pixels (height x width) but its image{of} is {height} x {width}{how}. Expected one mask "
        "pixel for each image pixel; resize the mask with nearest neighbor or correct the pair."
    )


def distinct(values: PixelValues) -> list[int]:
    """Return the distinct values, rising."""
    if values.size and values.min() >= 0 and values.max() < 1 << 16:
        # Counting 70,000 pixels takes a tenth of sorting them.
        return [int(value) for value in np.flatnonzero(np.bincount(values.ravel().astype(np.int64)))]
    return [int(value) for value in np.unique(values)]


def _with_colors(labels: LabelsByCategory, source_image: Image.Image, options: WriteOptions) -> LabelsByCategory:
    if not options.colors or "color" in labels:
        return labels
    # Naming pixels and nearest-neighbor resizing commute; resizing first names fewer pixels.
    frame = CropBox.of(source_image.height, source_image.width, options.resize)
    pixels = frame.values(np.asarray(source_image), options.map_size)
    table = None if options.color_table is None else _color_table(options.color_table)
    return {**labels, "color": (_Fitted(name_colors(pixels, table), COLOR_CHANNEL),)}


class _Fitted(Channel):
    """A channel that already has the size of the label maps."""

    __slots__ = ()


@cache
def _color_table(path: Path) -> ColorTable:
    return read_color_table(path)


def _write(
    sample: Sample, source_image: Upright, labels: LabelsByCategory, folders: Folders, options: WriteOptions
) -> Rendered:
    items: dict[str, list[MapFile | str]] = {}
    pixels: dict[str, dict[str, int]] = {}
    height, width = source_image.image.height, source_image.image.width
    frame = CropBox.of(height, width, options.resize)
    inside = frame.inside(height, width, options.map_size)
    for folder in (folders.images, folders.drafts):
        (folder / sample.name).parent.mkdir(parents=True, exist_ok=True)
    for category, channels in labels.items():
        names, local = _localize(category, channels, _Fitting(frame, inside, options.map_size, (height, width)))
        if not names:
            continue
        files = _map_paths(f"{sample.name}_{category}", len(local.label_channels))
        for path, plane in zip(files, local.label_channels, strict=True):
            (folders.drafts / path).write_bytes(encode_label_map(plane, compression=1))
        pixels[category] = dict(zip(names, _count(local, len(names)), strict=True))
        maps = (MapFile(path, _present(names, plane)) for path, plane in zip(files, local.label_channels, strict=True))
        items[category] = [*(names[n - 1] for n in local.image_level), *maps]
    image = _write_image(sample, source_image, frame, folders.images, options)
    turned = source_image.orientation != 1
    return Rendered(image, sample.split or split_by_hash(sample.name), items, pixels, turned)


@dataclass(frozen=True, slots=True)
class _Fitting:
    frame: CropBox
    inside: npt.NDArray[np.bool_] | None
    size: int
    image: tuple[int, int]

    def values(self, channel: Channel) -> PixelValues:
        if isinstance(channel, _Fitted):
            return channel.values
        return self.frame.values(channel.values, self.size, self.image)

    def held(self, values: PixelValues) -> list[int]:
        return distinct(values if self.inside is None else values[self.inside])


def _localize(category: str, items: Sequence[Channel | str], fitting: _Fitting) -> tuple[tuple[str, ...], Labels]:
    """Return the keys of one category in this image, and the labels by the positions of their keys, from 1."""
    whole = list(dict.fromkeys(key for item in items if isinstance(item, str) if (key := _key(item, category))))
    small: list[tuple[PixelValues, Mapping[int, str]]] = [
        (fitting.values(item), item.names) for item in items if isinstance(item, Channel)
    ]
    spelled = [
        {value: key for value in fitting.held(values) if (key := _key(raw.get(value, ""), category))}
        for values, raw in small
    ]
    names = tuple(sorted({*whole, *(key for spelling in spelled for key in spelling.values())}))
    code = {name: number for number, name in enumerate(names, start=1)}
    planes = []
    for (values, _), spelling in zip(small, spelled, strict=True):
        plane = np.zeros((fitting.size, fitting.size), dtype=np.int32)
        for value, name in spelling.items():
            plane[values == value] = code[name]
        if fitting.inside is not None:
            plane[~fitting.inside] = 0
        if plane.any():
            planes.append(plane)
    stack = np.array(planes, dtype=np.int32).reshape(len(planes), fitting.size, fitting.size)
    return names, Labels(stack, np.array([code[name] for name in whole], dtype=np.int32))


@cache
def _key(raw: str, category: str) -> str:
    return ";".join(split_names(raw, category))


def _present(names: Sequence[str], plane: npt.NDArray[np.int32]) -> tuple[str, ...]:
    held = set(distinct(plane))
    return tuple(name if number in held else "" for number, name in enumerate(names, start=1))


def _count(local: Labels, names: int) -> list[int]:
    once = local.deduplicated()
    counts = np.bincount(once.label_channels.ravel(), minlength=names + 1)[1:]
    counts[once.image_level - 1] = once.size.height * once.size.width
    return [int(count) for count in counts]


def _map_paths(stem: str, channels: int) -> list[str]:
    return [f"{stem}.png"] if channels == 1 else [f"{stem}_{channel}.png" for channel in range(1, channels + 1)]


def _write_image(sample: Sample, source_image: Upright, frame: CropBox, images: Path, options: WriteOptions) -> str:
    fits = source_image.image.size == (options.size, options.size) and source_image.orientation == 1
    if options.copy_images and isinstance(sample.image, Path) and fits:
        image = sample.name + sample.image.suffix
        shutil.copyfile(sample.image, images / image)
        return image
    image = f"{sample.name}.{'jpg' if options.image_format == 'jpeg' else 'png'}"
    (images / image).write_bytes(_encode_image(frame.crop_image(source_image.image, options.size), options))
    return image


def _encode_image(source_image: Image.Image, options: WriteOptions) -> bytes:
    buffer = io.BytesIO()
    # Pixels only: with EXIF and color profiles a reader would turn or tint the image a second time.
    plain = Image.fromarray(np.asarray(source_image))
    if options.image_format == "png":
        plain.save(buffer, "PNG")
    else:
        plain.save(buffer, "JPEG", quality=options.quality, subsampling=0)
    return buffer.getvalue()
