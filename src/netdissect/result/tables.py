"""Make the tables of a layer from its counts."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.io.plugins import register_io_source

from netdissect.activations.histogram import bin_edges
from netdissect.concepts import ConceptData
from netdissect.concepts.attainable_iou import mask_attainable_iou, max_attainable_iou
from netdissect.config import REPORTED_QUANTILES, RULES, Protocol
from netdissect.result.schema import SCORES, SMALL_DATA_ATTAINABLE
from netdissect.result.statistics_schema import FIRING_MAP, HISTOGRAM, complete
from netdissect.scoring import (
    ConceptTotals,
    IoUCounts,
    UnitLabels,
    best_concepts,
    concept_counts,
    count_detectors,
    f1,
    iou,
)
from netdissect.scoring.iou import top_category

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]

BLOCK_SCORES = 2**20
"""Units and concepts whose scores are computed at a time: their table takes a tenth of a gigabyte."""


def attainable_ious(data: ConceptData, totals: ConceptTotals, protocol: Protocol, quantile: float) -> Floats:
    """Return the attainable IoU of each concept of a data set, float64 (C,)."""
    label_ids = np.array([concept.label_id for concept in data.concepts])
    annotated = totals.annotated[data.category_of[label_ids]]
    side = protocol.segmentation_size
    pixels = sum(row.size.height * row.size.width if side is None else side**2 for row in data.rows)
    return max_attainable_iou(totals.pixels[label_ids], annotated, pixels, quantile, protocol.restriction)


def concept_table(data: ConceptData, totals: ConceptTotals, protocol: Protocol) -> pl.DataFrame:
    """List the concepts with their pixels and images; see `netdissect.result.Result.concepts`."""
    label_ids = np.array([concept.label_id for concept in data.concepts])
    annotated = totals.annotated[data.category_of[label_ids]]
    pixel_share = np.divide(totals.pixels[label_ids], annotated, out=np.zeros(len(label_ids)), where=annotated > 0)
    return pl.DataFrame(
        {
            "label_id": label_ids,
            "concept": [concept.name for concept in data.concepts],
            "category": [concept.category for concept in data.concepts],
            "images": totals.images[label_ids],
            "concept_pixels": totals.pixels[label_ids],
            "pixel_share": pixel_share,
            "max_attainable_iou": attainable_ious(data, totals, protocol, protocol.quantiles[0]),
            SMALL_DATA_ATTAINABLE: attainable_ious(data, totals, protocol, REPORTED_QUANTILES[1]),
        }
    )


def score_table(data: ConceptData, totals: ConceptTotals, counts: IoUCounts, protocol: Protocol) -> pl.LazyFrame:
    """List every unit and concept; see `netdissect.result.LayerResult.lazy_scores`.

    The table, which may not fit into memory, is made block by block as it is read.
    """

    def blocks(
        columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, _size: int | None
    ) -> Iterator[pl.DataFrame]:
        for block in _score_blocks(data, totals, counts, protocol):
            if rows == 0:
                return
            part = block if rows is None else block.head(rows)
            rows = None if rows is None else rows - len(part)
            chosen = part if predicate is None else part.filter(predicate)
            yield chosen if columns is None else chosen.select(columns)

    return register_io_source(blocks, schema=dict(SCORES))


def _score_blocks(
    data: ConceptData, totals: ConceptTotals, counts: IoUCounts, protocol: Protocol
) -> Iterator[pl.DataFrame]:
    """Yield the scores of quantile after quantile, about a million at a time."""
    label_ids = np.array([concept.label_id for concept in data.concepts])
    attainable = [attainable_ious(data, totals, protocol, quantile) for quantile in protocol.quantiles]
    for quantile, first, block in counts.blocks(BLOCK_SCORES):
        (intersection,), (activation,) = concept_counts(label_ids, block, data.category_of)
        scores = _scores(data, totals.pixels[label_ids], intersection, activation, attainable[quantile])
        key = pl.lit(protocol.quantiles[quantile], pl.Float64).alias("quantile")
        yield scores.select(key, pl.col("unit") + first, pl.exclude("unit"))


def _scores(
    data: ConceptData, concept_pixels: Ints, intersection: Ints, activation: Ints, attainable: Floats
) -> pl.DataFrame:
    """List the scores of some units, numbered from 0, with all concepts at one quantile."""
    units, concepts = intersection.shape
    pixels = np.broadcast_to(concept_pixels, intersection.shape)
    names = pl.Series([concept.name for concept in data.concepts], dtype=pl.Categorical)
    categories = pl.Series([concept.category for concept in data.concepts], dtype=pl.Categorical)
    label_ids = np.array([concept.label_id for concept in data.concepts], np.int32)
    each = np.tile(np.arange(concepts), units)
    return pl.DataFrame(
        {
            "unit": np.repeat(np.arange(units, dtype=np.int32), concepts),
            "label_id": label_ids[each],
            "concept": names.gather(each),
            "category": categories.gather(each),
            "intersection": intersection.ravel(),
            "mask_pixels": activation.ravel(),
            "concept_pixels": pixels.ravel(),
            "iou": iou(intersection, activation, pixels).ravel(),
            "f1": f1(intersection, activation, pixels).ravel(),
            "max_attainable_iou": np.tile(attainable, units),
            "mask_attainable_iou": mask_attainable_iou(activation, pixels).ravel(),
        }
    )


def activity_tables(counts: IoUCounts) -> dict[str, pl.LazyFrame]:
    """Make the tables ``histogram`` and ``firing_map``; see `netdissect.result.statistics_schema`."""
    tables = {}
    if counts.histogram.size:
        low, high = bin_edges()
        unit, bin_index = np.nonzero(counts.histogram)
        count = counts.histogram[unit, bin_index]
        bin_index += len(low) - counts.histogram.shape[1]  # without bins of negative values where there are none
        counted = {"bin_low": low[bin_index], "bin_high": high[bin_index], "count": count}
        tables["histogram"] = complete(pl.DataFrame({"unit": unit} | counted), HISTOGRAM).lazy()
    if counts.firing_map.size:
        unit, y, x = np.nonzero(counts.firing_map)
        counted = {"y": y, "x": x, "count": counts.firing_map[unit, y, x]}
        tables["firing_map"] = complete(pl.DataFrame({"unit": unit} | counted), FIRING_MAP).lazy()
    return tables


def threshold_table(thresholds: Floats32, maxima: Floats32, quantiles: Sequence[float]) -> pl.DataFrame:
    """List thresholds (Q, U) and maxima (U,) of units; see `netdissect.result.LayerResult.thresholds`."""
    count, units = thresholds.shape
    return pl.DataFrame(
        {
            "quantile": np.repeat(np.asarray(quantiles, np.float64), units),
            "unit": np.tile(np.arange(units, dtype=np.int32), count),
            "threshold": thresholds.ravel(),
            "max_activation": np.tile(maxima, count),
            # A dead unit has no activation above its threshold, so its mask is empty.
            "dead": np.tile(maxima, count) <= thresholds.ravel(),
        }
    )


def unit_table(data: ConceptData, totals: ConceptTotals, counts: IoUCounts, thresholds: pl.DataFrame) -> pl.DataFrame:
    """List each unit's label and its best concept in each category; see `netdissect.result.LayerResult.units`."""
    label_ids = np.array([concept.label_id for concept in data.concepts])
    parts = []
    for _, _, block in counts.blocks(BLOCK_SCORES):
        (intersection,), (activation,) = concept_counts(label_ids, block, data.category_of)
        parts.append(_best_of(data, intersection, activation, totals.pixels[label_ids]))
    return pl.concat([thresholds.drop("max_activation"), pl.concat(parts)], how="horizontal").select(
        "quantile", "unit", "label", "category", "iou", "f1", "threshold", "dead", pl.selectors.contains("-")
    )


