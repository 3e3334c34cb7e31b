"""Scores of labels and of bases as tables for terminal, file and notebook, and as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from netdissect.counted import counted
from netdissect.evaluation.dictionaries.bases_evaluation import BasesEvaluation
from netdissect.evaluation.dictionaries.basis_metrics import BASIS_METRICS, BasisMetric
from netdissect.evaluation.evaluated_labels import Evaluation
from netdissect.evaluation.label_metrics import METRICS_OF_LABELS, PASSING, LabelMetric
from netdissect.evaluation.sanity_checks import LEAST_FALL
from netdissect.report.text_table import Column, TextTable
from netdissect.result import Result
from netdissect.result.summary import headline

UNMATCHED = 10
"""Unmatched labels that are printed."""
SCORED = {"cells": "one with masks", "cosy": "has images"}
"""Labels with a score, at the levels where a concept is not enough or not needed."""
FAILS = " *"
FAILS_NOTE = "*: fails the sanity checks of Oikarinen et al. (2025), published; compare methods by the other metrics."

_METRICS = {(metric.level, metric.name): metric for metric in METRICS_OF_LABELS}
_ORDER = {key: index for index, key in enumerate(_METRICS)}


def evaluation_coverage(result: Result, evaluation: Evaluation) -> TextTable:
    """Return how the labels of each method were matched to concepts."""
    images = evaluation.coverage["with_images"].count() > 0
    columns = [
        *_layer_columns(evaluation.coverage), Column("method", "text", key=True),
        *map(Column, ("labels", "exact", "synonym", "spelling", "mapping", "unmatched", "coverage")),
        *([Column("with images")] if images else []),
    ]  # fmt: skip
    rows = [
        [
            *_layer_cells(evaluation.coverage, row),
            row["method"],
            f"{row['labels']:,} of {row['units']:,}",
            *(f"{row[name]:,}" for name in ("exact", "synonym", "spelling", "mapping", "unmatched")),
            f"{row['coverage']:.0%}",
            *([f"{row['with_images']:,}"] if images else []),
        ]
        for row in evaluation.coverage.iter_rows(named=True)
    ]
    notes = ["labels: units with a label, of those of the layer. coverage: share of the labels that are a concept."]
    return TextTable(columns, rows, headline(result), [*notes, *evaluation.notes])


def evaluation_scores(evaluation: Evaluation) -> TextTable:
    """Return the mean of each metric over the units of each method, with its interval."""
    scores = _ordered(evaluation.scores)
    columns = [
        *_layer_columns(scores), Column("level", "text", key=True), Column("metric", "text", key=True),
        Column("method", "text", key=True), Column("mean"), Column("95 % interval", "text"), Column("units"),
    ]  # fmt: skip
    rows = [
        [
            *_layer_cells(scores, row),
            row["level"],
            _title(row),
            row["method"],
            _number(row["value"]),
            _interval(row, signed=False),
            f"{row['units']:,}",
        ]
        for row in scores.iter_rows(named=True)
    ]
    notes = [f"mean: over the units whose label is a concept{_scored(scores)}; interval: bootstrap over units."]
    return TextTable(columns, rows, "Scores", [*notes, *_fails(scores)])


def evaluation_differences(evaluation: Evaluation, methods: Sequence[str] | None = None) -> TextTable:
    """Return the mean differences of methods.

    Parameters
    ----------
    evaluation
        Scores of labels.
    methods
        Only differences that have one of these on the left; None: all.
    """
    differences = _ordered(evaluation.differences)
    if methods is not None:
        differences = differences.filter(pl.col("left").is_in(methods))
    columns = [
        *_layer_columns(differences), Column("level", "text", key=True), Column("metric", "text", key=True),
        Column("methods", "text", key=True), Column("difference"), Column("95 % interval", "text"), Column("units"),
    ]  # fmt: skip
    rows = [
        [
            *_layer_cells(differences, row),
            row["level"],
            _title(row),
            f"{row['left']} - {row['right']}",
            _number(row["difference"], signed=True),
            _interval(row, signed=True),
            f"{row['units']:,}",
        ]
        for row in differences.iter_rows(named=True)
    ]
    notes = [
        f"Over the units that both methods label with a concept{_scored(differences)}; the interval is paired by unit."
    ]
    hidden = len(evaluation.differences) - len(differences)
    if hidden:
        notes.append(f"--json prints {counted(hidden, 'further differences')}, of each two methods.")
    return TextTable(columns, rows, "Differences", [*notes, *_fails(differences)])


def unmatched_labels(evaluation: Evaluation, top: int | None = UNMATCHED) -> TextTable:
    """Return the labels that are no concept of the run, the most frequent first, with similar names; top None: all."""
    found = evaluation.matches.filter(pl.col("concept").is_null()).sort("units", descending=True, maintain_order=True)
    shown = found if top is None else found.head(top)
    columns = [
        Column("method", "text", key=True), Column("unmatched label", "text", key=True), Column("units"),
        Column("similar concepts", "text"),
    ]  # fmt: skip
    rows = [
        [row["method"], row["label"], f"{row['units']:,}", ", ".join(row["near"])]
        for row in shown.iter_rows(named=True)
    ]
    more = [f"{len(found) - len(shown):,} more: --json lists all."] if len(found) > len(shown) else []
    remedy = "A table of the columns label and concept (--mapping FILE) says which concept a label is."
    return TextTable(columns, rows, notes=[*more, remedy])


def evaluation_json(result: Result, evaluation: Evaluation) -> dict[str, Any]:
    """Return one JSON object: network, configuration, scores, differences, coverage, matches and notes."""
    return {
        "network": result.info.network.name,
        "config": evaluation.config.model_dump(mode="json"),
        "scores": evaluation.scores.to_dicts(),
        "differences": evaluation.differences.to_dicts(),
        "coverage": evaluation.coverage.to_dicts(),
        "matches": evaluation.matches.to_dicts(),
        "notes": list(evaluation.notes),
    }


def bases_table(result: Result, found: BasesEvaluation) -> TextTable:
    """Return the metrics of each layer and basis of a run."""
    metrics = [metric for metric in BASIS_METRICS if metric.name in found.bases.columns]
    columns = [
        Column("layer", "text", key=True), Column("choice", "text", key=True), Column("units"),
        *(Column(metric.title) for metric in metrics),
    ]  # fmt: skip
    rows = [
        [row["layer"], row["choice"], f"{row['units']:,}", *(_basis_cell(metric, row) for metric in metrics)]
        for row in found.bases.iter_rows(named=True)
    ]
    first = found.bases.row(0, named=True)
    notes = [
        f"On {first['cells']:,} cells. mAP, probe R, purity@16 and coverage@0.3: on the held-out images, of "
        f"{counted(first['concepts'], 'concepts')}; the unit of a concept is chosen on the others. In brackets: 95 % "
        "intervals, of mAP and coverage by the bootstrap over images, of the others by that over units."
    ]
    return TextTable(columns, rows, headline(result), notes)


def bases_json(result: Result, found: BasesEvaluation) -> dict[str, Any]:
    """Return one JSON object: network, configuration, bases, concepts and units."""
    return {
        "network": result.info.network.name,
        "config": found.config.model_dump(mode="json"),
        "bases": found.bases.to_dicts(),
        "concepts": found.concepts.to_dicts(),
        "units": found.units.to_dicts(),
    }


def _basis_cell(metric: BasisMetric, row: dict[str, Any]) -> str:
    text, low, high = basis_value(metric, row)
    return f"{text} [{low}, {high}]" if low else text


def basis_value(metric: BasisMetric, row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return a metric of a row of an evaluation of bases as text, and the ends of its interval; empty: it has none."""
    value = row[metric.name]
    if value is None:
        return "-", "", ""
    text = f"{value:.3g}" if metric.name == "l0" else _number(value)
    low, high = (row.get(f"{metric.name}_{end}") for end in ("ci_low", "ci_high"))
    return (text, "", "") if low is None or high is None else (text, _number(low), _number(high))


