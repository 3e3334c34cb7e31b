"""`netdissect experiment contribution`."""

from pathlib import Path
from typing import Annotated

import typer

import netdissect
from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import (
    BatchOption,
    ClassesOption,
    LabelsOption,
    NetworkArgument,
    OutOption,
    WeightsSeedOption,
    checked,
    open_network,
)


def contribution(
    network: NetworkArgument,
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURES...", help="Files, or folders at any depth.")],
    out: OutOption,
    run: LabelsOption = None,
    layer: Annotated[
        str | None, typer.Option("--layer", help="That is pooled. Default: the run's last, or the last convolution.")
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Strongest units that are listed.")] = 5,
    shown: Annotated[int, typer.Option("--shown", min=1, help="Pictures that are explained one by one.")] = 6,
    classes: ClassesOption = None,
    weights_seed: WeightsSeedOption = 0,
    batch_size: BatchOption = 32,
) -> None:
    """Which units speak for the classes that a network names, and for its decision on single pictures."""
    experiments = netdissect.experiments
    loaded = open_network(network, weights_seed)
    config = checked(
        experiments.AttributionConfig,
        layer=layer, top=top, shown=shown, classes=netdissect.training.class_names(loaded, classes),
        batch_size=batch_size,
    )  # fmt: skip
    files = [file for path in pictures for file in netdissect.training.image_files(path)]
    result = None if run is None else netdissect.load_result(run)
    carry_out(lambda progress: experiments.attribution(loaded, files, config, result=result, progress=progress), out)
