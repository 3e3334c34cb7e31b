"""`netdissect concepts`: build and inspect data sets."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

import netdissect
from netdissect.cli.console import console
from netdissect.cli.progress import progress_bars

if TYPE_CHECKING:
    from netdissect.concepts.inspect import CategoryFacts, Inspection

PROBLEMS_TOLD = 20

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
            out, parsed, size=size, colors=colors, color_table=color_table, overwrite=overwrite,
            workers=workers or os.cpu_count(), progress=progress,
        )  # fmt: skip
    console().print(f"The data set is in {out}. Look at it: netdissect concepts inspect {out}", soft_wrap=True)


@app.command()
def inspect(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="Data set in Broden's layout.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="Write a contact sheet PNG: pictures beside their label maps.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Concepts of each category in the table.")] = 15,
    workers: WorkersOption = None,
) -> None:
    """List what a data set holds, and everything that is wrong with it; exit code 1 if anything is."""
    with progress_bars() as progress:
        inspection = netdissect.inspect_dataset(root, workers=workers or os.cpu_count(), progress=progress)
    if sheet is not None:
        _save_sheet(root, sheet)
    if as_json:
        typer.echo(inspection.model_dump_json(indent=2))
    else:
        _print(inspection, limit)
    if inspection.problems:
        raise typer.Exit(1)


def _save_sheet(root: Path, sheet: Path) -> None:
    picture = netdissect.contact_sheet(root)
    try:
        picture.save(sheet)
    except (OSError, ValueError) as error:
        raise netdissect.NetdissectError(
            f"the contact sheet cannot be written to {sheet} ({error}). Name a .png file in a folder that exists."
        ) from error


def _print(inspection: "Inspection", limit: int) -> None:
    screen = console()
    screen.print(
        f"{inspection.root}: {inspection.images} pictures, {inspection.labeled} of them labeled; "
        + ", ".join(f"{images} {split}" for split, images in inspection.splits.items())
        + "; "
        + ", ".join(f"{images} of {size}" for size, images in inspection.sizes.items())
    )
    for category in inspection.categories:
        screen.print(_category_table(inspection, category, limit))
    if not inspection.problems:
        screen.print("No problems found.")
    for problem in inspection.problems[:PROBLEMS_TOLD]:
        screen.print(f"[red]problem:[/] {escape(str(problem))}")
    if len(inspection.problems) > PROBLEMS_TOLD:
        screen.print(f"... and {len(inspection.problems) - PROBLEMS_TOLD} more problems; --json lists all.")


def _category_table(inspection: "Inspection", category: "CategoryFacts", limit: int) -> Table:
    table = Table(
        title=f"{category.name}: {category.concepts} concepts on {category.images} pictures", title_justify="left"
    )
    table.add_column("concept")
    for name in ("pictures", "coverage", "share of pixels", "attainable IoU at 0.005"):
        table.add_column(name, justify="right")
    members = [concept for concept in inspection.concepts if concept.category == category.name]
    for concept in members[:limit]:
        table.add_row(
            escape(concept.name), str(concept.frequency), f"{concept.coverage:.2f}", f"{concept.share:.2%}",
            f"{concept.attainable_iou:.3f}",
        )  # fmt: skip
    if len(members) > limit:
        table.add_row(f"... {len(members) - limit} more", "", "", "", "")
    return table


@app.command()
def synthetic(
    out: OutOption,
    images: Annotated[int, typer.Option("--images", min=1, help="How many pictures.")] = 4000,
    size: Annotated[int, typer.Option("--size", min=64, max=128, help="Of the square pictures, in pixels.")] = 96,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed draws the same pictures.")] = 0,
    overwrite: OverwriteOption = False,
    workers: WorkersOption = None,
) -> None:
    """Draw a small world whose labels are known exactly."""
    with progress_bars() as progress:
        netdissect.write_synthetic(
            out, images=images, size=size, seed=seed, overwrite=overwrite, workers=workers or os.cpu_count(),
            progress=progress,
        )  # fmt: skip
    console().print(f"The data set is in {out}. Look at it: netdissect concepts inspect {out}", soft_wrap=True)
