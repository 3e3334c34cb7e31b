"""The explorer as an ASGI application; every error has the same JSON form, or is a page where HTML was asked for."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from netdissect.errors import ConfigError, NetdissectError, RequestError
from netdissect.evaluation.open_vocabulary.embedding_source import Embeddings, EmbeddingSource
from netdissect.explorer import html_pages
from netdissect.explorer.freshness import FreshnessCheck
from netdissect.explorer.html_pages import problem_page
from netdissect.explorer.inference import InferenceWorker
from netdissect.explorer.live_report import LiveReport
from netdissect.explorer.networks.changed_samples import SampleChanger
from netdissect.explorer.networks.class_scores import AblationWorker
from netdissect.explorer.networks.run_network import network_for
from netdissect.explorer.ratings import Ratings
from netdissect.explorer.routes import comparison, image_queries, rating_sessions, run_pages
from netdissect.explorer.routes.explorer_state import Explorer, error_responses
from netdissect.explorer.run_registry import GivenNetwork, GivenSegmenter, OpenRun, RunRegistry
from netdissect.explorer.security import LOOPBACK_NAMES, Guard
from netdissect.explorer.thumbnails import Thumbnails
from netdissect.explorer.unit_words import UnitWords
from netdissect.explorer.uploads import MAX_BYTES
from netdissect.report.views.intervention_views import Interventions, open_interventions
from netdissect.report.views.training_views import Trainings, open_trainings
from netdissect.result import Result

DESCRIPTION = "Runs of netdissect: units, concepts, comparisons, uploaded images, ratings."


def create_app(
    runs: Sequence[str | Path | Result] | str | Path | Result,
    *,
    data_root: str | Path | None = None,
    network: GivenNetwork | None = None,
    segmenter: GivenSegmenter | None = None,
    ratings: str | Path | None = None,
    training: Trainings = (),
    interventions: Interventions = (),
    labels: str | Path | None = None,
    embeddings: Embeddings | EmbeddingSource | None = None,
) -> FastAPI:
    """Make the explorer as an application that any ASGI server can run; see `netdissect.explorer.serve`.

    Parameters
    ----------
    runs
        Folders of finished runs, or results in memory; one or several.
    data_root
        The data set's folder, if it has moved since the runs.
    network
        The network of a single run that cannot be loaded again, or its module; of several runs by their names.
        Compared with the run: by its digest, or else by the sizes of its layers and its activations on some images.
    segmenter
        That of the samples of a single run of a generator, or of several by their names: it measures the areas of
        concepts before and after a change. None: the one that the samples record, unless it is Python code.
    ratings
        SQLite file in which ratings are kept; None: the rating page is off.
    training
        Results of the experiment `training-dynamics`, or their folders.
    interventions
        Files that ``netdissect intervene RUN --json`` printed, of generators of the runs.
    labels
        Of a single run: a label file, such as one of `netdissect.label`. The search of units finds its words, too.
    embeddings
        Of a single run with ``moments=True``: a model as for `netdissect.label`, by which units are sorted by their
        similarity to any word.

    Returns
    -------
    fastapi.FastAPI
        Not guarded against foreign hosts and origins: see `netdissect.explorer.security.Guard`.
    """
    registry, worker = RunRegistry.open(runs, data_root, network, segmenter), InferenceWorker()
    for run in registry:
        if run.network is not None:
            run.network = network_for(run)
    if labels is not None or embeddings is not None:
        _open_words(list(registry), labels, embeddings, data_root)
    numbered = [run.numbered for run in registry]
    trainings, changes = open_trainings(training, numbered), open_interventions(interventions, numbered)
    ratings_file = None if ratings is None else Ratings(ratings)
    explorer = Explorer(
        registry,
        worker,
        AblationWorker(worker),
        SampleChanger(worker),
        Thumbnails(),
        LiveReport(registry, trainings, changes, rating=ratings is not None),
        ratings_file,
        trainings,
        changes,
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        explorer.worker.close()
        if explorer.ratings is not None:
            explorer.ratings.close()

    app = FastAPI(
        title="netdissect explorer", description=DESCRIPTION, version=version("netdissect"), lifespan=lifespan,
        # Its own documentation pages would load scripts from the web; the page /about lists the addresses instead.
        docs_url=None, redoc_url=None, max_body_size=2 * MAX_BYTES, responses=error_responses(410),
    )  # fmt: skip
    app.state.explorer = explorer
    for routes in (run_pages, image_queries, comparison, rating_sessions):
        app.include_router(routes.router)
    html_pages.install(app)
    app.add_exception_handler(NetdissectError, _failed)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_middleware(FreshnessCheck, runs=tuple(registry))
    return app


def _open_words(
    runs: Sequence[OpenRun],
    labels: str | Path | None,
    embeddings: Embeddings | EmbeddingSource | None,
    data_root: str | Path | None,
) -> None:
    if len(runs) > 1:
        raise ConfigError(
            f"labels or embeddings were given for {len(runs)} runs, and they are of one. Expected one run: serve each "
            "in an explorer of its own."
        )
    given = embeddings if embeddings is None or isinstance(embeddings, EmbeddingSource) else EmbeddingSource(embeddings)
    runs[0].words = UnitWords.open(runs[0].result, labels, given, data_root)


def guarded(app: ASGIApp, hosts: Sequence[str] = (), *, any_address: bool = False) -> Guard:
    """Wrap an application so that it answers only to loopback names and `hosts`."""
    return Guard(app, LOOPBACK_NAMES | set(hosts), any_address=any_address)


def _failed(request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, RequestError) else 409
    headers = {"Retry-After": "5"} if status == 503 else {}
    return _problem(request, type(error).__name__, str(error), status, headers)


def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    message = f"{request.method} {request.url.path}: {error.detail}. The page /about lists all addresses."
    return _problem(request, "RequestError", message, error.status_code, dict(error.headers or {}))


def _not_valid(request: Request, error: Exception) -> Response:
    """Say what is wrong with a request, without the values that were sent: JSON cannot represent all of them."""
    if not isinstance(error, RequestValidationError):
        raise error
    errors = [
        {"loc": [_printable(part) for part in each["loc"]], "msg": _printable(each["msg"]), "type": each["type"]}
        for each in error.errors()
    ]
    reasons = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in errors)
    page = problem_page(request, "No such page", f"The address is not valid: {reasons}.")
    return JSONResponse({"detail": errors}, 422) if page is None else HTMLResponse(page, 422)


def _printable(part: str | int) -> str | int:
    return part.encode(errors="backslashreplace").decode() if isinstance(part, str) else part


def _problem(request: Request, error: str, message: str, status: int, headers: Mapping[str, str]) -> Response:
    page = problem_page(request, "No such page" if status == 404 else "That did not work", message)
    if page is None:
        return JSONResponse({"error": error, "message": message}, status, headers)
    return HTMLResponse(page, status, headers)
