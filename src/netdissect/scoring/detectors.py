"""Detectors: units whose IoU passes a limit, counted by one of the two published rules.

    UnitLabels, rule, min_iou -> count_detectors -> DetectorCount

Sources: Bau et al. 2017 :cite:p:`bau2017network`, figures (counts per category); the published tables of the authors'
Caffe code (counts by top label).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from netdissect.config import RULES, Rule
from netdissect.errors import ConfigError
from netdissect.scoring.iou import Floats, Ints, top_category


@dataclass(frozen=True)
class UnitLabels:
    """The best concept of each unit in each category.

    Attributes
    ----------
    categories
        Names, K of them, in the order of ``category.csv``.
    names
        object (U, K): name of the concept; empty where there is none.
    scores
        float64 (U, K): IoU of the concept; 0 where there is none.
    """

    categories: tuple[str, ...]
    names: npt.NDArray[Any]
    scores: Floats

    @property
    def top(self) -> Ints:
        """Category index of the label of each unit, int64 (U,); -1 for none."""
        return top_category(self.scores)


@dataclass(frozen=True)
class DetectorCount:
    """Number of detectors, and of different concepts that they detect.

    Attributes
    ----------
    rule
        ``top-label``: a unit counts once, under its best concept, from `min_iou` on. ``per-category``: it
        counts in every category in which its best concept is above `min_iou`.
    detectors, unique_detectors
        By category, and ``total``: units that pass under any category, and the sum over categories.
    """

    rule: Rule
    min_iou: float
    units: int
    detectors: dict[str, int]
    unique_detectors: dict[str, int]


def passes(scores: Any, rule: Rule, min_iou: float) -> Any:
    """Tell which IoUs make a detector under a rule; an array, or a column of a table as an expression.

    >>> passes(np.array([0.0, 0.04, 0.05]), "top-label", 0.04), passes(np.array([0.04, 0.05]), "per-category", 0.04)
    (array([False,  True,  True]), array([False,  True]))
    """
    return scores > min_iou if rule == "per-category" else (scores >= min_iou) & (scores > 0)


def limit_in_words(rule: Rule, min_iou: float) -> str:
    """Describe the IoUs that `passes` accepts.

    >>> limit_in_words("top-label", 0.04), limit_in_words("per-category", 0.04), limit_in_words("top-label", 0)
    ('of at least 0.04', 'above 0.04', 'above 0')
    >>> limit_in_words("top-label", 0.0415), limit_in_words("top-label", 0.10153846153846154)
    ('of at least 0.0415', 'of at least 0.102')
    """
    return f"{'of at least' if rule == 'top-label' and min_iou > 0 else 'above'} {limit_number(min_iou)}"


def limit_number(min_iou: float) -> str:
    """Format a limit: exactly if six digits suffice, else (a limit from permutations) with three digits."""
    return f"{min_iou:g}" if float(f"{min_iou:g}") == min_iou else f"{min_iou:.3g}"


def check_limit(min_iou: float) -> None:
    """Refuse a limit that no IoU has.

    Raises
    ------
    ConfigError
        If it is not between 0 and 1.
    """
    if not 0 <= min_iou <= 1:
        raise ConfigError(
            f"min_iou is {min_iou}. Expected an IoU between 0 and 1, such as 0.04, which is the paper's; it is no "
            "percentage."
        )


def count_detectors(labels: UnitLabels, rule: Rule, min_iou: float) -> DetectorCount:
    """Count detectors and unique detectors by one of the two published rules.

    Raises
    ------
    ConfigError
        If there is no such rule, or `min_iou` is not between 0 and 1.
    """
    if rule not in RULES:
        raise ConfigError(f"there is no rule {rule!r}. Expected one of {', '.join(RULES)}.")
    check_limit(min_iou)
    passing = passes(labels.scores, rule, min_iou)
    if rule == "top-label":
        passing &= labels.top[:, None] == np.arange(len(labels.categories))
    detectors = {"total": int(passing.any(axis=1).sum())}
    unique_detectors = {"total": 0}
    for index, category in enumerate(labels.categories):
        detectors[category] = int(passing[:, index].sum())
        unique_detectors[category] = len(set(filter(None, labels.names[passing[:, index], index])))
        unique_detectors["total"] += unique_detectors[category]
    return DetectorCount(rule, min_iou, len(labels.scores), detectors, unique_detectors)


def largest_counts(rule: Rule, units: int, concepts: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the largest possible number of detectors and of unique detectors, by category and in total.

    Parameters
    ----------
    rule
        See `DetectorCount`.
    units
        Units of the layer.
    concepts
        Number of concepts of each category.

    Examples
    --------
    >>> largest_counts("per-category", 8, {"object": 100, "color": 5})[1]
    {'object': 8, 'color': 5, 'total': 13}
    """
    unique_detectors = {name: min(units, count) for name, count in concepts.items()}
    total = sum(unique_detectors.values())
    # Under top-label a unit counts once, under per-category once in each category.
    unique_detectors["total"] = min(units, total) if rule == "top-label" else total
    return dict.fromkeys(unique_detectors, units), unique_detectors
