"""A small segmenter: its layers, and the file of a trained one.

    SegmenterTrainConfig -> SegmentationNet -> train_segmenter.train_on_maps -> TrainedSegmenter -> .safetensors

The network is a small U-Net: convolutions that halve the resolution, and as many that double it again and see the
finer features of the same resolution. Its scores have half the resolution of the image, as label maps have. Each
category is a head of its own, because a pixel has an object, a part, a material and a texture at once.

The first half is trained with the rest, or it is a network that was trained for classification and stays as it is.

Architecture: Ronneberger, Fischer and Brox 2015 :cite:p:`ronneberger2015unet`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate

from netdissect.concepts import Size
from netdissect.config_fields import Option
from netdissect.models import Preprocessing
from netdissect.training.scene_net import TrainConfig, preprocessing
from netdissect.training.segmentation.frozen_encoder import WIDTHS, frozen_stages
from netdissect.training.weights_file import as_checkpoint_error, read_weights, write_weights

KIND = "segmenter"
"""Name of the fact of its files that is the training configuration."""


class SegmenterTrainConfig(TrainConfig):
    """How a segmenter is built and trained."""

    size: Annotated[int, Option("--input-size")] = Field(96, ge=32, le=1024, description="Pixels of the square images.")
    num_images: int = Field(3_000, ge=1, description="Training images, at most.")
    held_out: int = Field(300, ge=1, description="Images held out to measure the error.")
    encoder: Literal["efficientnet_lite0"] | None = Field(
        None,
        description="A network trained on ImageNet that reads the image and stays as it is. None: it is trained.",
    )
    units: tuple[int, ...] = Field(
        (16, 32, 64), min_length=2, description="Of each resolution, the finest first; an encoder has its own."
    )
    steps: int = Field(600, ge=1, description="Optimizer steps.")
    batch_size: Annotated[int, Option("--train-batch-size")] = Field(16, ge=1, description="Images in a step.")
    learning_rate: float = Field(4e-3, gt=0, description="Peak of the one-cycle schedule.")
    ignore_unlabeled: bool = Field(
        False, description="Whether unlabeled pixels say nothing; otherwise they teach where no label belongs."
    )
    smallest_crop: float = Field(
        1.0, gt=0, le=1, description="Smallest side of random crops around labeled pixels, as a share of the image's."
    )
    darken: float = Field(0.0, ge=0, description="Images are darkened at random, by so many halvings at most.")
    balance: float = Field(
        0.0, ge=0, le=1, description="A label weighs as its share of the pixels to the power of minus this."
    )

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the network's input."""
        if self.encoder is None:
            return preprocessing(self.size)
        return Preprocessing(Size(self.size, self.size), (127 / 255,) * 3, (128 / 255,) * 3)


@dataclass(frozen=True)
class TrainedSegmenter:
    """A trained segmenter.

    Attributes
    ----------
    module
        In evaluation mode.
    train_config
        What made it.
    heads
        Names of the labels of each category, which is a head of the network; before them each head has a class for
        unlabeled pixels.
    heldout_iou
        IoU of each label with the true masks of the held-out images, by category and name; None: it does not occur
        there and was not predicted.
    seconds
        Wall time of the training.
    """

    module: "SegmentationNet"
    train_config: SegmenterTrainConfig
    heads: Mapping[str, tuple[str, ...]]
    heldout_iou: Mapping[str, Mapping[str, float | None]]
    seconds: float


class SegmentationNet(nn.Module):
    """A small U-Net.

    Parameters
    ----------
    units
        Of each resolution, from half of the image on; each is half the one before.
    classes
        Number of scores.
    seed
        Of the weights; the global generator is not changed.
    frozen
        Stages that read the image and are not trained, with as many outputs as `units` says. None: they are trained.
    """

    def __init__(
        self, units: Sequence[int], classes: int, seed: int = 0, *, frozen: nn.ModuleList | None = None
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.frozen = frozen is not None
            self.down = (
                frozen
                if frozen is not None
                else nn.ModuleList(
                    nn.Sequential(_block(before, after, 2), _block(after, after, 1))
                    for before, after in pairwise((3, *units))
                )
            )
            self.up = nn.ModuleList(_block(coarse + fine, fine, 1) for fine, coarse in pairwise(units))
            self.scores = nn.Conv2d(units[0], classes, 1)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.down.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return scores (B, classes, H / 2, W / 2) of normalized images (B, 3, H, W)."""
        scores: Tensor = self.scores(self.features(images))
        return scores

    def features(self, images: Tensor) -> Tensor:
        """Return what scores are made of, (B, units[0], H / 2, W / 2)."""
        seen: list[Tensor] = []
        for down in self.down:
            seen.append(down(seen[-1] if seen else images))
        found = seen.pop()
        for up in reversed(self.up):
            fine = seen.pop()
            found = up(torch.cat([interpolate(found, fine.shape[2:], mode="bilinear", align_corners=False), fine], 1))
        return found


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def segmentation_net(
    train_config: SegmenterTrainConfig, heads: Mapping[str, tuple[str, ...]], *, pretrained: bool = True
) -> SegmentationNet:
    """Build the network of a configuration with its initial weights; `pretrained`: those of its encoder are loaded."""
    classes, seed = class_count(heads), train_config.seed
    if train_config.encoder is None:
        return SegmentationNet(train_config.units, classes, seed)
    return SegmentationNet(WIDTHS, classes, seed, frozen=frozen_stages(train_config.size, pretrained=pretrained))


def class_count(heads: Mapping[str, tuple[str, ...]]) -> int:
    """Return the number of scores: the labels of each head and its class for unlabeled pixels.

    >>> class_count({"object": ("car", "tree"), "part": ("wheel",)})
    5
    """
    return sum(1 + len(names) for names in heads.values())


def save_segmenter(trained: TrainedSegmenter, path: str | Path) -> Path:
    """Write weights, configuration, labels and held-out error as one ``.safetensors`` file."""
    facts = {
        KIND: trained.train_config.model_dump(mode="json"),
        "heads": dict(trained.heads),
        "heldout_iou": {category: dict(ious) for category, ious in trained.heldout_iou.items()},
        "seconds": trained.seconds,
    }
    return write_weights(path, trained.module, facts)


def load_trained_segmenter(path: str | Path) -> TrainedSegmenter:
    """Read what `save_segmenter` wrote.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or was not written by `save_segmenter`.
    MissingExtraError
        If the package of its encoder is not installed.
    """
    with as_checkpoint_error(
        path,
        "a segmenter that netdissect trained",
        missing="Train one with netdissect.training.train_segmenter.",
        damaged="Train it again, or name a segmenter of another kind.",
    ):
        weights, (config, named, ious, seconds) = read_weights(path, KIND, "heads", "heldout_iou", "seconds")
        train_config = SegmenterTrainConfig.model_validate(config)
        heads = {str(category): tuple(map(str, names)) for category, names in named.items()}
        module = segmentation_net(train_config, heads, pretrained=False).eval()
        module.load_state_dict(weights)
        return TrainedSegmenter(module, train_config, heads, ious, seconds)
