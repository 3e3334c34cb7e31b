"""The formula with the largest IoU, with a proof or a bound."""

import math
import time
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal, get_args

import numpy as np

from netdissect.compose_config import OPERATORS, Operator
from netdissect.errors import ConfigError
from netdissect.scoring.formulas.active_rows import ActiveRows
from netdissect.scoring.formulas.beam import Candidate, Extensions, beam_search
from netdissect.scoring.formulas.branch_and_bound import Branches, Incumbent
from netdissect.scoring.formulas.counted_rows import CountedRows
from netdissect.scoring.formulas.formula import Formula
from netdissect.scoring.formulas.label_set_table import LabelSetTable
from netdissect.scoring.formulas.unit_counts import UnitCounts

Method = Literal["optimal", "beam"]
Restriction = Literal["none", "annotated"]

MOST_CONCEPTS = 5
EXPECTED = {
    "length": f"1 to {MOST_CONCEPTS}",
    "operators": f"one or more of {', '.join(OPERATORS)}",
    "method": " or ".join(get_args(Method)),
    "beam": "at least 1",
    "restriction": " or ".join(get_args(Restriction)),
    "time_limit": "None, or seconds from 0",
}
"""What each option may be."""


@dataclass(frozen=True)
class SearchOptions:
    """Which formulas are searched, and how.

    Attributes
    ----------
    length
        Most concepts of a formula, 1 to 5.
    operators
        Those that may be used, at least one.
    method
        `optimal`: the best of all formulas. `beam`: the beam search of Mu and Andreas 2020.
    beam
        Formulas that the beam keeps; `optimal` begins with as many.
    restriction
        `none`: all images count. `annotated`: those annotated in every category that the formula names, negated ones
        too, in activation, intersection and concept pixels alike.
    time_limit
        Seconds for one unit; None: until the proof is complete. 0: the best single concept and its bound.
    """

    length: int = 3
    operators: tuple[Operator, ...] = field(default=OPERATORS)
    method: Method = "optimal"
    beam: int = 5
    restriction: Restriction = "none"
    time_limit: float | None = None


@dataclass(frozen=True)
class ScoredFormula:
    """A formula and its IoU for one mask.

    Attributes
    ----------
    formula
        In normal form.
    intersection, union
        int, pixels.
    """

    formula: Formula
    intersection: int
    union: int

    @property
    def iou(self) -> float:
        """Intersection over union."""
        return self.intersection / self.union if self.union else 0.0


@dataclass(frozen=True)
class FormulaResult:
    """The best formula of one mask.

    Attributes
    ----------
    best, concept
        The best formula and the best single concept; None: no concept meets an active pixel.
    optimal
        Whether it is proven that no formula of the options has a larger IoU.
    iou_upper_bound
        No formula has a larger IoU; that of `best` if it is optimal.
    visited
        Number of formulas whose extensions were tried.
    """

    best: ScoredFormula | None
    concept: ScoredFormula | None
    optimal: bool
    iou_upper_bound: float
    visited: int


class SearchStoppedError(Exception):
    """The search was ended from another thread by `FormulaSearch.stop`."""


class FormulaSearch:
    """Search for formulas over one table; made once for all units.

    Parameters
    ----------
    table
        Of all images that take part.
    options
        Which formulas are searched, and how.

    Raises
    ------
    ConfigError
        If the options are out of range.
    """

    def __init__(self, table: LabelSetTable, options: SearchOptions = SearchOptions()) -> None:
        _check(options)
        self.table, self.options = table, options
        self._counted: dict[int, CountedRows] = {}
        self._stopped = False
        bits = [1 << int(category) for category in np.unique(table.category_of[table.category_of >= 0])]
        self._combinations = [0]
        if options.restriction == "annotated":
            sizes = range(1, options.length + 1)
            self._combinations = [sum(chosen) for size in sizes for chosen in combinations(bits, size)]

    def find(self, active: ActiveRows) -> FormulaResult:
        """Find the best formula of one mask, and the best single concept under the same restriction.

        Raises
        ------
        ConfigError
            If table and mask have more pixels than 64-bit integers can compare.
        SearchStoppedError
            If another thread called `stop`.
        """
        _check_pixels(int(self.table.pixels.sum()), active.mask_pixels)
        return UnitSearch(self, active).result()

    def stop(self) -> None:
        """End all searches, also later ones: each raises `SearchStoppedError` before its next compiled loop."""
        self._stopped = True

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    def score(self, active: ActiveRows, formula: Formula) -> ScoredFormula:
        """Score a formula, chosen on these or other images, under the restriction of the options."""
        annotated = self.options.restriction == "annotated"
        counted = self.table.is_annotated(formula.categories(self.table) if annotated else 0)
        covered = formula.covers(self.table) & counted
        intersection = int(active.active[covered[active.rows]].sum())
        mask_pixels = int(active.active[counted[active.rows]].sum())
        return ScoredFormula(formula, intersection, int(self.table.pixels[covered].sum()) + mask_pixels - intersection)

    def counted(self, categories: int) -> CountedRows | None:
        """Return the rows annotated in some categories (bits; 0: all rows), or None if there are none to search."""
        if categories not in self._counted:
            self._counted[categories] = CountedRows.of(self.table, categories)
        counted = self._counted[categories]
        return counted if len(counted.label_ids) and len(counted.pixels) else None

    def combinations(self, length: int) -> list[int]:
        """Return the categories, as bits, that formulas of so many concepts can name together; 0: any."""
        return [bits for bits in self._combinations if bits.bit_count() <= length]


