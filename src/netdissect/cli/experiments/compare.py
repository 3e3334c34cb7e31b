"""`netdissect experiment compare`."""

from pathlib import Path
from typing import Annotated

import typer

import netdissect
from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import Measure, OutOption, RuleOption, checked, measure, open_network
from netdissect.cli.options import with_options_of
from netdissect.errors import ConfigError


@with_options_of(measure)
def compare(
    measured: Measure,
    out: OutOption,
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="RUN_OR_NETWORK...", help="Run folders, or networks to dissect.")
    ] = None,
    concepts: Annotated[Path | None, typer.Option("--concepts", help="Data set; needed for networks.")] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", help="One for all, or one for each in the same order. Default: the last of each run."),
    ] = None,
    published: Annotated[
        Path | None, typer.Option("--published", help="CSV of published counts to put beside.")
    ] = None,
    expected: Annotated[
        list[str] | None, typer.Option("--expected", help="Network names, most detectors first as you expect; repeats.")
    ] = None,
    rule: RuleOption = "per-category",
) -> None:
    """Put the detectors of several networks or runs beside each other, and published counts beside them."""
    opened = [
        Path(text) if Path(text).is_dir() else open_network(text, measured.weights_seed) for text in sources or ()
    ]
    networks = any(not isinstance(source, Path) for source in opened)
    if networks and not (concepts and layer):
        raise ConfigError(
            "networks are to be dissected: name a data set with --concepts, and --layer. Runs need neither."
        )
    config = checked(
        netdissect.experiments.CompareConfig,
        dissect=measured.config(layer or ()) if networks else None,
        layers=tuple(layer or ()),
        quantile=measured.quantiles[0] if measured.quantiles else None,
        rule=rule,
        published=published,
        expected=tuple(expected or ()),
    )
    carry_out(
        lambda progress: netdissect.experiments.compare(opened, config, out=out, concepts=concepts, progress=progress),
        out,
    )
