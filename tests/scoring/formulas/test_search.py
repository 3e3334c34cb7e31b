"""The search for formulas against exhaustive search over sets of pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formula_oracle import OPERATORS, LabeledMask, as_table, best_formula
from netdissect.scoring.formulas import FormulaResult, FormulaSearch, Operator, SearchOptions

SIZES = ((2, 3), (3, 4))


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


def check(images: list[LabeledMask], category_of: list[int], options: SearchOptions) -> FormulaResult:
    """Compare a search with the exhaustive one: the same formula and counts."""
    result = FormulaSearch(*(table := as_table(images, category_of))[:1], options).find(table[1])
    annotated = options.restriction == "annotated"
    for found, length in ((result.best, options.length), (result.concept, 1)):
        expected = best_formula(images, category_of, length, options.operators, annotated)
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            assert (found.formula.label_ids, found.formula.operators) == (expected.label_ids, expected.operators)
            assert (found.intersection, found.union) == (expected.intersection, expected.union)
            assert FormulaSearch(table[0], options).score(table[1], found.formula) == found
    assert result.optimal
    assert result.iou_upper_bound == (result.best.iou if result.best else 0.0)
    return result


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    concepts=st.integers(1, 5),
    categories=st.integers(1, 3),
    images=st.integers(1, 3),
    operators=st.sampled_from([OPERATORS, OPERATORS, ("or",), ("and", "and-not"), ("or", "and-not")]),
    length=st.sampled_from([1, 2, 3, 3]),
    annotated=st.booleans(),
)
def test_no_formula_is_better_and_ties_go_to_the_first(
    seed: int,
    concepts: int,
    categories: int,
    images: int,
    operators: tuple[Operator, ...],
    length: int,
    annotated: bool,
) -> None:
    drawn, category_of = draw_images(seed, concepts, categories, images)
    restriction = "annotated" if annotated else "none"
    check(drawn, category_of, SearchOptions(length, operators, restriction=restriction))


@pytest.mark.parametrize("annotated", [False, True])
def test_long_formulas_are_proven_too_where_there_are_few_concepts(annotated: bool) -> None:
    for seed in range(4):
        drawn, category_of = draw_images(seed, 3, 2, 2)
        check(drawn, category_of, SearchOptions(4, restriction="annotated" if annotated else "none"))
