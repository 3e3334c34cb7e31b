"""The labels of one image in COCO's form: masks of polygons and run lengths, and panoptic segments."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.concepts.build.sample import Channel, LabelsByCategory
from netdissect.concepts.image_io import turn
from netdissect.concepts.sources.annotation_tools.rle import decode_runs
from netdissect.concepts.sources.annotation_tools.shape_masks import Size, Skipped, is_sane, polygon_flaw
from netdissect.concepts.sources.mask_stacking import Mask, named_channels, read_colors
from netdissect.concepts.sources.orientation import drawn_orientation
from netdissect.errors import SourceError
from netdissect.extras import need

FAULTS = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
"""Errors of reading an annotation of another format."""


NO_MASK = "no mask, but perhaps a box (?boxes=yes uses boxes as masks)"


class CocoMasks(NamedTuple):
    """The masks of one image in one annotation file, encoded, so that they can be sent to a worker.

    Attributes
    ----------
    file
        The annotation file.
    image_file
        The image.
    size
        Height and width, from the annotation or the image.
    masks
        Class name, id of the annotation, and polygons or run lengths.
    """

    file: Path
    image_file: Path
    size: Size
    masks: Sequence[tuple[str, str, Any]]

    def named(self) -> Iterator[tuple[str, Mask]]:
        """Yield the class name and the decoded mask of each annotation."""
        if not is_sane(*self.size):
            raise SourceError(
                f"{self.file} gives an image of {self.size[0]} x {self.size[1]} pixels. Expected its real height and "
                "width."
            )
        orientation = drawn_orientation(self.size, self.image_file)
        for name, annotation_id, shape in self.masks:
            yield name, turn(_decode(shape, self.size, f"{self.file}, annotation {annotation_id}"), orientation)


class PanopticSegments(NamedTuple):
    """A panoptic label map, and the class of each segment.

    Attributes
    ----------
    file
        The annotation file.
    path
        The label map.
    values
        Value of the class of each segment id.
    names
        Class name of each value.
    """

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
        unlisted = ids[position] != segments
        if unlisted.any():
            raise SourceError(
                f"{self.path} holds the segment {int(segments[unlisted][0])}, which {self.file} does not list. "
                "Expected only listed segments; restore both files from the same release."
            )
        values = np.array([listed[number] for number in ids.tolist()], dtype=np.int32)
        return Channel(values[position], self.names, str(self.path), orientation=1)


CocoLabels = CocoMasks | PanopticSegments


def sound_shape(annotation: Mapping[str, Any], size: Size, boxes: bool, skipped: Skipped, where: str) -> Any:
    """Return the run lengths of an annotation, or its polygons that cover pixels; None or empty if it has none."""
    shape = annotation.get("segmentation")
    if not shape and not boxes:
        skipped.add(NO_MASK, where)
        return None
    if isinstance(shape, Mapping):
        return {"size": shape.get("size"), "counts": shape.get("counts")}
    try:
        polygons = _polygons(shape) if shape else [_box(annotation)]
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
    """Read polygons: lists of x, y, x, y, ..., a single such list, or points as pairs."""
    is_single = not isinstance(shape[0], list) or all(len(p) == 2 and not isinstance(p[0], list) for p in shape)
    return [_numbers(polygon) for polygon in ([shape] if is_single else shape)]


def _numbers(polygon: Sequence[Any]) -> list[float]:
    try:
        return list(map(float, polygon))
    except TypeError:  # points as pairs, or null in place of a number
        numbers = (number for point in polygon for number in (point if isinstance(point, list) else [point]))
        return [math.nan if number is None else float(number) for number in numbers]


def _box(annotation: Mapping[str, Any]) -> list[float]:
    """Return the corners of a box as a polygon of pycocotools."""
    left, top, width, height = (float(number) for number in annotation["bbox"])
    right, bottom = left + max(width, 0), top + max(height, 0)
    return [left, top, left, bottom, right, bottom, right, top]


def read_labels(labels: Sequence[CocoLabels], category: str) -> LabelsByCategory:
    """Decode the labels of one image: a channel for each panoptic label map, and channels for the masks.

    Raises
    ------
    SourceError
        If a label map or mask cannot be decoded, or does not fit the image.
    """
    segments = [item.channel() for item in labels if isinstance(item, PanopticSegments)]
    masks = [item for item in labels if isinstance(item, CocoMasks)]
    named = (pair for item in masks for pair in item.named())
    files = ", ".join(dict.fromkeys(str(item.file) for item in masks))
    return {category: (*segments, *named_channels(named, files, orientation=1))}


def _decode(shape: Any, size: Size, where: str) -> Mask:
    """Decode polygons or run lengths, bool (H, W)."""
    height, width = size
    try:
        if isinstance(shape, list):
            return _fill(shape, height, width)
        if list(shape["size"]) != [height, width]:
            raise ValueError(f"its mask is {shape['size']}, its image {[height, width]}")
        return decode_runs(shape["counts"], height, width)
    except Exception as error:  # compiled code that does not check its input
        raise SourceError(
            f"{where} cannot be decoded ({error}). Expected polygons or run lengths of a {height} x {width} image."
        ) from error


def _fill(polygons: Sequence[Sequence[float]], height: int, width: int) -> Mask:
    coco = need("pycocotools.mask", "coco", "A source coco:")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2.0 does not know NumPy 2's __array__
        # Merged before they are decoded, because a crowd may have thousands of polygons.
        mask: npt.NDArray[np.uint8] = coco.decode(coco.merge(coco.frPyObjects(polygons, height, width)))
    return mask > 0
