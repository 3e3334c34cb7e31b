"""`netdissect paper`: every experiment, and one page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

import netdissect
from netdissect.cli.console import console
from netdissect.cli.experiments.options import open_network
from netdissect.cli.progress import progress_bars
from netdissect.errors import ConfigError
from netdissect.show.outcomes import save_outcome
from netdissect.show.paper import paper_page

if TYPE_CHECKING:
    from netdissect.experiments import Outcome


def paper(
    out: Annotated[Path, typer.Option("--out", help="Folder of everything; what is done there is taken up.")],
    scale: Annotated[
        Literal["tiny", "small", "full"],
        typer.Option("--scale", help="tiny: two minutes. small: under 45. full: your own data and networks."),
    ] = "small",
    concepts: Annotated[Path | None, typer.Option("--concepts", help="full: data set in Broden's layout.")] = None,
    network: Annotated[list[str] | None, typer.Option("--network", help="full: as for 'run'; repeats.")] = None,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", help="full: the last convolution, one for each network.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="full: draw this many images.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="full: images in a forward pass.")] = 32,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the inputs, print the plan and stop.")] = False,
) -> None:
    """Run all experiments of the paper, and write one page with every figure and verdict."""
    if scale == "full":
        _full(out, concepts, network, layer, limit, batch_size, dry_run=dry_run)
        return
    wanted = netdissect.experiments.SCALES[scale]
    if dry_run:
        for line in netdissect.experiments.miniature_plan(wanted):
            console().print(line, soft_wrap=True)
        return
    outcomes: list[Outcome] = []
    with progress_bars() as progress:
        bench = netdissect.experiments.Bench(out, wanted, progress)
        for outcome in netdissect.experiments.paper(bench):
            save_outcome(outcome, out / outcome.name)
            outcomes.append(outcome)
    recipe, concepts_drawn = wanted.recipe, len(bench.data.concepts)
    facts = {
        "World": f"{wanted.images:,} drawn pictures of {recipe.size} pixels, {concepts_drawn} concepts",
        "Training": f"{recipe.pictures:,} other pictures, {recipe.steps} steps; {wanted.seeds} seeds of each variant",
        "Thresholds": ", ".join(f"{quantile:g}" for quantile in wanted.quantiles) + "; the first decides",
    }
    _tell(outcomes, paper_page(outcomes, out, facts))


def _full(
    out: Path,
    concepts: Path | None,
    networks: list[str] | None,
    layers: list[str] | None,
    limit: int | None,
    batch_size: int,
    *,
    dry_run: bool,
) -> None:
    if concepts is None or not networks or not layers:
        raise ConfigError(
            "the scale full needs --concepts, at least one --network and the --layer of each. The scales tiny and "
            "small draw their own world."
        )
    wanted = netdissect.experiments.FullConfig(
        layers=tuple(layers), limit=limit, batch_size=batch_size, names=tuple(networks)
    )
    opened = [open_network(name) for name in networks]
    for line in netdissect.experiments.full_plan(opened, concepts, wanted, out):
        console().print(line, soft_wrap=True, markup=False, highlight=False)
    if dry_run:
        return
    outcomes: list[Outcome] = []
    with progress_bars() as progress:
        for outcome in netdissect.experiments.full_paper(opened, concepts, wanted, out=out, progress=progress):
            save_outcome(outcome, out / outcome.name)
            outcomes.append(outcome)
    _tell(outcomes, paper_page(outcomes, out, {"Data": str(concepts), "Networks": ", ".join(networks)}))


def _tell(outcomes: "list[Outcome]", page: Path) -> None:
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
