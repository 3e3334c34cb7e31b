"""Two runs side by side: by concept, and units matched by activation."""

from typing import Annotated

from fastapi import APIRouter, Query

from netdissect.errors import RequestError
from netdissect.explorer.queries.requests import ComparisonQuery, MatchRequest
from netdissect.explorer.queries.run_comparison import comparison
from netdissect.explorer.routes.explorer_state import ExplorerPart, error_responses
from netdissect.explorer.schemas import ComparisonResponse, Matching

router = APIRouter(tags=["comparison"])


@router.get("/api/compare", responses=error_responses(404, 409))
def compare(explorer: ExplorerPart, query: Annotated[ComparisonQuery, Query()]) -> ComparisonResponse:
    """Compare two layers concept by concept: gained, lost and kept, and the best IoU on each side."""
    return comparison(explorer.runs[query.left], explorer.runs[query.right], query)


@router.post("/api/matches", status_code=202, responses=error_responses(400, 403, 404, 409))
async def start_matching(request: MatchRequest, explorer: ExplorerPart) -> Matching:
    """Start to match the units of two layers by their activations on common images."""
    return explorer.matcher.start(request)


@router.get("/api/matches/{match}", responses=error_responses(404))
async def show_matching(match: str, explorer: ExplorerPart) -> Matching:
    """Return the progress of a matching, and the pairs when it is done."""
    matching = explorer.matcher.find(match)
    if matching is None:
        raise RequestError(f"there is no matching {match!r}. Start one with POST /api/matches.")
    return matching