def sanity_table(checks: pl.DataFrame) -> TextTable:
    """Return the outcome of the sanity checks of each metric beside the published one."""
    columns = [
        *_layer_columns(checks), Column("level", "text", key=True), Column("metric", "text", key=True),
        *map(Column, ("missing", "extra", "perfect: missing", "perfect: extra")), Column("passes", "text"),
        Column("published", "text"),
    ]  # fmt: skip
    rows = [
        [
            *_layer_cells(checks, row),
            row["level"],
            _METRICS[row["level"], row["metric"]].title,
            *(f"{row[name]:.0%}" for name in ("missing", "extra", "perfect_missing", "perfect_extra")),
            "yes" if row["passes"] else "no",
            _published(row),
        ]
        for row in checks.iter_rows(named=True)
    ]
    notes = [
        f"Share of the pairs of a unit and a label whose score falls by {LEAST_FALL} of the range of the metric or "
        "more, when half of the labels are missing, and when there are twice as many; perfect: of units that are "
        f"active exactly where a concept is. passes: {PASSING:.0%} or more in all four.",
        "published: the same in Oikarinen et al. (2025), table 2, with the name of the metric there.",
    ]
    return TextTable(columns, rows, notes=notes)


def _published(row: dict[str, Any]) -> str:
    names = ("published_missing", "published_extra", "published_perfect_missing", "published_perfect_extra")
    shares = " ".join(f"{row[name]:.0%}" for name in names)
    return f"{'yes' if row['published_passes'] else 'no'}: {shares} ({row['published_metric']})"


