"""`netdissect train-sae`: train a sparse autoencoder on a layer."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel, Field

import netdissect
from netdissect.cli.console import console, progress_bars
from netdissect.cli_options import Typed, with_options
from netdissect.config import NetworkSource
from netdissect.counted import counted
from netdissect.training.sparse_autoencoders.sae_config import SaeConfig

if TYPE_CHECKING:
    from netdissect.training.sparse_autoencoders.train_sae import TrainedSae


class TrainSaeRequest(BaseModel):
    """Options of `netdissect train-sae`."""

    network: NetworkSource
    config: SaeConfig = Field(default_factory=SaeConfig)


@with_options(TrainSaeRequest)
def train_sae(
    typed: Typed[TrainSaeRequest],
    layer: Annotated[str, typer.Option("--layer", metavar="LAYER", help="Dotted name of one layer.")],
    train_images: Annotated[
        Path, typer.Option("--train-images", help="Folder of images, at any depth, or a data set; no labels are read.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The dictionary, .safetensors.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train a sparse autoencoder (TopK or BatchTopK) on a layer; its latents are units of `run --basis sae:FILE`."""
    from netdissect.training.sparse_autoencoders.train_sae import train_sae as train

    request = typed.model()
    network = netdissect.load_network(**request.network.model_dump())
    with progress_bars() as progress:
        trained = train(network, layer, train_images, out, request.config, progress=progress)
    if as_json:
        typer.echo(json.dumps({**trained.report.model_dump(), "out": str(trained.path)}, indent=2))
        return
    for line in _lines(trained, request.network.spec):
        console().print(line, soft_wrap=True, highlight=False)


def _lines(trained: "TrainedSae", spec: str) -> list[str]:
    report = trained.report
    cells, images = report.cells - report.heldout_cells, report.images - report.heldout_images
    heldout = f"{counted(report.heldout_cells, 'cells')} of {counted(report.heldout_images, 'held-out images')}"
    return [
        f"{counted(report.latents, 'latents')} of {report.layer} ({counted(report.units, 'units')}) of "
        f"{report.network}, trained on {counted(cells, 'cells')} of {counted(images, 'images')} in "
        f"{counted(report.steps, 'steps')}",
        f"On {heldout}: NMSE {report.nmse:.4f}, R2 {report.r2:.4f}, L0 {report.l0:.1f}. Active on no cell: "
        f"{counted(report.dead, 'latents')} ({report.dead_share:.1%}).",
        f"Wrote {trained.path}. Dissect it: netdissect run {spec} --layer {report.layer} --basis sae:{trained.path} "
        "--concepts DATA --out RUN",
    ]
