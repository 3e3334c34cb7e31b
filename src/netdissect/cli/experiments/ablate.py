"""`netdissect experiment ablate`."""

from pathlib import Path
from typing import Annotated

import typer

import netdissect
from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import (
    BatchOption,
    ClassesOption,
    LabelsOption,
    LayerOption,
    MaxImagesOption,
    NetworkArgument,
    OutOption,
    SampleSeedOption,
    WeightsSeedOption,
    checked,
    open_network,
)
from netdissect.errors import ConfigError


def ablate(
    network: NetworkArgument,
    layer: LayerOption,
    out: OutOption,
    class_images: Annotated[
        Path | None,
        typer.Option("--class-images", help="A folder of pictures for each class, called as the network's."),
    ] = None,
    concepts: Annotated[
        Path | None, typer.Option("--concepts", help="Or a data set whose pictures bear a class as a whole.")
    ] = None,
    category: Annotated[str, typer.Option("--category", help="Of these classes in the data set.")] = "scene",
    run: LabelsOption = None,
    sizes: Annotated[list[int] | None, typer.Option("--units", help="Units off at a time; repeats.")] = None,
    rank: Annotated[str, typer.Option("--rank", help="effect, score or iou (needs --run).")] = "effect",
    random_sets: Annotated[int, typer.Option("--random-sets", min=1, help="Random sets of each size.")] = 10,
    classes: ClassesOption = None,
    max_images: MaxImagesOption = None,
    weights_seed: WeightsSeedOption = 0,
    sample_seed: SampleSeedOption = 0,
    batch_size: BatchOption = 64,
) -> None:
    """Switch units off: one at a time, the best and worst for a class, all but the best, and as many at random."""
    experiments = netdissect.experiments
    if (class_images is None) == (concepts is None):
        raise ConfigError("pictures with classes are needed once: name either --class-images or --concepts.")
    loaded = open_network(network, weights_seed)
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
    pictures = found.drawn(max_images, sample_seed).named(names)
    config = checked(
        experiments.AblateConfig,
        layer=layer, rank=rank, random_sets=random_sets, seed=sample_seed, batch_size=batch_size,
        **({"sizes": tuple(sizes)} if sizes else {}),
    )  # fmt: skip
    result = None if run is None else netdissect.load_result(run)
    carry_out(
        lambda progress: experiments.ablate(loaded, pictures, config, result=result, out=out, progress=progress), out
    )
