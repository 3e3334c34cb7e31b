"""Branch and bound over formulas of one length, in the rows of one restriction."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from netdissect.compose_config import OPERATORS, Operator
from netdissect.scoring.formulas.extension_kernel import (
    AND,
    AND_NOT,
    NOT_FROM,
    OR,
    Cut,
    Grammar,
    concept_bounds,
    extend_once,
    extend_twice,
    step_bounds,
)
from netdissect.scoring.formulas.formula import Formula
from netdissect.scoring.formulas.label_set_table import Bools, Ints
from netdissect.scoring.formulas.unit_counts import UnitCounts

Steps = tuple[tuple[int, int], ...]
"""A formula as steps (step, concept); the first is (OR, concept)."""

LISTED = 256
"""Formulas of equal IoU that a compiled loop lists before it asks for more room."""


@dataclass
class Incumbent:
    """The best formula so far. Of equal IoU, the first in `Formula.order` is kept: so the order of search is no matter.

    Attributes
    ----------
    formula, intersection, union
        In normal form; its counts in pixels.
    visited
        Number of formulas whose extensions were tried.
    """

    formula: Formula | None = None
    intersection: int = 0
    union: int = 1
    visited: int = 0

    def offer(self, formula: Formula, intersection: int, union: int) -> None:
        """Take a formula if it is better."""
        formula = formula.normal_form()
        left, right = intersection * self.union, self.intersection * union
        if left > right or (left == right and self.formula is not None and formula.order < self.formula.order):
            self.formula, self.intersection, self.union = formula, intersection, union

    def as_array(self, length: int) -> Ints:
        """Return what the compiled loops compare with; formulas of equal IoU but more concepts are not listed."""
        listed = self.formula is not None and len(self.formula) >= length
        return np.array([self.intersection, self.union, listed, 0], np.int64)


@dataclass(eq=False)
class Branches:
    """The formulas of exactly `length` concepts, by the concept with fewest rows among the first two.

    Attributes
    ----------
    unit
        Counts of the mask in the rows of the restriction.
    operators
        Those that may be used.
    length
        At least 2.
    open
        bool (K,): concepts whose formulas may still be better than the incumbent.
    """

    unit: UnitCounts
    operators: tuple[Operator, ...]
    length: int
    open: Bools = field(init=False)

    def __post_init__(self) -> None:
        counted = self.unit.counted
        concepts = len(counted.label_ids)
        self.open = np.ones(concepts, bool)
        allowed = np.array([operator in self.operators for operator in (*OPERATORS, "and-not")])
        required = counted.categories if counted.categories & (counted.categories - 1) else 0
        self._grammar = Grammar(allowed, counted.category_bits, np.uint64(required))
        self._scratch = np.zeros((2, concepts, concepts), np.int64), np.zeros((concepts, 4), bool)
        self._rank = np.lexsort((np.arange(concepts), counted.num_rows)).argsort()

    def search(self, incumbent: Incumbent, in_time: Callable[[], bool]) -> None:
        """Try all formulas, the most promising concepts first, until the time is over."""
        if not in_time():
            return
        if self.length == 2:
            self._offer(incumbent, (), self._pairs)
            incumbent.visited += len(self.open)
            self.open[:] = False
            return
        cut, weights = self._cut(incumbent)
        bounds = self._bounds(cut)
        for concept in np.lexsort((np.arange(len(bounds)), -bounds)):
            if not in_time():
                return
            if incumbent.intersection * (cut.gain - cut.cost) > cut.cost * incumbent.union:
                cut, weights = self._cut(incumbent)
                bounds = self._bounds(cut)
            if bounds[concept] >= cut.threshold and not self._search_concept(
                int(concept), incumbent, (cut, weights), in_time
            ):
                return
            self.open[concept] = False

    def closed_at(self, intersection: int, union: int) -> bool:
        """Tell whether no formula of the open concepts has an IoU above a fraction."""
        if not self.open.any():
            return True
        cut, _ = self.unit.cut(intersection, union)
        return bool(self._bounds(cut)[self.open].max() <= cut.threshold)

    def _cut(self, incumbent: Incumbent) -> tuple[Cut, Ints]:
        return self.unit.cut(incumbent.intersection, incumbent.union)

    def _partners(self, concept: int) -> Bools:
        """Tell with which concepts a concept comes first: those with more rows."""
        return np.asarray(self._rank > self._rank[concept])

    def _bounds(self, cut: Cut) -> Ints:
        """Bound the weight of the formulas of each concept, int64 (K,); closed ones are not computed."""
        arrays = self.unit.pairs, cut, self._grammar, self._rank, self.open
        return np.asarray(concept_bounds(*arrays, self.length - 2))

    def _search_concept(
        self, concept: int, incumbent: Incumbent, weighed: tuple[Cut, Ints], in_time: Callable[[], bool]
    ) -> bool:
        """Try the formulas of one concept; return whether the time sufficed."""
        prefix = self.unit.single(concept, weighed[0], self._partners(concept))
        if self.length == 3:
            self._extend_twice(incumbent, ((OR, concept),), prefix, weighed[0])
            return True
        covered = np.zeros(len(self.unit.active), bool)
        covered[self.unit.counted.rows_of(concept)] = True
        return self._descend(((OR, concept),), covered, incumbent, weighed, in_time)

    def _descend(
        self, steps: Steps, covered: Bools, incumbent: Incumbent, weighed: tuple[Cut, Ints], in_time: Callable[[], bool]
    ) -> bool:
        """Try the extensions of a formula, the most promising first; return whether the time sufficed."""
        cut, weights = weighed
        partners = self._partners(steps[0][1]) if len(steps) == 1 else np.ones(len(self.open), bool)
        named = np.bitwise_or.reduce(self._grammar.category_bits[[concept for _, concept in steps]])
        prefix = self.unit.prefix(covered, weights, named, partners)
        if len(steps) == self.length - 2:
            self._extend_twice(incumbent, steps, prefix, cut)
            return in_time()
        incumbent.visited += 1
        more = self.length - len(steps) - 1
        bounds = step_bounds(prefix, self.unit.pairs, cut, self._grammar_of(steps), more)
        for place in np.argsort(-bounds, axis=None, kind="stable"):
            concept, step = divmod(int(place), 4)
            if bounds[concept, step] < cut.threshold:
                return True
            if _is_repeated(steps, step, concept):
                continue
            has_concept = np.zeros_like(covered)
            has_concept[self.unit.counted.rows_of(concept)] = True
            extended = _apply(step, covered, has_concept)
            if not self._descend(_joined(steps, step, concept), extended, incumbent, weighed, in_time):
                return False
        return True

    def _pairs(self, best: Ints, found: Ints) -> int:
        extend_once(*self.unit.pairs, self._grammar, best, found)
        return 0

    def _extend_twice(self, incumbent: Incumbent, steps: Steps, prefix: object, cut: Cut) -> None:
        def loop(best: Ints, found: Ints) -> int:
            arrays = prefix, self.unit.row_arrays, self.unit.pairs, cut, self._grammar_of(steps), self._scratch
            return int(extend_twice(*arrays, best, found))

        incumbent.visited += self._offer(incumbent, steps, loop)

    def _offer(self, incumbent: Incumbent, steps: Steps, loop: Callable[[Ints, Ints], int]) -> int:
        """Run a compiled loop, and offer what it lists; again with more room if that is too much."""
        room = LISTED
        while True:
            best, found = incumbent.as_array(self.length), np.empty((room, 6), np.int64)
            tried = loop(best, found)
            if best[3] <= room:
                break
            room = int(best[3])
        for step, concept, operator, last, intersection, union in found[: best[3]].tolist():
            path = ((OR, concept),) if step < 0 else _joined(steps, step, concept)
            incumbent.offer(self._formula((*path, (operator, last))), intersection, union)
        return tried

    def _grammar_of(self, steps: Steps) -> Grammar:
        """Return the steps from a formula: only a single concept can be subtracted."""
        allowed = self._grammar.allowed & [True, True, True, len(steps) == 1]
        return self._grammar._replace(allowed=allowed)

    def _formula(self, steps: Steps) -> Formula:
        label_ids = self.unit.counted.label_ids
        return Formula(
            tuple(int(label_ids[concept]) for _, concept in steps), tuple(OPERATORS[step] for step, _ in steps[1:])
        )


def _joined(steps: Steps, step: int, concept: int) -> Steps:
    """Add a step to a formula; b AND NOT F stands as such."""
    return ((OR, concept), (AND_NOT, steps[0][1])) if step == NOT_FROM else (*steps, (step, concept))


def _apply(step: int, covered: Bools, has_concept: Bools) -> Bools:
    """Return the rows that a formula covers after one more step."""
    if step == OR:
        return np.asarray(covered | has_concept)
    if step == AND:
        return np.asarray(covered & has_concept)
    return np.asarray(covered & ~has_concept if step == AND_NOT else has_concept & ~covered)


def _is_repeated(steps: Steps, step: int, concept: int) -> bool:
    """Tell whether the same formula is tried with its last two concepts in the other order."""
    if len(steps) < 2:
        return False
    last_step, last = steps[-1]
    if (step == OR) != (last_step == OR):
        return False
    return (step, concept) < (last_step, last)
