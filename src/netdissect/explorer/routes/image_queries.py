"""Run a network on an uploaded image or an image of the data set, and query the active units."""

from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from PIL import Image

from netdissect.activations.sample_reader import read_sample
from netdissect.errors import RequestError
from netdissect.explorer.inference import NetworkInput
from netdissect.explorer.queries.ablations import ablation
from netdissect.explorer.queries.image_details import image_detail, processed_image
from netdissect.explorer.queries.image_schemas import AblationResponse, EditResponse, SegmentationResponse
from netdissect.explorer.queries.requests import AblationRequest, EditRequest, ImageQuery, SegmentationQuery
from netdissect.explorer.queries.sample_changes import edited_sample
from netdissect.explorer.queries.segmentations import segmentation_detail, segmentation_figure
from netdissect.explorer.routes.explorer_state import WEBP, ExplorerPart, ImageId, ImageIndex, Run, error_responses
from netdissect.explorer.run_registry import OpenRun
from netdissect.explorer.schemas import ImageDetail, ProcessedImageResponse
from netdissect.explorer.thumbnails import encode_webp, image_path, open_as_dissected
from netdissect.explorer.uploads import FORMATS, Pixels, check_bytes, decode_upload, display_copy, network_input
from netdissect.models.stored_activations.stored_network import StoredActivations

router = APIRouter(tags=["images"])

FIGURE_TYPES = {"svg": "image/svg+xml", "png": "image/png"}
FIGURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {media_type: {} for media_type in FIGURE_TYPES.values()}, "description": "A figure."}
}

_BODY = {
    "requestBody": {
        "required": True,
        "content": {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in FORMATS},
    }
}


@router.post(
    "/api/runs/{run}/inference",
    status_code=201,
    responses=error_responses(403, 404, 409, 413, 415, 503),
    openapi_extra=_BODY,
)
async def run_uploaded_image(run: Run, request: Request, explorer: ExplorerPart) -> ProcessedImageResponse:
    """Run a network on an image: the body is a JPEG, PNG or WebP file.

    The image is kept in memory for a while, under an id that cannot be guessed, and never written to disk.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in FORMATS:
        raise RequestError(f"the content type of the body is {media_type!r}. Expected {', '.join(FORMATS)}.", 415)
    data = bytearray()
    async for chunk in request.stream():
        check_bytes(len(data) + len(chunk))  # as it arrives: the announced length may be wrong
        data += chunk

    def prepare() -> tuple[Pixels, NetworkInput]:
        network = explorer.worker.network(run)[0]
        if not network.takes_images:
            kind = (
                "is a generator, which takes latents and no images"
                if network.draws
                else "is not there, but activations that another program stored"
            )
            raise RequestError(
                f"the network of the run {run.name!r} {kind}. Expected one of the run's own images: choose an image of "
                "the data set.",
                409,
            )
        return _prepared(run, decode_upload(bytes(data)))

    return processed_image(run, await explorer.worker.run_image(run, prepare))


@router.post(
    "/api/runs/{run}/images/{image_index}/inference", status_code=201, responses=error_responses(403, 404, 409, 503)
)
async def run_data_set_image(run: Run, image_index: ImageIndex, explorer: ExplorerPart) -> ProcessedImageResponse:
    """Run a network on an image of the data set that a table names."""
    path = image_path(run, image_index)

    def prepare() -> tuple[Pixels, NetworkInput]:
        image = open_as_dissected(path)
        network, name = explorer.worker.network(run)[0], run.image(image_index)[0]
        if network.draws:
            return display_copy(image), read_sample(name, run.images)
        if isinstance(network, StoredActivations):
            return display_copy(image), np.array([network.rows[name]], np.int64)
        return _prepared(run, image)

    return processed_image(run, await explorer.worker.run_image(run, prepare, run.image(image_index)[1]))


@router.get("/api/runs/{run}/inference/{id}/units", responses=error_responses(404))
def list_active_units(
    run: Run, image_id: ImageId, explorer: ExplorerPart, query: Annotated[ImageQuery, Query()]
) -> ImageDetail:
    """List the units that are active in an image, or at a point of it; the rarest activations first."""
    return image_detail(run, explorer.worker.get(run, image_id), query)


@router.get("/api/runs/{run}/inference/{id}/segmentation", responses=error_responses(404))
def segment_processed_image(
    run: Run, image_id: ImageId, explorer: ExplorerPart, query: Annotated[SegmentationQuery, Query()]
) -> SegmentationResponse:
    """Segment an image by the detectors of a layer: each pixel has the concept of its most active detector."""
    return segmentation_detail(run, explorer.worker.get(run, image_id), query)


@router.get(
    "/api/runs/{run}/inference/{id}/segmentation.{form}",
    responses=FIGURE | error_responses(404),
    response_class=Response,
)
def draw_segmentation(
    run: Run,
    image_id: ImageId,
    form: Literal["svg", "png"],
    explorer: ExplorerPart,
    query: Annotated[SegmentationQuery, Query()],
) -> Response:
    """Draw the image beside its segmentation, with a legend."""
    with explorer.drawing:
        data = segmentation_figure(run, explorer.worker.get(run, image_id), query, form)
    name = f"{run.id}-{query.layer}.{form}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(data, media_type=FIGURE_TYPES[form], headers=headers)


@router.post("/api/runs/{run}/inference/{id}/ablation", responses=error_responses(400, 403, 404, 409, 503))
async def ablate_units(
    run: Run, image_id: ImageId, request: AblationRequest, explorer: ExplorerPart
) -> AblationResponse:
    """Compare the classes of a classifier on an image with and without units, or all detectors of a concept."""
    image = explorer.worker.get(run, image_id)
    return await explorer.worker.run(lambda: ablation(run, image, request, explorer.ablations))


@router.post("/api/runs/{run}/inference/{id}/edit", responses=error_responses(400, 403, 404, 409, 503))
async def edit_sample(run: Run, image_id: ImageId, request: EditRequest, explorer: ExplorerPart) -> EditResponse:
    """Draw a sample of a generator with units ablated or inserted, everywhere or in some cells, at some strengths."""
    image = explorer.worker.get(run, image_id)
    return await explorer.worker.run(lambda: edited_sample(run, image, request, explorer.changer))


@router.get("/api/runs/{run}/inference/{id}.webp", responses=WEBP | error_responses(404), response_class=Response)
def show_processed_image(run: Run, image_id: ImageId, explorer: ExplorerPart) -> Response:
    """Return an image on which a network was run."""
    data = encode_webp(Image.fromarray(np.asarray(explorer.worker.get(run, image_id).pixels)))
    return Response(data, media_type="image/webp", headers={"Cache-Control": "no-store"})


def _prepared(run: OpenRun, image: Image.Image) -> tuple[Pixels, NetworkInput]:
    network = run.result.info.network
    return display_copy(image), network_input(image, network)
