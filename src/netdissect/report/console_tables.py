"""Results as tables for terminal, file and notebook, and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, overload

import polars as pl

from netdissect.concepts.machine_masks import MachineMasks
from netdissect.config import REPORTED_QUANTILES, SMALL_DATA, Rule
from netdissect.counted import counted
from netdissect.plots.category_colors import category_colors
from netdissect.report.statistics_text import fdr_limit_text, layer_facts, layout_notes
from netdissect.report.summary_table import SummaryTable, layers_table
from netdissect.report.text_table import Column, TextTable
from netdissect.result import Comparison, LayerCount, Result
from netdissect.result.queries import (
    best_scores,
    detected_concepts,
    layer_units,
    limits_under,
    run_min_iou,
    run_quantile,
)
from netdissect.result.schema import SMALL_DATA_ATTAINABLE
from netdissect.result.summary import (
    BEST_UNITS,
    count_sentence,
    headline,
    layer_findings,
    measured_count,
    null_note,
)
from netdissect.scoring import DetectorCount
from netdissect.scoring.detectors import limit_in_words
from netdissect.scoring.number_text import iou_text

RUNNERS_UP = 3
EXPLANATION = "linear explanation"
"""Column of the first concepts of the linear explanation with their standardized weights."""

RULE_NOTES: dict[Rule, str] = {
    "top-label": "top-label: a unit counts once, under its best concept, at an IoU {}.",
    "per-category": "per-category: it counts in every category in which its best concept has an IoU {}.",
}

R2_NOTE = "label R2, linear R2: on held-out images; of the label that the other images give, which can be another one."
IQR_NOTE = (
    "label by IQR: of the highest information quality ratio (first number), at the threshold that this fraction of the "
    "activations exceeds; IoU there."
)
COLUMNS_NOTE = "left, right: number of units that detect the concept; IoU: of the best unit, detector or not."


def summary(result: Result) -> SummaryTable:
    """Return a run in a few lines: the layers with most unique detectors, their null and their best units."""
    return SummaryTable(result)


def layers(result: Result, quantile: float | None = None) -> TextTable:
    """Return unique detectors, their null and the best units of every layer.

    Parameters
    ----------
    result
        A finished run.
    quantile
        None: the run's first.
    """
    quantile = run_quantile(result, quantile)
    return layers_table(result, layer_findings(result, quantile), BEST_UNITS, quantile=quantile)


def statistics(result: Result) -> TextTable:
    """Return the statistics of the unique detectors and labels of each layer and quantile that the run measured.

    Intervals are bootstrap intervals over images (95 %), corrected for the detectors that noise adds: see
    `netdissect.scoring.statistics.bootstrap.interval_of_counts`. For the others see
    `netdissect.report.statistics_text.layer_facts`.
    """
    columns = [
        Column("layer", "text", key=True),
        Column("quantile", key=True),
        Column("statistic", "text", key=True),
        Column("value", "text"),
    ]
    rows = []
    for name in result.layers:
        for quantile in result.info.config.protocol.quantiles:
            count = count_sentence(measured_count(result, name, quantile))
            for fact, value in {"count": count, **layer_facts(result, name, quantile)}.items():
                rows.append([name, f"{quantile:g}", fact, value])
    notes = [*layout_notes(result), *([note] if (note := null_note(result)) else [])]
    if result.info.fdr_limits:
        notes.append(fdr_limit_text(result.info.fdr_limits))
    return TextTable(columns, rows, headline(result), notes)


def counts(entries: Sequence[LayerCount]) -> TextTable:
    """Return the counts of layers, one row for each layer, quantile and rule, grouped by layer."""
    limits = {entry.layer: entry.count.min_iou for entry in entries}
    rules = {entry.count.rule for entry in entries}
    notes = [note.format(limits_under(rule, limits)) for rule, note in RULE_NOTES.items() if rule in rules]
    names = ["total", *_categories([entry.count for entry in entries])]
    columns = [
        Column("layer", "text", key=True),
        Column("quantile", key=True),
        Column("rule", "text", key=True),
        *(Column(name) for name in ("units", *names)),
    ]
    names_of_layers = list(dict.fromkeys(entry.layer for entry in entries))
    quantiles = list(dict.fromkeys(entry.quantile for entry in entries))
    rows = [
        [
            entry.layer,
            "" if entry.quantile is None else f"{entry.quantile:g}",
            entry.count.rule,
            str(entry.count.units),
            *(f"{entry.count.detectors.get(name, 0)} / {entry.count.unique_detectors.get(name, 0)}" for name in names),
        ]
        for entry in sorted(
            entries, key=lambda entry: (names_of_layers.index(entry.layer), quantiles.index(entry.quantile))
        )
    ]
    return TextTable(columns, rows, notes=["8 / 3: 8 units are detectors, of 3 different concepts.", *notes])


def units(result: Result, layer: str, top: int | None = 20, quantile: float | None = None) -> TextTable:
    """Return the best units of a layer: label, IoU, the next best concepts.

    Parameters
    ----------
    result
        A finished run.
    layer
        One of its layers.
    top
        Number of rows; None: all.
    quantile
        None: the run's first.
    """
    quantile, min_iou = run_quantile(result, quantile), run_min_iou(result, layer)
    rows = layer_units(result, layer, quantile, min_iou).sort("iou", "unit", descending=[True, False])
    shown = rows if top is None else rows.head(top)
    runners_up: dict[int, list[tuple[str, float]]] = {}
    best = best_scores(result, layer, quantile, RUNNERS_UP + 1)
    for unit, concept, iou in best.select("unit", "concept", "iou").rows():
        runners_up.setdefault(unit, []).append((concept, iou))
    whole_range = _whole_range_of_units(result, layer, quantile)
    by_iqr = _iqr_of_units(result, layer)
    masks = result.info.data.masks
    columns = [
        Column("unit", key=True),
        Column("label", "text"),
        Column("category", "text", styles=category_colors(result.info.data.categories)),
        *([] if masks is None else [Column("mask", "text")]),
        Column("IoU"),
        Column("detector", "text"),
        Column("next best", "text"),
        *(Column(name, "text" if name == EXPLANATION else "number") for name in whole_range),
        *([] if by_iqr is None else [Column("label by IQR", "text")]),
    ]
    cells = []
    for row in shown.iter_rows(named=True):
        next_best = [each for each in runners_up.get(row["unit"], []) if each[0] != row["label"]]
        others = [f"{name} {iou_text(iou, min_iou)}" for name, iou in next_best]
        cells.append(
            [
                str(row["unit"]),
                row["label"] or ("dead" if row["dead"] else "none"),
                row["category"] or "",
                *_mask_cell(masks, row["label"], row["category"]),
                iou_text(row["iou"], min_iou),
                "yes" if row["detector"] else "no",
                ", ".join(others[:RUNNERS_UP]),
                *(texts.get(row["unit"], "") for texts in whole_range.values()),
                *([] if by_iqr is None else [by_iqr.get(row["unit"], "")]),
            ]
        )
    words = limit_in_words("top-label", min_iou)
    title = (
        f"{layer} at {quantile:g}: {len(shown)} of {counted(len(rows), 'units')}, best first; detector: an IoU {words}"
    )
    notes = [*([R2_NOTE] if whole_range else []), *([] if by_iqr is None else [IQR_NOTE])]
    return TextTable(columns, cells, title, notes if masks is None else [*notes, masks.sentence])


def _mask_cell(masks: MachineMasks | None, concept: str | None, category: str | None) -> list[str]:
    """Return the cell of a label: empty for one that does not rest on a mask of the segmenter."""
    if masks is None:
        return []
    note = masks.note(concept, category)
    return ["" if note is None else note.short]


def mask_agreement(masks: MachineMasks) -> TextTable:
    """Return the agreement of the masks of a segmenter with human masks, concept by concept.

    Parameters
    ----------
    masks
        Of a data set, as `netdissect.segment_dataset` returns them.
    """
    numbers = ("IoU", "95 % CI", "IoU where labeled", "images", "both", "machine", "human")
    columns = [Column("concept", "text", key=True), Column("category", "text"), *map(Column, numbers)]
    agreement = masks.agreement
    rows = [
        [
            row.concept, row.category, f"{row.iou:.3f}", f"{row.iou_ci_low:.3f} to {row.iou_ci_high:.3f}",
            f"{row.labeled_iou:.3f}",
            *(f"{count:,}" for count in (row.images, row.intersection, row.machine_pixels, row.human_pixels)),
        ]
        for row in (() if agreement is None else agreement.concepts)
    ]  # fmt: skip
    notes = [masks.sentence]
    for title, names in () if agreement is None else (
        ("only in human masks", agreement.only_human), ("only labels of the segmenter", agreement.only_machine)
    ):  # fmt: skip
        notes += [f"{title}: {', '.join(names)}"] if names else []
    return TextTable(columns, rows, notes=notes)


def _whole_range_of_units(result: Result, layer: str, quantile: float) -> dict[str, dict[int, str]]:
    """Return R2 of label and linear explanation, and its terms, by title and unit; empty: not measured."""
    titles = {"label_r2": "label R2", "linear_r2": "linear R2"}
    statistics = result.layer(layer).statistics
    if "linear_explanations" not in statistics:
        return {}
    rows = statistics["units"].filter(pl.col("quantile") == quantile).select("unit", *titles).collect()
    texts = {
        title: {unit: f"{r2:.2f}" for unit, r2 in rows.select("unit", name).drop_nulls().iter_rows()}
        for name, title in titles.items()
    }
    by_unit = statistics["linear_explanations"].sort("unit", "rank").group_by("unit", maintain_order=True)
    terms = by_unit.agg(pl.col("standardized_weight", "concept").head(RUNNERS_UP)).collect()
    texts[EXPLANATION] = {
        unit: ", ".join(f"{weight:+.2f} {concept}" for weight, concept in zip(weights, concepts, strict=True))
        for unit, weights, concepts in terms.select("unit", "standardized_weight", "concept").iter_rows()
    }
    return texts


def _iqr_of_units(result: Result, layer: str) -> dict[int, str] | None:
    """Return the label of the highest information quality ratio of each unit that has one; None: not measured."""
    statistics = result.layer(layer).statistics
    if "iqr" not in statistics:
        return None
    return {
        row["unit"]: f"{row['label']} {row['iqr']:.3f} at {row['quantile']:.2g}, IoU {row['iou']:.3f}"
        for row in statistics["iqr"].collect().iter_rows(named=True)
    }


def concepts(result: Result, quantile: float | None = None) -> TextTable:
    """Return the concepts of a run: pixel share, attainable IoU and the number of units that detect each.

    Parameters
    ----------
    result
        A finished run.
    quantile
        None: the run's first.
    """
    quantile, masks = run_quantile(result, quantile), result.info.data.masks
    detected = {
        name: {row["concept"]: row["units"] for row in detected_concepts(result, name, quantile, min_iou).to_dicts()}
        for name, min_iou in ((name, run_min_iou(result, name)) for name in result.layers)
    }
    attainable = {"max_attainable_iou": run_quantile(result)}
    if result.info.data.images < SMALL_DATA and run_quantile(result) != REPORTED_QUANTILES[1]:
        attainable[SMALL_DATA_ATTAINABLE] = REPORTED_QUANTILES[1]
    columns = [
        Column("concept", "text", key=True),
        Column("category", "text", styles=category_colors(result.info.data.categories)),
        *map(Column, ("images", "pixels")),
        *(Column(f"attainable IoU at {each:g}") for each in attainable.values()),
        *([] if masks is None else [Column("mask", "text")]),
        *map(Column, result.layers),
    ]
    rows = [
        [
            row["concept"],
            row["category"],
            f"{row['images']:,}",
            f"{row['pixel_share']:.2%}",
            *(f"{row[name]:.3f}" for name in attainable),
            *_mask_cell(masks, row["concept"], row["category"]),
            *(str(len(detected[name].get(row["concept"], ()))) for name in result.layers),
        ]
        for row in result.concepts.sort("pixel_share", descending=True).iter_rows(named=True)
    ]
    notes = [
        "pixels: share of the images annotated in its category; attainable: the largest IoU a mask can reach; below "
        "each layer: units that detect the concept."
    ]
    return TextTable(columns, rows, notes=notes)


def difference(compared: Comparison, top: int | None = 20) -> TextTable:
    """Return the concepts that gained or lost their detectors between two layers.

    Parameters
    ----------
    compared
        From `netdissect.result.compare_results`.
    top
        Number of rows gained and of rows lost, the highest IoU first; None: all.
    """
    rows, more = [], []
    for change in ("gained", "lost"):
        changed = compared.changed(change)
        shown = changed.head(top if top is not None else len(changed))
        rows += [[change, *_difference_cells(row, compared)] for row in shown.iter_rows(named=True)]
        if len(changed) > len(shown):
            more.append(f"... {len(changed) - len(shown)} more {change}")
    columns = [
        Column("change", "text", key=True),
        Column("concept", "text", key=True),
        Column("category", "text"),
        *(Column(name) for name in ("left", "right", "left IoU", "right IoU")),
    ]
    rule = f"Detectors under {compared.rule}, at an IoU {limit_in_words(compared.rule, compared.min_iou)}."
    if not rows:
        return TextTable([], [], notes=["No concept gained or lost its detectors.", rule])
    return TextTable(columns, rows, notes=[*more, f"{rule} {COLUMNS_NOTE}"])


def _difference_cells(row: Mapping[str, Any], compared: Comparison) -> Iterator[str]:
    yield from (row["concept"], row["category"])
    detectors, ious = ([row[f"{side}_{name}"] for side in ("left", "right")] for name in ("detectors", "iou"))
    yield from ("" if value is None else str(value) for value in detectors)
    yield from ("" if value is None else iou_text(value, compared.min_iou, compared.rule) for value in ious)


def difference_lines(compared: Comparison) -> list[str]:
    """Return both counts and their difference, each with its null, and then the changes by category."""
    return [compared.title, *compared.sentences, _count_changes(compared.left.count, compared.right.count)]


def difference_json(compared: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON values: both sides' counts, their difference with its null, and every concept."""
    difference = asdict(compared.difference) | {
        "excess": compared.difference.excess,
        "excess_interval": compared.difference.excess_interval,
        "exceeds_null": compared.difference.exceeds_null,
    }
    left, right = (
        {"layer": side.layer, **counts_json(side.count), "interval": measured.interval,
         "null": measured.null, "null_se": measured.null_se}
        for side, measured in (
            (compared.left, compared.left_measured), (compared.right, compared.right_measured)
        )
    )  # fmt: skip
    return {
        "quantile": compared.quantile,
        "left": left,
        "right": right,
        "difference": difference,
        "same_data": compared.same_data,
        "concepts": compared.concepts.to_dicts(),
    }


