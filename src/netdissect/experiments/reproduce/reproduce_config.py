"""What the whole paper measures on one's own networks: the options of `netdissect reproduce`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from netdissect.cli_options import Option
from netdissect.config import DissectConfig, OneOrMore
from netdissect.training.choices import ScaleName


class ReproduceConfig(BaseModel):
    """What the whole paper measures on one's own networks, and which files it may use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: Annotated[tuple[str, ...], OneOrMore, Option("--network", metavar="NETWORK")] = Field(
        min_length=1, description="Networks, as for the experiments; repeats."
    )
    layers: Annotated[tuple[str, ...], OneOrMore, Option("--layer", metavar="LAYER")] = Field(
        min_length=1, description="The last convolution: one for all, or one for each."
    )
    max_images: int | None = Field(None, gt=0, description="Dissect this many images, drawn at random; None: all.")
    batch_size: int = Field(32, gt=0, description="Images in one forward pass.")
    rotations: Annotated[tuple[int, ...], Option("--rotation-seeds", metavar="SEED,...")] = Field(
        (0, 1, 2, 3, 4), description="Seeds of random rotations."
    )
    steps: int = Field(5, ge=1, description="Steps from alpha 0 to 1.")
    checkpoints: Path | None = Field(
        None, description="Folder of the first network's weights over its training; for training-dynamics."
    )
    train_images: Path | None = Field(
        None,
        description="A folder for each of some other classes; for linear-probe and supervision.",
    )
    class_images: Path | None = Field(
        None, description="A folder for each class, called as the first network's outputs; for attribution and ablate."
    )
    classes: Path | None = Field(None, description="Names of the first network's outputs, one a line.")
    ratings: Path | None = Field(
        None, description="Table of what raters said, as the explorer exports it; for rater-agreement."
    )
    train: ScaleName | None = Field(
        None, description="Train variants, and networks of tasks, at this scale; None: not at all."
    )

    def layer_of(self, index: int) -> str:
        """Return the layer of a network."""
        return self.layers[index if len(self.layers) > 1 else 0]

    def measured(self, names: Sequence[str]) -> DissectConfig:
        """Return the dissection of some layers."""
        return DissectConfig(layers=tuple(names), max_images=self.max_images, batch_size=self.batch_size)
