"""The measurements of one layer at one quantile: each returns a frame with the key columns of a table."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from netdissect.config import RULES, Rule
from netdissect.dissect.statistics.layer_counts import LayerCounts, QuantileCounts
from netdissect.result import statistics_schema as tables
from netdissect.result.tables import counts_at
from netdissect.scoring.detectors import largest_counts
from netdissect.scoring.statistics.bootstrap import (
    CountReplicates,
    UnitReplicates,
    interval_of_counts,
)
from netdissect.scoring.statistics.jackknife import InfluenceMoments, iou_interval

REPLICATED_PIXELS = 2**25
"""Sums of pixels in replicates that are in memory at a time: a quarter of a gigabyte."""
IOU_LEVELS = tuple(round(0.01 * step, 2) for step in range(1, 21))


def intervals_of(level: QuantileCounts) -> pl.DataFrame:
    """Return the candidate concepts of each unit, best first, with confidence intervals of their IoU."""
    candidates, counts, concept_of = level.candidates, level.counts, level.data.by_label_id
    scores = level.units.candidate_iou
    moments = InfluenceMoments.zeros(candidates)
    for presence, masks, counted in level.blocks():
        moments.update(presence, masks, counted, candidates, scores, level.threshold_shift)
    mask_pixels = counts.activation[candidates.units, candidates.categories]
    intersection = counts.intersection[candidates.units, candidates.label_ids]
    union = mask_pixels + counts.concept_pixels[candidates.label_ids] - intersection
    low, high = iou_interval(scores, union, moments)
    concepts = [concept_of[int(label_id)] for label_id in candidates.label_ids]
    frame = pl.DataFrame(
        {
            "quantile": np.full(len(scores), level.quantile),
            "unit": candidates.units.astype(np.int32),
            "label_id": candidates.label_ids.astype(np.int32),
            "concept": pl.Series([concept.name for concept in concepts], dtype=pl.String),
            "category": pl.Series([concept.category for concept in concepts], dtype=pl.String),
            "iou": scores,
            "iou_ci_low": low,
            "iou_ci_high": high,
        }
    )
    ordered = frame.sort("unit", "iou", descending=[False, True], maintain_order=True)
    return ordered.with_columns(pl.int_range(pl.len()).over("unit").alias("rank"))


def replicates_of(level: QuantileCounts) -> Iterator[UnitReplicates]:
    """Sum the pixels of each bootstrap replicate, of some units at a time."""
    statistics, units = level.layer.statistics, level.candidates.num_units
    of_unit = len(level.candidates.units) / max(1, units) + level.candidates.num_categories + 1
    step = max(1, int(REPLICATED_PIXELS / (of_unit * statistics.bootstrap)))
    for first in range(0, units, step):
        some = (first, min(first + step, units))
        block = UnitReplicates.zeros(some, level.candidates, level.threshold_shift, statistics.bootstrap)
        for presence, masks, counted in level.blocks():
            block.update(presence, masks, counted, statistics.stats_seed)
        yield block


def counts_of(level: QuantileCounts, counted: CountReplicates | None) -> pl.DataFrame:
    """Return detectors and unique detectors, with confidence intervals if there are replicates."""
    rows = [{"quantile": level.quantile} | row for row in counts_at(level.units.best, level.layer.min_iou)]
    frame = pl.DataFrame(rows)
    if counted is None:
        return frame
    columns = []
    for name, drawn in (("detectors", counted.detectors), ("unique_detectors", counted.unique_detectors)):
        replicates = {
            (rule, category): drawn[rule][index] for rule in RULES for index, category in enumerate(level.categories)
        }
        replicates_of_rows = np.stack([replicates[row["rule"], row["category"]] for row in rows])
        maximum = [_largest(level, row["rule"])[name][row["category"]] for row in rows]
        low, high = interval_of_counts([row[name] for row in rows], replicates_of_rows, 0, maximum)
        columns += [pl.Series(f"{name}_ci_low", low), pl.Series(f"{name}_ci_high", high)]
    return frame.with_columns(columns)


def _largest(level: QuantileCounts, rule: Rule) -> dict[str, dict[str, int]]:
    """Return the largest possible numbers of detectors and unique detectors, by category."""
    concepts_in = Counter(concept.category for concept in level.data.concepts)
    concepts = {name: concepts_in[name] for name in level.data.categories}
    return dict(zip(("detectors", "unique_detectors"), largest_counts(rule, len(level.labels), concepts), strict=True))


def replicates_frame(level: QuantileCounts, counted: CountReplicates) -> pl.DataFrame:
    """Return detectors and unique detectors of each replicate."""
    drawn = counted.labels.shape[1]
    rows_per_rule = len(level.categories) * drawn
    return pl.DataFrame(
        {
            "quantile": np.full(len(RULES) * rows_per_rule, level.quantile),
            "rule": np.repeat(np.array(RULES, object), rows_per_rule),
            "category": np.tile(np.repeat(np.array(level.categories, object), drawn), len(RULES)),
            "replicate": np.tile(np.arange(drawn), len(RULES) * len(level.categories)),
            "detectors": np.concatenate([counted.detectors[rule].ravel() for rule in RULES]),
            "unique_detectors": np.concatenate([counted.unique_detectors[rule].ravel() for rule in RULES]),
        }
    )


def holdout_of(level: QuantileCounts) -> pl.DataFrame:
    """Return the IoU of the label chosen without the held-out images, on the other images and on these."""
    labels, selection_iou, heldout_iou = level.holdout
    unit = np.arange(len(labels), dtype=np.int32)
    frame = pl.DataFrame({"unit": unit, "selection_iou": selection_iou, "heldout_iou": heldout_iou})
    return frame.with_columns(pl.when(pl.Series(labels > 0)).then(pl.col("selection_iou", "heldout_iou")))


def sensitivity_of(layer_counts: LayerCounts) -> pl.DataFrame:
    """Count detectors at every quantile and at twenty IoUs, from 0.01 to 0.2."""
    rows: list[dict[str, Any]] = []
    for index, quantile in enumerate(layer_counts.config.reported_quantiles):
        best = QuantileCounts(layer_counts, index).units.best
        for level in IOU_LEVELS:
            counted = counts_at(best, level)
            rows += [{"quantile": quantile, "min_iou": level} | row for row in counted]
    return tables.complete(pl.DataFrame(rows), tables.SENSITIVITY).sort("quantile", "min_iou", maintain_order=True)
