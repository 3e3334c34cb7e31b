"""What several addresses have in common: the parts of an explorer, and checked parameters."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request

from netdissect.explorer.inference import InferenceWorker
from netdissect.explorer.live_report import LiveReport
from netdissect.explorer.matching import Matcher
from netdissect.explorer.query_schemas import LARGEST
from netdissect.explorer.ratings import Ratings
from netdissect.explorer.run_registry import OpenRun, RunRegistry
from netdissect.explorer.schemas import ProblemDetails
from netdissect.explorer.thumbnails import Thumbnails


@dataclass(frozen=True)
class Explorer:
    """The parts of an explorer."""

    shelf: RunRegistry
    sight: InferenceWorker
    matcher: Matcher
    images: Thumbnails
    report: LiveReport
    ratings: Ratings | None


def _explorer(request: Request) -> Explorer:
    explorer: Explorer = request.app.state.explorer
    return explorer


ExplorerPart = Annotated[Explorer, Depends(_explorer)]
RunName = Annotated[str, Path(pattern=r"^[a-z0-9-]+$", max_length=64, description="A run's id.")]
RunQuery = Annotated[str, Query(pattern=r"^[a-z0-9-]+$", max_length=64, description="A run's id.")]
LayerNumber = Annotated[int, Path(ge=0, le=10_000, description="A layer's place in the run, from 0.")]
RowNumber = Annotated[int, Path(ge=0, le=LARGEST, description="An index row of the data set, from 0.")]
LayerQuery = Annotated[int, Query(ge=0, le=10_000, description="A layer's place in the run, from 0.")]
UnitNumber = Annotated[int, Path(ge=0, le=LARGEST, description="A unit, from 0.")]
Quantile = Annotated[
    float | None, Query(gt=0, lt=1, description="Share of activations above the threshold; default: the run's first.")
]
MinIou = Annotated[float | None, Query(ge=0, lt=1, description="IoU of a detector; default: the run's.")]
Search = Annotated[str, Query(max_length=100, description="Part of a name, in any case.")]
Offset = Annotated[int, Query(ge=0, le=LARGEST)]
Limit = Annotated[int, Query(ge=1, le=200)]

WEBP: dict[int | str, dict[str, Any]] = {200: {"content": {"image/webp": {}}, "description": "A WebP file."}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe how an address may fail."""
    texts = {
        400: "The body is no JSON.",
        403: "The rating page is off, or the request comes from another site.",
        404: "There is no such thing here, or nothing is known of it.",
        409: "What is on disk does not allow it.",
        410: "A run was replaced, changed or removed since the explorer began.",
        413: "Too large.",
        415: "No image of a known format.",
        503: "Too many images are waiting, or another program uses the file of ratings.",
    }
    return {status: {"model": ProblemDetails, "description": texts[status]} for status in statuses}


def run_of(run: RunName, explorer: ExplorerPart) -> OpenRun:
    """Return the run that a path names."""
    return explorer.shelf[run]


Run = Annotated[OpenRun, Depends(run_of)]
