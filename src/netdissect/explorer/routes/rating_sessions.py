"""The rating page's addresses: what a rater is shown next, the answer, undo, export."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from netdissect.errors import RequestError
from netdissect.explorer.queries.unit_details import mask_level, top_images
from netdissect.explorer.ratings import IMAGES, Item, Ratings, rating_items
from netdissect.explorer.routes.explorer_state import Explorer, ExplorerPart, LayerQuery, RunQuery, problems
from netdissect.explorer.run_registry import OpenRun
from netdissect.explorer.schemas import (
    RaterSummary,
    RatingAnswer,
    RatingItem,
    RatingSession,
    RatingSummary,
    UndoRequest,
)

router = APIRouter(tags=["rating"])
CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {}}, "description": "A CSV file."}}
RaterQuery = Annotated[str, Query(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f]*\S[^\x00-\x1f]*$")]


@router.get("/api/rating/session", responses=problems(403, 404, 409, 503))
def rating_session(run: RunQuery, rater: RaterQuery, explorer: ExplorerPart, layer: LayerQuery = 0) -> RatingSession:
    """Return how far a rater has come in a layer, and what comes next; never an IoU."""
    return _session(explorer, explorer.shelf[run], layer, rater)


@router.post("/api/rating/answers", responses=problems(400, 403, 404, 409, 503))
def rate(answer: RatingAnswer, explorer: ExplorerPart) -> RatingSession:
    """Keep one rating, and return what comes next."""
    run = explorer.shelf[answer.run]
    ratings = _ratings(explorer)
    items = rating_items(run, answer.layer, answer.rater)
    if answer.item >= len(items):
        raise RequestError(f"there is no item {answer.item}: there are {len(items)}, counted from 0.")
    name = run.layer(answer.layer).info.name
    ratings.add(run, name, items[answer.item], answer.rater, answer.rating)
    return _session(explorer, run, answer.layer, answer.rater)


@router.post("/api/rating/undo", responses=problems(400, 403, 404, 409, 503))
def undo(request: UndoRequest, explorer: ExplorerPart) -> RatingSession:
    """Take a rater's last rating back; it is shown again."""
    run = explorer.shelf[request.run]
    _ratings(explorer).undo(run, run.layer(request.layer).info.name, request.rater)
    return _session(explorer, run, request.layer, request.rater)


@router.get("/api/rating/summary", responses=problems(403, 409, 503))
def rating_summary(explorer: ExplorerPart) -> RatingSummary:
    """Count what each rater said."""
    return RatingSummary(raters=tuple(RaterSummary(**vars(tally)) for tally in _ratings(explorer).tallies()))


@router.get(
    "/api/rating/export.csv",
    responses=CSV | problems(403, 409, 503),
    response_class=Response,
)
def export_ratings(
    explorer: ExplorerPart,
    controls: Annotated[bool, Query(description="Answers to wrong phrases instead of those to labels.")] = False,
) -> Response:
    """Return all answers of yes and no: run, layer, unit, label, iou, rater, rating, time."""
    headers = {"Content-Disposition": 'attachment; filename="ratings.csv"', "Cache-Control": "no-store"}
    return Response(_ratings(explorer).csv(controls=controls), media_type="text/csv", headers=headers)


def _ratings(explorer: Explorer) -> Ratings:
    if explorer.ratings is None:
        raise RequestError("ratings are not kept here. Start with 'netdissect serve RUN --ratings FILE'.", 403)
    return explorer.ratings


def _session(explorer: Explorer, run: OpenRun, index: int, rater: str) -> RatingSession:
    layer = run.layer(index)
    rated = _ratings(explorer).rated(run, layer.info.name, rater)
    items = rating_items(run, index, rater)
    left = [place for place, item in enumerate(items) if (item.unit, item.control) not in rated]
    return RatingSession(
        run=run.id,
        layer=index,
        rater=rater,
        done=len(items) - len(left),
        total=len(items),
        can_undo=bool(rated),
        next=_item(run, index, left[0], items[left[0]]) if left else None,
    )


def _item(run: OpenRun, index: int, place: int, item: Item) -> RatingItem:
    layer = run.layer(index)
    threshold = float(mask_level(run, layer, None)[1].values[item.unit])
    return RatingItem(item=place, phrase=item.label, images=top_images(run, layer, item.unit, threshold, IMAGES))
