"""The compiled loops of the search: all formulas of one or two more concepts than a prefix, on counts alone.

The pixels of each formula follow from those of intersections. With x = |P ∧ c|:

    P OR c: |P| + |c| - x        P AND c: x        P AND NOT c: |P| - x

and likewise |P ∧ c| = |(F op b) ∧ c| from |F ∧ c|, |b ∧ c| and |F ∧ b ∧ c|, with one set of factors for each operator.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.jit import compiled, inlined
from netdissect.scoring.formulas.label_set_table import Bools, CategoryBits, Ints, LabelIds

Rows = npt.NDArray[np.int32]

OR, AND, AND_NOT, NOT_FROM = range(4)
"""Steps from a prefix F and a concept b: F OR b, F AND b, F AND NOT b, b AND NOT F."""

FACTORS = np.array([[1, 1, -1], [0, 0, 1], [1, 0, -1], [0, 1, -1]])
"""Of F, b and F ∧ b in what each step covers."""


class RowArrays(NamedTuple):
    """The rows of the table: concepts, where those of each row begin, pixels and active pixels; see `CountedRows`."""

    entries: LabelIds
    offsets: Ints
    pixels: Ints
    active: Ints


class Cut(NamedTuple):
    """What a formula must reach, in weights of rows; see `UnitCounts.cut`.

    Attributes
    ----------
    gain, cost
        A row of n pixels, a of them active, weighs gain * a - cost * n.
    threshold
        A formula is worse than the incumbent exactly if its rows weigh less.
    total
        Positive weights of all rows with a concept.
    positive
        int64 (K, K): positive weights of the rows of both concepts of each pair.
    negative
        int64 (K,): negative weights of the rows of each concept, without sign.
    by_positive, by_negative
        int64 (K,): concepts by falling weight of either sign.
    """

    gain: int
    cost: int
    threshold: int
    total: int
    positive: Ints
    negative: Ints
    by_positive: Ints
    by_negative: Ints


class Grammar(NamedTuple):
    """Which formulas are searched.

    Attributes
    ----------
    allowed
        bool (4,): the steps.
    category_bits
        uint64 (K,): category of each concept.
    required
        Categories that a formula must name; 0: any.
    """

    allowed: Bools
    category_bits: CategoryBits
    required: np.uint64


class Prefix(NamedTuple):
    """A formula F that is extended.

    Attributes
    ----------
    rows
        int32 (f,): rows that it covers.
    totals
        int64 (3,): its active pixels, pixels and positive weights.
    parts
        int64 (3, K): the same of F ∧ c for each concept c.
    named
        uint64: categories of its concepts.
    partners
        bool (K,): concepts b with which it is extended.
    """

    rows: Rows
    totals: Ints
    parts: Ints
    named: np.uint64
    partners: Bools


@compiled
def extend_once(active: Ints, pixels: Ints, mask_pixels: int, grammar: Grammar, best: Ints, found: Ints) -> None:
    """Offer all formulas of two concepts.

    Parameters
    ----------
    active, pixels
        int64 (K, K): of pairs.
    best
        int64 (4,): intersection and union of the incumbent, whether formulas of equal IoU are listed, and how many
        are; updated.
    found
        int64 (n, 6): step, concept, operator, concept, intersection and union of those that are listed, as far as
        there is room.
    """
    allowed, category_bits, required = grammar
    for first in range(len(active)):
        for second in range(len(active)):
            if first == second or (required and category_bits[first] | category_bits[second] != required):
                continue
            in_both, pixels_of_both = active[first, second], pixels[first, second]
            first_active, first_pixels = active[first, first], pixels[first, first]
            if allowed[OR] and first < second:
                covered = first_pixels + pixels[second, second] - pixels_of_both
                hit = first_active + active[second, second] - in_both
                _offer(hit, covered + mask_pixels - hit, (-1, first, OR, second), best, found)
            if allowed[AND] and first < second:
                _offer(in_both, pixels_of_both + mask_pixels - in_both, (-1, first, AND, second), best, found)
            if allowed[AND_NOT]:
                hit, covered = first_active - in_both, first_pixels - pixels_of_both
                _offer(hit, covered + mask_pixels - hit, (-1, first, AND_NOT, second), best, found)


@compiled
def extend_twice(
    prefix: Prefix,
    rows: RowArrays,
    pairs: tuple[Ints, Ints, int],
    cut: Cut,
    grammar: Grammar,
    scratch: tuple[Ints, Bools],
    best: Ints,
    found: Ints,
) -> int:
    """Offer all formulas of two more concepts than a prefix that may reach the threshold; return the steps tried.

    Parameters
    ----------
    pairs
        Active pixels and pixels of pairs, int64 (K, K), and the pixels of the mask.
    scratch
        int64 (2, K, K), zero before and after, and bool (K, 4).
    best, found
        See `extend_once`.
    """
    active, pixels, mask_pixels = pairs
    sums, opened = scratch
    tried = _open_steps(prefix, active, pixels, cut, grammar, opened)
    if tried:
        _fill(prefix.rows, rows, opened, sums)
        for concept in range(len(opened)):
            for step in range(4):
                if opened[concept, step]:
                    _scan(concept, step, prefix, (active, pixels, mask_pixels), cut, grammar, sums, best, found)
            if opened[concept].any():
                sums[:, concept] = 0
    return int(tried)


@compiled
def _open_steps(prefix: Prefix, active: Ints, pixels: Ints, cut: Cut, grammar: Grammar, opened: Bools) -> int:
    """Find the steps whose extensions may reach the threshold, bool (K, 4), and return their number."""
    allowed, category_bits, required = grammar
    totals, parts = prefix.totals, prefix.parts
    top = cut.positive[cut.by_positive[0], cut.by_positive[0]]
    opened[:] = False
    number = 0
    for concept in range(len(opened)):
        missing = required & ~(prefix.named | category_bits[concept])
        if not prefix.partners[concept] or missing & (missing - np.uint64(1)):
            continue
        own = active[concept, concept], pixels[concept, concept], cut.positive[concept, concept]
        for step in range(4):
            if not allowed[step]:
                continue
            hit, covered, positive = _step(step, totals, own, parts[:, concept])
            if not required and _dominated(step, hit, covered, totals, own):
                continue
            weight = cut.gain * hit - cut.cost * covered
            if (allowed[OR] and weight + top >= cut.threshold) or (
                (allowed[AND] or allowed[AND_NOT]) and positive >= cut.threshold
            ):
                opened[concept, step] = True
                number += 1
    return number


@inlined
def _step(step: int, left: Ints, right: tuple[int, int, int], both: Ints) -> tuple[int, int, int]:
    """Return active pixels, pixels and positive weights of a step, from those of F, b and F ∧ b."""
    of_left, of_right, of_both = FACTORS[step, 0], FACTORS[step, 1], FACTORS[step, 2]
    return (
        of_left * left[0] + of_right * right[0] + of_both * both[0],
        of_left * left[1] + of_right * right[1] + of_both * both[1],
        of_left * left[2] + of_right * right[2] + of_both * both[2],
    )


@inlined
def _dominated(step: int, hit: int, covered: int, left: Ints, right: tuple[int, int, int]) -> bool:
    """Tell whether F or b alone has as many active pixels and no more others, or nothing active is left.

    What follows a prefix keeps inclusion: then the same extension of F or of b, with fewer concepts, is no worse.
    """
    if step == OR:
        return hit == left[0] or hit == right[0]
    others, of_left, of_right = covered - hit, left[1] - left[0], right[1] - right[0]
    if step == AND:
        return hit == 0 or others in (of_left, of_right)
    return hit == 0 or others == (of_left if step == AND_NOT else of_right)


@compiled
def _fill(prefix_rows: Rows, rows: RowArrays, opened: Bools, sums: Ints) -> None:
    """Add active pixels and pixels of F ∧ b ∧ c for each concept b with an open step, int64 (2, K, K)."""
    entries, offsets, pixels, active = rows
    wanted = np.zeros(len(opened), np.bool_)
    for concept in range(len(opened)):
        wanted[concept] = opened[concept].any()
    for index in range(len(prefix_rows)):
        row = prefix_rows[index]
        for left in range(offsets[row], offsets[row + 1]):
            if wanted[entries[left]]:
                for right in range(offsets[row], offsets[row + 1]):
                    sums[0, entries[left], entries[right]] += active[row]
                    sums[1, entries[left], entries[right]] += pixels[row]


@compiled
def _scan(
    concept: int,
    step: int,
    prefix: Prefix,
    pairs: tuple[Ints, Ints, int],
    cut: Cut,
    grammar: Grammar,
    sums: Ints,
    best: Ints,
    found: Ints,
) -> None:
    """Offer all extensions of one step from a prefix by one more concept."""
    active, pixels, mask_pixels = pairs
    allowed, category_bits, required = grammar
    positive, negative, threshold = cut.positive, cut.negative, cut.threshold
    own = active[concept, concept], pixels[concept, concept], positive[concept, concept]
    hit, covered, of_positive = _step(step, prefix.totals, own, prefix.parts[:, concept])
    lacking = threshold - (cut.gain * hit - cut.cost * covered)
    missing = required & ~(prefix.named | category_bits[concept])
    of_prefix, of_concept, of_both = FACTORS[step, 0], FACTORS[step, 1], FACTORS[step, 2]
    prefix_active, prefix_pixels = prefix.parts[0], prefix.parts[1]
    concept_active, concept_pixels = active[concept], pixels[concept]
    both_active, both_pixels = sums[0, concept], sums[1, concept]
    for operator in range(3):
        if not allowed[operator] or (operator != OR and of_positive < threshold):
            continue
        order = cut.by_negative if operator == AND_NOT else cut.by_positive
        for last in order:
            if operator == OR:
                if positive[last, last] < lacking:
                    break
            elif operator == AND:
                if positive[last, last] < threshold:
                    break
            elif negative[last] < lacking:
                break
            if missing and category_bits[last] != missing:
                continue
            x_active = of_prefix * prefix_active[last] + of_concept * concept_active[last] + of_both * both_active[last]
            x_pixels = of_prefix * prefix_pixels[last] + of_concept * concept_pixels[last] + of_both * both_pixels[last]
            if operator == OR:
                x_active, x_pixels = hit + active[last, last] - x_active, covered + pixels[last, last] - x_pixels
            elif operator == AND_NOT:
                x_active, x_pixels = hit - x_active, covered - x_pixels
            _offer(x_active, x_pixels + mask_pixels - x_active, (step, concept, operator, last), best, found)


@inlined
def _offer(intersection: int, union: int, steps: tuple[int, int, int, int], best: Ints, found: Ints) -> None:
    """Compare a formula with the incumbent, as fractions of integers, and list it if it is not worse."""
    left, right = intersection * best[1], best[0] * union
    if left < right or (left == right and not best[2]):
        return
    if left > right:
        best[0], best[1], best[2], best[3] = intersection, union, 1, 0
    if best[3] < len(found):
        for index in range(4):
            found[best[3], index] = steps[index]
        found[best[3], 4], found[best[3], 5] = intersection, union
    best[3] += 1


@compiled
def step_bounds(prefix: Prefix, pairs: tuple[Ints, Ints, int], cut: Cut, grammar: Grammar, more: int) -> Ints:
    """Bound the weight of all formulas that begin with each step and have `more` further concepts, int64 (K, 4).

    OR adds at most the positive weights of a concept; AND and AND NOT leave at most those of the prefix. Steps that are
    not allowed or dominated have -1, which reaches no threshold.
    """
    active, pixels, _ = pairs
    allowed, _, required = grammar
    bounds = np.full((len(active), 4), -1)
    tops, top_of_fewer = np.int64(0), np.int64(0)
    for index in range(min(more, len(active)) if allowed[OR] else 0):
        top_of_fewer = tops
        tops += cut.positive[cut.by_positive[index], cut.by_positive[index]]
    if more > len(active):
        top_of_fewer = tops
    for concept in range(len(active)):
        if not prefix.partners[concept]:
            continue
        own = active[concept, concept], pixels[concept, concept], cut.positive[concept, concept]
        for step in range(4):
            hit, covered, positive = _step(step, prefix.totals, own, prefix.parts[:, concept])
            if not allowed[step] or (not required and more and _dominated(step, hit, covered, prefix.totals, own)):
                continue
            bound = cut.gain * hit - cut.cost * covered
            if more:
                bound = bound + tops if allowed[OR] else bound
                if allowed[AND] or allowed[AND_NOT]:
                    bound = max(bound, positive + top_of_fewer)
            bounds[concept, step] = min(bound, cut.total)
    return bounds


@compiled
def concept_bounds(
    pairs: tuple[Ints, Ints, int], cut: Cut, grammar: Grammar, rank: Ints, is_open: Bools, more: int
) -> Ints:
    """Bound the weight of all formulas by the first of their two first concepts, int64 (K,); see `step_bounds`.

    Of two concepts that of the smaller rank, int64 (K,), comes first. Concepts that are not open, bool (K,), have -1.
    """
    active, pixels, _ = pairs
    concepts = len(active)
    bounds = np.full(concepts, -1)
    parts, no_rows = np.empty((3, concepts), np.int64), np.empty(0, np.int32)
    for first in range(concepts):
        if not is_open[first]:
            continue
        parts[0], parts[1], parts[2] = active[first], pixels[first], cut.positive[first]
        named = grammar.category_bits[first]
        prefix = Prefix(no_rows, parts[:, first].copy(), parts, named, rank > rank[first])
        for bound in step_bounds(prefix, pairs, cut, grammar, more).flat:
            bounds[first] = max(bounds[first], bound)
    return bounds
