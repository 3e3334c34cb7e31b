"""A small scene network: its configuration, its layers, and the file of a trained one.

    TrainConfig -> scene_network -> train.train -> TrainedSceneNet (module, held-out accuracy, log) -> .safetensors

The network is a small AlexNet: five convolutions with rectifiers, and a linear layer on the maximum of each unit over
the image. Max pooling makes single units selective; with average pooling a rotation of the representation costs fewer
detectors.

Architecture: Krizhevsky, Sutskever and Hinton 2012 :cite:p:`krizhevsky2012imagenet`.
"""

from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import nn

from netdissect.concepts import Size
from netdissect.config import NetworkSource
from netdissect.config_fields import Config, Option
from netdissect.models import Network, Preprocessing
from netdissect.synthetic import SCENE_NAMES
from netdissect.training.weights_file import as_checkpoint_error, read_weights, write_weights

MeasuredPrecision = Literal["float32", "bfloat16"]
Precision = Literal["auto", MeasuredPrecision]
Images = npt.NDArray[np.uint8]
Scenes = npt.NDArray[np.int64]

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")
MEAN = (0.47, 0.45, 0.43)
STD = (0.25, 0.24, 0.25)
POOLED = 2  # convolutions before a max pooling


class TrainConfig(Config):
    """How a scene network is built and trained."""

    size: Annotated[int, Option("--input-size")] = Field(96, ge=64, le=128, description="Pixels of the square images.")
    num_images: int = Field(12_000, ge=1, description="Training images, at most.")
    held_out: int = Field(1_000, ge=1, description="Images held out to measure the accuracy.")
    data_seed: int = Field(1, ge=0, description="Seed of the training images; not that of the dissected data set.")
    units: tuple[int, ...] = Field(
        (32, 64, 96, 128, 128), min_length=3, description="Of conv1, conv2 and so on: as many convolutions as numbers."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout rate before the linear layer.")
    batch_norm: bool = Field(False, description="Whether each convolution is batch-normalized.")
    steps: int = Field(1_800, ge=1, description="Optimizer steps.")
    batch_size: Annotated[int, Option("--train-batch-size")] = Field(32, ge=1, description="Images in a step.")
    learning_rate: float = Field(1.5e-3, gt=0, description="Peak of the one-cycle schedule.")
    weight_decay: float = Field(0.01, ge=0, description="Of AdamW.")
    seed: Annotated[int, Option(hidden=True)] = Field(
        0, ge=0, description="Of the initial weights, the order of images, their shifts, and dropout."
    )
    precision: Annotated[Precision, Option("--train-precision")] = Field(
        "auto",
        description="Of the forward pass in training. auto: bfloat16 where it is measured to be 1.2 times faster.",
    )

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the convolutions, ``conv1`` and so on."""
        return tuple(f"conv{number}" for number in range(1, len(self.units) + 1))


DEMO = TrainConfig()
FAST = TrainConfig(
    num_images=1_600, held_out=400, steps=160, units=(24, 32, 48, 64, 64), batch_size=48, learning_rate=3e-3
)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """Training up to a step: mean loss since the entry before, held-out accuracy."""

    step: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class TrainedSceneNet:
    """A trained scene network.

    Attributes
    ----------
    module
        In evaluation mode.
    train_config
        What made it; `precision` is what was used, never ``auto``.
    accuracy
        Share of held-out images whose scene is classified correctly; NaN: not measured, as during a training.
    log
        Ten entries; during a training none.
    seconds
        Wall time of the training alone; NaN: it is not finished.
    source
        The file that it was read from; None: it is in memory alone.
    """

    module: nn.Sequential
    train_config: TrainConfig
    accuracy: float
    log: tuple[LogEntry, ...]
    seconds: float
    source: NetworkSource | None = None

    def network(self, name: str = "scene network") -> Network:
        """Return it with its preprocessing, ready to be dissected."""
        return Network(name, self.module, preprocessing(self.train_config.size), source=self.source)


def preprocessing(size: int = 96) -> Preprocessing:
    """Return the preprocessing of the scene network."""
    return Preprocessing(Size(size, size), MEAN, STD)


def scene_network(
    units: tuple[int, ...] = DEMO.units,
    *,
    seed: int = 0,
    classes: int = len(SCENE_NAMES),
    dropout: float = 0.0,
    batch_norm: bool = False,
) -> nn.Sequential:
    """Build a scene network with random weights.

    Parameters
    ----------
    units
        Of each convolution; max pooling follows the first and the second.
    seed
        Of the weights; the global generator is not changed.
    classes
        Number of scenes.
    dropout
        Dropout rate between the last convolution and the linear layer.
    batch_norm
        Whether each convolution is batch-normalized before its rectifier.

    Returns
    -------
    nn.Sequential
        Modules ``conv1`` and so on are a convolution and its rectifier.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (inputs, outputs) in enumerate(pairwise((3, *units)), start=1):
            kernel, stride = (5, 2) if number == 1 else (3, 1)
            layers[f"conv{number}"] = _block(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), batch_norm)
            if number <= POOLED:
                layers[f"pool{number}"] = nn.MaxPool2d(2)
        layers["maximum"] = nn.AdaptiveMaxPool2d(1)
        layers["flat"] = nn.Flatten()
        if dropout:
            layers["dropout"] = nn.Dropout(dropout)
        layers["scene"] = nn.Linear(units[-1], classes)
        return nn.Sequential(layers)


def _block(convolution: nn.Conv2d, batch_norm: bool) -> nn.Sequential:
    # The default weights of torch are 2.4 times smaller: without batch norm the loss then stalls for 120 steps.
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    nn.init.zeros_(convolution.get_parameter("bias"))
    norm = [nn.BatchNorm2d(convolution.out_channels)] if batch_norm else []
    return nn.Sequential(convolution, *norm, nn.ReLU())


def random_network(train_config: TrainConfig) -> nn.Sequential:
    """Build the scene network of a configuration with its initial weights."""
    return scene_network(
        train_config.units, seed=train_config.seed, dropout=train_config.dropout, batch_norm=train_config.batch_norm
    )


def file_source(path: str | Path) -> NetworkSource:
    """Return the source of a network that a file holds, from whichever folder it is loaded again."""
    return NetworkSource(spec=str(Path(path).resolve()))


def save_trained(trained: TrainedSceneNet, path: str | Path) -> Path:
    """Write weights, configuration, accuracy and log as one ``.safetensors`` file."""
    facts = {
        "train_config": trained.train_config.model_dump(mode="json"),
        "accuracy": trained.accuracy,
        "log": [[entry.step, entry.loss, entry.accuracy] for entry in trained.log],
        "seconds": trained.seconds,
    }
    return write_weights(path, trained.module, facts)


def load_trained(path: str | Path) -> TrainedSceneNet:
    """Read what `save_trained` wrote.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or was not written by `save_trained`.
    """
    with as_checkpoint_error(
        path,
        "a scene network that save_trained wrote",
        missing="Train one with netdissect.training.train.",
        damaged="Remove it and train again.",
    ):
        weights, (config, accuracy, log, seconds) = read_weights(path, "train_config", "accuracy", "log", "seconds")
        train_config = TrainConfig.model_validate(config)
        module = scene_network(
            train_config.units,
            classes=len(weights["scene.bias"]),
            dropout=train_config.dropout,
            batch_norm=train_config.batch_norm,
        ).eval()
        module.load_state_dict(weights)
        entries = tuple(LogEntry(*entry) for entry in log)
        return TrainedSceneNet(module, train_config, accuracy, entries, seconds, file_source(path))