def _ordered(frame: pl.DataFrame) -> pl.DataFrame:
    """Sort by layer and by the list of metrics."""
    key = pl.struct("level", "metric").map_elements(lambda one: _ORDER[one["level"], one["metric"]], pl.Int64)
    layers = {name: index for index, name in enumerate(frame["layer"].unique(maintain_order=True))}
    return (
        frame.sort(pl.col("layer").replace_strict(layers, return_dtype=pl.Int64), key, maintain_order=True)
        if len(frame)
        else frame
    )


def _metric(row: dict[str, Any]) -> LabelMetric:
    return _METRICS[row["level"], row["metric"]]


def _title(row: dict[str, Any]) -> str:
    metric = _metric(row)
    return metric.title + (FAILS if metric.fails else "")


def _fails(frame: pl.DataFrame) -> list[str]:
    return [FAILS_NOTE] if any(_metric(row).fails for row in frame.iter_rows(named=True)) else []


def _scored(frame: pl.DataFrame) -> str:
    """Say which labels have a score at the levels of a table where these are other ones."""
    said = [f"{level}: {labels}" for level, labels in SCORED.items() if level in frame["level"]]
    return f" ({'; '.join(said)})" if said else ""


def _layer_columns(frame: pl.DataFrame) -> list[Column]:
    """Return the column of layers if there are several."""
    return [Column("layer", "text", key=True)] if frame["layer"].n_unique() > 1 else []


def _layer_cells(frame: pl.DataFrame, row: dict[str, Any]) -> list[str]:
    return [row["layer"]] if frame["layer"].n_unique() > 1 else []


def _number(value: float, *, signed: bool = False) -> str:
    return f"{value:+.3f}" if signed else f"{value:z.3f}"


def _interval(row: dict[str, Any], *, signed: bool) -> str:
    if row["ci_low"] is None:
        return "-"
    return f"[{_number(row['ci_low'], signed=signed)}, {_number(row['ci_high'], signed=signed)}]"
