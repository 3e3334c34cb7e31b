"""What follows the two looks: how sure the labels are.

    Looked (what both looks left of one layer) -> a frame of each measurement -> tables of
    `netdissect.result.statistics_schema`

Each measurement is a function of `LayerCounts` that returns a frame with a table's key columns; `layer_statistics`
joins them.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from netdissect.concepts import ConceptData
from netdissect.config import RULES, DissectConfig, Rule, StatisticsConfig, nearby_quantiles
from netdissect.dissect.layer_state import ThresholdResult
from netdissect.dissect.statistics.extra_metrics import ExtraMetrics, count_extra_metrics, extra_metric_scores
from netdissect.dissect.statistics.permutation_pass import PermutationNull, counts_by_chance, units_by_chance
from netdissect.dissect.work_dir.per_image_files import LayerImages
from netdissect.result import statistics_schema as tables
from netdissect.result.tables import counts_at
from netdissect.scoring import ConceptTotals, ImageIntersections, ImageLabelCounts, IoUCounts
from netdissect.scoring.detectors import largest_counts
from netdissect.scoring.iou import Floats
from netdissect.scoring.per_image_counts import check_counts
from netdissect.scoring.statistics.bootstrap import (
    Bools,
    CandidateConcepts,
    CountReplicates,
    Ints,
    Replicates,
    ThresholdShift,
    count_replicates,
    counted_masks,
    interval_of_counts,
    stability,
)
from netdissect.scoring.statistics.holdout import CountSubset, best_label_ids, is_held_out
from netdissect.scoring.statistics.jackknife import InfluenceMoments, iou_interval

BLOCK = 1024  # images: their weights of a thousand replicates stay in the second-level cache
SCHEMAS = {
    "units": tables.UNITS,
    "scores": tables.SCORES,
    "counts": tables.COUNTS,
    "replicates": tables.REPLICATES,
}
KEYS = {
    "units": ["quantile", "unit"],
    "scores": ["quantile", "unit", "label_id"],
    "counts": ["quantile", "rule", "category"],
    "replicates": ["quantile", "rule", "category", "replicate"],
}
LEVELS = tuple(round(0.01 * step, 2) for step in range(1, 21))


@dataclass(frozen=True)
class LayerCounts:
    """What both looks left of one layer.

    Attributes
    ----------
    config
        What to measure.
    data
        The data set.
    found
        Thresholds and top images.
    tally
        Counts at `DissectConfig.quantiles`: the protocol's first.
    truth
        Pixels and images of each label.
    images
        Labels and masks image by image, at the protocol's quantiles; no files unless `StatisticsConfig.needs_images`.
    min_iou
        From which IoU on a unit is a detector.
    chance
        What chance gives in this layer; None: not asked for.
    beside
        What its activations say beside IoU; None: not asked for.
    scratch
        A folder for large tables on their way into the run.
    """

    config: DissectConfig
    data: ConceptData
    found: ThresholdResult
    tally: IoUCounts
    truth: ConceptTotals
    images: LayerImages
    min_iou: float
    chance: PermutationNull | None
    beside: ExtraMetrics | None
    scratch: Path

    @property
    def asked(self) -> StatisticsConfig:
        """What is to be measured beside IoU."""
        return self.config.statistics

    @property
    def quantiles(self) -> tuple[float, ...]:
        """The protocol's."""
        return self.config.protocol.quantiles


