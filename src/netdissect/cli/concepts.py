"""`netdissect concepts`: build and inspect data sets."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import netdissect
from netdissect.cli.progress import progress_bars

app = typer.Typer(no_args_is_help=True)

OutOption = Annotated[Path, typer.Option("--out", help="Folder of the new data set.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace a finished data set.")]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, help="Processes; default: all cores.")]


@app.command()
def build(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="masks:DIR[=category] (images/, masks/, classes.csv) or folders:DIR=category (a folder a class).",
        ),
    ],
    out: OutOption,
    size: Annotated[int, typer.Option("--size", min=2, help="Pictures are squashed to this square.")] = 224,
    colors: Annotated[bool, typer.Option("--colors", help="Name the color of every pixel.")] = False,
    color_table: Annotated[
        Path | None, typer.Option("--color-table", help="A published 32 x 32 x 32 table in place of our color model.")
    ] = None,
    overwrite: OverwriteOption = False,
    workers: WorkersOption = None,
) -> None:
    """Write a data set in Broden's layout from labeled pictures."""
    parsed = [netdissect.parse_source(source) for source in sources]
    with progress_bars() as progress:
        netdissect.build_dataset(
            out, parsed, size=size, colors=colors, color_table=color_table, overwrite=overwrite, workers=workers,
            progress=progress,
        )  # fmt: skip
    Console().print(f"The data set is in {out}. Look at it: netdissect concepts inspect {out}", soft_wrap=True)
