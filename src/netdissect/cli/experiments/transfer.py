"""`netdissect experiment transfer`."""

from pathlib import Path
from typing import Annotated

import typer

import netdissect
from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import (
    ConceptsOption,
    Measure,
    OutOption,
    RuleOption,
    checked,
    measure,
    open_network,
)
from netdissect.cli.options import with_options_of
from netdissect.config import Progress


@with_options_of(measure)
def transfer(
    measured: Measure,
    networks: Annotated[
        list[str],
        typer.Argument(metavar="NETWORK...", help="As for 'experiment layer-profile'; each with all its layers."),
    ],
    class_images: Annotated[Path, typer.Option("--class-images", help="A folder of pictures for each class.")],
    concepts: ConceptsOption,
    out: OutOption,
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", help="Layer name or glob; repeats. Default: each network's last convolution."),
    ] = None,
    pool: Annotated[str, typer.Option("--pool", help="mean or max of a unit over the picture.")] = "mean",
    penalty: Annotated[float, typer.Option("--penalty", help="C of the SVM, beside the cross-validated one.")] = 0.001,
    category: Annotated[
        str, typer.Option("--category", help="Whose detectors the accuracy is compared with.")
    ] = "object",
    rule: RuleOption = "per-category",
) -> None:
    """Accuracy of a linear SVM on the features of layers, against the unique object detectors there."""
    experiments = netdissect.experiments
    pictures = netdissect.training.labeled_folder(class_images)
    config = checked(
        experiments.LinearProbeConfig,
        pool=pool, penalty=penalty, category=category, rule=rule, seed=measured.sample_seed,
        batch_size=measured.batch_size,
    )  # fmt: skip

    def carried_out(progress: Progress) -> experiments.ExperimentResult:
        subjects = []
        for text in networks:
            network = open_network(text, measured.weights_seed)
            names = layer or experiments.convolutions(network)[-1:]
            run = out / "runs" / network.digest[:16]
            result = netdissect.dissect(network, concepts, measured.config(names), out=run, progress=progress)
            subjects += [experiments.Subject(network, name, result) for name in result.layers]
        return experiments.linear_probe(subjects, pictures, config, out=out, progress=progress)

    carry_out(carried_out, out)
