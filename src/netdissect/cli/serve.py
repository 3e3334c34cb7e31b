"""`netdissect serve`: the explorer of finished runs in a browser."""

from pathlib import Path
from typing import Annotated

import typer

import netdissect


def serve(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs.")],
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Default: 8461, or the next free one; 0: any.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Data set folder, if it was moved.")] = None,
    ratings: Annotated[
        Path | None, typer.Option("--ratings", help="SQLite file of ratings; without it, the rating page is off.")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open a browser.")] = False,
    public: Annotated[bool, typer.Option("--public", help="Allow a --host that other machines can reach.")] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Another host name of a public server.")
    ] = None,
) -> None:
    """Explore runs in a browser: thresholds, uploaded images, comparisons, ratings. Ctrl-C ends it."""
    netdissect.serve(
        runs, data_root=data_root, ratings=ratings, host=host, port=port, public=public, allow_hosts=allow_host or (),
        open_browser=open_browser,
    )  # fmt: skip
