"""Concepts of all runs as JSON, from the views of the concepts' pages."""

from collections.abc import Sequence

from netdissect.errors import RequestError
from netdissect.explorer.run_registry import RunRegistry
from netdissect.explorer.schemas import ConceptDetail, ConceptInRun, ConceptPage, ConceptSummary, ConceptUnit
from netdissect.report.views.run_views import ConceptView, MatchingUnit
from netdissect.scoring.number_text import iou_text


def concept_page(
    registry: RunRegistry, views: Sequence[ConceptView], q: str, category: str | None, offset: int, limit: int
) -> ConceptPage:
    """Search the concepts of all runs; those with most detectors come first."""
    matching = [view for view in views if q.lower() in view.concept.lower() and category in {None, view.category}]
    ids = _ids(registry)
    return ConceptPage(
        total=len(matching),
        offset=offset,
        concepts=tuple(_summary(view, ids) for view in matching[offset : offset + limit]),
    )


def concept_detail(
    registry: RunRegistry, views: Sequence[ConceptView], concept: str, category: str | None, limit: int
) -> ConceptDetail:
    """Return one concept over all runs: its best units.

    Raises
    ------
    RequestError
        If no run has this concept.
    """
    view = next((each for each in views if each.concept == concept and category in {None, each.category}), None)
    if view is None:
        raise RequestError(f"no run has the concept {concept!r}. Search for it on the page of concepts.")
    ids = _ids(registry)
    return ConceptDetail(
        concept=concept,
        category=view.category,
        url=f"/{view.url}",
        runs=tuple(
            ConceptInRun(
                run=ids[row["run"].index],
                **{name: row[name] for name in ("images", "pixel_share", "max_attainable_iou")},
            )
            for row in view.data
        ),
        units=tuple(_unit(unit, ids) for unit in view.best[:limit]),
    )


def _ids(registry: RunRegistry) -> dict[int, str]:
    return {run.numbered.index: run.id for run in registry}


def _summary(view: ConceptView, ids: dict[int, str]) -> ConceptSummary:
    best = view.best[0] if view.best else None
    return ConceptSummary(
        concept=view.concept,
        category=view.category,
        url=f"/{view.url}",
        runs=tuple(ids[row["run"].index] for row in view.data),
        detectors=view.total,
        best_iou=best.iou if best else 0.0,
        best_iou_text=iou_text(best.iou, best.min_iou) if best else iou_text(0.0),
        best_run=ids[best.run.index] if best else None,
        best_layer=best.index if best else None,
        best_unit=best.unit if best else None,
    )


def _unit(unit: MatchingUnit, ids: dict[int, str]) -> ConceptUnit:
    return ConceptUnit(
        run=ids[unit.run.index],
        layer=unit.index,
        layer_name=unit.layer,
        unit=unit.unit,
        url=f"/{unit.url}",
        iou=unit.iou,
        iou_text=iou_text(unit.iou, unit.min_iou),
        detector=unit.detector,
        label=unit.label,
    )
