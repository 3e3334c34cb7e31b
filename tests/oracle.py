"""Network Dissection by brute force: the oracle of the library's counts.

Written from the definition of the method alone, in NumPy, SciPy, Pillow and plain Python, without an import of the
library. Thresholds come from sorting all values, upsampling from SciPy (Pillow for `lite`). Masks and concepts are
boolean arrays, one image, one unit and one concept at a time, and IoU is a fraction.

    activations, images, rules -> count() -> Counts -> iou(), best(), label()
"""

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.interpolate import RegularGridInterpolator

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


class Field(NamedTuple):
    """Receptive field along one axis, in input pixels."""

    offset: int
    size: int
    step: int


@dataclass(frozen=True)
class Rules:
    """A protocol: the definitions in which the published programs differ."""

    fraction: float = 0.005
    method: str | None = None  # of numpy.quantile; None: the (floor(qN) + 1)-th largest
    grid: int | None = None
    anchor: str = "field"  # field, field-integer, half-pixel, pillow
    activation_over: str = "annotated"  # annotated, overlap, all
    occurrences: bool = False
    segmentation: int | None = None


RULES = {
    "paper": Rules(),
    "original": Rules(fraction=5 / 999, method="linear", anchor="field-integer", occurrences=True),
    "lite": Rules(fraction=5 / 999, method="linear", anchor="pillow", activation_over="overlap", occurrences=True),
    "pnas2020": Rules(
        fraction=0.01, method="hazen", grid=56, anchor="half-pixel", activation_over="all", segmentation=56
    ),
}


@dataclass(frozen=True)
class OracleImage:
    """Labels of one image: channels of label ids at its own size, and ids of the whole image."""

    label_channels: tuple[npt.NDArray[Any], ...]
    image_level: tuple[int, ...]
    size: tuple[int, int]

    def resized(self, side: int) -> "OracleImage":
        """Take the pixel under the center of each new pixel."""
        height, width = self.size
        rows = [math.floor(Fraction(2 * y + 1, 2) * height / side) for y in range(side)]
        columns = [math.floor(Fraction(2 * x + 1, 2) * width / side) for x in range(side)]
        return OracleImage(
            tuple(plane[np.ix_(rows, columns)] for plane in self.label_channels), self.image_level, (side, side)
        )

    def channels(self) -> list[npt.NDArray[Any]]:
        """All channels, with image-level labels as constant channels."""
        return [*self.label_channels, *(np.full(self.size, label_id) for label_id in self.image_level)]

    def label_ids(self) -> list[int]:
        """The label ids that occur, without 0."""
        found = {int(n) for channel in self.channels() for n in np.unique(channel)}
        return sorted(found - {0})


@dataclass
class Counts:
    """Pixels, summed over the data set; absent pairs are 0."""

    units: int
    category_of: Mapping[int, int]
    thresholds: Floats
    intersection: Counter[tuple[int, int]] = field(default_factory=Counter)
    activation: Counter[tuple[int, int]] = field(default_factory=Counter)
    concept_pixels: Counter[int] = field(default_factory=Counter)

    def iou(self, unit: int, concept: int) -> Fraction:
        """Intersection over union; 0 where the union is empty."""
        both = self.intersection[unit, concept]
        union = self.activation[unit, self.category_of[concept]] + self.concept_pixels[concept] - both
        return Fraction(both, union) if union else Fraction(0)

    def best(self, unit: int, category: int) -> int | None:
        """The concept of highest IoU of a category (tie: the lowest id); None if the mask overlaps none."""
        candidates = [
            (-self.iou(unit, concept), concept)
            for concept, own_category in self.category_of.items()
            if own_category == category and self.intersection[unit, concept] > 0
        ]
        return min(candidates)[1] if candidates else None

    def label(self, unit: int) -> int | None:
        """The best concept over categories (tie: the later category)."""
        found = [(category, self.best(unit, category)) for category in sorted(set(self.category_of.values()))]
        ranked = [(self.iou(unit, best), category, best) for category, best in found if best is not None]
        return max(ranked)[2] if ranked else None