def best_of_categories(data: ConceptData, scores: Floats) -> UnitLabels:
    """Return the best concept of each unit in each category; `scores` by label id, float64 (U, C)."""
    label_ids = np.array([concept.label_id for concept in data.concepts])
    best = best_concepts(scores[:, label_ids], data.category_of[label_ids], len(data.categories))
    names = np.array([concept.name for concept in data.concepts] + [""], object)[best]
    reached = np.where(best >= 0, np.take_along_axis(scores[:, label_ids], np.maximum(best, 0), 1), 0)
    return UnitLabels(data.categories, names, reached)


def counts_at(labels: UnitLabels, min_iou: float) -> list[dict[str, Any]]:
    """Count detectors at one IoU under both rules.

    Parameters
    ----------
    labels
        The best concepts of each unit.
    min_iou
        IoU from which on a unit is a detector.

    Returns
    -------
    list of dict
        rule, category (or ``total``), detectors, unique_detectors.
    """
    counted = [count_detectors(labels, rule, min_iou) for rule in RULES]
    return [
        {"rule": count.rule, "category": name, "detectors": detectors, "unique_detectors": count.unique_detectors[name]}
        for count in counted
        for name, detectors in count.detectors.items()
    ]


def _best_of(data: ConceptData, intersection: Ints, activation: Ints, concept_pixels: Ints) -> pl.DataFrame:
    scores = iou(intersection, activation, concept_pixels)
    names = [concept.name for concept in data.concepts]
    categories = np.array([data.categories.index(concept.category) for concept in data.concepts])
    best = best_concepts(scores, categories, len(data.categories))
    columns: dict[str, pl.Series] = {}
    best_scores = np.zeros(best.shape)
    best_f1 = np.zeros(best.shape)
    every = np.arange(len(scores))
    for index, category in enumerate(data.categories):
        exists, concept = best[:, index] >= 0, best[:, index]
        hits, masks, pixels = intersection[every, concept], activation[every, concept], concept_pixels[concept]
        best_scores[:, index] = np.where(exists, scores[every, concept], 0)
        best_f1[:, index] = np.where(exists, f1(hits, masks, pixels), 0)
        for name, values in (("truth", pixels), ("activation", masks), ("intersect", hits)):
            columns[f"{category}-{name}"] = pl.Series(np.where(exists, values, 0))
        columns[f"{category}-label"] = _names(names, np.where(exists, concept, -1))
        columns[f"{category}-iou"] = pl.Series(best_scores[:, index])
    top = top_category(best_scores)
    chosen = np.where(top >= 0, best[every, top], -1)
    frame = {
        "label": _names(names, chosen),
        "category": _names(data.categories, top),
        "iou": pl.Series(best_scores.max(axis=1, initial=0)),
        "f1": pl.Series(np.where(top >= 0, best_f1[every, top], 0)),
    }
    parts = ("label", "truth", "activation", "intersect", "iou")
    ordered = {f"{category}-{part}": columns[f"{category}-{part}"] for category in data.categories for part in parts}
    return pl.DataFrame(frame | ordered)


def _names(names: Sequence[str], indices: Ints) -> pl.Series:
    """Look names up; index -1 is no name."""
    return pl.Series([names[index] if index >= 0 else None for index in indices], dtype=pl.String)


def top_table(image_index: Ints, maxima: Floats32, data: ConceptData) -> pl.DataFrame:
    """List the top images of each unit, image indices and maxima (U, K); see `netdissect.result.LayerResult.top`."""
    units, keep = image_index.shape
    frame = pl.DataFrame(
        {
            "unit": np.repeat(np.arange(units, dtype=np.int32), keep),
            "rank": np.tile(np.arange(keep, dtype=np.int32), units),
            "image_index": image_index.ravel(),
            "max_activation": maxima.ravel(),
        }
    ).filter(pl.col("image_index") >= 0)
    indices, place = np.unique(frame["image_index"], return_inverse=True)
    images = [data.rows[row] for row in indices]
    return frame.select(
        "unit",
        "rank",
        "image_index",
        pl.Series("image", [row.image for row in images], dtype=pl.String).gather(place),
        "max_activation",
        pl.Series("label_height", [row.size.height for row in images], dtype=pl.Int32).gather(place),
        pl.Series("label_width", [row.size.width for row in images], dtype=pl.Int32).gather(place),
    )
