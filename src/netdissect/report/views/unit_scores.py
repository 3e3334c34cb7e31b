"""Scores of units by which a page sorts them: in few words on their cards and rows, and as numbers to sort by.

all_scores(scores among bases, row of the table iqr) -> score_parts(), sorting_scores()
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import polars as pl

from netdissect.report.layer_tables import NumberedRun


class UnitScore(NamedTuple):
    """A score of units by which a page sorts them: a short name, a title, and what it is."""

    name: str
    title: str
    meaning: str


SCORES = {
    "average_precision": UnitScore(
        "AP", "average precision", "Average precision of {concept} on held-out cells: it is the best unit for it"
    ),
    "monosemanticity": UnitScore(
        "MS", "monosemanticity", "Monosemanticity: whether images look more alike where the unit is more active"
    ),
    "clarity": UnitScore("clarity", "clarity", "Clarity: whether the 25 images of the highest values look alike"),
    "iqr": UnitScore(
        "IQR", "information quality", "Highest information quality ratio: of {iqr_label}, at a threshold of its own"
    ),
}
"""Scores of a unit that its card and row show, by their columns in the evaluation of bases and the table ``iqr``."""


def all_scores(basis: Mapping[str, Any], iqr: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores of a unit among the bases of its layer, and ``iqr`` with its label, of those that are known."""
    return dict(basis) | ({"iqr": iqr["iqr"], "iqr_label": iqr["label"]} if iqr else {})


def score_column(run: NumberedRun, layer: str, name: str) -> pl.DataFrame | None:
    """Return unit and one of `SCORES` of the units of a layer that have it; None: not measured."""
    table, statistics = pl.DataFrame(), run.result.layer(layer).statistics
    if name == "iqr" and name in statistics:
        table = statistics[name].collect()
    elif run.bases is not None:
        table = run.bases.unit_scores(layer)
    scores = table.select("unit", name).drop_nulls() if name in table.columns else pl.DataFrame()
    return None if scores.is_empty() else scores


class ScorePart(NamedTuple):
    """One score of a unit: a short name, its value as text, and what it is."""

    name: str
    text: str
    meaning: str


def score_parts(scores: Mapping[str, Any]) -> tuple[ScorePart, ...]:
    """Return the scores of a unit that its card and row show, of those that are known.

    >>> score_parts({"concept": "sky", "average_precision": 0.514, "clarity": 0.25})[0].text
    '0.51'
    >>> score_parts({"clarity": -0.001})[0].text  # no "-0.00"
    '0.00'
    """
    return tuple(
        ScorePart(score.name, f"{scores[key]:z.2f}", score.meaning.format_map(scores))
        for key, score in SCORES.items()
        if key in scores
    )


def sorting_scores(scores: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores by which a page sorts units, of those that are known.

    >>> sorting_scores({"concept": "sky", "average_precision": 0.514, "redundancy": 0.5})
    {'average_precision': 0.514}
    """
    return {key: scores[key] for key in SCORES if key in scores}
