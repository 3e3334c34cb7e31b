"""From counts to labels: IoU, the best concept of each category, and how many units detect something.

Sources: Bau et al. 2017 :cite:p:`bau2017network`, section 2.2 (IoU, labels) and its figures (counts
per category); the published tables of its first program (counts by top label).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from netdissect.config import Rule

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LEADING = 10  # concepts of a unit


def iou(intersection: Ints, activation: Ints, truth: Ints) -> Floats:
    """Return intersection over union, float64, of integer counts; an empty union gives 0.

    >>> iou(np.array([2171174]), np.array([3044167]), np.array([13092677]))
    array([0.15546508])
    """
    union = activation + truth - intersection
    # int64 / int64 in float64: counts below 2**53 are exact, and so is the rounding of their ratio.
    return _ratio(intersection, union)


def f1(intersection: Ints, activation: Ints, truth: Ints) -> Floats:
    """Return the Dice coefficient 2 I / (A + T), which ranks as IoU does; nothing at all gives 0."""
    total = activation + truth
    return _ratio(2 * intersection, total)


def best_concepts(scores: Floats, categories: Ints, count: int) -> Ints:
    """Find the best concept of each unit in each category.

    Parameters
    ----------
    scores
        float64 (U, C), concepts by rising label number.
    categories
        int64 (C,): primary category of each concept, 0 to `count` - 1.
    count
        How many categories there are.

    Returns
    -------
    int64 (U, count)
        Index of the concept with the largest score (tie: the lowest label number), or -1 where no concept
        of the category intersects the unit.
    """
    best = np.full((len(scores), count), -1, np.int64)
    for category in range(count):
        members = np.flatnonzero(categories == category)
        if len(members):
            winner = members[np.argmax(scores[:, members], axis=1)]
            best[:, category] = np.where(np.take_along_axis(scores, winner[:, None], 1)[:, 0] > 0, winner, -1)
    return best


def leading_concepts(scores: Floats) -> Ints:
    """Return each unit's ten best concepts, those that evidence beside IoU is about.

    Parameters
    ----------
    scores
        float64 (U, C), by label number; 0 where no concept is.

    Returns
    -------
    int64 (U, 10)
        Label numbers, best first (tie: the lowest label number); 0 once no further concept intersects the unit.
    """
    best = np.argsort(-scores, axis=1, kind="stable")[:, :LEADING]
    reached = np.take_along_axis(scores, best, axis=1)
    room = max(LEADING - scores.shape[1], 0)
    return np.pad(np.where(reached > 0, best, 0), ((0, 0), (0, room)))


def top_category(scores: Floats) -> Ints:
    """Return the category of each unit's best concept, int64 (U,): the later on a tie, -1 where all are 0.

    Parameters
    ----------
    scores
        float64 (U, K): score of the best concept in each category, 0 where there is none.
    """
    if scores.shape[1] == 0:
        return np.full(len(scores), -1, np.int64)
    last = scores.shape[1] - 1 - np.argmax(scores[:, ::-1], axis=1)
    return np.where(scores.max(axis=1) > 0, last, -1)


@dataclass(frozen=True)
class UnitLabels:
    """The best concept of each unit in each category: all that counting needs.

    Attributes
    ----------
    categories
        Names, K of them, in the order of ``category.csv``.
    names
        object (U, K): the concept's name; empty where there is none.
    scores
        float64 (U, K): its IoU; 0 where there is none.
    """

    categories: tuple[str, ...]
    names: npt.NDArray[Any]
    scores: Floats

    @property
    def top(self) -> Ints:
        """Category index of each unit's label, int64 (U,); -1 for none."""
        return top_category(self.scores)


@dataclass(frozen=True)
class DetectorCount:
    """How many units detect something, and how many different concepts they detect.

    Attributes
    ----------
    rule
        ``top-label``: a unit counts once, under its best concept, from `min_iou` on. ``per-category``: it
        counts in every category in which its best concept is above `min_iou`.
    detectors, unique
        By category, and ``total``: units that pass under any category, and the sum over categories.
    """

    rule: Rule
    min_iou: float
    units: int
    detectors: dict[str, int]
    unique_detectors: dict[str, int]


def passes(scores: Any, rule: Rule, min_iou: float) -> Any:
    """Say which IoUs make a detector under a rule: arrays of them, or a column of a table as an expression.

    >>> passes(np.array([0.0, 0.04, 0.05]), "top-label", 0.04), passes(np.array([0.04, 0.05]), "per-category", 0.04)
    (array([False,  True,  True]), array([False,  True]))
    """
    return scores > min_iou if rule == "per-category" else (scores >= min_iou) & (scores > 0)


def limit_in_words(rule: Rule, min_iou: float) -> str:
    """Put what `passes` demands of an IoU into words.

    >>> limit_in_words("top-label", 0.04), limit_in_words("per-category", 0.04), limit_in_words("top-label", 0)
    ('of at least 0.04', 'above 0.04', 'above 0')
    >>> limit_in_words("top-label", 0.0415), limit_in_words("top-label", 0.10153846153846154)
    ('of at least 0.0415', 'of at least 0.102')
    """
    return f"{'of at least' if rule == 'top-label' and min_iou > 0 else 'above'} {limit_number(min_iou)}"


def limit_number(min_iou: float) -> str:
    """Return a limit as it is shown everywhere: exactly if six digits say it, else (by chance) with three."""
    return f"{min_iou:g}" if float(f"{min_iou:g}") == min_iou else f"{min_iou:.3g}"


def count_detectors(labels: UnitLabels, rule: Rule, min_iou: float) -> DetectorCount:
    """Count detectors and unique detectors by one of the two published rules."""
    passing = passes(labels.scores, rule, min_iou)
    if rule == "top-label":
        passing &= labels.top[:, None] == np.arange(len(labels.categories))
    detectors = {"total": int(passing.any(axis=1).sum())}
    unique = {"total": 0}
    for index, category in enumerate(labels.categories):
        detectors[category] = int(passing[:, index].sum())
        unique[category] = len(_distinct(labels.names[passing[:, index], index]))
        unique["total"] += unique[category]
    return DetectorCount(rule, min_iou, len(labels.scores), detectors, unique)


def largest_counts(rule: Rule, units: int, concepts: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Return how many detectors, and how many unique ones, there can be in each category and in total.

    Parameters
    ----------
    rule
        See `DetectorCount`.
    units
        Units of the layer.
    concepts
        How many concepts each category has.

    Examples
    --------
    >>> largest_counts("per-category", 8, {"object": 100, "color": 5})[1]
    {'object': 8, 'color': 5, 'total': 13}
    """
    unique = {name: min(units, count) for name, count in concepts.items()}
    total = sum(unique.values())
    # Under its best concept a unit counts once, per category in each of them.
    unique["total"] = min(units, total) if rule == "top-label" else total
    return dict.fromkeys(unique, units), unique


def _ratio(part: Ints | Floats, whole: Ints | Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0), np.float64)


def _distinct(names: Sequence[str] | npt.NDArray[Any]) -> set[str]:
    return {name for name in names if name}
