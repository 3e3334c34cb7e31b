"""The explorer's pages: a template each, which its script fills from the public JSON addresses.

    /                                     runs, and links to all pages
    /runs/RUN/layers/L                    units of a layer, with sliders        /api/runs/RUN/layers/L/units
    /runs/RUN/layers/L/units/U            one unit                              /api/runs/RUN/layers/L/units/U
    /concepts                             search concepts across runs           /api/concepts, /api/concept
    /image                                dissect an image of your own          /api/runs/RUN/inference
    /compare                              two runs side by side                 /api/compare, /api/matches
    /rate                                 the rating page                       /api/rating/...
    /report/...                           the report's own pages, rendered when they are opened
    /about                                every address, and the security rules

Names from data reach a page only as escaped text.
"""

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.staticfiles import StaticFiles

from netdissect.explorer.queries.unit_details import check_unit, run_summary
from netdissect.explorer.routes.explorer_state import ExplorerPart, LayerNumber, Run, UnitNumber
from netdissect.result.summary import basis_note

HERE = Path(__file__).parent
MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "webp": "image/webp"}

_environment = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True,
)  # fmt: skip
_environment.globals["basis_note"] = basis_note


def install(app: FastAPI) -> None:
    """Add the pages to an application."""
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    for path, page in (
        ("/", index),
        ("/runs/{run}/layers/{layer}", layer_page),
        ("/runs/{run}/layers/{layer}/units/{unit}", unit_page),
        ("/concepts", concepts_page),
        ("/image", image_page),
        ("/compare", compare_page),
        ("/rate", rate_page),
        ("/about", about_page),
    ):
        app.add_api_route(path, page, include_in_schema=False, response_class=HTMLResponse)
    app.add_api_route("/report/{address:path}", report_file, include_in_schema=False, response_class=Response)


def index(explorer: ExplorerPart) -> HTMLResponse:
    """Return the first page: runs, their layers, and links to all pages."""
    return _page("index", runs=[run_summary(run) for run in explorer.runs], rating=explorer.ratings is not None)


def layer_page(run: Run, layer: LayerNumber) -> HTMLResponse:
    """Return the page of a layer's units."""
    info = run.layer(layer).info
    return _page("layer", run=run_summary(run), layer=layer, info=info)


def unit_page(run: Run, layer: LayerNumber, unit: UnitNumber) -> HTMLResponse:
    """Return the page of one unit."""
    info = run.layer(layer).info
    check_unit(info, unit)
    return _page("unit", run=run_summary(run), layer=layer, info=info, unit=unit)


def concepts_page() -> HTMLResponse:
    """Return the page on which concepts are searched."""
    return _page("concepts")


def image_page() -> HTMLResponse:
    """Return the page on which an image is dissected."""
    return _page("image")


def compare_page() -> HTMLResponse:
    """Return the page on which two runs are compared."""
    return _page("compare")


def rate_page() -> HTMLResponse:
    """Return the rating page."""
    return _page("rate")


def report_file(address: str, explorer: ExplorerPart) -> Response:
    """Return a file of the report."""
    media_type = MEDIA_TYPES.get(address.rpartition(".")[2], "application/octet-stream")
    return Response(explorer.report.file(address), media_type=media_type)


def about_page(request: Request) -> HTMLResponse:
    """Return the list of all addresses that return JSON or images."""
    app: FastAPI = request.app
    described: list[dict[str, Any]] = [
        {"method": method.upper(), "path": path, "summary": operation["description"].split("\n")[0]}
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
    ]
    return _page("about", addresses=described)


def _page(name: str, **values: Any) -> HTMLResponse:
    return HTMLResponse(_environment.get_template(f"{name}.html.j2").render(page=name, **values))
