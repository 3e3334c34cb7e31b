"""`netdissect experiment snapshots`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import netdissect
from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import Measure, OutOption, RuleOption, checked, measure
from netdissect.cli.options import with_options_of
from netdissect.config import NetworkSource, Progress
from netdissect.errors import ConfigError

if TYPE_CHECKING:
    from netdissect.experiments import ExperimentResult


@with_options_of(measure)
def snapshots(
    measured: Measure,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="SNAPSHOTS", help="Folder of checkpoints, or of the runs a callback made; iterations in the names."
        ),
    ],
    out: OutOption,
    network: Annotated[str | None, typer.Option("--network", help="Whose checkpoints; runs need none.")] = None,
    concepts: Annotated[Path | None, typer.Option("--concepts", help="Data set; runs need none.")] = None,
    state_dict: Annotated[str | None, typer.Option("--state-dict", help="Which weights of each checkpoint.")] = None,
    layer: Annotated[str | None, typer.Option("--layer", help="Default: the last of the runs.")] = None,
    rule: RuleOption = "per-category",
) -> None:
    """Follow detectors over training: counts by category, each unit's concept, and units that changed category."""
    decides = measured.quantiles[0] if measured.quantiles else None
    config = checked(netdissect.experiments.TrainingDynamicsConfig, layer=layer, quantile=decides, rule=rule)

    def experiment(progress: Progress) -> "ExperimentResult":
        if network is None:
            return netdissect.experiments.training_dynamics(netdissect.experiments.dissected_runs(folder), config)
        if concepts is None or layer is None:
            raise ConfigError("checkpoints are to be dissected: name a data set with --concepts, and --layer.")
        moments = netdissect.experiments.dissected_checkpoints(
            NetworkSource(spec=network, state_dict=state_dict), folder, concepts, measured.config([layer]), out=out,
            progress=progress,
        )  # fmt: skip
        return netdissect.experiments.training_dynamics(moments, config)

    carry_out(experiment, out)