@dataclass(frozen=True)
class QuantileCounts:
    """One quantile of one layer."""

    looked: LayerCounts
    index: int

    @property
    def quantile(self) -> float:
        """Which it is."""
        return self.looked.quantiles[self.index]

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories, and ``total``."""
        return (*self.data.categories, "total")

    @property
    def data(self) -> ConceptData:
        """The data set."""
        return self.looked.data

    @cached_property
    def counts(self) -> CountSubset:
        """Counts of all images."""
        tally = self.looked.tally
        return CountSubset(tally.intersection[self.index], tally.activation[self.index], self.looked.truth.pixels)

    @cached_property
    def scores(self) -> Floats:
        """IoU by label number, float64 (U, C)."""
        return self.counts.iou(self.data.category_of)

    @cached_property
    def leading(self) -> CandidateConcepts:
        """The concepts among which labels are chosen anew."""
        return CandidateConcepts.of(self.scores, self.data.category_of, len(self.data.categories))

    @cached_property
    def labels(self) -> Ints:
        """Label number of each unit, 0 for none."""
        return best_label_ids(self.scores, self.data.category_of, len(self.data.categories))

    @cached_property
    def margin(self) -> ThresholdShift:
        """What lies between the quantiles nearby, of the leading concepts."""
        leading, tally = self.leading, self.looked.tally
        nearby = nearby_quantiles(self.quantile)
        less, more = map(self.looked.config.quantiles.index, nearby)
        pairs, of = (leading.units, leading.label_ids), (leading.units, leading.categories)
        gone = (
            tally.intersection[more][pairs] - tally.intersection[less][pairs],
            tally.activation[more][of] - tally.activation[less][of],
        )
        on, images = np.zeros(len(self.scores), np.int64), 0
        for presence, masks, _ in self.blocks():
            on += np.bincount(masks.units, masks.mask_pixels, minlength=len(on)).astype(np.int64)
            images += len(presence.images)
        return ThresholdShift.between(gone, on, images, leading, (nearby[1] - nearby[0]) / self.quantile)

    def blocks(self) -> Iterator[tuple[ImageLabelCounts, ImageIntersections, Bools]]:
        """Yield labels, masks, and in which categories these count, some images at a time."""
        restriction = self.looked.config.protocol.restriction
        data, (units, numbers) = self.data, self.looked.tally.intersection.shape[1:]
        for presence, masks in self.looked.images.blocks(BLOCK):
            check_counts(presence, masks, units, numbers)
            here = masks.at(self.index)
            yield presence, here, counted_masks(presence, here, data.category_of, len(data.categories), restriction)


def layer_statistics(looked: LayerCounts) -> dict[str, pl.LazyFrame]:
    """Make the tables of evidence of one layer: none unless something was asked for."""
    levels = [QuantileCounts(looked, index) for index in range(len(looked.quantiles))]
    parts: dict[str, list[pl.DataFrame]] = {name: [] for name in KEYS}
    if looked.asked.needs_images or looked.chance is not None:
        measured = [_measured(level) for level in levels]
        for name in measured[0]:
            parts[name].append(pl.concat([frames[name] for frames in measured]))
    if looked.chance is not None:
        parts["units"].append(units_by_chance(looked.chance))
        parts["counts"].append(counts_by_chance(looked.chance, looked.min_iou))
    if looked.beside is not None:
        parts["scores"].append(_beside(looked, looked.beside))
    frames = {name: _joined(name, found).lazy() for name, found in parts.items() if found}
    if looked.asked.needs_images:
        frames |= images_of(levels)
    if looked.asked.sensitivity:
        frames["sensitivity"] = sensitivity_of(looked).lazy()
    return frames


def _beside(looked: LayerCounts, beside: ExtraMetrics) -> pl.DataFrame:
    counted = count_extra_metrics(
        looked.data, looked.tally.first(len(looked.quantiles)), looked.truth, looked.quantiles
    )
    return counted.join(extra_metric_scores(looked.data, beside), on=["unit", "label_id"], how="left")


def _joined(name: str, frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    keys, order = KEYS[name], ["quantile", "unit", "rank"] if name == "scores" else KEYS[name]
    whole = frames[0]
    for frame in frames[1:]:
        known = [column for column in frame.columns if column in whole.columns and column not in keys]
        whole = whole.join(frame.drop(known), on=keys, how="full", coalesce=True)
    return tables.complete(whole, SCHEMAS[name]).sort(order, maintain_order=True)


def _measured(level: QuantileCounts) -> dict[str, pl.DataFrame]:
    frames: dict[str, pl.DataFrame] = {}
    units, counted = _label_frame(level), None
    if level.looked.asked.bootstrap:
        frames["scores"] = intervals_of(level)
        of_label = frames["scores"].select(
            "unit", pl.col("label_id").alias("label_number"), "iou_ci_low", "iou_ci_high"
        )
        units = units.join(of_label, on=["unit", "label_number"], how="left", maintain_order="left")
        counted = count_replicates(replicates_of(level), level.leading, level.margin, level.looked.min_iou)
        kept = pl.Series(stability(level.labels, counted.labels)).fill_nan(None)
        units = units.with_columns(kept.alias("stability"))
        frames["replicates"] = replicates_frame(level, counted)
    if level.looked.asked.holdout is not None:
        units = units.join(holdout_of(level), on="unit", how="left", maintain_order="left")
    return frames | {"units": units.drop("label_number"), "counts": counts_of(level, counted)}


def _label_frame(level: QuantileCounts) -> pl.DataFrame:
    labels, by_number = level.labels, level.data.by_number
    named = [by_number.get(int(number)) for number in labels]
    return pl.DataFrame(
        {
            "quantile": np.full(len(labels), level.quantile),
            "unit": np.arange(len(labels), dtype=np.int32),
            "label_number": labels.astype(np.int32),
            "label": pl.Series([concept and concept.name for concept in named], dtype=pl.String),
            "category": pl.Series([concept and concept.category for concept in named], dtype=pl.String),
            "iou": np.where(labels > 0, level.scores[np.arange(len(labels)), labels], 0.0),
        }
    )


def intervals_of(level: QuantileCounts) -> pl.DataFrame:
    """Return the leading concepts of each unit, best first, with the intervals of their IoUs."""
    leading, counts, by_number = level.leading, level.counts, level.data.by_number
    scores = level.scores[leading.units, leading.label_ids]
    moments = InfluenceMoments.zeros(leading)
    for presence, masks, counted in level.blocks():
        moments.update(presence, masks, counted, leading, scores, level.margin)
    masks_on = counts.activation[leading.units, leading.categories]
    union = masks_on + counts.concept_pixels[leading.label_ids] - counts.intersection[leading.units, leading.label_ids]
    low, high = iou_interval(scores, union, moments)
    concepts = [by_number[int(number)] for number in leading.label_ids]
    frame = pl.DataFrame(
        {
            "quantile": np.full(len(scores), level.quantile),
            "unit": leading.units.astype(np.int32),
            "label_id": leading.label_ids.astype(np.int32),
            "concept": pl.Series([concept.name for concept in concepts], dtype=pl.String),
            "category": pl.Series([concept.category for concept in concepts], dtype=pl.String),
            "iou": scores,
            "iou_ci_low": low,
            "iou_ci_high": high,
        }
    )
    ordered = frame.sort("unit", "iou", descending=[False, True], maintain_order=True)
    return ordered.with_columns(pl.int_range(pl.len()).over("unit").alias("rank"))


def replicates_of(level: QuantileCounts) -> Replicates:
    """Sum pixels in each replicate."""
    asked = level.looked.asked
    sums = Replicates.zeros(level.leading, asked.bootstrap)
    for presence, masks, counted in level.blocks():
        sums.update(presence, masks, counted, level.leading, asked.stats_seed)
    return sums


def counts_of(level: QuantileCounts, counted: CountReplicates | None) -> pl.DataFrame:
    """Return detectors and unique detectors, with intervals if there are replicates."""
    rows = [{"quantile": level.quantile} | row for row in counts_at(level.data, level.scores, level.looked.min_iou)]
    frame = pl.DataFrame(rows)
    if counted is None:
        return frame
    columns = []
    for name, drawn in (("detectors", counted.detectors), ("unique_detectors", counted.unique_detectors)):
        replicates = {
            (rule, category): drawn[rule][index] for rule in RULES for index, category in enumerate(level.categories)
        }
        each = np.stack([replicates[row["rule"], row["category"]] for row in rows])
        most = [_largest(level, row["rule"])[name][row["category"]] for row in rows]
        low, high = interval_of_counts([row[name] for row in rows], each, 0, most)
        columns += [pl.Series(f"{name}_ci_low", low), pl.Series(f"{name}_ci_high", high)]
    return frame.with_columns(columns)


def _largest(level: QuantileCounts, rule: Rule) -> dict[str, dict[str, int]]:
    """Return how many detectors and unique detectors there can be, by category."""
    carried = Counter(concept.category for concept in level.data.concepts)
    concepts = {name: carried[name] for name in level.data.categories}
    return dict(zip(("detectors", "unique_detectors"), largest_counts(rule, len(level.labels), concepts), strict=True))


def replicates_frame(level: QuantileCounts, counted: CountReplicates) -> pl.DataFrame:
    """Return detectors and unique detectors in each replicate."""
    drawn = counted.labels.shape[1]
    each = len(level.categories) * drawn
    return pl.DataFrame(
        {
            "quantile": np.full(len(RULES) * each, level.quantile),
            "rule": np.repeat(np.array(RULES, object), each),
            "category": np.tile(np.repeat(np.array(level.categories, object), drawn), len(RULES)),
            "replicate": np.tile(np.arange(drawn), len(RULES) * len(level.categories)),
            "detectors": np.concatenate([counted.detectors[rule].ravel() for rule in RULES]),
            "unique_detectors": np.concatenate([counted.unique_detectors[rule].ravel() for rule in RULES]),
        }
    )


def holdout_of(level: QuantileCounts) -> pl.DataFrame:
    """Return, for the label chosen on the other images, its IoU there and on those held out."""
    asked, counts, category_of = level.looked.asked, level.counts, level.data.category_of
    share = asked.holdout or 0.0
    units, numbers = counts.intersection.shape
    out = CountSubset.zeros(units, numbers, counts.activation.shape[1])
    for presence, masks, counted in level.blocks():
        rows = presence.images[is_held_out(asked.stats_seed, presence.images, share)]
        out.update(presence, masks, counted, rows)
    chosen, scored = (counts - out).iou(category_of), out.iou(category_of)
    labels = best_label_ids(chosen, category_of, len(level.data.categories))
    each = np.arange(units)
    frame = pl.DataFrame(
        {"unit": each.astype(np.int32), "selection_iou": chosen[each, labels], "heldout_iou": scored[each, labels]}
    )
    some = pl.Series(labels > 0)
    return frame.with_columns(pl.when(some).then(pl.col("selection_iou", "heldout_iou")))


def sensitivity_of(looked: LayerCounts) -> pl.DataFrame:
    """Count detectors at every quantile and at twenty IoUs, from 0.01 to 0.2."""
    rows: list[dict[str, Any]] = []
    for index, quantile in enumerate(looked.config.reported_quantiles):
        scores = QuantileCounts(looked, index).scores
        for level in LEVELS:
            counted = counts_at(looked.data, scores, level)
            rows += [{"quantile": quantile, "min_iou": level} | row for row in counted]
    return tables.complete(pl.DataFrame(rows), tables.SENSITIVITY).sort("quantile", "min_iou", maintain_order=True)


def images_of(levels: list[QuantileCounts]) -> dict[str, pl.LazyFrame]:
    """Reduce the counts of single images to leading concepts, part by part on the disk.

    Returns
    -------
    dict of LazyFrame
        ``images``, and ``labels``: which labels each image bears, and on how many pixels.
    """
    folder = levels[0].looked.scratch
    folder.mkdir(exist_ok=True)
    parts: dict[str, list[Path]] = {"images": [], "labels": []}
    for level in levels:
        for block, (presence, masks, _) in enumerate(level.blocks()):
            path = folder / f"images-{level.index}-{block}.parquet"
            _image_frame(level, masks).write_parquet(path)
            parts["images"].append(path)
            if level.index == 0:
                path = folder / f"labels-{block}.parquet"
                frame = pl.DataFrame(dict(zip(tables.LABELS, presence[1:], strict=True)))
                tables.complete(frame, tables.LABELS).write_parquet(path)
                parts["labels"].append(path)
    return {name: pl.scan_parquet(paths) for name, paths in parts.items()}


def _image_frame(level: QuantileCounts, masks: ImageIntersections) -> pl.DataFrame:
    """Keep the entries of leading concepts, and of each mask without any one entry of number 0."""
    of, pair_of = masks.mask_index, level.leading.pair_index
    led = pair_of[masks.units[of], masks.label_ids] >= 0
    bare = np.setdiff1d(np.arange(len(masks.image_index)), of[led])
    mask = np.concatenate([of[led], bare])
    order = np.argsort(mask, kind="stable")
    mask, zeros = mask[order], np.zeros(len(bare), np.int64)
    frame = pl.DataFrame(
        {
            "image_index": masks.image_index[mask],
            "quantile": np.full(len(mask), level.quantile),
            "unit": masks.units[mask],
            "label_id": np.concatenate([masks.label_ids[led], zeros])[order],
            "intersection": np.concatenate([masks.intersections[led], zeros])[order],
            "mask_pixels": masks.mask_pixels[mask],
        }
    )
    return tables.complete(frame, tables.IMAGES)
