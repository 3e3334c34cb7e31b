"""`netdissect experiment snapshots`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import netdissect
from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import (
    BatchOption,
    DeviceOption,
    LimitOption,
    MinIouOption,
    OutOption,
    QuantileOption,
    RuleOption,
    SeedOption,
    checked,
    measured,
)
from netdissect.config import NetworkSource, Progress
from netdissect.errors import ConfigError

if TYPE_CHECKING:
    from netdissect.experiments import Outcome


def snapshots(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="SNAPSHOTS", help="Folder of checkpoints, or of the runs a callback made; iterations in the names."
        ),
    ],
    out: OutOption,
    network: Annotated[str | None, typer.Option("--network", help="Whose checkpoints; runs need none.")] = None,
    concepts: Annotated[Path | None, typer.Option("--concepts", help="Data set; runs need none.")] = None,
    layer: Annotated[str | None, typer.Option("--layer", help="Default: the last of the runs.")] = None,
    quantile: QuantileOption = None,
    min_iou: MinIouOption = 0.04,
    rule: RuleOption = "per-category",
    limit: LimitOption = None,
    seed: SeedOption = 0,
    batch_size: BatchOption = 32,
    device: DeviceOption = "cpu",
) -> None:
    """Follow detectors over training: counts by category, each unit's concept, and units that changed category."""
    config = checked(
        netdissect.experiments.SnapshotsConfig, layer=layer, quantile=quantile[0] if quantile else None, rule=rule
    )

    def experiment(progress: Progress) -> "Outcome":
        if network is None:
            return netdissect.experiments.snapshots(netdissect.experiments.dissected_runs(folder), config)
        if concepts is None or layer is None:
            raise ConfigError("checkpoints are to be dissected: name a data set with --concepts, and --layer.")
        options = {"min_iou": min_iou, "limit": limit, "seed": seed, "batch_size": batch_size, "device": device}
        moments = netdissect.experiments.dissected_checkpoints(
            NetworkSource(spec=network), folder, concepts, measured([layer], quantile, **options), out=out,
            progress=progress,
        )  # fmt: skip
        return netdissect.experiments.snapshots(moments, config)

    carry_out(experiment, out)
