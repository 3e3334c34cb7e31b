"""`netdissect experiment attribution`."""

from pathlib import Path
from typing import Annotated

import typer

import netdissect
from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import (
    ClassesOption,
    LabelsOption,
    NetworkArgument,
    OutOption,
    WeightsSeedOption,
    open_network,
)
from netdissect.cli_options import Typed, with_options
from netdissect.experiments import AttributionConfig, attribution


@with_options(AttributionConfig, {"batch_size": 32})
def run(
    asked: Typed[AttributionConfig],
    network: NetworkArgument,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Files, or folders at any depth.")],
    out: OutOption,
    labels: LabelsOption = None,
    classes: ClassesOption = None,
    weights_seed: WeightsSeedOption = 0,
) -> None:
    """Explain decisions by the units of the pooled layer."""
    loaded = open_network(network, weights_seed)
    names = netdissect.training.class_names(loaded, classes)
    config = asked.model({"batch_size": 32, "classes": names})
    files = [file for path in images for file in netdissect.training.image_files(path)]
    result = None if labels is None else netdissect.load_result(labels)
    carry_out(lambda progress: attribution(loaded, files, config, result=result, progress=progress), out)
