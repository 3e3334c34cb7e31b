"""`netdissect experiment training-dynamics`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from netdissect import experiments
from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import MEASURED, OutOption
from netdissect.cli_options import Typed, with_options
from netdissect.config import DissectConfig, NetworkSource, Progress
from netdissect.errors import ConfigError
from netdissect.experiments import TrainingDynamicsConfig

if TYPE_CHECKING:
    from netdissect.experiments import ExperimentResult


class Measured(TrainingDynamicsConfig):
    """How checkpoints are dissected, besides; the first of its layers and quantiles are those that are followed."""

    dissect: DissectConfig | None = None


@with_options(Measured, MEASURED, only=("dissect", "rule"))
def run(
    asked: Typed[Measured],
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
) -> None:
    """Follow the one layer of --layer over checkpoints, or that of the runs."""
    layers, quantiles = (
        asked.at("dissect", "layers") or (None,),
        asked.at("dissect", "protocol", "quantiles") or (None,),
    )
    followed = {"layer": layers[0], "quantile": quantiles[0], "rule": asked.at("rule") or "per-category"}
    config = Typed(TrainingDynamicsConfig, followed, {}).model()

    def experiment(progress: Progress) -> "ExperimentResult":
        if network is None:
            return experiments.training_dynamics(experiments.dissected_runs(folder), config)
        if concepts is None or config.layer is None:
            raise ConfigError("checkpoints are to be dissected: name a data set with --concepts, and --layer.")
        moments = experiments.dissected_checkpoints(
            NetworkSource(spec=network, state_dict=state_dict), folder, concepts, asked.part("dissect", DissectConfig),
            out=out, progress=progress,
        )  # fmt: skip
        return experiments.training_dynamics(moments, config)

    carry_out(experiment, out)
