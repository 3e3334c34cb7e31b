"""Two runs side by side: by concept, and units matched by activation."""

from typing import Annotated

from fastapi import APIRouter, Query

from netdissect.errors import RequestError
from netdissect.explorer.queries.run_comparison import comparison
from netdissect.explorer.query_schemas import ComparisonQuery
from netdissect.explorer.routes.explorer_state import ExplorerPart, problems
from netdissect.explorer.schemas import ComparisonAnswer, Matching, MatchRequest

router = APIRouter(tags=["comparison"])


@router.get("/api/compare", responses=problems(404, 409))
def compare(explorer: ExplorerPart, asked: Annotated[ComparisonQuery, Query()]) -> ComparisonAnswer:
    """Compare two layers concept by concept: gained, lost and kept, and the best IoU on each side."""
    return comparison(explorer.shelf[asked.left], explorer.shelf[asked.right], asked)


@router.post("/api/matches", status_code=202, responses=problems(400, 403, 404, 409))
async def start_matching(request: MatchRequest, explorer: ExplorerPart) -> Matching:
    """Begin to match units of two layers by their activations on common images."""
    return explorer.matcher.start(request)


@router.get("/api/matches/{match}", responses=problems(404))
async def show_matching(match: str, explorer: ExplorerPart) -> Matching:
    """Return how far a matching is, and the pairs when it is done."""
    found = explorer.matcher.find(match)
    if found is None:
        raise RequestError(f"there is no matching {match!r}. Begin one with POST /api/matches.")
    return found
