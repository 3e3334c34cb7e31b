"""Shared by all routes: the state of an explorer, and checked parameters."""

from dataclasses import dataclass, field
from threading import Lock
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request

from netdissect.explorer.inference import InferenceWorker
from netdissect.explorer.live_report import LiveReport
from netdissect.explorer.networks.changed_samples import SampleChanger
from netdissect.explorer.networks.class_scores import AblationWorker
from netdissect.explorer.queries.requests import LARGEST
from netdissect.explorer.ratings import Ratings
from netdissect.explorer.run_registry import OpenRun, RunRegistry
from netdissect.explorer.schemas import ProblemDetails
from netdissect.explorer.thumbnails import Thumbnails
from netdissect.report.views.intervention_views import InterventionView
from netdissect.report.views.training_views import TrainingView


@dataclass(frozen=True)
class Explorer:
    """The state of an explorer."""

    runs: RunRegistry
    worker: InferenceWorker
    ablations: AblationWorker
    changer: SampleChanger
    thumbnails: Thumbnails
    report: LiveReport
    ratings: Ratings | None
    trainings: tuple[TrainingView, ...] = ()
    interventions: tuple[InterventionView, ...] = ()
    drawing: Lock = field(default_factory=Lock)
    """One figure at a time: matplotlib is not thread-safe."""


def _explorer(request: Request) -> Explorer:
    explorer: Explorer = request.app.state.explorer
    return explorer


ExplorerPart = Annotated[Explorer, Depends(_explorer)]
RunName = Annotated[str, Path(pattern=r"^[a-z0-9-]+$", max_length=64, description="A run's id.")]
RunQuery = Annotated[str, Query(pattern=r"^[a-z0-9-]+$", max_length=64, description="A run's id.")]
RunNumber = Annotated[int, Path(ge=0, le=10_000, description="Index of a run, from 0.")]
DataNumber = Annotated[int, Path(ge=0, le=10_000, description="Index of a data set, from 0.")]
LayerNumber = Annotated[int, Path(ge=0, le=10_000, description="Index of a layer in the run, from 0.")]
ImageIndex = Annotated[int, Path(ge=0, le=LARGEST, description="Index of an image in the data set, from 0.")]
ImageId = Annotated[str, Path(alias="id", description="Id of a processed image.")]
LayerQuery = Annotated[int, Query(ge=0, le=10_000, description="Index of a layer in the run, from 0.")]
UnitNumber = Annotated[int, Path(ge=0, le=LARGEST, description="Index of a unit, from 0.")]
Quantile = Annotated[
    float | None, Query(gt=0, lt=1, description="Share of activations above the threshold; default: the run's first.")
]
MinIou = Annotated[float | None, Query(ge=0, lt=1, description="IoU of a detector; default: the run's.")]
Search = Annotated[str, Query(max_length=100, description="Part of a name, in any case.")]
Offset = Annotated[int, Query(ge=0, le=LARGEST)]
Limit = Annotated[int, Query(ge=1, le=200)]

WEBP: dict[int | str, dict[str, Any]] = {200: {"content": {"image/webp": {}}, "description": "A WebP file."}}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of an address for OpenAPI."""
    texts = {
        400: "The body is not JSON.",
        403: "The rating page is off, or the request comes from another site.",
        404: "No such run, layer, unit, concept or image, or the run holds no data on it.",
        409: "The files of the run, the network or the ratings do not allow it.",
        410: "A run was replaced, changed or removed since the explorer started.",
        413: "Too large.",
        415: "Not an image of a supported format.",
        503: "Too many images are queued, or another program uses the ratings file.",
    }
    return {status: {"model": ProblemDetails, "description": texts[status]} for status in statuses}


def run_of(run: RunName, explorer: ExplorerPart) -> OpenRun:
    """Return the run that a path names."""
    return explorer.runs[run]


Run = Annotated[OpenRun, Depends(run_of)]
