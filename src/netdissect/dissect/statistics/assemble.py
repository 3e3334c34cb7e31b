"""The tables of statistics of one layer.

    LayerCounts -> QuantileCounts at each quantile -> a frame of each measurement -> tables of
    `netdissect.result.statistics_schema`

A measurement is a function of `LayerCounts` or `QuantileCounts` that returns a frame with the key columns of a table;
`layer_statistics` joins the frames of each table.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from netdissect.dissect.statistics.extra_metrics import ExtraMetrics, count_extra_metrics, extra_metric_scores
from netdissect.dissect.statistics.iqr_pass import iqr_table
from netdissect.dissect.statistics.layer_counts import LayerCounts, QuantileCounts
from netdissect.dissect.statistics.linear_tables import linear_tables
from netdissect.dissect.statistics.measurements import (
    counts_of,
    holdout_of,
    intervals_of,
    replicates_frame,
    replicates_of,
    sensitivity_of,
)
from netdissect.dissect.statistics.moment_tables import image_means_of, moments_of
from netdissect.dissect.statistics.per_image_tables import images_of, masks_of
from netdissect.dissect.statistics.permutation_pass import null_count_columns
from netdissect.process.freed_memory import return_freed_memory
from netdissect.result import statistics_schema as tables
from netdissect.scoring.statistics.bootstrap import (
    count_replicates,
    stability,
)

KEYS = {
    "units": ["quantile", "unit"],
    "scores": ["quantile", "unit", "label_id"],
    "counts": ["quantile", "rule", "category"],
    "null_counts": ["quantile", "rule", "category", "permutation"],
    "replicates": ["quantile", "rule", "category", "replicate"],
}


def layer_statistics(layer_counts: LayerCounts) -> dict[str, pl.LazyFrame]:
    """Make the tables of statistics of one layer; only those that the configuration requests."""
    levels = [QuantileCounts(layer_counts, index) for index in range(len(layer_counts.quantiles))]
    parts: dict[str, list[pl.DataFrame]] = {name: [] for name in KEYS}
    if layer_counts.statistics.needs_images or layer_counts.null_tables is not None:
        measured = [_measured(level) for level in levels]
        for name in measured[0]:
            parts[name].append(pl.concat([frames[name] for frames in measured]))
    frames: dict[str, pl.LazyFrame] = {}
    if layer_counts.moments is not None:
        of_units, explanations = linear_tables(levels, layer_counts.moments)
        parts["units"].append(of_units)
        frames["linear_explanations"] = explanations.lazy()
        frames["image_means"] = image_means_of(layer_counts.moments, layer_counts.scratch)
        frames["moments"] = moments_of(layer_counts.moments.cells, layer_counts.data, layer_counts.scratch)
    if layer_counts.null_tables is not None:
        parts["units"].append(layer_counts.null_tables.units)
        parts["counts"].append(null_count_columns(layer_counts.null_tables.null_counts))
        parts["null_counts"].append(layer_counts.null_tables.null_counts)
    if layer_counts.extra_metrics is not None:
        parts["scores"].append(_extra_metric_columns(layer_counts, layer_counts.extra_metrics))
    if layer_counts.between_levels is not None:
        found = iqr_table(layer_counts.data, layer_counts.between_levels, layer_counts.concept_totals)
        frames["iqr"] = found.lazy()
    frames |= {name: _joined(name, parts_of_table).lazy() for name, parts_of_table in parts.items() if parts_of_table}
    if layer_counts.statistics.needs_images:
        return_freed_memory()  # replicates took it: 0.6 GB of 65,536 units
        frames |= images_of(levels)
    if layer_counts.statistics.keep_masks:
        frames["masks"] = masks_of(layer_counts)
    if layer_counts.statistics.sensitivity:
        frames["sensitivity"] = sensitivity_of(layer_counts).lazy()
    return frames


def _extra_metric_columns(layer_counts: LayerCounts, extra: ExtraMetrics) -> pl.DataFrame:
    counted = count_extra_metrics(
        layer_counts.data,
        layer_counts.counts.first(len(layer_counts.quantiles)),
        layer_counts.concept_totals,
        layer_counts.quantiles,
    )
    return counted.join(extra_metric_scores(layer_counts.data, extra), on=["unit", "label_id"], how="left")


def _joined(name: str, frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    keys, order = KEYS[name], ["quantile", "unit", "rank"] if name == "scores" else KEYS[name]
    joined = frames[0]
    for frame in frames[1:]:
        known = [column for column in frame.columns if column in joined.columns and column not in keys]
        joined = joined.join(frame.drop(known), on=keys, how="full", coalesce=True)
    return tables.complete(joined, tables.TABLES[name]).sort(order, maintain_order=True)


def _measured(level: QuantileCounts) -> dict[str, pl.DataFrame]:
    frames: dict[str, pl.DataFrame] = {}
    units, counted = _label_frame(level), None
    if level.layer.statistics.bootstrap:
        frames["scores"] = intervals_of(level)
        of_label = frames["scores"].select("unit", "label_id", "iou_ci_low", "iou_ci_high")
        units = units.join(of_label, on=["unit", "label_id"], how="left", maintain_order="left")
        replicates = level.layer.statistics.bootstrap
        counted = count_replicates(replicates_of(level), level.candidates, replicates, level.layer.min_iou)
        stable_share = pl.Series(stability(level.labels, counted.labels)).fill_nan(None)
        units = units.with_columns(stable_share.alias("stability"))
        frames["replicates"] = replicates_frame(level, counted)
    if level.layer.statistics.holdout is not None:
        units = units.join(holdout_of(level), on="unit", how="left", maintain_order="left")
    return frames | {"units": units.drop("label_id"), "counts": counts_of(level, counted)}


def _label_frame(level: QuantileCounts) -> pl.DataFrame:
    label_ids, concept_of = level.labels, level.data.by_label_id
    concepts = [concept_of.get(int(number)) for number in label_ids]
    return pl.DataFrame(
        {
            "quantile": np.full(len(label_ids), level.quantile),
            "unit": np.arange(len(label_ids), dtype=np.int32),
            "label_id": label_ids.astype(np.int32),
            "label": pl.Series([concept and concept.name for concept in concepts], dtype=pl.String),
            "category": pl.Series([concept and concept.category for concept in concepts], dtype=pl.String),
            "iou": level.units.label_iou,
        }
    )
