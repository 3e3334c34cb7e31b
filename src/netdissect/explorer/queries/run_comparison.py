"""Answers about two runs side by side."""

from netdissect.errors import RequestError
from netdissect.explorer.query_schemas import ComparisonQuery
from netdissect.explorer.run_registry import OpenRun
from netdissect.explorer.schemas import ComparedConcept, ComparedSide, ComparisonAnswer
from netdissect.result.compare import compare_results
from netdissect.result.queries import run_min_iou
from netdissect.scoring import DetectorCount


def comparison(left: OpenRun, right: OpenRun, asked: ComparisonQuery) -> ComparisonAnswer:
    """Put two layers side by side, concept by concept; see `netdissect.result.compare.compare_results`.

    Raises
    ------
    RequestError
        If the runs do not have that quantile in common.
    """
    sides = (left, asked.left_layer), (right, asked.right_layer)
    names = [run.layer(index).info.name for run, index in sides]
    limit = run_min_iou(left.result, names[0], asked.min_iou)
    pairs = compare_results(left.result, right.result, layers=[(names[0], names[1])], rule=asked.rule, min_iou=limit)
    chosen = [pair for pair in pairs if asked.quantile is None or pair.quantile == asked.quantile]
    if not chosen:
        raise RequestError(
            f"the runs do not have the quantile {asked.quantile:g} in common. Expected one of "
            f"{', '.join(f'{pair.quantile:g}' for pair in pairs)}."
        )
    found = chosen[0]
    return ComparisonAnswer(
        left=_side(sides[0], found.left.count),
        right=_side(sides[1], found.right.count),
        rule=asked.rule,
        quantile=found.quantile,
        min_iou=limit,
        same_data=found.same_data,
        changes=dict(found.concepts.group_by("change").len().rows()),
        concepts=tuple(ComparedConcept(**row) for row in found.concepts.to_dicts()),
    )


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
