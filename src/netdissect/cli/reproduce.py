"""`netdissect reproduce`: every experiment, and one page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

import netdissect
from netdissect.cli.console import console
from netdissect.cli.experiments.options import open_network
from netdissect.cli.options import with_options_of
from netdissect.cli.progress import progress_bars
from netdissect.errors import ConfigError
from netdissect.training.choices import ScaleName

if TYPE_CHECKING:
    from netdissect.experiments import ExperimentResult, ReproduceConfig

FULL = "With the scale full"


def full_config(
    network: Annotated[
        list[str] | None, typer.Option("--network", help="As for 'run'; repeats.", rich_help_panel=FULL)
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", help="The last convolution, one for each network.", rich_help_panel=FULL),
    ] = None,
    max_images: Annotated[
        int | None, typer.Option("--max-images", min=1, help="Draw this many images.", rich_help_panel=FULL)
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Images in a forward pass.", rich_help_panel=FULL)
    ] = 32,
    checkpoints: Annotated[
        Path | None,
        typer.Option("--checkpoints", help="For training-dynamics: the first network's weights.", rich_help_panel=FULL),
    ] = None,
    train_images: Annotated[
        Path | None,
        typer.Option(
            "--train-images", help="For linear-probe and supervision: a folder a class.", rich_help_panel=FULL
        ),
    ] = None,
    class_images: Annotated[
        Path | None,
        typer.Option(
            "--class-images", help="For attribution and ablate: a folder for each class of the first network.",
            rich_help_panel=FULL,
        ),
    ] = None,
    classes: Annotated[
        Path | None, typer.Option("--classes", help="Names of its outputs, one a line.", rich_help_panel=FULL)
    ] = None,
    ratings: Annotated[
        Path | None, typer.Option("--ratings", help="For rater-agreement: what raters said.", rich_help_panel=FULL)
    ] = None,
    train: Annotated[
        ScaleName | None,
        typer.Option("--train", help="Train variants and tasks at this scale.", rich_help_panel=FULL),
    ] = None,
) -> "ReproduceConfig | None":  # fmt: skip
    """Return what the scale full asks; None: no network and layer were named."""
    if not network or not layer:
        return None
    return netdissect.experiments.ReproduceConfig(
        names=tuple(network), layers=tuple(layer), max_images=max_images, batch_size=batch_size,
        checkpoints=checkpoints, train_images=train_images,
        class_images=class_images, classes=classes, ratings=ratings, train=train,
    )  # fmt: skip


@with_options_of(full_config)
def reproduce(
    full: "ReproduceConfig | None",
    out: Annotated[Path, typer.Option("--out", help="Folder of everything; what is done there is taken up.")],
    scale: Annotated[
        Literal["tiny", "small", "full"],
        typer.Option("--scale", help="tiny: two minutes. small: under 45. full: your own data and networks."),
    ] = "small",
    concepts: Annotated[
        Path | None, typer.Option("--concepts", help="Data set in Broden's layout.", rich_help_panel=FULL)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the inputs, print the plan and stop.")] = False,
) -> None:
    """Run all experiments of the paper, and write one page with every figure and verdict."""
    if scale == "full":
        _full(out, concepts, full, dry_run=dry_run)
        return
    wanted = netdissect.training.SCALES[scale]
    if dry_run:
        for line in netdissect.experiments.synthetic_plan(wanted):
            console().print(line, soft_wrap=True)
        return
    outcomes: list[ExperimentResult] = []
    with progress_bars() as progress:
        bench = netdissect.training.Workspace(out, wanted, progress)
        for outcome in netdissect.experiments.reproduce_synthetic(bench):
            netdissect.experiments.outcome_files.save_outcome(outcome, out / outcome.name)
            outcomes.append(outcome)
    recipe, concepts_drawn = wanted.recipe, len(bench.data.concepts)
    from netdissect.report.reproduce_page import reproduce_page

    facts = {
        "World": f"{wanted.images:,} drawn pictures of {recipe.size} pixels, {concepts_drawn} concepts",
        "Training": f"{recipe.pictures:,} other pictures, {recipe.steps} steps; {wanted.seeds} seeds of each variant",
        "Thresholds": ", ".join(f"{quantile:g}" for quantile in wanted.quantiles) + "; the first decides",
    }
    _tell(outcomes, reproduce_page(outcomes, out, facts))


def _full(out: Path, concepts: Path | None, wanted: "ReproduceConfig | None", *, dry_run: bool) -> None:
    if concepts is None or wanted is None:
        raise ConfigError(
            "the scale full needs --concepts, at least one --network and the --layer of each. The scales tiny and "
            "small draw their own world."
        )
    opened = [open_network(name) for name in wanted.names]
    for line in netdissect.experiments.reproduce_plan(opened, concepts, wanted, out):
        console().print(line, soft_wrap=True, markup=False, highlight=False)
    if dry_run:
        return
    outcomes: list[ExperimentResult] = []
    with progress_bars() as progress:
        for outcome in netdissect.experiments.reproduce(opened, concepts, wanted, out=out, progress=progress):
            netdissect.experiments.outcome_files.save_outcome(outcome, out / outcome.name)
            outcomes.append(outcome)
    from netdissect.report.reproduce_page import reproduce_page

    facts = {"Data": str(concepts), "Networks": ", ".join(wanted.names)}
    _tell(outcomes, reproduce_page(outcomes, out, facts))


def _tell(outcomes: "list[ExperimentResult]", page: Path) -> None:
    table = Table()
    for name in ("experiment", "agreement", "finding"):
        table.add_column(name, overflow="fold")
    table.add_column("time", justify="right")
    for outcome in outcomes:
        verdict, seconds = outcome.verdict, outcome.seconds.get("all", 0.0)
        table.add_row(outcome.name, verdict.agreement, escape(verdict.finding), f"{seconds:.0f} s")
    screen = console()
    screen.print(table)
    screen.print(f"The page is {escape(str(page))}", soft_wrap=True)
