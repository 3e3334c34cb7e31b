"""Ratings: the next item of a rater, a rating, undo, export."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from netdissect.errors import RequestError
from netdissect.explorer.queries.requests import RatingRequest, UndoRequest
from netdissect.explorer.ratings import IMAGES, Item, Ratings, rating_items
from netdissect.explorer.routes.explorer_state import Explorer, ExplorerPart, LayerQuery, RunQuery, error_responses
from netdissect.explorer.run_registry import OpenRun
from netdissect.explorer.schemas import RatedImage, RatingItem, RatingSession, RatingSummary
from netdissect.report.layer_tables import LayerTables
from netdissect.report.views.masked_images import top_images

router = APIRouter(tags=["rating"])
CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {}}, "description": "A CSV file."}}
RaterQuery = Annotated[str, Query(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f]*\S[^\x00-\x1f]*$")]


@router.get("/api/rating/session", responses=error_responses(403, 404, 409, 503))
def rating_session(run: RunQuery, rater: RaterQuery, explorer: ExplorerPart, layer: LayerQuery = 0) -> RatingSession:
    """Return the progress of a rater in a layer, and the next item; never an IoU."""
    return _session(explorer, explorer.runs[run], layer, rater)


@router.post("/api/rating/answers", responses=error_responses(400, 403, 404, 409, 503))
def rate(request: RatingRequest, explorer: ExplorerPart) -> RatingSession:
    """Store one rating, and return the next item."""
    run = explorer.runs[request.run]
    ratings = _ratings(explorer)
    items = rating_items(run, request.layer, request.rater)
    if request.item >= len(items):
        raise RequestError(f"there is no item {request.item}: there are {len(items)}, counted from 0.")
    name = run.layer(request.layer).info.name
    ratings.add(run, name, items[request.item], request.rater, request.rating)
    return _session(explorer, run, request.layer, request.rater)


@router.post("/api/rating/undo", responses=error_responses(400, 403, 404, 409, 503))
def undo(request: UndoRequest, explorer: ExplorerPart) -> RatingSession:
    """Undo a rater's last rating; its item comes next again."""
    run = explorer.runs[request.run]
    _ratings(explorer).undo(run, run.layer(request.layer).info.name, request.rater)
    return _session(explorer, run, request.layer, request.rater)


@router.get("/api/rating/summary", responses=error_responses(403, 409, 503))
def rating_summary(explorer: ExplorerPart) -> RatingSummary:
    """Count the ratings of each rater."""
    return RatingSummary(raters=_ratings(explorer).summaries())


@router.get(
    "/api/rating/export.csv",
    responses=CSV | error_responses(403, 409, 503),
    response_class=Response,
)
def export_ratings(
    explorer: ExplorerPart,
    controls: Annotated[bool, Query(description="Ratings of controls instead of those of labels.")] = False,
) -> Response:
    """Return all yes and no ratings: run, layer, unit, label, iou, rater, rating, time."""
    headers = {"Content-Disposition": 'attachment; filename="ratings.csv"', "Cache-Control": "no-store"}
    return Response(_ratings(explorer).csv(controls=controls), media_type="text/csv", headers=headers)


def _ratings(explorer: Explorer) -> Ratings:
    if explorer.ratings is None:
        raise RequestError("this explorer stores no ratings. Start it with 'netdissect serve RUN --ratings FILE'.", 403)
    return explorer.ratings


def _session(explorer: Explorer, run: OpenRun, layer_index: int, rater: str) -> RatingSession:
    layer = run.layer(layer_index)
    rated = _ratings(explorer).rated(run, layer.info.name, rater)
    items = rating_items(run, layer_index, rater)
    remaining = [index for index, item in enumerate(items) if (item.unit, item.control) not in rated]
    return RatingSession(
        run=run.id,
        layer=layer_index,
        rater=rater,
        done=len(items) - len(remaining),
        total=len(items),
        can_undo=bool(rated),
        next=_item(run, layer_index, remaining[0], items[remaining[0]]) if remaining else None,
    )


def _item(run: OpenRun, layer_index: int, index: int, item: Item) -> RatingItem:
    tables = LayerTables(run.numbered, layer_index, chosen=[item.unit])
    images = top_images(tables, item.unit, IMAGES)
    return RatingItem(
        item=index,
        phrase=item.label,
        images=tuple(RatedImage(url=image.url, size=image.size, unit=image.unit) for image in images),
    )
