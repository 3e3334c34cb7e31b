"""Answers about runs, counts and units, worked out of results."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from netdissect.concepts import Size
from netdissect.config import RULES
from netdissect.errors import RequestError
from netdissect.explorer.inference import why_not
from netdissect.explorer.query_schemas import MOST_IMAGES, UnitsQuery
from netdissect.explorer.run_registry import OpenRun
from netdissect.explorer.schemas import (
    ConceptScore,
    CountsResponse,
    LayerCountsResponse,
    LayerSummary,
    MaskLevel,
    RunSummary,
    Threshold,
    TopImage,
    UnitBrief,
    UnitDetailResponse,
    UnitPage,
)
from netdissect.explorer.threshold_curves import Thresholds, nearest
from netdissect.plots.category_colors import category_colors
from netdissect.plots.outlines import MaskGrid
from netdissect.report.layer_tables import known
from netdissect.result import LayerInfo, LayerResult, Result
from netdissect.result.queries import run_min_iou
from netdissect.scoring import count_detectors, passes
from netdissect.scoring.metrics import measured_metrics

SURE = (
    "iou_ci_low", "iou_ci_high", "stability", "selection_iou", "heldout_iou", "p_value", "q_value_bh", "q_value_by",
    "null_iou_p95",
)  # fmt: skip
SORTS = {"iou": ("iou", True), "unit": ("unit", False), "label": ("label", False)}


def run_summary(run: OpenRun) -> RunSummary:
    """Describe a run."""
    info = run.result.info
    return RunSummary(
        id=run.id,
        name=run.name,
        network=info.network.name,
        data=Path(info.data.root).name,
        images=info.data.images,
        concepts=len(run.result.concepts),
        categories=info.data.categories,
        colors=category_colors(info.data.categories),
        quantiles=info.config.protocol.quantiles,
        created=info.created,
        layers=tuple(
            LayerSummary(
                index=index,
                name=layer.info.name,
                type=layer.info.type,
                units=layer.info.units,
                height=layer.info.height,
                width=layer.info.width,
                min_iou=info.min_iou(layer.info.name),
                quantile_range=run.curves(layer).range,
            )
            for index, layer in enumerate(run.result.layers.values())
        ),
        why_no_network=why_not(run),
    )


def layer_counts(run: OpenRun, index: int, quantile: float | None, min_iou: float | None) -> LayerCountsResponse:
    """Count the detectors of a layer at one of the run's quantiles and any IoU threshold."""
    layer = run.layer(index)
    level, limit = own_quantile(run.result, quantile), run_min_iou(run.result, layer.info.name, min_iou)
    labels = run.result.unit_labels(layer.info.name, level)
    counted: list[CountsResponse] = []
    for rule in RULES:
        count = count_detectors(labels, rule, limit)
        counted.append(
            CountsResponse(rule=rule, detectors=dict(count.detectors), unique_detectors=dict(count.unique_detectors))
        )
    silent = layer.units.filter(pl.col("quantile") == level)["dead"].sum()
    return LayerCountsResponse(
        layer=index, quantile=level, min_iou=limit, units=layer.info.units, dead=int(silent), counts=tuple(counted)
    )


def own_quantile(result: Result, quantile: float | None) -> float:
    """Return the run's quantile that is nearest; None: its first."""
    known = result.info.config.protocol.quantiles
    return known[0] if quantile is None else nearest(quantile, known)


def mask_level(run: OpenRun, layer: LayerResult, quantile: float | None) -> tuple[MaskLevel, Thresholds]:
    """Return the thresholds of masks at any quantile, and what labels they go with."""
    measured = own_quantile(run.result, quantile)
    shown = measured if quantile is None else quantile
    thresholds = run.curves(layer).at(shown)
    exact = int(np.count_nonzero(thresholds.exact))
    return MaskLevel(quantile=shown, measured=measured, exact=exact, units=layer.info.units), thresholds


def labeled_units(run: OpenRun, layer: LayerResult, measured: float, min_iou: float | None) -> pl.DataFrame:
    """Return unit, label, category, iou and state of every unit at one of the run's quantiles."""
    limit = run_min_iou(run.result, layer.info.name, min_iou)
    passing = passes(pl.col("iou"), "top-label", limit) & pl.col("label").is_not_null()
    state = pl.when("dead").then(pl.lit("dead")).when(passing).then(pl.lit("detector")).otherwise(pl.lit("below"))
    units = layer.units.filter(pl.col("quantile") == measured).sort("unit")
    return units.select("unit", "label", "category", "iou", state.alias("state"))


def unit_page(run: OpenRun, index: int, asked: UnitsQuery) -> UnitPage:
    """Return units of a layer that match, with the masks of their top images."""
    layer = run.layer(index)
    level, thresholds = mask_level(run, layer, asked.quantile)
    units = _matching(labeled_units(run, layer, level.measured, asked.min_iou), asked)
    by, falling = SORTS[asked.sort]
    ordered = units.sort([by, "iou", "unit"], descending=[falling, True, False], nulls_last=True)
    shown = ordered.slice(asked.offset, asked.limit)
    return UnitPage(
        masks=level,
        total=len(units),
        offset=asked.offset,
        units=tuple(
            unit_brief(run, layer, row, float(thresholds.values[row["unit"]]), asked.images)
            for row in shown.iter_rows(named=True)
        ),
    )