def _count_changes(left: DetectorCount, right: DetectorCount) -> str:
    """Return the change of the counts, in total and by category, as text."""
    changes = [
        f"{name} {left.unique_detectors.get(name, 0)} → {right.unique_detectors.get(name, 0)}"
        for name in dict.fromkeys((*left.unique_detectors, *right.unique_detectors))
    ]
    return f"unique detectors, left → right: {', '.join(changes)}"


@overload
def counts_json(counted: DetectorCount) -> dict[str, Any]: ...


@overload
def counts_json(counted: Sequence[LayerCount]) -> list[dict[str, Any]]: ...


def counts_json(counted: DetectorCount | Sequence[LayerCount]) -> dict[str, Any] | list[dict[str, Any]]:
    """Return counts as JSON values.

    Parameters
    ----------
    counted
        The count of one published table, or of the layers of a run.

    Returns
    -------
    dict or list of dict
        ``rule``, ``min_iou``, ``units``, and ``detectors`` and ``unique_detectors``, both by category and with
        ``total``; in a list also ``layer`` and ``quantile``.
    """
    if isinstance(counted, DetectorCount):
        return {
            "rule": counted.rule,
            "min_iou": counted.min_iou,
            "units": counted.units,
            "detectors": dict(counted.detectors),
            "unique_detectors": dict(counted.unique_detectors),
        }
    return [{"layer": entry.layer, "quantile": entry.quantile, **counts_json(entry.count)} for entry in counted]


def _categories(each: Sequence[DetectorCount]) -> list[str]:
    names: Mapping[str, None] = dict.fromkeys(name for count in each for name in count.detectors if name != "total")
    return list(names)
