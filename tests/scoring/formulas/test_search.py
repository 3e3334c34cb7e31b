"""The search for formulas against exhaustive search over sets of pixels."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from formula_oracle import OPERATORS, as_table, beam_of_2020, best_formula, check_search, draw_images
from netdissect.compose_config import Operator
from netdissect.errors import ConfigError
from netdissect.scoring.formulas import (
    ActiveRows,
    Formula,
    FormulaSearch,
    LabelSetTable,
    ScoredFormula,
    SearchOptions,
    SearchStoppedError,
)
from netdissect.scoring.formulas.branch_and_bound import Branches
from netdissect.scoring.formulas.unit_counts import UnitCounts

SEEDS = st.integers(0, 2**31)


@given(
    seed=SEEDS,
    concepts=st.integers(1, 5),
    categories=st.integers(1, 3),
    operators=st.sampled_from([OPERATORS, OPERATORS, ("or",), ("and", "and-not"), ("or", "and-not")]),
    length=st.sampled_from([1, 2, 3, 3]),
    annotated=st.booleans(),
)
@example(seed=6, concepts=5, categories=2, operators=OPERATORS, length=3, annotated=True)
def test_no_formula_is_better_and_ties_go_to_the_first(
    seed: int, concepts: int, categories: int, operators: tuple[Operator, ...], length: int, annotated: bool
) -> None:
    images, category_of = draw_images(seed, concepts, categories, 1 + seed % 3)
    restriction = "annotated" if annotated else "none"
    check_search(images, category_of, SearchOptions(length, operators, restriction=restriction))


@pytest.mark.parametrize("restriction", ["none", "annotated"])
def test_long_formulas_are_proven_too_where_there_are_few_concepts(restriction: str) -> None:
    lengths = [
        check_search(*draw_images(seed, 4, 2, 2), SearchOptions(4, restriction=restriction)).best for seed in range(3)
    ]
    assert max(len(best.formula) for best in lengths if best) > 2


@pytest.mark.parametrize("restriction", ["none", "annotated"])
def test_without_time_the_best_concept_comes_with_a_bound_that_no_formula_exceeds(restriction: str) -> None:
    gaps = []
    for seed in range(5):
        images, category_of = draw_images(seed, 4, 2, 2)
        table, active = as_table(images, category_of)
        for length in (2, 3):
            result = FormulaSearch(table, SearchOptions(length, restriction=restriction, time_limit=0)).find(active)
            best = best_formula(images, category_of, length, OPERATORS, restriction == "annotated")
            assert result.best == result.concept
            if best is not None:
                assert not result.optimal
                gaps.append(result.iou_upper_bound - best.intersection / best.union)
    assert min(gaps) >= 0
    assert np.median(gaps) < 0.5


@given(seed=SEEDS, concepts=st.integers(1, 6), beam=st.integers(1, 5), length=st.integers(1, 4))
def test_the_beam_is_that_of_2020(seed: int, concepts: int, beam: int, length: int) -> None:
    images, category_of = draw_images(seed, concepts, 2, 2)
    table, active = as_table(images, category_of)
    result = FormulaSearch(table, SearchOptions(length, method="beam", beam=beam)).find(active)
    expected = beam_of_2020(images, category_of, length, beam)
    if expected is None:
        assert result.best is None
        return
    ids, operators, intersection, union = expected
    assert result.best == ScoredFormula(Formula(ids, operators).normal_form(), intersection, union)


def test_a_beam_claims_no_proof() -> None:
    images, category_of = draw_images(3, 5, 2, 2)
    table, active = as_table(images, category_of)
    assert not FormulaSearch(table, SearchOptions(method="beam")).find(active).optimal


@pytest.mark.parametrize(
    ("method", "last"),
    [("optimal", "search"), ("optimal", "closed_at"), ("beam", "closed_at"), ("beam", "extensions")],
)
def test_a_search_that_is_stopped_computes_nothing_more(
    monkeypatch: pytest.MonkeyPatch, method: str, last: str
) -> None:
    table, active = as_table(*draw_images(3, 5, 2, 2))
    limit = 0 if last == "closed_at" else None
    formulas, calls = FormulaSearch(table, SearchOptions(method=method, time_limit=limit)), []
    part = UnitCounts if last == "extensions" else Branches
    function = getattr(part, last)

    def stopped(*values: Any) -> Any:
        calls.append(last)
        formulas.stop()
        return function(*values)

    monkeypatch.setattr(part, last, stopped)
    with pytest.raises(SearchStoppedError, match=r"^$"):
        formulas.find(active)
    assert calls == [last]


def test_a_mask_that_no_concept_meets_has_no_formula() -> None:
    table = LabelSetTable.of(np.array([-1, 0, 0]), [[], [1], [1, 2]], [1, 1, 1], np.array([5, 4, 3]))
    for active in (ActiveRows.of([], []), ActiveRows.of([0], [2])):
        result = FormulaSearch(table).find(active)
        assert (result.best, result.concept, result.optimal, result.iou_upper_bound) == (None, None, True, 0)


def test_one_concept_is_its_own_formula_and_proven() -> None:
    table = LabelSetTable.of(np.array([-1, 0]), [[], [1]], [1, 1], np.array([5, 4]))
    result = FormulaSearch(table).find(ActiveRows.of([1], [3]))
    assert result.best == result.concept == ScoredFormula(Formula((1,)), 3, 4)
    assert result.optimal


def test_of_concepts_that_cover_the_same_rows_the_first_label_id_is_named() -> None:
    sets = [[], [1], [3], [1, 3], [3, 4]]
    of_synonyms = [[label for each in labels for label in ((1, 2) if each == 1 else (each,))] for labels in sets]
    active = ActiveRows.of([1, 2, 3], [4, 3, 1])
    found = []
    for rows in (sets, of_synonyms):
        table = LabelSetTable.of(np.array([-1, 0, 0, 0, 0]), rows, [1] * 5, np.array([9, 5, 4, 3, 2]))
        order = [int(np.flatnonzero(table.pixels == pixels)[0]) for pixels in (5, 4, 3)]
        result = FormulaSearch(table).find(ActiveRows.of(np.array(order)[active.rows - 1], active.active))
        found.append((result.best, result.concept, result.optimal))
    assert found[0] == found[1]
    assert found[0][0] == ScoredFormula(Formula((1, 3, 4), ("or", "and-not")), 8, 12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SearchOptions(length=6), "length is 6; expected 1 to 5"),
        (SearchOptions(operators=()), r"operators is \(\); expected one or more of or, and, and-not"),
        (SearchOptions(beam=0), "beam is 0; expected at least 1"),
        (SearchOptions(time_limit=-1), "time_limit is -1; expected None, or seconds from 0"),
    ],
)
def test_options_out_of_range_are_refused(options: SearchOptions, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FormulaSearch(LabelSetTable.zeros(np.array([-1, 0])), options)


def test_more_pixels_than_integers_compare_are_refused_and_no_fewer() -> None:
    pixels = 1_000_000_000
    for active, refused in ((pixels, False), (4 * pixels, True)):
        table = LabelSetTable.of(np.array([-1, 0, 0]), [[1], [1, 2]], [1, 1], np.array([active, active // 4]))
        search, mask = FormulaSearch(table), ActiveRows.of([0], [active])
        if refused:
            with pytest.raises(ConfigError, match="more than 64-bit integers can compare exactly"):
                search.find(mask)
        else:
            result = search.find(mask)
            assert result.best is not None
            assert (result.best.formula, result.best.intersection) == (Formula((1, 2), ("and-not",)), active)
            assert result.best.union == active
