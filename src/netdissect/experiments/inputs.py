"""What the commands of several experiments take: networks, data sets, classes.

The fields are the options of the commands, and the parameters of the functions of the same names: these also take
networks, data sets and results that are open already.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, InstanceOf

from netdissect.config import DissectConfig, Execution, LoadOptions
from netdissect.config_fields import Config, Option, Values, leaves
from netdissect.errors import ConfigError, LayerError
from netdissect.models import Network, as_network, list_layers
from netdissect.models.as_network import refuse_without_images
from netdissect.result import Result, load_result
from netdissect.training.class_names import class_names
from netdissect.training.classification_data import LabeledImages
from netdissect.training.load_trained import open_network

NETWORK = (
    "torchvision:NAME, timm:NAME, transformers:NAME, efficientnet_lite0|1|2, python:package.module:factory, or a "
    "network that an experiment trained (.safetensors). NAME@FILE takes the weights of a checkpoint, NAME@FILE#KEY "
    "those under a key of it, NAME@none random ones."
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


def caching(out: str | Path) -> Execution:
    """Return how an experiment of several runs dissects: label maps are decoded once, and kept in ``OUT/caches``."""
    return Execution(cache_folder=Path(out) / "caches")


def one_or_several(value: Any) -> tuple[Any, ...]:
    """Return networks or runs as a tuple, a single one included."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


Data = Annotated[Any, Option("--concepts", metavar="PATH")]
"""Of the field `data`: a data set in Broden's layout, or from Python an open one."""
DATA = "Data set in Broden's layout."
Run = Annotated[InstanceOf[Result] | Path | None, Option(metavar="RUN")]
"""Of a field that takes a finished run: its folder, or from Python the result."""
ClassImages = InstanceOf[LabeledImages] | Path


class Inputs(Config):
    """Inputs of a command that loads networks."""

    loading: Annotated[LoadOptions, Option(panel="Network")] = Field(
        default_factory=LoadOptions, description="How networks are loaded by their names."
    )
    preprocessing: Annotated[Any, Option(hidden=True)] = Field(
        None, description="How the input of a bare module is made from an image. None: as it is known."
    )

    def open(self, model: Any) -> Network:
        """Return a network of what was typed, or of what Python has.

        Raises
        ------
        ConfigError
            If options of loading are given for what is loaded already.
        """
        if isinstance(model, str) and self.preprocessing is None:
            return open_network(model, self.loading)
        changed = self.loading.model_dump(exclude_defaults=True)
        given = sorted(leaf.keyword for leaf in leaves(LoadOptions) if leaf.path[0] in changed)
        if given:
            known = "its preprocessing is given" if isinstance(model, str) else f"the model is a {type(model).__name__}"
            raise ConfigError(
                f"{' and '.join(given)} would say how a network is loaded by its name, but {known}. Leave them out, or "
                "pass the name of a network alone."
            )
        return as_network(model, self.preprocessing)


class NetworkInputs(Inputs):
    """One network."""

    model: Annotated[Any, Option(argument=True, metavar="NETWORK")] = Field(description=NETWORK)

    def load(self) -> Network:
        """Load the network."""
        return self.open(self.model)


class ClassifierInputs(NetworkInputs):
    """One classifier, and the names of its outputs."""

    classes: Annotated[tuple[str, ...] | Path | None, Option(metavar="PATH")] = Field(
        None,
        description=(
            "Names of the outputs, one a line. Known: ImageNet's, those in a model of transformers or its config.json "
            "beside an ONNX file, the scenes of the synthetic data set."
        ),
    )

    def load(self) -> Network:
        """Load the network, which takes images."""
        network = super().load()
        refuse_without_images(network, "An experiment on classes")
        return network

    def names(self, network: Network) -> tuple[str, ...] | None:
        """Return the names of the outputs; None: nothing is known of them."""
        return self.classes if isinstance(self.classes, tuple) else class_names(network, self.classes)


class DissectedClassifierInputs(ClassifierInputs):
    """One classifier, and a run of it."""

    run: Run = Field(None, description="A finished run of this network: it labels the units.")

    def result(self) -> Result | None:
        """Open the run."""
        return load_result(self.run) if isinstance(self.run, Path) else self.run
