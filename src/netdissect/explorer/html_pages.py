"""The explorer's pages: those of the report at the report's addresses, and its own.

    /                           the report's overview: runs, layers, concepts, and links to the pages below
    /r0/l1/, /r0/l1/u5.html     a layer and a unit of run 0, with sliders     /api/runs/RUN/layers/L/units
    /concepts/                  the concepts of all runs                      /api/concepts, /api/concept
    /image                      dissect an image of your own                  /api/runs/RUN/inference
    /compare                    two runs side by side                         /api/compare
    /compare/matches            their matched units, a part of that page      /api/matches
    /rate                       the rating page                               /api/rating/...
    /training.html              concepts over a training                      /api/trainings
    /interventions.html         changed units of a generator                  /api/interventions
    /about                      every address, and the security rules

Names from data reach a page only as escaped text.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool
from starlette.staticfiles import StaticFiles

from netdissect.errors import RequestError
from netdissect.explorer.queries.ablations import ablation, best_classes
from netdissect.explorer.queries.requests import AblationRequest, EditRequest, ImageQuery, LayerPageQuery, MatchQuery
from netdissect.explorer.queries.sample_changes import edited_sample
from netdissect.explorer.routes.explorer_state import (
    DataNumber,
    ExplorerPart,
    ImageId,
    ImageIndex,
    LayerNumber,
    Quantile,
    Run,
    RunNumber,
    UnitNumber,
)
from netdissect.report import urls
from netdissect.report.pages import script, style

CACHED = {"Cache-Control": "private, max-age=3600"}


def install(app: FastAPI) -> None:
    """Add the pages to an application."""
    for path, page in (
        ("/", index),
        ("/index.html", index),
        ("/r{run}/l{layer}/", layer_page),
        ("/r{run}/l{layer}/index.html", layer_page),
        ("/r{run}/l{layer}/u{unit}.html", unit_page),
        ("/concepts/", concepts_page),
        ("/concepts/index.html", concepts_page),
        ("/concepts/c{concept}.html", concept_page),
        ("/terms.html", _own_page("terms", urls.TERMS)),
        (f"/{urls.TRAINING}", training_page),
        (f"/{urls.INTERVENTIONS}", interventions_page),
        ("/image", _own_page("image", "image")),
        ("/image/{run}/{id}", image_answer),
        ("/compare", _own_page("compare", "compare")),
        ("/compare/matches", matches_page),
        ("/rate", _own_page("rate", "rate")),
        ("/about", about_page),
    ):
        app.add_api_route(path, page, include_in_schema=False, response_class=HTMLResponse)
    for action, answer in (("ablation", ablation_answer), ("edit", edit_answer)):
        app.add_api_route(
            f"/image/{{run}}/{{id}}/{action}", answer, methods=["POST"], include_in_schema=False,
            response_class=HTMLResponse,
        )  # fmt: skip
    for path, file in (
        (f"/{urls.STYLE}", style_file),
        (f"/{urls.SCRIPT}", script_file),
        ("/images/{data}/{image_index}.webp", image_file),
        ("/images/{data}/{image_index}.js", concepts_file),
    ):
        app.add_api_route(path, file, include_in_schema=False, response_class=Response)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))


def index(explorer: ExplorerPart) -> HTMLResponse:
    """Return the overview."""
    return HTMLResponse(explorer.report.index())


def layer_page(
    run: RunNumber, layer: LayerNumber, explorer: ExplorerPart, query: Annotated[LayerPageQuery, Query()]
) -> HTMLResponse:
    """Return the page of a layer with some of its units."""
    return HTMLResponse(explorer.report.layer(run, layer, query))


def unit_page(
    run: RunNumber, layer: LayerNumber, unit: UnitNumber, explorer: ExplorerPart, quantile: Quantile = None
) -> HTMLResponse:
    """Return the page of one unit."""
    return HTMLResponse(explorer.report.unit(run, layer, unit, quantile))


def concepts_page(explorer: ExplorerPart) -> HTMLResponse:
    """Return the table of all concepts."""
    return HTMLResponse(explorer.report.concepts())


def concept_page(concept: UnitNumber, explorer: ExplorerPart) -> HTMLResponse:
    """Return the page of one concept."""
    return HTMLResponse(explorer.report.concept(concept))


def matches_page(explorer: ExplorerPart, query: Annotated[MatchQuery, Query()]) -> HTMLResponse:
    """Return the rows of matched units of two layers, a part of the page that compares runs."""
    return HTMLResponse(explorer.report.matches(explorer.runs[query.left], explorer.runs[query.right], query))


def training_page(explorer: ExplorerPart) -> HTMLResponse:
    """Return the page of the trainings.

    Raises
    ------
    RequestError
        If none is shown.
    """
    if not explorer.trainings:
        raise RequestError(
            "this explorer shows no training. Start it with 'netdissect serve RUN --training FOLDER', the folder of a "
            "result of 'netdissect experiment training-dynamics'."
        )
    return HTMLResponse(explorer.report.training())


def interventions_page(explorer: ExplorerPart) -> HTMLResponse:
    """Return the page of the interventions.

    Raises
    ------
    RequestError
        If none is shown.
    """
    if not explorer.interventions:
        raise RequestError(
            "this explorer shows no intervention. Start it with 'netdissect serve RUN --intervention FILE', which "
            "'netdissect intervene RUN --json > FILE' writes."
        )
    return HTMLResponse(explorer.report.changed_units())


def style_file() -> Response:
    """Return the style sheet of all pages."""
    return Response(style(), media_type="text/css")


def script_file() -> Response:
    """Return the script of all pages."""
    return Response(script(), media_type="text/javascript")


def image_file(data: DataNumber, image_index: ImageIndex, explorer: ExplorerPart) -> Response:
    """Return an image of a data set that a table names."""
    thumbnail = explorer.thumbnails.webp(explorer.report.run_on(data), image_index)
    return Response(thumbnail, media_type="image/webp", headers=CACHED)


def concepts_file(data: DataNumber, image_index: ImageIndex, explorer: ExplorerPart) -> Response:
    """Return the masks of the concepts in an image, as a script."""
    return Response(explorer.report.concept_script(data, image_index), media_type="text/javascript", headers=CACHED)


async def image_answer(
    run: Run, image_id: ImageId, explorer: ExplorerPart, query: Annotated[ImageQuery, Query()]
) -> HTMLResponse:
    """Return the parts of the page "Your image" about an image: its segments, and the units active in it."""
    image, layer = explorer.worker.get(run, image_id), run.layer(query.layer)
    own = layer.info.basis_of is None
    classifier = own and await explorer.worker.run(lambda: explorer.ablations.classifies(run, image.network_input))
    return HTMLResponse(await run_in_threadpool(explorer.report.image_answer, run, image, query, classifier=classifier))


async def ablation_answer(
    run: Run, image_id: ImageId, request: AblationRequest, explorer: ExplorerPart
) -> HTMLResponse:
    """Return the bars of the classes with and without units."""
    image = explorer.worker.get(run, image_id)
    answer = await explorer.worker.run(lambda: ablation(run, image, request, explorer.ablations))
    return HTMLResponse(explorer.report.render("image_classes.html.j2", "image", answer=answer, **best_classes(answer)))


async def edit_answer(run: Run, image_id: ImageId, request: EditRequest, explorer: ExplorerPart) -> HTMLResponse:
    """Return a sample of a generator without and with a change of units."""
    image = explorer.worker.get(run, image_id)
    answer = await explorer.worker.run(lambda: edited_sample(run, image, request, explorer.changer))
    return HTMLResponse(explorer.report.render("sample_change.html.j2", "image", answer=answer))


def about_page(request: Request, explorer: ExplorerPart) -> HTMLResponse:
    """Return the list of all addresses that return JSON or images."""
    app: FastAPI = request.app
    described: list[dict[str, Any]] = [
        {"method": method.upper(), "path": path, "summary": operation["description"].split("\n")[0]}
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
    ]
    return HTMLResponse(explorer.report.render("about.html.j2", "about", addresses=described))


def _own_page(name: str, url: str) -> Callable[[ExplorerPart], HTMLResponse]:
    def page(explorer: ExplorerPart) -> HTMLResponse:
        return HTMLResponse(explorer.report.render(f"{name}.html.j2", url, slider=None))

    return page


def problem_page(request: Request, title: str, message: str) -> str | None:
    """Return a page with links that states a problem; None where JSON was asked for."""
    if request.url.path.startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
        return None
    report = request.app.state.explorer.report
    return str(report.render("missing.html.j2", request.url.path.lstrip("/"), title=title, message=message))
