"""`netdissect show`, `count`, `export` and `report`: output of finished runs."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from platformdirs import user_cache_path

import netdissect
from netdissect.cli.console import console, progress_bars
from netdissect.cli.networks import load_named
from netdissect.cli_options import Typed, with_options
from netdissect.compose_config import ComposeConfig
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
    formulas: Annotated[
        bool,
        typer.Option("--formulas", help="Formulas of 'netdissect compose': units and layers."),
    ] = False,
    layer: Annotated[list[str] | None, typer.Option("--layer", help="Only this layer; repeats.")] = None,
    top: Annotated[int | None, typer.Option("--top", min=1, help="Rows of --units and --formulas.")] = None,
    quantile: Annotated[
        float | None,
        typer.Option("--quantile", help="Of --layers, --units and --concepts. Default: the run's first."),
    ] = None,
) -> None:
    """Print a run: a summary of at most fifteen lines, or the tables that are named."""
    result, tables = netdissect.load_result(run), netdissect.console_tables
    if layer:
        result = replace(result, layers={name: result.layer(name) for name in layer})
    units = units or (top is not None and not formulas)
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
    if formulas:
        found = netdissect.main_formulas(result).of_layers(result.layers)
        printed += [netdissect.formula_tables.formula_units(found, top or 20)]
        printed += [netdissect.formula_tables.formula_layers(result, found)]
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
        Literal["netdissect-csv", "labels-csv", "formulas-csv", "formulas-json"],
        typer.Option(
            "--format",
            help=(
                "netdissect-csv: columns of the result CSV of the authors' Caffe code (2017), of one layer. "
                "labels-csv: the label of each unit, for 'netdissect evaluate'. "
                "formulas-csv, formulas-json: the formulas of all units; see 'netdissect compose'."
            ),
        ),
    ] = "netdissect-csv",
) -> None:
    """Write the units of one layer, or the formulas of a run, as a table for other programs."""
    result = netdissect.load_result(run)
    if form == "labels-csv":
        netdissect.write_label_file(netdissect.own_labels(result, quantile, layer), out)
        console().print(f"Wrote {out}", soft_wrap=True)
        return
    if form != "netdissect-csv":
        _export_formulas(result, out, form, layer)
        return
    if layer is None and len(result.layers) > 1:
        raise netdissect.errors.ConfigError(
            f"{run} holds {len(result.layers)} layers and {form} takes one. Name it with --layer: "
            f"{', '.join(result.layers)}."
        )
    netdissect.write_published(result, layer or next(iter(result.layers)), out, quantile)
    console().print(f"Wrote {out}", soft_wrap=True)


def _export_formulas(
    result: "netdissect.Result", out: Path, form: Literal["formulas-csv", "formulas-json"], layer: str | None
) -> None:
    found = netdissect.main_formulas(result)
    if layer is not None:
        found = found.of_layers([result.layer(layer).info.name])
    netdissect.formula_tables.write_formulas(result, found, out, form)
    console().print(f"Wrote {out}", soft_wrap=True)


@with_options(ComposeConfig)
def compose(
    typed: Typed[ComposeConfig],
    run: RunArgument,
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Data set folder, if it was moved.")] = None,
    network: Annotated[
        str | None, typer.Option("--network", help="For --ranges: network of the run, in place of the recorded one.")
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Units that are printed.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every unit.")] = False,
) -> None:
    """Explain units by formulas of concepts, proven to be the best, and measure what they add to a single concept."""
    result, tables = netdissect.load_result(run), netdissect.formula_tables
    execution = netdissect.Execution(cache_folder=user_cache_path("netdissect"))
    with progress_bars() as progress:
        found = netdissect.compose(
            result,
            config=typed.model(),
            data_root=data_root,
            network=load_named(network, result.info),
            execution=execution,
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps(tables.formulas_json(result, found), indent=2))
        return
    screen = console()
    for table in (
        tables.formula_units(found, top),
        "",
        tables.formula_layers(result, found),
    ):
        screen.print(table, soft_wrap=True)


def report(
    runs: RunsArgument,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the pages; default for a single run: RUN/report.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Data set folder, if it was moved.")] = None,
    training: Annotated[
        list[Path] | None,
        typer.Option(
            "--training",
            metavar="FOLDER",
            help="Result of 'netdissect experiment training-dynamics': its --out folder; repeats.",
        ),
    ] = None,
    intervention: Annotated[
        list[Path] | None,
        typer.Option(
            "--intervention",
            metavar="FILE",
            help="What 'netdissect intervene RUN --json' printed, for a page of its areas and controls; repeats.",
        ),
    ] = None,
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
                                 data_root=data_root, unit_pages=unit_pages, training=training or (),
                                 interventions=intervention or (),
                                 progress=progress)  # fmt: skip
    console().print(f"The report is {page}", soft_wrap=True)


def run_names(runs: Sequence[Path], results: "Sequence[netdissect.Result]") -> list[str]:
    """Name runs after their networks, with the folder if two networks have the same name."""
    networks = [result.info.network.name for result in results]
    return [
        name if networks.count(name) == 1 else f"{name} ({run.resolve().name})"
        for name, run in zip(networks, runs, strict=True)
    ]
