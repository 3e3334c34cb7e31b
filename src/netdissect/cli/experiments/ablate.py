"""`netdissect experiment ablate`."""

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
from netdissect.errors import ConfigError
from netdissect.experiments import AblateConfig, ablate


@with_options(AblateConfig)
def run(
    asked: Typed[AblateConfig],
    network: NetworkArgument,
    out: OutOption,
    class_images: Annotated[
        Path | None,
        typer.Option("--class-images", help="A folder of images for each class, called as the network's."),
    ] = None,
    concepts: Annotated[
        Path | None, typer.Option("--concepts", help="Or a data set with classes of whole images.")
    ] = None,
    category: Annotated[str, typer.Option("--category", help="Of these classes in the data set.")] = "scene",
    labels: LabelsOption = None,
    classes: ClassesOption = None,
    max_images: Annotated[int | None, typer.Option("--max-images", min=1, help="Draw this many images.")] = None,
    weights_seed: WeightsSeedOption = 0,
) -> None:
    """Measure on the images of classes what units matter for."""
    if (class_images is None) == (concepts is None):
        raise ConfigError("images with classes are needed once: name either --class-images or --concepts.")
    config, loaded = asked.model(), open_network(network, weights_seed)
    names = netdissect.training.class_names(loaded, classes)
    if names is None:
        raise ConfigError(
            f"nothing is known of the classes of {network}. Expected --classes FILE, the name of one output on each "
            "line, in order."
        )
    found = (
        netdissect.training.labeled_folder(class_images)
        if class_images is not None
        else netdissect.training.labeled_by(netdissect.ConceptData.open(concepts or Path()), category)
    )
    images = found.drawn(max_images, config.seed).named(names)
    result = None if labels is None else netdissect.load_result(labels)
    carry_out(lambda progress: ablate(loaded, images, config, result=result, out=out, progress=progress), out)
