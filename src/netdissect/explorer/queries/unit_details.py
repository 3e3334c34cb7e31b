"""Runs, counts and units, computed from results."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from netdissect.config import RULES
from netdissect.errors import RequestError
from netdissect.explorer.networks.run_network import unavailable_reason
from netdissect.explorer.queries.decoder_neighbors import decoder_neighbors
from netdissect.explorer.queries.requests import UnitsQuery
from netdissect.explorer.run_registry import OpenRun
from netdissect.explorer.schemas import (
    CountsResponse,
    LayerCountsResponse,
    LayerSummary,
    MaskLevel,
    RunSummary,
    Threshold,
    UnitDetailResponse,
    UnitPage,
    UnitWord,
)
from netdissect.explorer.threshold_curves import Thresholds, nearest
from netdissect.plots.category_colors import category_colors
from netdissect.report import urls
from netdissect.report.layer_tables import LayerTables, Level
from netdissect.report.views.masked_images import PAGE_IMAGES
from netdissect.report.views.unit_scores import SCORES, score_column
from netdissect.report.views.unit_views import unit_detail, unit_view
from netdissect.result import LayerInfo, LayerResult, Result
from netdissect.result.queries import bar_end, run_min_iou
from netdissect.scoring import count_detectors, passes

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
        data_index=run.numbered.data_index,
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
        samples=info.network.generator,
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


def shown_level(
    run: OpenRun, index: int, quantile: float | None, min_iou: float | None = None
) -> tuple[Level, MaskLevel, Thresholds]:
    """Return the quantile and limit at which a page shows a layer, its level of masks, and its thresholds."""
    layer = run.layer(index)
    masks, thresholds = mask_level(run, layer, quantile)
    limit = run_min_iou(run.result, layer.info.name, min_iou)
    own = masks.quantile == masks.measured
    return Level(masks.measured, limit, None if own else thresholds.values), masks, thresholds


def unit_page(run: OpenRun, index: int, query: UnitsQuery) -> UnitPage:
    """Return the units of a layer that match a query, as on the page of the layer."""
    level, masks, _ = shown_level(run, index, query.quantile, query.min_iou)
    layer = run.layer(index)
    matching = select_units(run, layer, level.quantile, query)["unit"]
    chosen = matching.slice(query.offset, query.limit).to_list()
    tables = LayerTables(run.numbered, index, level, chosen)
    return UnitPage(
        masks=masks,
        bar_end=bar_end(run.result, layer.info.name, level.quantile, level.min_iou),
        total=len(matching),
        offset=query.offset,
        units=tuple(unit_view(tables, unit, query.images) for unit in chosen),
        words=unit_words(run, layer.info.name, chosen, query),
    )


def select_units(run: OpenRun, layer: LayerResult, measured: float, query: UnitsQuery) -> pl.DataFrame:
    """Return the rows of `labeled_units` that match a query, in its order."""
    units = labeled_units(run, layer, measured, query.min_iou)
    words = run.words.of_layer(layer.info.name)
    if by_similarity(query):
        similarity = run.words.similarity(layer.info.name, query.q)
        units = units.with_columns(pl.Series("similarity", similarity))
    elif query.q:
        text = query.q.lower()
        unit = int(text.lstrip("#")) if re.fullmatch(r"#?[0-9]{1,9}", text) else -1
        in_label = pl.col("label").str.to_lowercase().str.contains(text, literal=True).fill_null(value=False)
        with_word = [each for each, word in words.items() if text in word.lower()]
        units = units.filter(in_label | (pl.col("unit") == unit) | pl.col("unit").is_in(with_word))
    if query.category:
        units = units.filter(pl.col("category").is_in(query.category))
    if query.state:
        units = units.filter(pl.col("state") == query.state)
    return _in_order(run, layer, units, query)


def _in_order(run: OpenRun, layer: LayerResult, units: pl.DataFrame, query: UnitsQuery) -> pl.DataFrame:
    """Sort units; those without the score that was asked for are last, and where it was not measured all are by IoU."""
    column, descending = ("similarity", True) if by_similarity(query) else SORTS.get(query.sort, SORTS["iou"])
    scores = score_column(run.numbered, layer.info.name, query.sort) if query.sort in SCORES else None
    if scores is not None:
        units = units.join(scores, on="unit", how="left")
        column, descending = query.sort, True
    return units.sort([column, "iou", "unit"], descending=[descending, True, False], nulls_last=True)


def by_similarity(query: UnitsQuery) -> bool:
    """Tell whether units are sorted by their similarity to words: there are words, and that order was asked for."""
    return query.sort == "similarity" and bool(query.q.strip())


def unit_words(run: OpenRun, layer: str, units: Sequence[int], query: UnitsQuery | None = None) -> dict[int, UnitWord]:
    """Return what is known of the words of some units of a layer; empty: nothing."""
    words = run.words.of_layer(layer)
    values = run.words.similarity(layer, query.q) if query is not None and by_similarity(query) else None
    if not words and values is None:
        return {}
    return {
        unit: UnitWord(word=words.get(unit), similarity=None if values is None else float(values[unit]))
        for unit in units
    }


def unit_response(
    run: OpenRun, index: int, unit: int, quantile: float | None, min_iou: float | None
) -> UnitDetailResponse:
    """Return one unit in full, as on its page.

    Raises
    ------
    RequestError
        If the layer has no such unit.
    """
    layer = run.layer(index)
    check_unit(layer.info, unit)
    level, masks, thresholds = shown_level(run, index, quantile, min_iou)
    tables = LayerTables(run.numbered, index, level, [unit])
    value, low, high = (float(values[unit]) for values in (thresholds.values, thresholds.low, thresholds.high))
    return UnitDetailResponse(
        run=run.id,
        layer=index,
        layer_name=layer.info.name,
        masks=masks,
        threshold=Threshold(value=value, low=low, high=high, exact=bool(thresholds.exact[unit])),
        summary=unit_view(tables, unit, PAGE_IMAGES),
        detail=unit_detail(tables, unit),
        decoder_neighbors=tuple(decoder_neighbors(run.directions(layer), unit, tables)),
    )


def check_unit(layer: LayerInfo, unit: int) -> None:
    """Raise if a layer has no such unit.

    Raises
    ------
    RequestError
        With the number of units.
    """
    if not 0 <= unit < layer.units:
        raise RequestError(f"the layer {layer.name!r} has no unit {unit}: it has {layer.units}, counted from 0.")
