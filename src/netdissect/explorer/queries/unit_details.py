"""Runs, counts and units, computed from results."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from netdissect.concepts import Size
from netdissect.config import RULES
from netdissect.errors import RequestError
from netdissect.explorer.networks.run_network import unavailable_reason
from netdissect.explorer.queries.requests import MOST_IMAGES, UnitsQuery
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
    UnitDetailResponse,
    UnitPage,
    UnitSummary,
)
from netdissect.explorer.threshold_curves import Thresholds, nearest
from netdissect.plots.category_colors import category_colors
from netdissect.plots.outlines import MaskGrid, mask_path, view_box
from netdissect.report import urls
from netdissect.report.layer_tables import known
from netdissect.result import LayerInfo, LayerResult, Result
from netdissect.result.queries import bar_end, run_min_iou
from netdissect.result.summary import Q_VALUES, reports_q_values
from netdissect.scoring import count_detectors, passes
from netdissect.scoring.metrics import measured_metrics
from netdissect.scoring.number_text import iou_text

STATISTICS = (
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
                basis_of=layer.info.basis_of,
                units=layer.info.units,
                height=layer.info.height,
                width=layer.info.width,
                min_iou=info.min_iou(layer.info.name),
                quantile_range=run.curves(layer).range,
                url=f"/{urls.layer(run.numbered.index, index)}",
            )
            for index, layer in enumerate(run.result.layers.values())
        ),
        inference_unavailable=unavailable_reason(run),
    )


def layer_counts(run: OpenRun, index: int, quantile: float | None, min_iou: float | None) -> LayerCountsResponse:
    """Count the detectors of a layer at one of the run's quantiles and any IoU threshold."""
    layer = run.layer(index)
    measured, limit = nearest_quantile(run.result, quantile), run_min_iou(run.result, layer.info.name, min_iou)
    labels = run.result.unit_labels(layer.info.name, measured)
    counts: list[CountsResponse] = []
    for rule in RULES:
        count = count_detectors(labels, rule, limit)
        counts.append(
            CountsResponse(rule=rule, detectors=dict(count.detectors), unique_detectors=dict(count.unique_detectors))
        )
    dead = layer.units.filter(pl.col("quantile") == measured)["dead"].sum()
    return LayerCountsResponse(
        layer=index, quantile=measured, min_iou=limit, units=layer.info.units, dead=int(dead), counts=tuple(counts)
    )


def nearest_quantile(result: Result, quantile: float | None) -> float:
    """Return the run's quantile nearest to `quantile`; None: its first."""
    quantiles = result.info.config.protocol.quantiles
    return quantiles[0] if quantile is None else nearest(quantile, quantiles)


def mask_level(run: OpenRun, layer: LayerResult, quantile: float | None) -> tuple[MaskLevel, Thresholds]:
    """Return the thresholds of masks at any quantile, and the run's quantile of their labels."""
    measured = nearest_quantile(run.result, quantile)
    mask_quantile = measured if quantile is None else quantile
    thresholds = run.curves(layer).at(mask_quantile)
    exact = int(np.count_nonzero(thresholds.exact))
    return MaskLevel(quantile=mask_quantile, measured=measured, exact=exact, units=layer.info.units), thresholds


def labeled_units(run: OpenRun, layer: LayerResult, measured: float, min_iou: float | None) -> pl.DataFrame:
    """Return unit, label, category, iou and state of every unit at one of the run's quantiles."""
    limit = run_min_iou(run.result, layer.info.name, min_iou)
    passing = passes(pl.col("iou"), "top-label", limit) & pl.col("label").is_not_null()
    state = pl.when("dead").then(pl.lit("dead")).when(passing).then(pl.lit("detector")).otherwise(pl.lit("below"))
    units = layer.units.filter(pl.col("quantile") == measured).sort("unit")
    return units.select("unit", "label", "category", "iou", state.alias("state"))


def unit_page(run: OpenRun, index: int, query: UnitsQuery) -> UnitPage:
    """Return the units of a layer that match a query, with the masks of their top images."""
    layer = run.layer(index)
    level, thresholds = mask_level(run, layer, query.quantile)
    units = select_units(run, layer, level.measured, query)
    page = units.slice(query.offset, query.limit)
    limit = run_min_iou(run.result, layer.info.name, query.min_iou)
    return UnitPage(
        masks=level,
        bar_end=bar_end(run.result, layer.info.name, level.measured, limit),
        total=len(units),
        offset=query.offset,
        units=tuple(
            UnitSummary(
                **row,
                iou_text=iou_text(row["iou"], limit),
                images=top_images(run, layer, row["unit"], float(thresholds.values[row["unit"]]), query.images),
            )
            for row in page.iter_rows(named=True)
        ),
    )


