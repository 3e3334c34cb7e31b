"""Two runs side by side: by concept, and units matched by activation."""

from typing import Annotated

from fastapi import APIRouter, Query

from netdissect.explorer.queries.requests import ComparisonQuery, MatchQuery
from netdissect.explorer.queries.run_comparison import comparison, matching
from netdissect.explorer.routes.explorer_state import ExplorerPart, error_responses
from netdissect.explorer.schemas import ComparisonResponse, Matching

router = APIRouter(tags=["comparison"])


@router.get("/api/compare", responses=error_responses(404, 409))
def compare(explorer: ExplorerPart, query: Annotated[ComparisonQuery, Query()]) -> ComparisonResponse:
    """Compare two layers concept by concept: gained, lost and kept, and the best IoU on each side."""
    indices = explorer.report.pages.concept_indices
    return comparison(explorer.runs[query.left], explorer.runs[query.right], query, indices)


@router.get("/api/matches", responses=error_responses(404, 409))
def match_units(explorer: ExplorerPart, query: Annotated[MatchQuery, Query()]) -> Matching:
    """Match the units of two layers by their activations on the same images."""
    return matching(explorer.runs[query.left], explorer.runs[query.right], query)
