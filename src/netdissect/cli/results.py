"""`netdissect show`, `count`, `export` and `report`: output of finished runs."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import netdissect
from netdissect.cli.console import console, progress_bars
from netdissect.config import RULES, Rule

if TYPE_CHECKING:
    from netdissect.report.summary_table import SummaryTable
    from netdissect.report.text_table import TextTable

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")]
RunsArgument = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs.")]
LayerOption = Annotated[str | None, typer.Option("--layer", help="One layer; default: all (export: the only one).")]


def show(
    run: RunArgument,
    layers: Annotated[bool, typer.Option("--layers", help="Every layer: unique detectors, null, best units.")] = False,
    units: Annotated[
        bool, typer.Option("--units", help="The best units of each layer: label, IoU, next best.")
    ] = False,
    counts: Annotated[bool, typer.Option("--counts", help="Detectors by rule, category and quantile.")] = False,
    concepts: Annotated[
        bool, typer.Option("--concepts", help="Every concept: pixel share, attainable IoU, units.")
    ] = False,
    statistics: Annotated[bool, typer.Option("--statistics", help="Statistics of counts and labels; notes.")] = False,
    layer: Annotated[list[str] | None, typer.Option("--layer", help="Only this layer; repeats.")] = None,
    top: Annotated[int | None, typer.Option("--top", min=1, help="Rows of --units. Default: 20.")] = None,
    quantile: Annotated[
        float | None,
        typer.Option("--quantile", help="Of --layers, --units and --concepts. Default: the run's first."),
    ] = None,
) -> None:
    """Print a run: a summary of at most fifteen lines, or the tables that are named."""
    result, tables = netdissect.load_result(run), netdissect.console_tables
    if layer:
        result = replace(result, layers={name: result.layer(name) for name in layer})
    units = units or top is not None
    printed: list[SummaryTable | TextTable] = []
    if layers or (quantile is not None and not (units or concepts)):
        printed.append(tables.layers(result, quantile))
    if units:
        printed += [tables.units(result, name, top or 20, quantile) for name in result.layers]
    if counts:
        printed.append(tables.counts([entry for rule in RULES for entry in result.detectors(rule)]))
    if concepts:
        printed.append(tables.concepts(result, quantile))
    if statistics:
        printed.append(tables.statistics(result))
    screen = console()
    for index, table in enumerate(printed or [tables.summary(result)]):
        screen.print(*([""] if index else []), table, sep="\n", soft_wrap=True)


def count(
    path: Annotated[Path, typer.Argument(metavar="FILE_OR_RUN", help="A run folder or a published *-result.csv.")],
    rule: Annotated[Rule, typer.Option("--rule", help="Rule by which detectors are counted.")] = "top-label",
    min_iou: Annotated[float | None, typer.Option("--min-iou", help="Default: the run's own, else 0.04.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count detectors and unique detectors, in all and by category."""
    if path.is_dir():
        counts = netdissect.load_result(path).detectors(rule, min_iou)
        printed = json.dumps(netdissect.console_tables.counts_json(counts), indent=2)
    else:
        labels = netdissect.read_published(path).labels
        single = netdissect.count_detectors(labels, rule, 0.04 if min_iou is None else min_iou)
        counts = (netdissect.LayerCount(path.name, None, single),)
        printed = json.dumps(netdissect.console_tables.counts_json(single), indent=2)
    if as_json:
        typer.echo(printed)
    else:
        console().print(netdissect.console_tables.counts(counts), soft_wrap=True)


def export(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    layer: LayerOption = None,
    quantile: Annotated[float | None, typer.Option("--quantile", help="One of the run's; default: its first.")] = None,
    form: Annotated[
        Literal["netdissect-csv"],
        typer.Option("--format", help="Columns of the result CSV of the authors' Caffe code (2017)."),
    ] = "netdissect-csv",
) -> None:
    """Write the units of one layer as a table for other programs."""
    result = netdissect.load_result(run)
    if layer is None and len(result.layers) > 1:
        raise netdissect.errors.ConfigError(
            f"{run} holds {len(result.layers)} layers and {form} takes one. Name it with --layer: "
            f"{', '.join(result.layers)}."
        )
    netdissect.write_published(result, layer or next(iter(result.layers)), out, quantile)
    console().print(f"Wrote {out}", soft_wrap=True)


def report(
    runs: RunsArgument,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the pages; default for a single run: RUN/report.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Data set folder, if it was moved.")] = None,
    unit_pages: Annotated[
        int,
        typer.Option(
            "--unit-pages", min=1, metavar="N", help="Units of each layer with a page: those with the highest IoU."
        ),
    ] = 2048,
) -> None:
    """Write HTML pages of one or more runs: the detectors of each layer, each unit, each concept."""
    if out is None and len(runs) > 1:
        raise netdissect.errors.ConfigError(f"a report of {len(runs)} runs has no default folder. Name one with --out.")
    results = [netdissect.load_result(run) for run in runs]
    with progress_bars() as progress:
        page = netdissect.report(results, out or runs[0] / "report", names=run_names(runs, results),
                                 data_root=data_root, unit_pages=unit_pages, progress=progress)  # fmt: skip
    console().print(f"The report is {page}", soft_wrap=True)


def run_names(runs: Sequence[Path], results: "Sequence[netdissect.Result]") -> list[str]:
    """Name runs after their networks, with the folder if two networks have the same name."""
    networks = [result.info.network.name for result in results]
    return [
        name if networks.count(name) == 1 else f"{name} ({run.resolve().name})"
        for name, run in zip(networks, runs, strict=True)
    ]
