"""The live explorer: finished runs in a browser.

    run_registry        the runs that are served
    threshold_curves    thresholds at quantiles that the run did not measure
    inference           forward passes on uploaded images and images of the data set; active_units thresholds them
    ratings             a SQLite file of what raters said
    thumbnails, uploads images of the data set, and images that users send

    queries/ -> schemas -> routes/      JSON, described by OpenAPI
    html_pages, templates/, static/     the report's pages with controls (live_report), and the explorer's own

    asgi -> freshness -> security -> server

Needs the extra ``serve`` (FastAPI, uvicorn).
"""

from netdissect.extras import need
from netdissect.lazy import attach

for _module in ("fastapi", "uvicorn"):
    need(_module, "serve", "The explorer")

__getattr__, __dir__, __all__ = attach(__name__, __file__)
