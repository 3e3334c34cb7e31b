"""What the commands of several experiments take: networks, data sets, classes. The fields are their options."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from netdissect.cli_options import Option, Values
from netdissect.config import DissectConfig
from netdissect.errors import LayerError
from netdissect.models import Network, list_layers
from netdissect.result import Result, load_result
from netdissect.training.class_names import class_names
from netdissect.training.load_trained import open_network

NETWORK = (
    "torchvision:NAME, timm:NAME, efficientnet_lite0|1|2, python:package.module:factory, or a network that an "
    "experiment trained (.safetensors). NAME@FILE takes the weights of a checkpoint, NAME@FILE#KEY those under a key "
    "of it, NAME@none random ones."
)
CONVOLUTIONS, LAST_CONVOLUTION = "convolutions", "last-convolution"
"""Layer names that stand for all convolutions of a network in the order of execution, and for the last of them."""
BATCH_SIZE: Values = {"config": {"dissect": {"batch_size": 32}}}
"""Default of the commands that dissect."""


def with_layers(keyword: str) -> Values:
    """Return the defaults of a command that dissects and needs no --layer."""
    return {"config": {"dissect": {"batch_size": 32, "layers": (keyword,)}}}


def convolutions(network: Network) -> tuple[str, ...]:
    """Return the names of all convolutions, in the order of execution.

    Raises
    ------
    LayerError
        If the network has none.
    """
    names = tuple(layer.name for layer in list_layers(network) if layer.type.startswith("Conv"))
    if not names:
        raise LayerError(
            f"Network {network.name!r} has no module whose class is called Conv..., so its depth cannot be told. "
            "Name its layers, in order; 'netdissect layers' lists them."
        )
    return names


def named_layers(network: Network, config: DissectConfig) -> DissectConfig:
    """Return a configuration in which ``convolutions`` and ``last-convolution`` are replaced by names of layers."""
    keyword = config.layers[0]
    if len(config.layers) > 1 or keyword not in (CONVOLUTIONS, LAST_CONVOLUTION):
        return config
    names = convolutions(network)
    return config.model_copy(update={"layers": names if keyword == CONVOLUTIONS else names[-1:]})


def at_quantile(config: DissectConfig, layers: tuple[str, ...], quantile: float | None) -> DissectConfig:
    """Return a configuration with these layers and a single quantile; None: its own quantiles."""
    quantiles = config.protocol.quantiles if quantile is None else (quantile,)
    protocol = config.protocol.model_copy(update={"quantiles": quantiles})
    return config.model_copy(update={"layers": layers, "protocol": protocol})


class Inputs(BaseModel):
    """Inputs of a command."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights_seed: int = Field(0, ge=0, description="Seed of random weights.")

    def open(self, text: str) -> Network:
        """Load a network by what was typed."""
        return open_network(text, self.weights_seed)


class NetworkInputs(Inputs):
    """One network."""

    network: Annotated[str, Option(argument=True, metavar="NETWORK")] = Field(description=NETWORK)

    def load(self) -> Network:
        """Load the network."""
        return self.open(self.network)


class ClassifierInputs(NetworkInputs):
    """One classifier, and the names of its outputs."""

    classes: Path | None = Field(
        None, description="Names of the outputs, one a line. Known: ImageNet's, the scenes of the synthetic data set."
    )
    run: Path | None = Field(None, description="A finished run of this network: it labels the units.")

    def names(self, network: Network) -> tuple[str, ...] | None:
        """Return the names of the outputs; None: nothing is known of them."""
        return class_names(network, self.classes)

    def result(self) -> Result | None:
        """Open the run."""
        return None if self.run is None else load_result(self.run)
