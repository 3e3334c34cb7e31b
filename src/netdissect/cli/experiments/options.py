"""Options that experiments share.

A network is named as for `netdissect run`; with ``@`` and a checkpoint, or ``@none``, it has other weights. A
``.safetensors`` file that an experiment trained is a network, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
    "experiment trained (.safetensors); NAME@FILE takes the weights of a checkpoint (NAME@FILE#KEY those "
    "under a key of it), NAME@none random ones."
)

PANEL = "How it is measured"

NetworkArgument = Annotated[str, typer.Argument(metavar="NETWORK", help=NETWORK_HELP)]
ConceptsOption = Annotated[Path, typer.Option("--concepts", help="Data set in Broden's layout.")]
OutOption = Annotated[Path, typer.Option("--out", help="Folder of the outcome; what is done there is taken up.")]
LayerOption = Annotated[str, typer.Option("--layer", help="Layer name, as 'netdissect layers' lists it.")]
RuleOption = Annotated[Rule, typer.Option("--rule", help="Which published rule the figure and the verdict count by.")]
QuantileOption = Annotated[
    list[float] | None,
    typer.Option(
        "--quantile",
        help="Fraction of activations above the threshold; repeats, the first decides.",
        rich_help_panel=PANEL,
    ),
]
MinIouOption = Annotated[
    float, typer.Option("--min-iou", help="IoU from which on a unit is a detector.", rich_help_panel=PANEL)
]
MaxImagesOption = Annotated[
    int | None, typer.Option("--max-images", min=1, help="Draw this many images at random.", rich_help_panel=PANEL)
]
WeightsSeedOption = Annotated[
    int, typer.Option("--weights-seed", min=0, help="Seed of random weights.", rich_help_panel=PANEL)
]
SampleSeedOption = Annotated[
    int, typer.Option("--sample-seed", min=0, help="Seed of the draw of --max-images.", rich_help_panel=PANEL)
]
BatchOption = Annotated[
    int, typer.Option("--batch-size", min=1, help="Images in a forward pass.", rich_help_panel=PANEL)
]
DeviceOption = Annotated[str, typer.Option("--device", help="Torch device of the forward pass.", rich_help_panel=PANEL)]
ClassesOption = Annotated[
    Path | None,
    typer.Option(
        "--classes", help="Names of the outputs, one a line. Known: ImageNet's, the synthetic world's scenes."
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


@dataclass(frozen=True)
class Measure:
    """How networks are dissected, as it was typed."""

    quantiles: Sequence[float] | None
    min_iou: float
    max_images: int | None
    weights_seed: int
    sample_seed: int
    batch_size: int
    device: str

    def config(self, layers: Sequence[str]) -> DissectConfig:
        """Return the dissection of these layers.

        Raises
        ------
        ConfigError
            If an option is out of its range.
        """
        protocol = checked(Protocol, quantiles=tuple(self.quantiles)) if self.quantiles else Protocol()
        return checked(
            DissectConfig, layers=tuple(layers), protocol=protocol, min_iou=self.min_iou, max_images=self.max_images,
            sample_seed=self.sample_seed, batch_size=self.batch_size, device=self.device,
        )  # fmt: skip


def measure(
    quantile: QuantileOption = None,
    min_iou: MinIouOption = 0.04,
    max_images: MaxImagesOption = None,
    weights_seed: WeightsSeedOption = 0,
    sample_seed: SampleSeedOption = 0,
    batch_size: BatchOption = 32,
    device: DeviceOption = "cpu",
) -> Measure:
    """Return how networks are dissected; a command gets these options by `with_options_of(measure)`."""
    return Measure(quantile, min_iou, max_images, weights_seed, sample_seed, batch_size, device)


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
