"""`netdissect experiment compare`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import MEASURED, OutOption, WeightsSeedOption, open_network
from netdissect.cli_options import Typed, with_options
from netdissect.errors import ConfigError
from netdissect.experiments import CompareConfig, compare


@with_options(CompareConfig, MEASURED)
def run(
    asked: Typed[CompareConfig],
    out: OutOption,
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="RUN_OR_NETWORK...", help="Run folders, or networks to dissect.")
    ] = None,
    concepts: Annotated[Path | None, typer.Option("--concepts", help="Data set; needed for networks.")] = None,
    weights_seed: WeightsSeedOption = 0,
) -> None:
    """--layer is one for all, or one for each network or run in the same order; default: the last of each run."""
    opened = [Path(text) if Path(text).is_dir() else open_network(text, weights_seed) for text in sources or ()]
    layers, quantiles = asked.at("dissect", "layers") or (), asked.at("dissect", "protocol", "quantiles") or (None,)
    defaults: dict[str, Any] = {"layers": layers, "quantile": quantiles[0]}
    if any(not isinstance(source, Path) for source in opened):
        if not (concepts and layers):
            raise ConfigError(
                "networks are to be dissected: name a data set with --concepts, and --layer. Runs need neither."
            )
        config = asked.model(MEASURED | defaults)
    else:
        given = {name: value for name, value in asked.given.items() if name != "dissect"}
        config = Typed(CompareConfig, given, defaults).model()
    carry_out(lambda progress: compare(opened, config, out=out, concepts=concepts, progress=progress), out)
