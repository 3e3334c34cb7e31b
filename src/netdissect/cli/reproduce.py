"""`netdissect reproduce`: all experiments, and one page of results."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import BaseModel, Field
from rich.markup import escape

import netdissect
from netdissect.cli.console import console, progress_bars
from netdissect.cli_options import Typed, with_options
from netdissect.config_fields import Option
from netdissect.experiments.reproduce.reproduce_config import ReproduceConfig
from netdissect.report.text_table import Column, TextTable

if TYPE_CHECKING:
    from netdissect.experiments import ExperimentResult

FULL = "For --scale full"


class FullRequest(BaseModel):
    """Inputs at full scale."""

    concepts: Annotated[Path, Option(panel=FULL)] = Field(description="Data set in Broden's layout.")
    config: Annotated[ReproduceConfig, Option(panel=FULL)]


@with_options(FullRequest)
def reproduce(
    typed: Typed[FullRequest],
    out: Annotated[Path, typer.Option("--out", help="Folder of the results; an interrupted command there resumes.")],
    scale: Annotated[
        Literal["tiny", "small", "full"],
        typer.Option("--scale", help="tiny: two minutes. small: under 45. full: your own data and networks."),
    ] = "small",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the inputs, print the plan and stop.")] = False,
) -> None:
    """Run all experiments of the paper, and write one page with every figure and conclusion."""
    if scale == "full":
        _full(typed.model(), out, dry_run=dry_run)
    else:
        _synthetic(scale, out, dry_run=dry_run)


def _synthetic(name: Literal["tiny", "small"], out: Path, *, dry_run: bool) -> None:
    scale = netdissect.training.SCALES[name]
    if dry_run:
        for line in netdissect.experiments.synthetic_plan(scale):
            console().print(line, soft_wrap=True)
        return
    with progress_bars() as progress:
        workspace = netdissect.training.Workspace(out, scale, progress)
        results = _saved(netdissect.experiments.reproduce_synthetic(workspace), out)
    train_config, concepts = scale.train_config, len(workspace.data.concepts)
    facts = {
        "Data": f"{scale.images:,} synthetic images of {train_config.size} pixels, {concepts} concepts",
        "Training": (
            f"{train_config.num_images:,} other images, {train_config.steps} steps; {scale.seeds} seeds per condition"
        ),
        "Thresholds": ", ".join(f"{quantile:g}" for quantile in scale.quantiles) + "; conclusions use the first",
    }
    _finish(results, out, facts)


def _full(request: FullRequest, out: Path, *, dry_run: bool) -> None:
    config, concepts = request.config, request.concepts
    networks = [netdissect.training.open_network(name) for name in config.names]
    for line in netdissect.experiments.reproduce_plan(networks, concepts, config, out):
        console().print(line, soft_wrap=True, markup=False, highlight=False)
    if dry_run:
        return
    with progress_bars() as progress:
        results = _saved(netdissect.experiments.reproduce(networks, concepts, config, out=out, progress=progress), out)
    _finish(results, out, {"Data": str(concepts), "Networks": ", ".join(config.names)})


def _saved(results: "Iterable[ExperimentResult]", out: Path) -> "list[ExperimentResult]":
    finished = []
    for result in results:
        netdissect.experiments.result_files.save_experiment_result(result, out / result.name)
        finished.append(result)
    return finished


def _finish(results: "list[ExperimentResult]", out: Path, facts: dict[str, str]) -> None:
    """Write the page, and print the conclusion of every experiment."""
    from netdissect.report.reproduce_page import reproduce_page

    page = reproduce_page(results, out, facts)
    columns = [
        Column("experiment", "text", key=True),
        *(Column(name, "text") for name in ("outcome", "finding")),
        Column("time"),
    ]
    rows = [
        [result.name, result.conclusion.outcome, result.conclusion.finding, f"{result.seconds.get('all', 0.0):.0f} s"]
        for result in results
    ]
    screen = console()
    screen.print(TextTable(columns, rows), soft_wrap=True)
    screen.print(f"The page is {escape(str(page))}", soft_wrap=True)
