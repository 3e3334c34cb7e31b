"""`netdissect cache list` and `clear`: what runs keep for the next ones."""

import os
from pathlib import Path
from typing import Annotated, get_args

import typer
from platformdirs import user_cache_path
from rich import filesize

from netdissect.caches.cache_folder import KindName
from netdissect.caches.list_caches import LOOPS, CacheList, clear_caches, list_caches
from netdissect.cli.console import console
from netdissect.close_matches import did_you_mean
from netdissect.counted import counted
from netdissect.errors import ConfigError
from netdissect.paths import writing
from netdissect.report.text_table import Column, TextTable

app = typer.Typer(no_args_is_help=True)

KINDS_LISTED: tuple[KindName, ...] = get_args(KindName)

FolderOption = Annotated[
    Path | None, typer.Option("--cache-folder", help="Folder of the caches. Default: the user's cache folder.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
COLUMNS = [
    Column("kind", "text", key=True), Column("what", "text"), Column("data set", "text"), Column("detail", "text"),
    *map(Column, ("images", "size", "last used")), Column("path", "text"),
]  # fmt: skip


@app.command("list")
def list_files(cache_folder: FolderOption = None, as_json: JsonOption = False) -> None:
    """List what earlier runs left for the next ones: what each file is, of which data set, its size and last use."""
    folder = _folder(cache_folder)
    _show(list_caches(folder, _loop_folders()), "The cache holds nothing", as_json=as_json)


@app.command()
def clear(
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            metavar="|".join(KINDS_LISTED),
            help="Delete only this kind; repeats. Default: all but compiled loops, which lie outside of the folder.",
        ),
    ] = None,
    cache_folder: FolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete cached files without asking, and list them: later runs compute them again."""
    folder, chosen = _folder(cache_folder), set(kind or KINDS_LISTED) - (set() if kind else {LOOPS})
    unknown = sorted(chosen.difference(KINDS_LISTED))
    if unknown:
        raise ConfigError(
            f"--kind cannot be {unknown[0]!r}. Expected one of {', '.join(KINDS_LISTED)}."
            f"{did_you_mean(unknown[0], KINDS_LISTED)}"
        )
    with writing(folder, "Delete its files as their owner."):
        removed = clear_caches(folder, [name for name in KINDS_LISTED if name in chosen], _loop_folders())
    _show(removed, "Nothing was there to delete", "Deleted:", as_json=as_json)


def _folder(typed: Path | None) -> Path:
    return user_cache_path("netdissect") if typed is None else typed


def _loop_folders() -> list[Path]:
    """Return where Numba keeps compiled loops where it may not write beside the package."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    return [user_cache_path("netdissect") / "compiled", *([Path(chosen)] if chosen else [])]


def _show(listed: CacheList, nothing: str, title: str = "", *, as_json: bool) -> None:
    if as_json:
        typer.echo(listed.model_dump_json(indent=2))
        return
    if not listed.entries:
        console().print(f"{nothing}: {listed.folder}", soft_wrap=True, markup=False, highlight=False)
        return
    if not listed.folder.is_dir():
        title = f"There is no folder {listed.folder}: no run has kept anything there.\n{title}".rstrip()
    rows = [
        (
            entry.kind, entry.title, entry.data or "", entry.detail or "",
            "" if entry.images is None else f"{entry.images:,}", filesize.decimal(entry.bytes),
            f"{entry.last_used.astimezone():%Y-%m-%d %H:%M}", str(entry.path),
        )
        for entry in listed.entries
    ]  # fmt: skip
    files = sum(entry.files for entry in listed.entries)
    notes = [f"{counted(files, 'files')}, {filesize.decimal(listed.bytes)}"]
    console().print(TextTable(COLUMNS, rows, title, notes), soft_wrap=True)
