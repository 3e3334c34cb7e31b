"""`netdissect experiment transfer`."""

from pathlib import Path
from typing import Annotated

import typer

import netdissect
from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import (
    BatchOption,
    ConceptsOption,
    DeviceOption,
    LimitOption,
    MinIouOption,
    OutOption,
    QuantileOption,
    RuleOption,
    SeedOption,
    checked,
    measured,
    open_network,
)
from netdissect.config import Progress


def transfer(
    networks: Annotated[
        list[str], typer.Argument(metavar="NETWORK...", help="As for 'experiment layers'; each with all its layers.")
    ],
    images: Annotated[Path, typer.Option("--images", help="A folder of pictures for each class.")],
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
    quantile: QuantileOption = None,
    min_iou: MinIouOption = 0.04,
    rule: RuleOption = "per-category",
    limit: LimitOption = None,
    seed: SeedOption = 0,
    batch_size: BatchOption = 32,
    device: DeviceOption = "cpu",
) -> None:
    """Accuracy of a linear SVM on the features of layers, against the unique object detectors there."""
    experiments = netdissect.experiments
    pictures = experiments.labeled_folder(images)
    config = checked(
        experiments.TransferConfig,
        pool=pool, penalty=penalty, category=category, rule=rule, seed=seed, batch_size=batch_size,
    )  # fmt: skip

    def carried_out(progress: Progress) -> experiments.Outcome:
        subjects = []
        for text in networks:
            network = open_network(text, seed)
            names = layer or experiments.convolutions(network)[-1:]
            dissected = measured(
                names, quantile, min_iou=min_iou, limit=limit, seed=seed, batch_size=batch_size, device=device
            )
            run = out / "runs" / network.digest[:16]
            result = netdissect.dissect(network, concepts, dissected, out=run, progress=progress)
            subjects += [experiments.Subject(network, name, result) for name in result.layers]
        return experiments.transfer(subjects, pictures, config, out=out, progress=progress)

    carry_out(carried_out, out)
