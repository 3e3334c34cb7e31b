"""`netdissect reproduce`: every experiment, and one page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

import netdissect
from netdissect.cli.console import console
from netdissect.cli.experiments.options import open_network
from netdissect.cli.progress import progress_bars
from netdissect.cli_options import Typed, with_options
from netdissect.errors import ConfigError
from netdissect.experiments.reproduce.reproduce_config import ReproduceConfig

if TYPE_CHECKING:
    from netdissect.experiments import ExperimentResult

FULL = "With the scale full"


@with_options(ReproduceConfig, panel=FULL)
def reproduce(
    asked: Typed[ReproduceConfig],
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
        _full(out, concepts, asked, dry_run=dry_run)
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
        "World": f"{wanted.images:,} drawn images of {recipe.size} pixels, {concepts_drawn} concepts",
        "Training": f"{recipe.pictures:,} other images, {recipe.steps} steps; {wanted.seeds} seeds of each variant",
        "Thresholds": ", ".join(f"{quantile:g}" for quantile in wanted.quantiles) + "; the first decides",
    }
    _tell(outcomes, reproduce_page(outcomes, out, facts))


def _full(out: Path, concepts: Path | None, asked: Typed[ReproduceConfig], *, dry_run: bool) -> None:
    if concepts is None or not (asked.at("names") and asked.at("layers")):
        raise ConfigError(
            "the scale full needs --concepts, at least one --network and the --layer of each. The scales tiny and "
            "small draw their own world."
        )
    wanted = asked.model()
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
