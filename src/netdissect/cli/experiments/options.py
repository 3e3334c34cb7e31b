"""Arguments and options that experiments share apart from their configurations, and how networks are named.

A network is named as for `netdissect run`; with ``@`` and a checkpoint, or ``@none``, it has other weights. A
``.safetensors`` file that an experiment trained is a network, too.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import netdissect

if TYPE_CHECKING:
    from netdissect.models import Network

NETWORK_HELP = (
    "torchvision:NAME, timm:NAME, efficientnet_lite0|1|2, python:package.module:factory, or a network that an "
    "experiment trained (.safetensors); NAME@FILE takes the weights of a checkpoint (NAME@FILE#KEY those "
    "under a key of it), NAME@none random ones."
)
MEASURED: dict[str, Any] = {"dissect": {"batch_size": 32}}
"""Defaults of experiments that dissect."""

NetworkArgument = Annotated[str, typer.Argument(metavar="NETWORK", help=NETWORK_HELP)]
ConceptsOption = Annotated[Path, typer.Option("--concepts", help="Data set in Broden's layout.")]
OutOption = Annotated[Path, typer.Option("--out", help="Folder of the outcome; what is done there is resumed.")]
WeightsSeedOption = Annotated[int, typer.Option("--weights-seed", min=0, help="Seed of random weights.")]
ClassesOption = Annotated[
    Path | None,
    typer.Option(
        "--classes", help="Names of the outputs, one a line. Known: ImageNet's, the synthetic data set's scenes."
    ),
]
LabelsOption = Annotated[
    Path | None, typer.Option("--run", help="A finished run of this network: it labels the units.")
]


def open_network(text: str, weights_seed: int = 0) -> "Network":
    """Load a network by what was typed.

    Raises
    ------
    NetworkError
        If there is no such network.
    CheckpointError
        If its weights cannot be used.
    """
    if text.endswith(".safetensors") and ("@" not in text or Path(text).is_file()):
        return netdissect.training.trained_network(text)
    spec, _, weights = text.partition("@")
    file, _, key = (weights, "", "") if Path(weights).is_file() else weights.partition("#")
    return netdissect.load_network(spec, weights=file or None, state_dict=key or None, weights_seed=weights_seed)
