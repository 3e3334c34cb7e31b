"""`netdissect diff`, `check` and `verify`: compare two runs, check requirements, verify the files of a run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import netdissect
from netdissect.cli.console import console, progress_bars
from netdissect.cli.networks import TrustOption, load_named
from netdissect.config import Rule
from netdissect.counted import counted
from netdissect.errors import ConfigError

if TYPE_CHECKING:
    from netdissect.dissect.verify import RecomputedMask

RuleOption = Annotated[Rule, typer.Option("--rule", help="Rule by which detectors are counted.")]
LimitOption = Annotated[float | None, typer.Option("--min-iou", help="Default: the run's own.")]

ROUNDING = 1e-4
"""Share of a unit's maximum. Other versions of torch sum in another order, which changes about 1e-6."""


def diff(
    left: Annotated[Path, typer.Argument(metavar="LEFT", help="Folder of a finished run.")],
    right: Annotated[Path, typer.Argument(metavar="RIGHT", help="Folder of another finished run.")],
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", help="NAME, or LEFT=RIGHT; repeats. Default: layers that both runs have."),
    ] = None,
    rule: RuleOption = "top-label",
    min_iou: LimitOption = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Concepts of each kind.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every concept.")] = False,
) -> None:
    """List the concepts that gained or lost their detectors between two runs."""
    pairs = [_pair(name) for name in layer] if layer else None
    compared = netdissect.compare_results(
        netdissect.load_result(left), netdissect.load_result(right), layers=pairs, rule=rule, min_iou=min_iou
    )
    if as_json:
        typer.echo(json.dumps([netdissect.console_tables.difference_json(each) for each in compared], indent=2))
        return
    screen = console()
    for index, each in enumerate(compared):
        lines = netdissect.console_tables.difference_lines(each)
        screen.print("\n".join([*([""] if index else []), *lines, ""]), markup=False, highlight=False)
        screen.print(netdissect.console_tables.difference(each, top), soft_wrap=True)
    if not compared[0].same_data:
        screen.print("The runs used different images or labels: their IoUs are not comparable.")


def check(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    require: Annotated[
        list[str],
        typer.Option(
            "--require",
            help=(
                "'unique_detectors >= 40', 'unique_detectors - null_unique_detectors >= 10', 'concept:car', "
                "'iou:car > 0.1'; repeats: all must be met."
            ),
        ),
    ],
    layer: Annotated[
        str | None, typer.Option("--layer", help="Default: the layer that is closest to meeting it.")
    ] = None,
    rule: RuleOption = "top-label",
    min_iou: LimitOption = None,
    quantile: Annotated[float | None, typer.Option("--quantile", help="One of the run's; default: its first.")] = None,
) -> None:
    """Check whether a run meets requirements: exit code 0 if all are met, 1 otherwise."""
    requirements = [netdissect.parse_requirement(text) for text in require]
    criteria = netdissect.result.DetectorCriteria(layer, rule, min_iou, quantile)
    verdicts = netdissect.check_result(netdissect.load_result(run), requirements, criteria)
    for verdict in verdicts:
        typer.echo(f"{'met    ' if verdict.met else 'NOT MET'}  {verdict}")
    if not all(verdict.met for verdict in verdicts):
        raise typer.Exit(1)


def _pair(name: str) -> tuple[str, str]:
    left, separator, right = name.partition("=")
    if separator and not (left and right):
        raise ConfigError(f"--layer {name!r} names one side only. Expected a layer's name, or LEFT=RIGHT.")
    return left, right if separator else left


def verify(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    sample: Annotated[
        int, typer.Option("--sample", min=0, help="Recompute the masks of this many units and images.")
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the sample.")] = 0,
    data: Annotated[
        bool,
        typer.Option("--data", help="Read every file of the data set, and compare it with the data set of the run."),
    ] = False,
    concepts: Annotated[Path | None, typer.Option("--concepts", help="The data set, if it was moved.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Recompute the layers whose files are damaged.")] = False,
    network: Annotated[
        str | None, typer.Option("--network", help="Network of the run, in place of the recorded one.")
    ] = None,
    trust_network: TrustOption = False,
) -> None:
    """Verify a run: digests, invariants of its counts, and recomputed masks; exit code 1 if anything is wrong."""
    info, damaged = netdissect.result.files.corrupted_files(run)
    for name, reason in damaged.items():
        typer.echo(f"WRONG  {name}: {reason}")
    if damaged and repair:
        loaded = load_named(network, info)
        with progress_bars() as progress:
            repaired = netdissect.repair(
                run, network=loaded, root=concepts, trust_network=trust_network, progress=progress
            )
            for name in repaired:
                typer.echo(f"repaired  {name}")
    elif damaged:
        typer.echo("Recompute the damaged files with --repair.")
        raise typer.Exit(1)
    result = netdissect.load_result(run)
    typer.echo(f"ok     {counted(len(info.layers), 'layers')}, every file is unchanged")
    wrong = _check_invariants(result)
    if data:
        wrong |= _check_data(result, concepts)
    if sample:
        loaded = load_named(network, info)
        with progress_bars() as progress:
            found = netdissect.verify_sample(
                result, sample, network=loaded, root=concepts, seed=seed, trust_network=trust_network, progress=progress
            )
        wrong |= _print_sample(found)
    if wrong:
        raise typer.Exit(1)


def _check_invariants(result: "netdissect.Result") -> bool:
    findings = list(netdissect.check_invariants(result))
    wrong = [finding for finding in findings if not finding.holds]
    for finding in wrong:
        typer.echo(f"WRONG  {finding.layer}: violated: {finding.law}: {finding.detail}")
    typer.echo(f"{'ok    ' if not wrong else 'WRONG '} {len(findings) - len(wrong)} of {len(findings)} invariants hold")
    return bool(wrong)


def _check_data(result: "netdissect.Result", root: Path | None) -> bool:
    with progress_bars() as progress:
        same = netdissect.verify_data(result.info, root=root, progress=progress)
    folder = root or result.info.data.root
    typer.echo(
        f"ok     {folder} is the data set of the run: tables, images and label maps are the same"
        if same
        else f"WRONG  {folder} is not the data set of the run: tables, images or label maps differ"
    )
    return not same


def _print_sample(found: "list[RecomputedMask]") -> bool:
    """Print the comparison of recomputed masks; they may differ by rounding in another environment."""
    pixels, changed = sum(mask.pixels for mask in found), sum(mask.changed for mask in found)
    equal = sum(mask.largest_difference == 0 for mask in found)
    worst = max((mask.largest_difference for mask in found), default=0.0)
    wrong = worst > ROUNDING
    typer.echo(
        f"{'WRONG ' if wrong else 'ok    '} {counted(len(found), 'masks')} recomputed: {equal} bitwise equal, largest "
        f"difference {worst:.1e} of a unit's maximum; {changed} of {pixels} mask pixels differ"
    )
    for mask in found:
        if mask.largest_difference > ROUNDING:
            typer.echo(f"       {mask.layer} unit {mask.unit} on {mask.image}: {mask.largest_difference:.1e}")
    return wrong
