"""Options that experiments share.

A network is named as for `netdissect run`; with ``@`` and a checkpoint, or ``@none``, it has other weights. A
``.safetensors`` file that an experiment trained is a network, too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

import netdissect
from netdissect.config import DissectConfig, Protocol, Rule
from netdissect.errors import ConfigError

if TYPE_CHECKING:
    from netdissect.models import Network

Model = TypeVar("Model", bound=BaseModel)

NETWORK_HELP = (
    "torchvision:NAME, timm:NAME, efficientnet_lite0|1|2, python:package.module:factory, or a network that an "
    "experiment trained (.safetensors); NAME@FILE takes the weights of a checkpoint, NAME@none random ones."
)

NetworkArgument = Annotated[str, typer.Argument(metavar="NETWORK", help=NETWORK_HELP)]
ConceptsOption = Annotated[Path, typer.Option("--concepts", help="Data set in Broden's layout.")]
OutOption = Annotated[Path, typer.Option("--out", help="Folder of the outcome; what is done there is taken up.")]
LayerOption = Annotated[str, typer.Option("--layer", help="Layer name, as 'netdissect layers' lists it.")]
QuantileOption = Annotated[
    list[float] | None,
    typer.Option("--quantile", help="Fraction of activations above the threshold; repeats, the first decides."),
]
MinIouOption = Annotated[float, typer.Option("--min-iou", help="A unit above this is a detector.")]
RuleOption = Annotated[Rule, typer.Option("--rule", help="Which published rule the figure and the verdict count by.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Draw this many images by --seed.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Of random weights and of the images of --limit.")]
ClassesOption = Annotated[
    Path | None,
    typer.Option(
        "--classes", help="Names of the outputs, one a line. Known: ImageNet's, the synthetic world's scenes."
    ),
]
LabelsOption = Annotated[
    Path | None, typer.Option("--run", help="A finished run of this network: it labels the units.")
]
BatchOption = Annotated[int, typer.Option("--batch-size", min=1)]
DeviceOption = Annotated[str, typer.Option("--device")]


def open_network(text: str, seed: int = 0) -> "Network":
    """Load a network by what was typed.

    Raises
    ------
    NetworkError
        If there is no such network.
    CheckpointError
        If its weights cannot be used.
    """
    if text.endswith(".safetensors") and ("@" not in text or Path(text).is_file()):
        return netdissect.experiments.trained_network(text)
    spec, _, weights = text.partition("@")
    return netdissect.load_network(spec, weights=weights or None, seed=seed)


def measured(layers: Sequence[str], quantiles: Sequence[float] | None, **choices: Any) -> DissectConfig:
    """Return the dissection that the options ask for.

    Raises
    ------
    ConfigError
        If an option is out of its range.
    """
    protocol = checked(Protocol, quantiles=tuple(quantiles)) if quantiles else Protocol()
    return checked(DissectConfig, layers=tuple(layers), protocol=protocol, **choices)


def checked(model: type[Model], **values: Any) -> Model:
    """Make a config of what was typed.

    Raises
    ------
    ConfigError
        If a value is out of its range.
    """
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"{first['loc'][0]} cannot be {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}. "
            "See --help for what the option takes."
        ) from error