def threshold(values: Floats, rules: Rules) -> np.float32:
    """Value with a share of `rules.fraction` of all values above it, by sorting."""
    if rules.method is not None:
        doubles: Any = values.astype(np.float64).ravel()
        return np.float32(np.quantile(doubles, 1 - rules.fraction, method=rules.method))
    descending = sorted(values.ravel().tolist(), reverse=True)
    # The decimal quantile: 0.29 of 100 values is 29, although the binary 0.29 is a little less.
    return np.float32(descending[math.floor(Fraction(repr(rules.fraction)) * len(descending))])


def anchors(cells: int, pixels: int, image: int, receptive: Field, kind: str) -> tuple[Fraction, Fraction]:
    """Position of cell 0 on an axis of `pixels` pixels of the label map, and the distance between cells."""
    if kind == "half-pixel":
        return Fraction(pixels, 2 * cells) - Fraction(1, 2), Fraction(pixels, cells)
    if kind == "field-integer":
        ratio = image // pixels
        step = receptive.step // ratio
        if step > 0:
            return Fraction((receptive.size // 2 + receptive.offset) // ratio), Fraction(step)
    exact = Fraction(image, pixels)
    center = receptive.offset + Fraction(receptive.size - 1, 2)
    return (center + Fraction(1, 2)) / exact - Fraction(1, 2), receptive.step / exact


def upsample(
    cells: Floats, size: tuple[int, int], image: tuple[int, int], fields: tuple[Field, Field], kind: str
) -> Floats:
    """One map (h, w) upsampled to the `size` of the label map, float32."""
    if kind == "pillow":
        resized = Image.fromarray(np.ascontiguousarray(cells, dtype=np.float32)).resize(
            (size[1], size[0]), Image.Resampling.BILINEAR
        )
        return np.asarray(resized)
    values = cells.astype(np.float64)
    coordinates = []
    for axis in (0, 1):
        count = cells.shape[axis]
        first, step = anchors(count, size[axis], image[axis], fields[axis], kind)
        if count == 1:  # SciPy needs two points: the same value twice
            values = np.repeat(values, 2, axis=axis)
        # In cells, as fractions up to here: a position that float64 can represent is exact.
        at = [min(max((pixel - first) / step, Fraction(0)), Fraction(count - 1)) for pixel in range(size[axis])]
        coordinates.append(np.array([float(position) for position in at]))
    grid = np.stack(np.meshgrid(*coordinates, indexing="ij"), axis=-1)
    known = tuple(np.arange(length, dtype=np.float64) for length in values.shape)
    return np.asarray(RegularGridInterpolator(known, values, method="linear")(grid), dtype=np.float32)


def thresholds(maps: Floats, rules: Rules) -> Floats:
    """One threshold for each unit of float32 (N, U, h, w)."""
    found = []
    for unit in range(maps.shape[1]):
        values = maps[:, unit]
        if rules.grid is not None:
            nowhere = Field(0, 1, 1)
            size = (rules.grid, rules.grid)
            values = np.stack([upsample(one, size, size, (nowhere, nowhere), "half-pixel") for one in values])
        found.append(threshold(values, rules))
    return np.array(found, dtype=np.float32)


def count(
    maps: Floats,
    source_images: Sequence[OracleImage],
    category_of: Mapping[int, int],
    rules: Rules,
    image: tuple[int, int] = (1, 1),
    fields: tuple[Field, Field] = (Field(0, 1, 1), Field(0, 1, 1)),
    limits: Floats | None = None,
) -> Counts:
    """Dissect float32 (N, U, h, w): each unit against each concept.

    `image` is the size of the network's input (height, width), `fields` is the receptive field of the layer along both
    axes, and `limits` are thresholds other than those of the protocol.
    """
    limits = thresholds(maps, rules) if limits is None else limits
    counts = Counts(maps.shape[1], category_of, limits)
    for cells, given in zip(maps, source_images, strict=True):
        source_image = given if rules.segmentation is None else given.resized(rules.segmentation)
        areas = {label_id: _pixels(source_image, label_id, rules) for label_id in source_image.label_ids()}
        for label_id, area in areas.items():
            counts.concept_pixels[label_id] += int(area.sum())
        for unit, one in enumerate(cells):
            mask = upsample(one, source_image.size, image, fields, rules.anchor) > limits[unit]
            _count_mask(counts, unit, mask, areas, rules)
    return counts


def _pixels(source_image: OracleImage, label_id: int, rules: Rules) -> npt.NDArray[np.int64]:
    """How often each pixel has the label: at most once, unless occurrences are counted."""
    times = sum((channel == label_id).astype(np.int64) for channel in source_image.channels())
    assert isinstance(times, np.ndarray)
    return times if rules.occurrences else (times > 0).astype(np.int64)


def _count_mask(
    counts: Counts, unit: int, mask: Bools, areas: Mapping[int, npt.NDArray[np.int64]], rules: Rules
) -> None:
    for label_id, area in areas.items():
        counts.intersection[unit, label_id] += int(area[mask].sum())
    for category in set(counts.category_of.values()):
        labels = [area for label_id, area in areas.items() if counts.category_of[label_id] == category]
        takes_part = {
            "annotated": any(area.any() for area in labels),
            "overlap": any(area[mask].any() for area in labels),
            "all": True,
        }
        if takes_part[rules.activation_over]:
            counts.activation[unit, category] += int(mask.sum())


def top_images(maps: Floats, many: int) -> list[list[int]]:
    """Indices of the images of highest maximum of each unit (tie: the earlier image)."""
    return [
        sorted(range(len(maps)), key=lambda row: (-float(maps[row, unit].max()), row))[:many]
        for unit in range(maps.shape[1])
    ]


class Detectors(NamedTuple):
    """Units and concepts that pass, in total and by category."""

    units: int
    unique_detectors: int
    detectors_by: dict[int, int]
    unique_by: dict[int, int]


def detectors(counts: Counts, rule: str, least: Fraction = Fraction(4, 100)) -> Detectors:
    """Count detectors by one of the two published rules; the total of unique ones is the sum over categories."""
    passing: list[tuple[int, int, int]] = []
    for unit in range(counts.units):
        label = counts.label(unit)
        if rule == "top-label":
            if label is not None and counts.iou(unit, label) >= least:
                passing.append((unit, counts.category_of[label], label))
            continue
        for category in sorted(set(counts.category_of.values())):
            best = counts.best(unit, category)
            if best is not None and counts.iou(unit, best) > least:
                passing.append((unit, category, best))
    by = Counter(category for _, category, _ in passing)
    unique = Counter(category for category, _ in {(category, concept) for _, category, concept in passing})
    return Detectors(len({unit for unit, _, _ in passing}), sum(unique.values()), dict(by), dict(unique))


@dataclass(frozen=True)
class Broden:
    """A data set in the format of Broden."""

    categories: tuple[str, ...]
    names: dict[int, str]
    category_of: dict[int, int]
    images: tuple[str, ...]
    source_images: tuple[OracleImage, ...]


def read_broden(root: Path, categories: Sequence[str] | None = None) -> Broden:
    """Read the data set below `root`: only the chosen columns, without images that have no label."""
    order = [row["name"] for row in _table(root / "category.csv")]
    chosen = [name for name in order if categories is None or name in categories]
    names: dict[int, str] = {}
    coverage: dict[int, tuple[float, int]] = {}
    for index, category in enumerate(chosen):
        for row in _table(root / f"c_{category}.csv"):
            label_id = int(row["number"])
            names[label_id] = row["name"]
            coverage[label_id] = max(coverage.get(label_id, (-1.0, -1)), (float(row["coverage"]), index))
    images, source_images = [], []
    for row in _table(root / "index.csv"):
        items = [item for name in chosen for item in row[name].split(";") if item and item != "0"]
        if items:
            images.append(row["image"])
            source_images.append(_source_image(root, items, (int(row["sh"]), int(row["sw"]))))
    category_of = {label_id: category for label_id, (_, category) in sorted(coverage.items())}
    return Broden(tuple(chosen), names, category_of, tuple(images), tuple(source_images))


def _source_image(root: Path, items: Sequence[str], size: tuple[int, int]) -> OracleImage:
    channels, image_level = [], []
    for item in items:
        if item.isdigit():
            image_level.append(int(item))
        else:
            red_green = np.asarray(Image.open(root / "images" / item).convert("RGB")).astype(np.int64)
            channels.append(red_green[..., 0] + 256 * red_green[..., 1])
    return OracleImage(tuple(channels), tuple(image_level), size)


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
