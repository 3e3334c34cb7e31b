"""Label maps of many images with the concepts of Broden, and masks of units: what the search for formulas is timed on.

An image has a scene, 8 regions of objects drawn by their frequencies, with areas by their coverage, and parts inside a
third of them. A tenth of the images has a texture or 8 regions of materials instead. Each block of 4 x 4 pixels has a
color. A unit is planted on a random formula: it is active in the formula's pixels of some cells of 8 x 8 pixels, and in
other cells. Its copy is active in the same pixels of the image before.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.compose_config import Operator
from netdissect.concepts import Labels
from netdissect.concepts.label_sets import LabelSetMap
from netdissect.jit import compiled
from netdissect.scoring.formulas import Formula, LabelSetTable

SIDE = 112
CELL = 8
REGIONS = 8
MASK_SHARE = 0.005
CATEGORIES = ("object", "part", "scene", "material", "texture", "color")
FORMS: tuple[tuple[Operator, ...], ...] = tuple(
    (first, second) for first in ("or", "and", "and-not") for second in ("or", "and", "and-not")
)
MIN_SHARE, MAX_SHARE = 0.002, 0.05
"""Share of the pixels that a planted formula covers."""

Ints = npt.NDArray[np.int64]
LabelIds = npt.NDArray[np.int32]


class Vocabulary(NamedTuple):
    """The concepts of one category: label ids, how often each is drawn, and its share of an image that has it."""

    label_ids: LabelIds
    probability: npt.NDArray[np.float64]
    area: npt.NDArray[np.float64]

    @classmethod
    def read(cls, folder: Path, category: str) -> "Vocabulary":
        """Read one of Broden's tables."""
        with (folder / f"c_{category}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        frequency, coverage = (np.array([float(row[name]) for row in rows]) for name in ("frequency", "coverage"))
        label_ids = np.array([int(row["number"]) for row in rows], np.int32)
        drawn_by = coverage if category == "color" else frequency  # every image has nearly every color
        return cls(label_ids, drawn_by / drawn_by.sum(), coverage / frequency)

    def draw(self, random: np.random.Generator, number: int) -> Ints:
        """Draw concepts, as positions in `label_ids`."""
        return random.choice(len(self.label_ids), number, p=self.probability)


@dataclass(frozen=True)
class ImageMaker:
    """Draws images; each depends on its number only."""

    vocabularies: dict[str, Vocabulary]

    @classmethod
    def read(cls, folder: Path) -> "ImageMaker":
        """Read Broden's tables."""
        return cls({category: Vocabulary.read(folder, category) for category in CATEGORIES})

    def category_of(self) -> Ints:
        """Index of the category of each label id; of several, the first."""
        largest = max(int(vocabulary.label_ids.max()) for vocabulary in self.vocabularies.values())
        categories = np.full(largest + 1, -1)
        for index, category in reversed(list(enumerate(CATEGORIES))):
            categories[self.vocabularies[category].label_ids] = index
        return categories

    def draw(self, index: int) -> tuple[LabelSetMap, int]:
        """Draw an image; return its label sets, and its annotated categories as bits."""
        random = np.random.default_rng([2026, index])
        channels = np.zeros((3, SIDE, SIDE), np.int32)
        blocks = self.vocabularies["color"].draw(random, (SIDE // 4) ** 2).reshape(SIDE // 4, -1)
        channels[2] = self.vocabularies["color"].label_ids[blocks].repeat(4, 0).repeat(4, 1)
        kind = random.random()
        image_level: list[int] = []
        if kind < 0.05:
            names = ("texture",)
            image_level = [int(self.vocabularies["texture"].label_ids[self.vocabularies["texture"].draw(random, 1)[0]])]
        elif kind < 0.1:
            names = ("material",)
            self._regions(random, "material", channels[0])
        else:
            names = ("object", "part", "scene")
            image_level = [int(self.vocabularies["scene"].label_ids[self.vocabularies["scene"].draw(random, 1)[0]])]
            for box in self._regions(random, "object", channels[0]):
                if random.random() < 1 / 3:
                    part = self.vocabularies["part"]
                    top, bottom, left, right = box
                    inside = channels[1, (3 * top + bottom) // 4 : bottom, left : (left + 2 * right) // 3 + 1]
                    inside[:] = part.label_ids[part.draw(random, 1)[0]]
        bits = sum(1 << CATEGORIES.index(name) for name in (*names, "color"))
        sets = LabelSetMap.of(Labels(channels, np.array(image_level, np.int32))).deduplicated()
        return sets, bits

    def _regions(
        self, random: np.random.Generator, category: str, channel: LabelIds
    ) -> list[tuple[int, int, int, int]]:
        vocabulary = self.vocabularies[category]
        drawn = vocabulary.draw(random, REGIONS)
        areas = vocabulary.area[drawn] * random.lognormal(0, 0.5, REGIONS)
        boxes = list(_split(drawn.tolist(), areas.tolist(), (0, SIDE, 0, SIDE), True))
        for concept, (top, bottom, left, right) in boxes:
            channel[top:bottom, left:right] = vocabulary.label_ids[concept]
        return [box for _, box in boxes if box[1] > box[0] and box[3] > box[2]]


def _split(
    drawn: list[int], areas: list[float], box: tuple[int, int, int, int], vertical: bool
) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
    """Divide a box among regions, half of them on each side, by their areas."""
    if len(drawn) == 1:
        yield drawn[0], box
        return
    top, bottom, left, right = box
    half = len(drawn) // 2
    share = sum(areas[:half]) / sum(areas)
    middle = round(top + share * (bottom - top)) if vertical else round(left + share * (right - left))
    first = (top, middle, left, right) if vertical else (top, bottom, left, middle)
    second = (middle, bottom, left, right) if vertical else (top, bottom, middle, right)
    yield from _split(drawn[:half], areas[:half], first, not vertical)
    yield from _split(drawn[half:], areas[half:], second, not vertical)


def rows_of_sets(sets: LabelSetMap, bits: int, category_of: Ints) -> LabelSetTable:
    """Return the label sets of an image as rows, in their order."""
    image_level = np.broadcast_to(sets.image_level, (len(sets.set_sizes), len(sets.image_level)))
    label_ids = np.sort(np.concatenate([sets.label_ids, image_level], axis=1), axis=1)
    distinct = label_ids > 0
    distinct[:, 1:] &= label_ids[:, 1:] != label_ids[:, :-1]
    offsets = np.append(0, distinct.sum(axis=1).cumsum())
    annotated = np.full(len(label_ids), bits, np.uint64)
    return LabelSetTable(category_of, label_ids[distinct].astype(np.int32), offsets, annotated, sets.set_sizes)


class Planted(NamedTuple):
    """A planted unit: its formula, the share of the formula's cells in which it is active, and of other cells."""

    formula: Formula
    iou: float
    inside: float
    outside: float


def plant(maker: ImageMaker, units: int, images: int = 400) -> list[Planted]:
    """Draw formulas of three concepts, each form as often, that cover neither few nor most pixels of some images."""
    random = np.random.default_rng(7)
    tables = [rows_of_sets(*maker.draw(index), maker.category_of()) for index in range(images)]
    table = LabelSetTable.merge(tables)[0]
    by_pixels = table.pixels / table.pixels.sum()
    planted: list[Planted] = []
    while len(planted) < units:
        form = FORMS[len(planted) % len(FORMS)]
        formula = Formula(_draw_concepts(table, by_pixels, random), form).normal_form()
        covered = formula.covers(table)
        share = by_pixels[covered].sum()
        shorter = Formula(formula.label_ids[:2], formula.operators[:1]).covers(table)
        if MIN_SHARE < share < MAX_SHARE and by_pixels[shorter ^ covered].sum() > 0.05 * share:
            iou = float(np.exp(random.uniform(np.log(0.02), np.log(0.3))))
            hit = min(iou * (share + MASK_SHARE) / (1 + iou), 0.9 * min(share, MASK_SHARE))
            planted.append(Planted(formula, iou, hit / share, MASK_SHARE - hit))
    return planted


def _draw_concepts(
    table: LabelSetTable, by_pixels: npt.NDArray[np.float64], random: np.random.Generator
) -> tuple[int, ...]:
    """Draw three concepts of one or of two label sets: concepts of two random ones hardly ever meet."""
    concepts: set[int] = set()
    while len(concepts) < 3:
        row = random.choice(len(table), p=by_pixels)
        labels = table.label_ids[table.offsets[row] : table.offsets[row + 1]].tolist()
        concepts |= {*random.permutation(labels)[: random.integers(1, 4)].tolist()}
    return tuple(random.permutation(sorted(concepts))[:3].tolist())


class PlantedArrays(NamedTuple):
    """Planted units for the compiled loop: label ids (n, 3), operators (n, 2) and shares of cells (n, 2)."""

    label_ids: Ints
    operators: Ints
    shares: npt.NDArray[np.float64]

    @classmethod
    def of(cls, planted: list[Planted]) -> "PlantedArrays":
        """Arrange planted units."""
        operators = [[("or", "and", "and-not").index(name) for name in unit.formula.operators] for unit in planted]
        shares = np.array([[unit.inside, unit.outside] for unit in planted])
        return cls(np.array([unit.formula.label_ids for unit in planted]), np.array(operators), shares)


@compiled
def count_masks(
    label_ids: LabelIds, offsets: Ints, index_map: LabelIds, before: LabelIds, sets_before: int, units: PlantedArrays,
    seed: int,
) -> Ints:  # fmt: skip
    """Count the active pixels of planted units by label set, and those of their copies by the label sets of `before`.

    Returns unit, label set and pixels, int64 (n, 3); unit u is 2 u and its copy 2 u + 1.
    """
    np.random.seed(seed)  # noqa: NPY002 - Numba's own
    planted, operators, shares = units
    sets, side = len(offsets) - 1, len(index_map) // CELL
    in_cell = np.zeros((side, side, sets), np.int64)
    for y in range(len(index_map)):
        for x in range(len(index_map)):
            in_cell[y // CELL, x // CELL, index_map[y, x]] += 1
    found, number = np.empty((2 * len(planted) * (sets + sets_before), 3), np.int64), 0
    covered, own, copied = np.zeros(sets, np.bool_), np.zeros(sets, np.int64), np.zeros(sets_before, np.int64)
    for unit in range(len(planted)):
        _cover(label_ids, offsets, planted[unit], operators[unit], covered)
        chosen = np.flatnonzero(covered)
        for y in range(side):
            for x in range(side):
                touched = False
                for label_set in chosen:
                    touched = touched or in_cell[y, x, label_set] > 0
                all_pixels = np.random.random() < shares[unit, 1]  # noqa: NPY002
                if not all_pixels and not (touched and np.random.random() < shares[unit, 0]):  # noqa: NPY002
                    continue
                for row in range(CELL * y, CELL * y + CELL):
                    for column in range(CELL * x, CELL * x + CELL):
                        if all_pixels or covered[index_map[row, column]]:
                            own[index_map[row, column]] += 1
                            if sets_before:
                                copied[before[row, column]] += 1
        number = _list(own, 2 * unit, found, number)
        number = _list(copied, 2 * unit + 1, found, number)
    return found[:number].copy()


@compiled
def _cover(label_ids: LabelIds, offsets: Ints, atoms: Ints, operators: Ints, covered: npt.NDArray[np.bool_]) -> None:
    for label_set in range(len(covered)):
        value = False
        for position in range(len(atoms)):
            has_label = False
            for entry in range(offsets[label_set], offsets[label_set + 1]):
                has_label = has_label or label_ids[entry] == atoms[position]
            if position == 0 or operators[position - 1] == 0:
                value = value or has_label
            elif operators[position - 1] == 1:
                value = value and has_label
            else:
                value = value and not has_label
        covered[label_set] = value


@compiled
def _list(counts: Ints, unit: int, found: Ints, number: int) -> int:
    """List the label sets with active pixels, and set their counts to zero."""
    for label_set in range(len(counts)):
        if counts[label_set]:
            found[number, 0], found[number, 1], found[number, 2] = unit, label_set, counts[label_set]
            number += 1
            counts[label_set] = 0
    return number
