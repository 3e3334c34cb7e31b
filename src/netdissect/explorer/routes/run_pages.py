"""Runs, layers, units and concepts, from the tables of results."""

from typing import Annotated

from fastapi import APIRouter, Query

from netdissect.explorer.queries.concept_details import concept_detail, concept_page
from netdissect.explorer.queries.requests import UnitsQuery
from netdissect.explorer.queries.unit_details import layer_counts, run_summary, unit_page, unit_response
from netdissect.explorer.routes.explorer_state import (
    ExplorerPart,
    LayerNumber,
    Limit,
    MinIou,
    Offset,
    Quantile,
    Run,
    Search,
    UnitNumber,
    error_responses,
)
from netdissect.explorer.schemas import (
    ConceptDetail,
    ConceptPage,
    LayerCountsResponse,
    RunSummary,
    UnitDetailResponse,
    UnitPage,
)
from netdissect.report.views.intervention_views import InterventionView
from netdissect.report.views.training_views import TrainingView

router = APIRouter(tags=["results"])


@router.get("/api/runs")
def list_runs(explorer: ExplorerPart) -> tuple[RunSummary, ...]:
    """List the runs."""
    return tuple(run_summary(run) for run in explorer.runs)


@router.get("/api/runs/{run}", responses=error_responses(404))
def show_run(run: Run) -> RunSummary:
    """Describe one run."""
    return run_summary(run)


@router.get("/api/runs/{run}/layers/{layer}/counts", responses=error_responses(404))
def count_layer(run: Run, layer: LayerNumber, quantile: Quantile = None, min_iou: MinIou = None) -> LayerCountsResponse:
    """Count detectors at any IoU threshold, at the run's quantile that is nearest to `quantile`."""
    return layer_counts(run, layer, quantile, min_iou)


@router.get("/api/runs/{run}/layers/{layer}/units", responses=error_responses(404))
def list_units(run: Run, layer: LayerNumber, query: Annotated[UnitsQuery, Query()]) -> UnitPage:
    """List units: labels at the run's nearest quantile, masks at exactly `quantile`."""
    return unit_page(run, layer, query)


@router.get("/api/runs/{run}/layers/{layer}/units/{unit}", responses=error_responses(404))
def show_unit(
    run: Run, layer: LayerNumber, unit: UnitNumber, quantile: Quantile = None, min_iou: MinIou = None
) -> UnitDetailResponse:
    """Show one unit: what its page shows."""
    return unit_response(run, layer, unit, quantile, min_iou)


@router.get("/api/concepts")
def search_concepts(
    explorer: ExplorerPart,
    q: Search = "",
    category: Annotated[str | None, Query(max_length=100)] = None,
    offset: Offset = 0,
    limit: Limit = 100,
) -> ConceptPage:
    """Search the concepts of all runs."""
    return concept_page(explorer.runs, explorer.report.concept_list, q, category, offset, limit)


@router.get("/api/concept", responses=error_responses(404))
def show_concept(
    explorer: ExplorerPart,
    name: Annotated[str, Query(min_length=1, max_length=200)],
    category: Annotated[str | None, Query(max_length=100)] = None,
    limit: Limit = 50,
) -> ConceptDetail:
    """Show one concept: its best units in all layers and runs, and all detectors, best first."""
    return concept_detail(explorer.runs, explorer.report.concept_list, name, category, limit)


@router.get("/api/trainings")
def list_trainings(explorer: ExplorerPart) -> tuple[TrainingView, ...]:
    """List the trainings of `--training`: the concepts with detectors, and their number, at each snapshot."""
    return explorer.trainings


@router.get("/api/interventions")
def list_interventions(explorer: ExplorerPart) -> tuple[InterventionView, ...]:
    """List the interventions of `--intervention`: areas of concepts before and after, with intervals and controls."""
    return explorer.interventions