def select_units(run: OpenRun, layer: LayerResult, measured: float, query: UnitsQuery) -> pl.DataFrame:
    """Return the rows of `labeled_units` that match a query, in its order."""
    units = labeled_units(run, layer, measured, query.min_iou)
    if query.q:
        text = query.q.lower()
        unit = int(text.lstrip("#")) if re.fullmatch(r"#?[0-9]{1,9}", text) else -1
        in_label = pl.col("label").str.to_lowercase().str.contains(text, literal=True).fill_null(value=False)
        units = units.filter(in_label | (pl.col("unit") == unit))
    if query.category:
        units = units.filter(pl.col("category").is_in(query.category))
    if query.state:
        units = units.filter(pl.col("state") == query.state)
    column, descending = SORTS[query.sort]
    return units.sort([column, "iou", "unit"], descending=[descending, True, False], nulls_last=True)


def top_images(run: OpenRun, layer: LayerResult, unit: int, threshold: float, images: int) -> tuple[TopImage, ...]:
    """Return the top images of a unit, with the outlines of its masks at a threshold."""
    rows = layer.top.filter(pl.col("unit") == unit, pl.col("rank") < images).sort("rank").to_dicts()
    grid = MaskGrid.of(run.result.info, layer)
    sizes = [Size(row["label_height"], row["label_width"]) for row in rows]
    masks = [
        grid.mask(layer.top_maps[unit, row["rank"]], threshold, size) for row, size in zip(rows, sizes, strict=True)
    ]
    return tuple(
        TopImage(
            rank=row["rank"],
            image_index=row["image_index"],
            image=row["image"],
            max_activation=row["max_activation"],
            url=f"/{urls.image(run.numbered.data_index, row['image_index'])}",
            outline=mask_path(mask),
            view_box=view_box(Size(*mask.shape)),
        )
        for row, mask in zip(rows, masks, strict=True)
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
    limit = run_min_iou(run.result, layer.info.name, min_iou)
    row = labeled_units(run, layer, level.measured, min_iou).row(unit, named=True)
    scores = layer.lazy_scores.filter(
        pl.col("quantile") == level.measured, pl.col("unit") == unit, pl.col("iou") > 0
    ).select(
        pl.col("concept").cast(pl.String), pl.col("category").cast(pl.String), "iou", "max_attainable_iou",
        "mask_attainable_iou", "intersection", "mask_pixels", "concept_pixels",
    )  # fmt: skip
    ranked = scores.sort("iou", descending=True, maintain_order=True).collect().to_dicts()
    metrics = _metrics(layer, unit, level.measured)
    max_activation = layer.thresholds.filter(pl.col("unit") == unit)["max_activation"][0]
    value, low, high = (float(values[unit]) for values in (thresholds.values, thresholds.low, thresholds.high))
    return UnitDetailResponse(
        run=run.id,
        layer=index,
        layer_name=layer.info.name,
        summary=UnitSummary(
            **row,
            iou_text=iou_text(row["iou"], limit, digits=4),
            images=top_images(run, layer, unit, value, MOST_IMAGES),
        ),
        masks=level,
        threshold=Threshold(value=value, low=low, high=high, exact=bool(thresholds.exact[unit])),
        max_activation=max_activation,
        statistics=_statistics(run.result, layer, unit, level.measured),
        metric_titles={metric.name: metric.short for metric in measured_metrics(metrics.values())},
        scores=tuple(
            ConceptScore(**row, iou_text=iou_text(row["iou"], limit, digits=4), metrics=metrics.get(row["concept"], {}))
            for row in ranked
        ),
    )


def _statistics(result: Result, layer: LayerResult, unit: int, quantile: float) -> dict[str, float]:
    rows = _statistics_rows(layer, "units", unit, quantile)
    unreported = () if reports_q_values(result, layer.info.name) else Q_VALUES
    return {name: rows[0][name] for name in STATISTICS if name in rows[0] and name not in unreported} if rows else {}


def _metrics(layer: LayerResult, unit: int, quantile: float) -> dict[str, dict[str, float]]:
    """Return the extra metrics of a unit's leading concepts, by concept."""
    rows = _statistics_rows(layer, "scores", unit, quantile)
    return {row["concept"]: {metric.name: row[metric.name] for metric in measured_metrics([row])} for row in rows}


def _statistics_rows(layer: LayerResult, table: str, unit: int, quantile: float) -> list[dict[str, Any]]:
    if table not in layer.statistics:
        return []
    rows = layer.statistics[table].filter(pl.col("quantile") == quantile, pl.col("unit") == unit).collect()
    return [known(row) for row in rows.iter_rows(named=True)]


def check_unit(layer: LayerInfo, unit: int) -> None:
    """Raise if a layer has no such unit.

    Raises
    ------
    RequestError
        With the number of units.
    """
    if not 0 <= unit < layer.units:
        raise RequestError(f"the layer {layer.name!r} has no unit {unit}: it has {layer.units}, counted from 0.")