def _matching(units: pl.DataFrame, asked: UnitsQuery) -> pl.DataFrame:
    if asked.q:
        text = asked.q.lower()
        number = int(text.lstrip("#")) if re.fullmatch(r"#?[0-9]{1,9}", text) else -1
        found = pl.col("label").str.to_lowercase().str.contains(text, literal=True).fill_null(value=False)
        units = units.filter(found | (pl.col("unit") == number))
    if asked.category:
        units = units.filter(pl.col("category").is_in(asked.category))
    return units.filter(pl.col("state") == asked.state) if asked.state else units


def unit_brief(run: OpenRun, layer: LayerResult, row: dict[str, Any], threshold: float, images: int) -> UnitBrief:
    """Describe a unit by its row of `labeled_units`, with its top images masked at a threshold."""
    return UnitBrief(**row, images=top_images(run, layer, row["unit"], threshold, images))


def top_images(run: OpenRun, layer: LayerResult, unit: int, threshold: float, images: int) -> tuple[TopImage, ...]:
    """Return the top images of a unit, with outlines of where it is above a threshold."""
    rows = layer.top.filter(pl.col("unit") == unit, pl.col("rank") < images).sort("rank").to_dicts()
    masks = MaskGrid.of(run.result.info, layer)
    return tuple(
        TopImage(
            rank=row["rank"],
            image_index=row["image_index"],
            image=row["image"],
            max_activation=row["max_activation"],
            thumbnail=f"/images/{run.id}/{row['image_index']}.webp",
            outline=masks.outline(
                layer.top_maps[unit, row["rank"]], threshold, Size(row["label_height"], row["label_width"])
            ),
        )
        for row in rows
    )


def unit_detail(
    run: OpenRun, index: int, unit: int, quantile: float | None, min_iou: float | None
) -> UnitDetailResponse:
    """Return one unit in full.

    Raises
    ------
    RequestError
        If the layer has no such unit.
    """
    layer = run.layer(index)
    check_unit(layer.info, unit)
    level, thresholds = mask_level(run, layer, quantile)
    row = labeled_units(run, layer, level.measured, min_iou).row(unit, named=True)
    scores = layer.lazy_scores.filter(
        pl.col("quantile") == level.measured, pl.col("unit") == unit, pl.col("iou") > 0
    ).select(
        pl.col("concept").cast(pl.String), pl.col("category").cast(pl.String), "iou", "max_attainable_iou",
        "mask_attainable_iou", "intersection", "mask_pixels", "concept_pixels",
    )  # fmt: skip
    ranked = scores.sort("iou", descending=True, maintain_order=True).collect().to_dicts()
    beside = _beside(layer, unit, level.measured)
    own = layer.thresholds.filter(pl.col("unit") == unit)["max_activation"][0]
    value, low, high = (float(each[unit]) for each in (thresholds.values, thresholds.low, thresholds.high))
    return UnitDetailResponse(
        run=run.id,
        layer=index,
        layer_name=layer.info.name,
        brief=unit_brief(run, layer, row, value, MOST_IMAGES),
        masks=level,
        threshold=Threshold(value=value, low=low, high=high, exact=bool(thresholds.exact[unit])),
        max_activation=own,
        sure=_sure(layer, unit, level.measured),
        beside={metric.name: metric.short for metric in measured_metrics(beside.values())},
        scores=tuple(ConceptScore(**row, beside=beside.get(row["concept"], {})) for row in ranked),
    )


def _sure(layer: LayerResult, unit: int, quantile: float) -> dict[str, float]:
    rows = _evidence(layer, "units", unit, quantile)
    return {name: rows[0][name] for name in SURE if name in rows[0]} if rows else {}


def _beside(layer: LayerResult, unit: int, quantile: float) -> dict[str, dict[str, float]]:
    """Return the scores beside IoU of a unit's leading concepts, by concept."""
    rows = _evidence(layer, "scores", unit, quantile)
    return {row["concept"]: {metric.name: row[metric.name] for metric in measured_metrics([row])} for row in rows}


def _evidence(layer: LayerResult, table: str, unit: int, quantile: float) -> list[dict[str, Any]]:
    if table not in layer.evidence:
        return []
    rows = layer.evidence[table].filter(pl.col("quantile") == quantile, pl.col("unit") == unit).collect()
    return [known(row) for row in rows.iter_rows(named=True)]


def check_unit(layer: LayerInfo, unit: int) -> None:
    """Refuse a unit that a layer does not have."""
    if not 0 <= unit < layer.units:
        raise RequestError(f"the layer {layer.name!r} has no unit {unit}: it has {layer.units}, counted from 0.")
