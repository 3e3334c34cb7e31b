"""What all experiments take on one's own networks and data; nothing here needs torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from netdissect.config import DissectConfig, OneOrMore
from netdissect.config_fields import Config, Option
from netdissect.training.choices import ScaleName


class ReproduceConfig(Config):
    """What is measured on one's own networks, and which files may be used."""

    names: Annotated[tuple[str, ...], OneOrMore, Option("--network")] = Field(
        min_length=1, description="Networks, named as for 'experiment'; repeats."
    )
    layers: Annotated[tuple[str, ...], OneOrMore, Option("--layer")] = Field(
        min_length=1, description="The last convolution: one for all, or one for each; repeats."
    )
    max_images: int | None = Field(None, gt=0, description="Dissect this many images, drawn at random; None: all.")
    batch_size: int = Field(32, gt=0, description="Images in one forward pass.")
    rotations: int = Field(5, ge=0, description="Random rotations, of seeds 0, 1, ...")
    steps: int = Field(5, ge=1, description="Steps from alpha 0 to 1.")
    checkpoints: Path | None = Field(
        None, description="Folder of checkpoints of the first network; for training-dynamics."
    )
    train_images: Path | None = Field(
        None,
        description="A folder for each class of some that no network was trained on; for linear-probe and supervision.",
    )
    class_images: Path | None = Field(
        None,
        description="A folder for each class, named as the outputs of the first network; for attribution and ablate.",
    )
    classes: Path | None = Field(None, description="Names of the first network's outputs, one a line.")
    ratings: Path | None = Field(None, description="Table of ratings, as the explorer exports it; for rater-agreement.")
    train: ScaleName | None = Field(
        None, description="Train networks at this scale, for training conditions and supervision; None: not at all."
    )

    def layer_of(self, index: int) -> str:
        """Return the layer of a network."""
        return self.layers[index if len(self.layers) > 1 else 0]

    def dissect_config(self, names: Sequence[str]) -> DissectConfig:
        """Return the dissection of some layers."""
        return DissectConfig(layers=tuple(names), max_images=self.max_images, batch_size=self.batch_size)
