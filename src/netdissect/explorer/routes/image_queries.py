"""Images that a network looks at now: sent by the user, or one of the data set's."""

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from PIL import Image

from netdissect.errors import RequestError
from netdissect.explorer.queries.explanation import explanation, looked
from netdissect.explorer.query_schemas import ImageQuery
from netdissect.explorer.routes.explorer_state import WEBP, ExplorerPart, RowNumber, Run, problems
from netdissect.explorer.run_registry import OpenRun
from netdissect.explorer.schemas import Explanation, UploadedImage
from netdissect.explorer.thumbnails import as_dissected, encoded, image_path
from netdissect.explorer.uploads import FORMATS, Pixels, check_bytes, decode_upload, network_input, shown

router = APIRouter(tags=["images"])

_BODY = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in FORMATS},
    }
}


@router.post(
    "/api/runs/{run}/images", status_code=201, responses=problems(403, 404, 409, 413, 415, 503), openapi_extra=_BODY
)
async def send_image(run: Run, request: Request, explorer: ExplorerPart) -> UploadedImage:
    """Let a run's network look at an image: the body is a JPEG, PNG or WebP file.

    It is kept in memory for a while, under a name that cannot be guessed, and never written.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in FORMATS:
        raise RequestError(f"the body is said to be {kind!r}. Expected {', '.join(FORMATS)}.", 415)
    data = bytearray()
    async for piece in request.stream():
        check_bytes(len(data) + len(piece))  # as it comes: what is announced may not be true
        data += piece

    def prepare() -> tuple[Pixels, Pixels]:
        return _prepared(run, decode_upload(bytes(data)))

    return looked(run, await explorer.sight.look(run, prepare))


@router.post("/api/runs/{run}/rows/{row}", status_code=201, responses=problems(403, 404, 409, 503))
async def look_at_row(run: Run, row: RowNumber, explorer: ExplorerPart) -> UploadedImage:
    """Let a run's network look at an image of the data set that a table of top images names."""
    path = image_path(run, row)

    def prepare() -> tuple[Pixels, Pixels]:
        return _prepared(run, as_dissected(path))

    return looked(run, await explorer.sight.look(run, prepare, run.label_sizes[row]))


@router.get("/api/runs/{run}/images/{image}/units", responses=problems(404))
def explain_image(run: Run, image: str, explorer: ExplorerPart, asked: Annotated[ImageQuery, Query()]) -> Explanation:
    """Say which units are on in an image, or at a point of it; the rarest activations first."""
    return explanation(run, explorer.sight.seen(run, image), asked)


@router.get("/api/runs/{run}/images/{image}.webp", responses=WEBP | problems(404), response_class=Response)
def seen_image(run: Run, image: str, explorer: ExplorerPart) -> Response:
    """Return an image that was looked at."""
    data = encoded(Image.fromarray(np.asarray(explorer.sight.seen(run, image).pixels)))
    return Response(data, media_type="image/webp", headers={"Cache-Control": "no-store"})


def _prepared(run: OpenRun, image: Image.Image) -> tuple[Pixels, Pixels]:
    network = run.result.info.network
    return shown(image), network_input(image, network)
