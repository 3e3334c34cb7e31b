"""The beam search of Mu and Andreas 2020 :cite:p:`mu2020compositional`, as they coded it.

It begins with the concepts of largest IoU. Each round extends every kept formula by OR, AND and AND NOT of every
concept and keeps the best of old and new ones; of equal IoU, what was found earlier. The answer need not be optimal.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.compose_config import OPERATORS, Operator
from netdissect.scoring.formulas.formula import Formula
from netdissect.scoring.formulas.label_set_table import Ints

Floats = npt.NDArray[np.float64]


class Extensions(NamedTuple):
    """Counts of all formulas that extend one formula, or of all single concepts.

    Attributes
    ----------
    label_ids
        int64 (K,): of the concepts, rising.
    intersections, unions
        int64 (K, n) in pixels, for n operators; 1 for single concepts.
    """

    label_ids: Ints
    intersections: Ints
    unions: Ints


class Candidate(NamedTuple):
    """A formula that the beam may keep."""

    formula: Formula
    intersection: int
    union: int


def beam_search(
    extend: Callable[[Formula | None], Extensions], length: int, beam: int, operators: tuple[Operator, ...]
) -> list[Candidate]:
    """Search for formulas of at most `length` concepts; return those that are kept, the best first.

    Parameters
    ----------
    extend
        Counts all formulas that extend one; None: all single concepts. The operators stand in the order of `OPERATORS`.
    """
    used = [operator for operator in OPERATORS if operator in operators]
    kept = _best([], [(None, extend(None))], beam, used)
    for _ in range(length - 1):
        kept = _best(kept, [(candidate.formula, extend(candidate.formula)) for candidate in kept], beam, used)
    return kept


def _best(
    kept: list[Candidate], found: list[tuple[Formula | None, Extensions]], beam: int, operators: list[Operator]
) -> list[Candidate]:
    """Return the best of what is kept and what is found, each once, in their order where IoUs are equal."""
    counts = [(candidate.intersection, candidate.union) for candidate in kept]
    intersections = np.concatenate([[count[0] for count in counts], *(new.intersections.ravel() for _, new in found)])
    unions = np.concatenate([[count[1] for count in counts], *(new.unions.ravel() for _, new in found)])
    iou = intersections / np.maximum(unions, 1)
    starts = np.cumsum([len(kept), *(new.intersections.size for _, new in found)])
    best: dict[Formula, Candidate] = {}
    for index in np.argsort(-iou, kind="stable"):
        if len(best) == beam or iou[index] == 0:
            break
        if index < len(kept):
            formula = kept[index].formula
        else:
            place = int(np.searchsorted(starts, index, "right")) - 1
            formula = _extended(*found[place], int(index - starts[place]), operators)
        best.setdefault(formula, Candidate(formula, int(intersections[index]), int(unions[index])))
    return list(best.values())


def _extended(formula: Formula | None, new: Extensions, index: int, operators: list[Operator]) -> Formula:
    """Return the formula of one of the counts."""
    concept, operator = divmod(index, new.intersections.shape[1])
    label_id = int(new.label_ids[concept])
    if formula is None:
        return Formula((label_id,))
    return Formula((*formula.label_ids, label_id), (*formula.operators, operators[operator]))