class UnitSearch:
    """The search for one mask."""

    def __init__(self, search: FormulaSearch, active: ActiveRows) -> None:
        self._search, self._options, self._active = search, search.options, active
        limit = search.options.time_limit
        self._deadline = math.inf if limit is None else time.monotonic() + limit
        self._units: dict[int, UnitCounts | None] = {}
        self._incumbent = Incumbent()

    def result(self) -> FormulaResult:
        """Search and report."""
        self._offer_concepts()
        concept = self._best()
        if concept is None:
            return FormulaResult(None, None, True, 0.0, 0)
        if self._options.method == "beam" or self._in_time():
            self._incumbent.offer(*self._beam()[0])
        branches = self._branches()
        if self._options.method == "optimal":
            for branch in branches:
                branch.search(self._incumbent, self._in_time)
        optimal = not any(branch.open.any() for branch in branches)
        bound = self._incumbent.intersection / self._incumbent.union if optimal else self._upper_bound(branches)
        return FormulaResult(self._best(), concept, optimal, bound, self._incumbent.visited)

    def _in_time(self) -> bool:
        self._go_on()
        return time.monotonic() < self._deadline

    def _go_on(self) -> None:
        if self._search.stopped:
            raise SearchStoppedError

    def _unit(self, categories: int) -> UnitCounts | None:
        if categories not in self._units:
            counted = self._search.counted(categories)
            self._units[categories] = None if counted is None else UnitCounts.of(counted, self._active)
        return self._units[categories]

    def _best(self) -> ScoredFormula | None:
        incumbent = self._incumbent
        if incumbent.formula is None:
            return None
        return ScoredFormula(incumbent.formula, incumbent.intersection, incumbent.union)

    def _offer_concepts(self) -> None:
        """Offer all single concepts; the rounding of the quotients only decides which are compared exactly."""
        concepts = self._extend(None)
        iou = (concepts.intersections / np.maximum(concepts.unions, 1)).ravel()
        for concept in np.flatnonzero((iou > 0) & (iou >= iou.max(initial=0) * (1 - 1e-12))):
            formula = Formula((int(concepts.label_ids[concept]),))
            self._incumbent.offer(formula, int(concepts.intersections[concept, 0]), int(concepts.unions[concept, 0]))

    def _beam(self) -> list[Candidate]:
        return beam_search(self._extend, self._options.length, self._options.beam, self._options.operators)

    def _branches(self) -> list[Branches]:
        """Return the formulas of all lengths in all combinations of categories, short ones first."""
        branches = []
        for length in range(2, self._options.length + 1):
            for categories in self._search.combinations(length):
                unit = self._unit(categories)
                self._go_on()
                if unit is not None and unit.mask_pixels:
                    branches.append(Branches(unit, self._options.operators, length))
        return branches

    def _extend(self, formula: Formula | None) -> Extensions:
        """Count all extensions of a formula, or all single concepts, each under its restriction."""
        none = np.zeros((0, 1 if formula is None else len({*self._options.operators})), np.int64)
        extensions, named = [Extensions(np.zeros(0, np.int64), none, none)], 0
        if self._options.restriction == "annotated" and formula is not None:
            named = formula.categories(self._search.table)
        for added in self._search.combinations(1):
            self._go_on()
            unit = self._unit(named | added)
            if unit is not None:
                concepts = np.flatnonzero(unit.counted.category_bits == added) if added else slice(None)
                extensions.append(unit.extensions(formula, self._options.operators, concepts))
        columns = [np.concatenate(arrays) for arrays in zip(*extensions, strict=True)]
        order = np.argsort(columns[0], kind="stable")
        return Extensions(*(column[order] for column in columns))

    def _upper_bound(self, branches: list[Branches]) -> float:
        """Return the smallest bound that closes all open branches, rounded up to a binary fraction."""
        denominator = 1 << min(30, 60 - int(self._search.table.pixels.sum()).bit_length())
        low = self._incumbent.intersection * denominator // self._incumbent.union
        high = denominator
        while high - low > max(1, high >> 16):
            middle = (low + high) // 2
            if all(self._closed_at(branch, middle, denominator) for branch in branches):
                high = middle
            else:
                low = middle
        return high / denominator

    def _closed_at(self, branch: Branches, intersection: int, union: int) -> bool:
        self._go_on()
        return branch.closed_at(intersection, union)


def _check(options: SearchOptions) -> None:
    wrong = {
        "length": not 1 <= options.length <= MOST_CONCEPTS,
        "operators": not options.operators or not {*options.operators} <= {*OPERATORS},
        "method": options.method not in get_args(Method),
        "beam": options.beam < 1,
        "restriction": options.restriction not in get_args(Restriction),
        "time_limit": options.time_limit is not None and not options.time_limit >= 0,
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise ConfigError(f"{name} is {getattr(options, name)!r}; expected {EXPECTED[name]}. Change this option.")


def _check_pixels(pixels: int, mask_pixels: int) -> None:
    """Check that no sum of weights overflows; see `UnitCounts.cut`."""
    if 4 * (pixels + mask_pixels) * mask_pixels >= 1 << 63:
        raise ConfigError(
            f"the images have {pixels:,} label map pixels and the mask {mask_pixels:,}, more than 64-bit integers can "
            "compare exactly. Use fewer images (--max-images), smaller label maps or a smaller quantile."
        )
