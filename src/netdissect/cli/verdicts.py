"""`netdissect diff` and `check`: what changed between two runs, and whether a run is good enough."""

import json
from pathlib import Path
from typing import Annotated

import typer

import netdissect
from netdissect.cli.console import console
from netdissect.config import Rule
from netdissect.errors import ConfigError
from netdissect.result import Terms

RuleOption = Annotated[Rule, typer.Option("--rule", help="Which published rule counts.")]
LimitOption = Annotated[float | None, typer.Option("--min-iou", help="Default: the run's own.")]


def diff(
    left: Annotated[Path, typer.Argument(metavar="LEFT", help="Folder of a finished run.")],
    right: Annotated[Path, typer.Argument(metavar="RIGHT", help="Folder of another.")],
    layer: Annotated[
        list[str] | None, typer.Option("--layer", help="NAME, or LEFT=RIGHT; repeats. Default: those of one name.")
    ] = None,
    rule: RuleOption = "top-label",
    min_iou: LimitOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Concepts of each kind.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every concept.")] = False,
) -> None:
    """List the concepts that gained or lost their detectors between two runs."""
    pairs = [_pair(name) for name in layer] if layer else None
    compared = netdissect.compare_results(
        netdissect.load(left), netdissect.load(right), layers=pairs, rule=rule, min_iou=min_iou
    )
    if as_json:
        typer.echo(json.dumps([netdissect.tables.difference_json(each) for each in compared], indent=2))
        return
    screen = console()
    for each in compared:
        screen.print(netdissect.tables.difference(each, limit))
    if not compared[0].same_data:
        screen.print("The runs saw different images or labels: their IoUs are not of one scale.")


def check(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    require: Annotated[
        list[str],
        typer.Option("--require", help="'unique_detectors >= 40', 'concept:car', 'iou:car > 0.1'; repeats: all hold."),
    ],
    layer: Annotated[str | None, typer.Option("--layer", help="Default: the layer that comes closest.")] = None,
    rule: RuleOption = "top-label",
    min_iou: LimitOption = None,
    quantile: Annotated[float | None, typer.Option("--quantile", help="One of the run's; default: its first.")] = None,
) -> None:
    """Say whether a run meets requirements: exit code 0 if all hold, 1 if one does not."""
    requirements = [netdissect.parse_requirement(text) for text in require]
    verdicts = netdissect.check_result(netdissect.load(run), requirements, Terms(layer, rule, min_iou, quantile))
    for verdict in verdicts:
        typer.echo(f"{'met    ' if verdict.met else 'NOT MET'}  {verdict}")
    if not all(verdict.met for verdict in verdicts):
        raise typer.Exit(1)


def _pair(name: str) -> tuple[str, str]:
    left, separator, right = name.partition("=")
    if separator and not (left and right):
        raise ConfigError(f"--layer {name!r} names one side only. Expected a layer's name, or LEFT=RIGHT.")
    return left, right if separator else left
