"""Comparison of two layers, and their matched units."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from netdissect.config import Rule
from netdissect.errors import RequestError
from netdissect.explorer.queries.requests import ComparisonQuery, MatchQuery
from netdissect.explorer.run_registry import OpenRun
from netdissect.explorer.schemas import ComparedConcept, ComparedSide, ComparisonResponse, MatchedUnits, Matching
from netdissect.plots.matching.unit_matching import match_units
from netdissect.report import urls
from netdissect.result import LayerResult
from netdissect.result.compare import compare_results
from netdissect.result.queries import run_min_iou
from netdissect.scoring import DetectorCount
from netdissect.scoring.number_text import iou_text


def comparison(left: OpenRun, right: OpenRun, query: ComparisonQuery, indices: Mapping[str, int]) -> ComparisonResponse:
    """Compare two layers concept by concept; see `netdissect.result.compare.compare_results`.

    Parameters
    ----------
    left, right
        The runs.
    query
        Their layers, quantile, limit and rule.
    indices
        Index of each concept, by which its page is named.

    Raises
    ------
    RequestError
        If the runs do not have that quantile in common.
    """
    sides = (left, query.left_layer), (right, query.right_layer)
    names = [run.layer(index).info.name for run, index in sides]
    limit = run_min_iou(left.result, names[0], query.min_iou)
    pairs = compare_results(left.result, right.result, layers=[(names[0], names[1])], rule=query.rule, min_iou=limit)
    matching = [pair for pair in pairs if query.quantile is None or pair.quantile == query.quantile]
    if not matching:
        raise RequestError(
            f"the runs do not have the quantile {query.quantile:g} in common. Expected one of "
            f"{', '.join(f'{pair.quantile:g}' for pair in pairs)}."
        )
    pair = matching[0]
    return ComparisonResponse(
        left=_side(sides[0], pair.left.count),
        right=_side(sides[1], pair.right.count),
        rule=query.rule,
        quantile=pair.quantile,
        min_iou=limit,
        same_data=pair.same_data,
        sentences=pair.sentences,
        changes=dict(pair.concepts.group_by("change").len().rows()),
        concepts=tuple(
            _compared(row | {"url": f"/{urls.concept(indices[row['concept']])}"}, limit, query.rule)
            for row in pair.concepts.to_dicts()
        ),
    )


def matching(left: OpenRun, right: OpenRun, query: MatchQuery) -> Matching:
    """Match the units of two layers; see `netdissect.plots.matching.unit_matching.match_units`.

    Raises
    ------
    ResultError
        If the runs used other images, or kept no maxima of them.
    """
    layers = left.layer(query.left_layer), right.layer(query.right_layer)
    found = match_units(left.result, layers[0].info.name, right.result, layers[1].info.name)
    labels = [_labels(run, layer) for run, layer in zip((left, right), layers, strict=True)]
    pairs = [
        MatchedUnits(**vars(pair), left_label=labels[0][pair.left_unit], right_label=labels[1][pair.right_unit])
        for pair in found.pairs
    ]
    return Matching(images=found.images, unmatched=layers[0].info.units - len(pairs), pairs=tuple(pairs))


def _labels(run: OpenRun, layer: LayerResult) -> list[str | None]:
    quantile = run.result.info.config.protocol.quantiles[0]
    return layer.units.filter(pl.col("quantile") == quantile).sort("unit")["label"].to_list()


def _compared(row: dict[str, Any], limit: float, rule: Rule) -> ComparedConcept:
    texts = {
        f"{side}_iou_text": None if row[f"{side}_iou"] is None else iou_text(row[f"{side}_iou"], limit, rule)
        for side in ("left", "right")
    }
    return ComparedConcept(**row, **texts)


def _side(side: tuple[OpenRun, int], count: DetectorCount) -> ComparedSide:
    run, index = side
    return ComparedSide(
        run=run.id,
        layer=index,
        layer_name=run.layer(index).info.name,
        units=count.units,
        detectors=dict(count.detectors),
        unique_detectors=dict(count.unique_detectors),
    )
