"""The formula with the largest IoU, with a proof or a bound."""

from dataclasses import dataclass, field
from typing import Literal

from netdissect.scoring.formulas.active_rows import ActiveRows
from netdissect.scoring.formulas.formula import OPERATORS, Formula, Operator
from netdissect.scoring.formulas.label_set_table import LabelSetTable

Method = Literal["optimal", "beam"]
Restriction = Literal["none", "annotated"]


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
        If the options are out of range, or the table has more pixels than 64-bit integers can compare.
    """

    def __init__(self, table: LabelSetTable, options: SearchOptions = SearchOptions()) -> None:
        self.table, self.options = table, options

    def find(self, active: ActiveRows) -> FormulaResult:
        """Find the best formula of one mask, and the best single concept under the same restriction."""
        raise NotImplementedError

    def score(self, active: ActiveRows, formula: Formula) -> ScoredFormula:
        """Score a formula, chosen on these or other images, under the restriction of the options."""
        raise NotImplementedError
