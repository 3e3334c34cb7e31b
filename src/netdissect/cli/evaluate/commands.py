"""`netdissect evaluate`: scores of the labels of any method, and sanity checks of the metrics."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

import netdissect
from netdissect.cli.console import console, progress_bars
from netdissect.cli.networks import load_named
from netdissect.cli_options import Typed, with_options
from netdissect.errors import ConfigError
from netdissect.evaluation.evaluate_config import EvaluateConfig
from netdissect.paths import check_writable


@with_options(EvaluateConfig)
def evaluate(
    typed: Typed[EvaluateConfig],
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    labels: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="LABELS...",
            help="CSV files of labels (columns unit and label), one of each method, named by its stem or NAME=FILE.",
        ),
    ] = None,
    sanity_checks: Annotated[
        bool,
        typer.Option(
            "--sanity-checks", help="Check the metrics on this run with missing and with extra labels, without LABELS."
        ),
    ] = False,
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Data set folder, if it was moved.")] = None,
    network: Annotated[
        str | None, typer.Option("--network", help="For --cosy: network of the run, in place of the recorded one.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="CSV file to write: every label, its concept and its scores.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score the labels that any methods gave to the units of a run, and compare the methods."""
    if sanity_checks == bool(labels):
        raise ConfigError(
            "netdissect evaluate takes files of labels, or --sanity-checks without any. Name one of the two."
        )
    result, tables, config = netdissect.load_result(run), netdissect.evaluation_tables, typed.model()
    if sanity_checks:
        _refuse_unused({"--out": out, "--data-root": data_root, "--network": network}, config)
        checks = netdissect.sanity_checks(result, config=config)
        if as_json:
            typer.echo(json.dumps({"network": result.info.network.name, "checks": checks.to_dicts()}, indent=2))
        else:
            console().print(tables.sanity_table(checks), soft_wrap=True)
        return
    if out is not None:
        check_writable(out)
    with progress_bars() as progress:
        found = netdissect.evaluate(
            result,
            labels or [],
            config=config,
            data_root=data_root,
            network=load_named(network, result.info),
            progress=progress,
        )
    if out is not None:
        netdissect.write_label_file(found.units, out)
    if as_json:
        typer.echo(json.dumps(tables.evaluation_json(result, found), indent=2))
        return
    _print(result, found)
    if out is not None:
        console().print(f"Wrote {out}", soft_wrap=True)


def _refuse_unused(options: Mapping[str, object], config: EvaluateConfig) -> None:
    given = {**options, "--mapping": config.mapping, "--cosy": config.cosy}
    unused = [name for name, value in given.items() if value is not None]
    if unused:
        raise ConfigError(
            f"--sanity-checks scores no labels, so that {', '.join(unused)} would do nothing. Leave it out; --json "
            "prints every number of the checks."
        )


def _print(result: "netdissect.Result", found: "netdissect.Evaluation") -> None:
    tables, screen = netdissect.evaluation_tables, console()
    printed = [tables.evaluation_coverage(result, found)]
    if found.matches["concept"].null_count():
        printed.append(tables.unmatched_labels(found))
    printed.append(tables.evaluation_scores(found))
    methods = found.coverage["method"].unique(maintain_order=True).to_list()
    if len(methods) > 1:
        printed.append(tables.evaluation_differences(found, methods[:1]))
    for index, table in enumerate(printed):
        screen.print(*([""] if index else []), table, sep="\n", soft_wrap=True)
