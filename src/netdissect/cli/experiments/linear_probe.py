"""`netdissect experiment linear-probe`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel, Field

import netdissect
from netdissect import experiments
from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import MEASURED, ConceptsOption, OutOption, WeightsSeedOption, open_network
from netdissect.cli_options import Typed, with_options
from netdissect.config import DissectConfig, Progress
from netdissect.experiments import LinearProbeConfig, Subject

if TYPE_CHECKING:
    from netdissect.experiments import ExperimentResult


class ProbeRequest(BaseModel):
    """The probe, and the dissections that it is compared with."""

    probe: LinearProbeConfig = Field(default_factory=LinearProbeConfig)
    dissect: DissectConfig


@with_options(ProbeRequest, MEASURED)
def run(
    asked: Typed[ProbeRequest],
    networks: Annotated[
        list[str],
        typer.Argument(metavar="NETWORK...", help="As for 'experiment layer-profile'; each with all its layers."),
    ],
    class_images: Annotated[Path, typer.Option("--class-images", help="A folder of images for each class.")],
    concepts: ConceptsOption,
    out: OutOption,
    weights_seed: WeightsSeedOption = 0,
) -> None:
    """Probe the layers of --layer, or each network's last convolution."""
    images = netdissect.training.labeled_folder(class_images)

    def request(layers: Sequence[str]) -> ProbeRequest:
        return asked.model({"dissect": MEASURED["dissect"] | {"layers": layers}})

    def carried_out(progress: Progress) -> "ExperimentResult":
        subjects = []
        for text in networks:
            network = open_network(text, weights_seed)
            dissected = request(experiments.convolutions(network)[-1:]).dissect
            folder = out / "runs" / network.digest[:16]
            result = netdissect.dissect(network, concepts, dissected, out=folder, progress=progress)
            subjects += [Subject(network, name, result) for name in result.layers]
        same = {"seed": dissected.sample_seed, "batch_size": dissected.batch_size}
        config = request(["any"]).probe.model_copy(update=same)
        return experiments.linear_probe(subjects, images, config, out=out, progress=progress)

    carry_out(carried_out, out)
