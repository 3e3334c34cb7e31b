"""From counts to labels and detectors: ties, empty sets, and both counting rules."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import oracle
from netdissect.concepts.attainable_iou import mask_attainable_iou
from netdissect.config import RULES, Rule
from netdissect.scoring import UnitLabels, best_concepts, count_detectors, f1, iou
from netdissect.scoring.detectors import largest_counts, limit_in_words, passes
from netdissect.scoring.iou import NUM_LEADING, leading_concepts, top_category

counts_strategy = st.lists(
    st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=4, max_size=4), min_size=1, max_size=5
)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def labeled(rows: list[list[tuple[int, int, int]]], categories: list[int]) -> tuple[oracle.Counts, np.ndarray]:
    """Make counts of the oracle, and the same IoUs (U, C) with the library."""
    concept_pixels = [max(row[c][0] for row in rows) + rows[0][c][2] for c in range(len(categories))]
    expected = oracle.Counts(len(rows), dict(enumerate(categories, 1)), np.empty(0, np.float32))
    scores = np.zeros((len(rows), len(categories)))
    for c, pixels in enumerate(concept_pixels):
        expected.concept_pixels[c + 1] = pixels
    for unit, row in enumerate(rows):
        for category_index in set(categories):
            expected.activation[unit, category_index] = max(
                row[c][0] + row[c][1] for c, p in enumerate(categories) if p == category_index
            )
        for c, category_index in enumerate(categories):
            expected.intersection[unit, c + 1] = row[c][0]
            scores[unit, c] = iou(
                ints(row[c][0]), ints(expected.activation[unit, category_index]), ints(concept_pixels[c])
            )[0]
    return expected, scores


@given(counts_strategy, st.lists(st.integers(0, 2), min_size=4, max_size=4))
def test_labels_and_ties_are_those_of_exact_fractions(
    rows: list[list[tuple[int, int, int]]], category_of: list[int]
) -> None:
    expected, scores = labeled(rows, category_of)
    best = best_concepts(scores, np.array(category_of), 3)
    best_scores = np.where(best >= 0, np.take_along_axis(scores, np.maximum(best, 0), 1), 0)
    top = top_category(best_scores)
    for unit in range(len(rows)):
        for category_index in range(3):
            of_oracle = expected.best(unit, category_index)
            assert best[unit, category_index] == (-1 if of_oracle is None else of_oracle - 1)
        label = expected.label(unit)
        assert top[unit] == (-1 if label is None else expected.category_of[label])


@given(counts_strategy, st.lists(st.integers(0, 2), min_size=4, max_size=4), st.sampled_from(RULES))
def test_detectors_are_counted_as_both_rules_say(
    rows: list[list[tuple[int, int, int]]], category_of: list[int], rule: Rule
) -> None:
    expected, scores = labeled(rows, category_of)
    best = best_concepts(scores, np.array(category_of), 3)
    names = np.array([["" if c < 0 else f"c{c}" for c in row] for row in best], dtype=object)
    best_scores = np.where(best >= 0, np.take_along_axis(scores, np.maximum(best, 0), 1), 0)
    labels = UnitLabels(("a", "b", "c"), names, best_scores)
    for level in (0.0, 0.04, 0.25, 0.5):  # 1/4 and 1/2 are met exactly by some
        found = count_detectors(labels, rule, level)
        of_oracle = oracle.detectors(expected, rule, Fraction(level) if level != 0.04 else Fraction(4, 100))
        assert (found.units, found.detectors["total"], found.unique_detectors["total"]) == (
            len(rows), of_oracle.units, of_oracle.unique_detectors
        )  # fmt: skip
        for category_index, category in enumerate("abc"):
            assert found.detectors[category] == of_oracle.detectors_by.get(category_index, 0)
            assert found.unique_detectors[category] == of_oracle.unique_by.get(category_index, 0)


def test_top_label_includes_the_level_and_per_category_does_not() -> None:
    labels = UnitLabels(("a", "b"), np.array([["x", "y"], ["x", "z"]], object), np.array([[0.04, 0.04], [0.05, 0.02]]))
    top, each = (count_detectors(labels, rule, 0.04) for rule in RULES)
    assert top.detectors == {"total": 2, "a": 1, "b": 1}  # equal IoU: the later category
    assert top.unique_detectors == {"total": 2, "a": 1, "b": 1}
    assert each.detectors == {"total": 1, "a": 1, "b": 0}
    assert each.unique_detectors == {"total": 1, "a": 1, "b": 0}


def test_a_unit_counts_once_by_top_label_and_in_every_category_otherwise() -> None:
    labels = UnitLabels(("a", "b"), np.array([["x", "y"], ["x", "z"]], object), np.array([[0.5, 0.4], [0.3, 0.2]]))
    top, each = (count_detectors(labels, rule, 0.04) for rule in RULES)
    assert (top.detectors, top.unique_detectors) == ({"total": 2, "a": 2, "b": 0}, {"total": 1, "a": 1, "b": 0})
    assert (each.detectors, each.unique_detectors) == ({"total": 2, "a": 2, "b": 2}, {"total": 3, "a": 1, "b": 2})


def test_a_unit_without_label_is_no_detector_even_at_level_zero() -> None:
    labels = UnitLabels(("a",), np.array([[""]], object), np.array([[0.0]]))
    for rule in RULES:
        assert count_detectors(labels, rule, 0.0).detectors == {"total": 0, "a": 0}


def test_no_category_and_no_unit_give_zero_counts() -> None:
    for shape in ((3, 0), (0, 2)):
        labels = UnitLabels(("a", "b")[: shape[1]], np.empty(shape, object), np.empty(shape))
        for rule in RULES:
            found = count_detectors(labels, rule, 0.04)
            assert (found.units, found.detectors["total"], found.unique_detectors["total"]) == (shape[0], 0, 0)


@given(st.integers(0, 2**31), st.integers(0, 2**40), st.integers(0, 2**40))
def test_iou_is_the_nearest_float_to_the_fraction(both: int, more: int, rest: int) -> None:
    found = iou(ints(both), ints(both + more), ints(both + rest))[0]
    assert found == (both / (both + more + rest) if both + more + rest else 0)
    if both:
        assert f1(ints(both), ints(both + more), ints(both + rest))[0] == 2 * both / (2 * both + more + rest)


def test_empty_sets_give_zero_never_nan() -> None:
    assert iou(ints(0), ints(0), ints(0)).tolist() == [0.0]
    assert f1(ints(0), ints(0), ints(0)).tolist() == [0.0]
    assert mask_attainable_iou(np.zeros(1), np.zeros(1)).tolist() == [0.0]
    assert not math.isnan(iou(ints(0), ints(0), ints(5))[0])


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_no_iou_is_above_the_attainable_one(both: int, more: int, rest: int) -> None:
    activation, concept_pixels = ints(both + more), ints(both + rest)
    bound = mask_attainable_iou(activation.astype(np.float64), concept_pixels.astype(np.float64))[0]
    assert iou(ints(both), activation, concept_pixels)[0] <= bound


@given(st.integers(0, 2**32 - 1), st.integers(1, 16))
def test_leading_concepts_are_the_ten_of_highest_iou_and_the_lowest_id_on_a_tie(seed: int, num_labels: int) -> None:
    scores = np.random.default_rng(seed).integers(0, 4, (3, num_labels)) / 7
    scores[:, 0] = 0
    for row, found in zip(scores.tolist(), leading_concepts(scores).tolist(), strict=True):
        of_oracle = sorted((number for number in range(num_labels) if row[number] > 0), key=lambda n: (-row[n], n))[
            :NUM_LEADING
        ]
        assert found == of_oracle + [0] * (NUM_LEADING - len(of_oracle))


@given(seed=st.integers(0, 2**32 - 1), rule=st.sampled_from(RULES))
def test_no_count_is_above_the_largest_that_units_and_concepts_allow(seed: int, rule: Rule) -> None:
    rng = np.random.default_rng(seed)
    concepts = {"object": 1, "part": 6, "color": 0}
    names = np.array([[f"{name}{rng.integers(count)}" if count else "" for name, count in concepts.items()]
                      for _ in range(3)], object)  # fmt: skip
    count = count_detectors(UnitLabels(tuple(concepts), names, np.where(names == "", 0.0, 0.5)), rule, 0.04)
    detectors, unique = largest_counts(rule, 3, concepts)
    assert all(count.detectors[name] <= most for name, most in detectors.items())
    assert all(count.unique_detectors[name] <= most for name, most in unique.items())
    # Three units can have three different parts, and under the second rule an object besides.
    assert unique == {"object": 1, "part": 3, "color": 0, "total": 3 if rule == "top-label" else 4}


@given(st.sampled_from(RULES), st.sampled_from([0.0, 0.04, 0.0415, 0.5, 2 / 65]))
def test_a_limit_in_words_is_the_rule_by_which_units_are_counted(rule: Rule, limit: float) -> None:
    said, number = limit_in_words(rule, limit).rsplit(" ", 1)
    assert said in ("of at least", "above")
    assert number == {0.0: "0", 2 / 65: "0.0308"}.get(limit, str(limit))
    labels = UnitLabels(("object",), np.array([["a"], ["b"]], object), np.array([[limit], [limit + 0.01]]))
    found = count_detectors(labels, rule, limit).detectors["total"]
    assert found == (2 if said == "of at least" else 1)
    assert passes(labels.scores[:, 0], rule, limit).sum() == found
