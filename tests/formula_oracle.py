"""Exhaustive search for formulas over Python sets of pixels: the oracle of `netdissect.scoring.formulas`."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import numpy as np
import numpy.typing as npt

from netdissect.compose_config import Operator
from netdissect.concepts import Labels
from netdissect.concepts.label_sets import LabelSetMap
from netdissect.scoring.formulas import (
    ActiveRows,
    FormulaResult,
    FormulaSearch,
    LabelSetTable,
    SearchOptions,
)

Pixels = frozenset[tuple[int, int]]
Found = tuple[tuple[int, ...], tuple[Operator, ...]]
OPERATORS: tuple[Operator, ...] = ("or", "and", "and-not")
SIZES = ((2, 3), (3, 4))


@dataclass(frozen=True)
class LabeledMask:
    """One image with the mask of a unit.

    Attributes
    ----------
    label_channels
        int32 (P, h, w).
    image_level
        Label ids of the whole image.
    annotated
        Indices of its annotated categories.
    mask
        bool (h, w).
    """

    label_channels: npt.NDArray[np.int32]
    image_level: tuple[int, ...]
    annotated: frozenset[int]
    mask: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Best:
    """The best formula: label ids, operators, intersection and union."""

    label_ids: tuple[int, ...]
    operators: tuple[Operator, ...]
    intersection: int
    union: int


def draw_images(seed: int, concepts: int, categories: int, images: int) -> tuple[list[LabeledMask], list[int]]:
    """Draw labeled images of two sizes with masks that follow the labels more or less.

    Labels repeat in channels and for the whole image; some masks are empty, some concepts never occur.
    """
    random = np.random.default_rng(seed)
    category_of = [-1, *random.integers(0, categories, concepts).tolist()]
    drawn = []
    for _ in range(images):
        size = SIZES[random.integers(2)]
        channels = random.integers(0, concepts + 1, (random.integers(1, 4), *size), np.int32)
        channels[random.random(channels.shape) < random.choice([0.1, 0.6])] = 0
        image_level = tuple(random.integers(1, concepts + 1, random.integers(0, 3)).tolist())
        annotated = frozenset(np.flatnonzero(random.random(categories) < 0.8).tolist())
        likely = np.isin(channels, random.integers(0, concepts + 1, 2)).any(axis=0)
        mask = random.random(size) < np.where(likely, random.choice([0.0, 0.9]), random.choice([0.0, 0.2]))
        drawn.append(LabeledMask(channels, image_level, annotated, mask))
    return drawn, category_of


def as_table(images: list[LabeledMask], category_of: list[int]) -> tuple[LabelSetTable, ActiveRows]:
    """Count images into a table, and their masks into its rows."""
    table, active = LabelSetTable.zeros(np.array(category_of)), ActiveRows.of([], [])
    for image in images:
        sets = LabelSetMap.of(Labels(image.label_channels, np.array(image.image_level, np.int32)))
        bits = sum(1 << category for category in image.annotated)
        rows = [[*ids, *image.image_level] for ids in sets.label_ids.tolist()]
        of_image = [
            LabelSetTable.of(table.category_of, [labels], [bits], np.array([size]))
            for labels, size in zip(rows, sets.set_sizes, strict=True)
        ]
        table, (old, *new) = LabelSetTable.merge([table, *of_image])
        hits = np.bincount(sets.index_map.ravel(), weights=image.mask.ravel(), minlength=len(rows)).astype(np.int64)
        active = active.moved(old).plus(ActiveRows.of(np.concatenate(new), hits))
    return table, active


def sets_of_pixels(images: list[LabeledMask], label_id: int) -> Pixels:
    """Return the pixels that have a label, as pairs of image and position."""
    return frozenset(
        (index, position)
        for index, image in enumerate(images)
        for position in range(image.mask.size)
        if label_id in image.image_level or label_id in image.label_channels.reshape(-1, image.mask.size)[:, position]
    )


def formulas(
    concepts: dict[int, Pixels], length: int, operators: tuple[Operator, ...]
) -> Iterator[tuple[tuple[int, ...], tuple[Operator, ...], Pixels]]:
    """Yield all left-deep formulas of at most `length` concepts, of which the first two differ."""
    level: list[tuple[tuple[int, ...], tuple[Operator, ...], Pixels]] = [
        ((label_id,), (), pixels) for label_id, pixels in concepts.items()
    ]
    for _ in range(length):
        yield from level
        level = [
            ((*ids, label_id), (*between, operator), _apply(operator, covered, pixels))
            for ids, between, covered in level
            for label_id, pixels in concepts.items()
            for operator in operators
            if ids != (label_id,)
        ]


def _apply(operator: Operator, left: Pixels, right: Pixels) -> Pixels:
    return left | right if operator == "or" else left & right if operator == "and" else left - right


def best_formula(
    images: list[LabeledMask], category_of: list[int], length: int, operators: tuple[Operator, ...], annotated: bool
) -> Best | None:
    """Search all formulas; of equal IoU take fewer concepts, fewer AND NOT, the first ids, the first operators."""
    concepts = {
        label_id: sets_of_pixels(images, label_id) for label_id, category in enumerate(category_of) if category >= 0
    }
    all_categories = {*category_of}
    counted, active = {}, {}
    for named in (frozenset(chosen) for size in range(length + 1) for chosen in combinations(all_categories, size)):
        indices = [index for index, image in enumerate(images) if named <= image.annotated]
        counted[named] = frozenset((index, pixel) for index in indices for pixel in range(images[index].mask.size))
        active[named] = frozenset((index, pixel) for index, pixel in counted[named] if images[index].mask.flat[pixel])
    best, best_key = None, None
    for ids, between, covered in formulas(concepts, length, operators):
        named = frozenset(category_of[label_id] for label_id in ids) if annotated else frozenset()
        hit = covered & active[named]
        either = (covered & counted[named]) | active[named]
        if not hit:
            continue
        places = tuple(OPERATORS.index(operator) for operator in between)
        key = (-Fraction(len(hit), len(either)), len(ids), between.count("and-not"), ids, places)
        if best_key is None or key < best_key:
            best, best_key = Best(ids, between, len(hit), len(either)), key
    return best


def beam_of_2020(
    images: list[LabeledMask], category_of: list[int], length: int, beam: int
) -> tuple[tuple[int, ...], tuple[Operator, ...], int, int] | None:
    """Search as Mu and Andreas 2020 do, over all pixels: label ids and operators as found, intersection, union."""
    active = frozenset(
        (index, pixel) for index, image in enumerate(images) for pixel in np.flatnonzero(image.mask).tolist()
    )
    occurring = {
        label_id: sets_of_pixels(images, label_id) for label_id, number in enumerate(category_of) if number >= 0
    }
    concepts = {label_id: pixels for label_id, pixels in occurring.items() if pixels}
    scores, covers = dict[Found, float](), dict[Found, Pixels]()

    def keep(found: dict[Found, Pixels]) -> None:
        for formula, pixels in found.items():
            covers[formula] = pixels
            scores[formula] = len(pixels & active) / max(len(pixels | active), 1)
        best = sorted((formula for formula in scores if scores[formula] > 0), key=scores.__getitem__, reverse=True)
        for formula in set(scores) - {*best[:beam]}:
            del scores[formula]
        kept = {formula: scores[formula] for formula in best[:beam]}
        scores.clear()
        scores.update(kept)

    keep({((label_id,), ()): pixels for label_id, pixels in concepts.items()})
    for _ in range(length - 1):
        keep(
            {
                ((*ids, label_id), (*between, operator)): _apply(operator, covers[ids, between], pixels)
                for ids, between in list(scores)
                for label_id, pixels in concepts.items()
                for operator in OPERATORS
            }
        )
    if not scores:
        return None
    ids, between = next(iter(scores))
    return ids, between, len(covers[ids, between] & active), len(covers[ids, between] | active)


def check_search(images: list[LabeledMask], category_of: list[int], options: SearchOptions) -> FormulaResult:
    """Compare a search with the exhaustive one: the same formula and counts."""
    table, active = as_table(images, category_of)
    search = FormulaSearch(table, options)
    result = search.find(active)
    annotated = options.restriction == "annotated"
    for found, length in ((result.best, options.length), (result.concept, 1)):
        expected = best_formula(images, category_of, length, options.operators, annotated)
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            assert (found.formula.label_ids, found.formula.operators) == (expected.label_ids, expected.operators)
            assert (found.intersection, found.union) == (expected.intersection, expected.union)
            assert search.score(active, found.formula) == found
    assert result.optimal
    assert result.iou_upper_bound == (result.best.iou if result.best else 0.0)
    return result
