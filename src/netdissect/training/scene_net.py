"""A small scene network and how it is trained on the synthetic world in about a minute.

    Recipe -> training_set -> train -> Trained (module, held-out accuracy, history) -> .safetensors

The network is AlexNet's plan at a small scale: five convolutions with rectifiers, and a linear layer
that sees each unit's maximum over the picture. Maxima ask single units to be selective; with averages
a rotation of the representation costs fewer detectors.

Plan: Krizhevsky, Sutskever and Hinton 2012 :cite:p:`krizhevsky2012imagenet`.
"""

import copy
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor, nn

from netdissect.cli_options import Option
from netdissect.concepts import Size
from netdissect.config import Progress
from netdissect.errors import CheckpointError, ConfigError
from netdissect.models import Network, Preprocessing
from netdissect.result.files import write_whole
from netdissect.synthetic import SCENE_NAMES, training_set

MeasuredPrecision = Literal["float32", "bfloat16"]
Precision = Literal["auto", MeasuredPrecision]
Images = npt.NDArray[np.uint8]
Scenes = npt.NDArray[np.int64]
StepCallback = Callable[[int, nn.Module], None]
"""Called as ``watch(steps done, network)`` while a network is trained; it must leave the network as it is."""

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")
MEAN = (0.47, 0.45, 0.43)
STD = (0.25, 0.24, 0.25)
POOLED = 2  # convolutions that a pooling follows
SHIFT = 6  # pixels that a training picture moves at most
TRIALS = 4  # steps by which it is measured
BF16_GAIN = 1.2  # bfloat16 has to be so much faster to be chosen


class TrainConfig(BaseModel):
    """How a scene network is built and trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Annotated[int, Option("--input-size")] = Field(96, ge=64, le=128, description="Pixels of the square images.")
    pictures: Annotated[int, Option("--num-images")] = Field(12_000, ge=1, description="Training pictures.")
    held_out: int = Field(1_000, ge=1, description="Pictures kept back to measure the accuracy.")
    world: int = Field(1, ge=0, description="Seed of the training pictures; not that of the dissected data set.")
    units: tuple[int, ...] = Field(
        (32, 64, 96, 128, 128), min_length=3, description="Of conv1, conv2 and so on: as many convolutions as numbers."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of the last layer's units switched off in training.")
    batch_norm: bool = Field(False, description="Whether each convolution is batch-normalized.")
    steps: int = Field(1_800, ge=1, description="Optimizer steps.")
    batch_size: int = Field(32, ge=1, description="Pictures in a step.")
    learning_rate: float = Field(1.5e-3, gt=0, description="Peak of the one-cycle schedule.")
    weight_decay: float = Field(0.01, ge=0, description="Of AdamW.")
    seed: int = Field(0, ge=0, description="Of the initial weights, the order of pictures, their shifts, and dropout.")
    precision: Precision = Field(
        "auto",
        description="Of the forward pass in training. auto: bfloat16 where it measures at least 1.2 times faster.",
    )

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the convolutions, ``conv1`` and so on."""
        return tuple(f"conv{number}" for number in range(1, len(self.units) + 1))


DEMO = TrainConfig()
FAST = TrainConfig(
    pictures=1_600, held_out=400, steps=160, units=(24, 32, 48, 64, 64), batch_size=48, learning_rate=3e-3
)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """What training looked like at one time: step, mean loss since the last moment, held-out accuracy."""

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
    recipe
        What made it; `precision` is what was used, never ``auto``.
    accuracy
        Share of held-out pictures whose scene is right.
    history
        Ten moments of the training.
    seconds
        Wall time of the training alone.
    """

    module: nn.Sequential
    recipe: TrainConfig
    accuracy: float
    history: tuple[LogEntry, ...]
    seconds: float

    def network(self, name: str = "scene network") -> Network:
        """Return it with its preprocessing, ready to be dissected."""
        return Network(name, self.module, preprocessing(self.recipe.size))


def preprocessing(size: int = 96) -> Preprocessing:
    """Return how pictures become the scene network's input."""
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
        Of each convolution; there is a pooling after the first and the second.
    seed
        Of the weights; the global generator is left alone.
    classes
        Scenes to tell apart.
    dropout
        Share of the last convolution's units that the linear layer does not see in a step of training.
    batch_norm
        Whether each convolution is batch-normalized before its rectifier.

    Returns
    -------
    nn.Sequential
        With modules ``conv1`` and so on, each a convolution and its rectifier.
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
    # torch's own weights are 2.4 times smaller, and without batch norm the loss then rests for 120 steps.
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    nn.init.zeros_(convolution.get_parameter("bias"))
    norm = [nn.BatchNorm2d(convolution.out_channels)] if batch_norm else []
    return nn.Sequential(convolution, *norm, nn.ReLU())


def random_network(recipe: TrainConfig) -> nn.Sequential:
    """Build the scene network of a recipe as it is before the first step."""
    return scene_network(recipe.units, seed=recipe.seed, dropout=recipe.dropout, batch_norm=recipe.batch_norm)


def train(
    recipe: TrainConfig = DEMO, *, workers: int | None = None, progress: Progress | None = None
) -> TrainedSceneNet:
    """Draw training pictures and train a scene network on them.

    Parameters
    ----------
    recipe
        Everything that the weights depend on, apart from threads, processor and library versions.
    workers
        Processes that draw; None: one for each processor.
    progress
        Told of pictures (``training set``) and optimizer steps (``training``).

    Returns
    -------
    Trained
    """
    total = recipe.held_out + recipe.pictures
    pictures, scenes = training_set(total, size=recipe.size, seed=recipe.world, workers=workers, progress=progress)
    return train_on(pictures, scenes, recipe, progress=progress)


def train_on(
    pictures: Images,
    scenes: Scenes,
    recipe: TrainConfig = DEMO,
    *,
    progress: Progress | None = None,
    watch: StepCallback | None = None,
) -> TrainedSceneNet:
    """Train a scene network on pictures in memory; the first `recipe.held_out` of them are kept back.

    Parameters
    ----------
    pictures : uint8 (N, size, size, 3)
        More than `recipe.held_out`.
    scenes : int64 (N,)
        Index of each picture's scene.
    recipe
        Size, pictures and world are taken as given by the arrays.
    progress
        Told of optimizer steps (``training``).
    watch
        Called with the number of steps done and the network, before the first step and after each.

    Raises
    ------
    ConfigError
        If nothing is left to train on.
    """
    if len(pictures) <= recipe.held_out:
        raise ConfigError(
            f"{len(pictures)} pictures leave none to train on when {recipe.held_out} are kept back. "
            "Expected more pictures, or a smaller recipe.held_out."
        )
    module = random_network(recipe).to(memory_format=torch.channels_last)
    recipe = recipe.model_copy(update={"precision": choose_precision(module, recipe)})
    kept = (pictures[: recipe.held_out], scenes[: recipe.held_out])
    batches = _batches(pictures[recipe.held_out :], scenes[recipe.held_out :], recipe)
    started = time.perf_counter()

    def told(step: int) -> None:
        if progress and step:
            progress("training", step, recipe.steps)
        if watch:
            watch(step, module)

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)  # for the units that dropout hides
        history = tuple(_fit(module, batches, kept, recipe, told))
    seconds = time.perf_counter() - started
    module = module.to(memory_format=torch.contiguous_format).eval()
    return TrainedSceneNet(module, recipe, history[-1].accuracy, history, seconds)


class Optimizer:
    """How every network here is optimized: AdamW under a one-cycle schedule, gradients clipped.

    Parameters
    ----------
    module
        Whose parameters are changed.
    recipe
        Steps, learning rate, weight decay.
    """

    def __init__(self, module: nn.Module, recipe: TrainConfig) -> None:
        self._parameters = list(module.parameters())
        rate = recipe.learning_rate
        self._optimizer = torch.optim.AdamW(self._parameters, lr=rate, weight_decay=recipe.weight_decay)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, rate, total_steps=max(2, recipe.steps), pct_start=0.2
        )

    def step(self, loss: Tensor) -> float:
        """Take a step down the slope of a loss; return the loss."""
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._schedule.step()
        return float(loss.item())


def _fit(
    module: nn.Sequential,
    batches: Iterator[tuple[Tensor, Tensor]],
    kept: tuple[Images, Scenes],
    recipe: TrainConfig,
    told: Callable[[int], None],
) -> Iterator[LogEntry]:
    descent = Optimizer(module, recipe)
    loss_sum, since = 0.0, 0
    moments = {max(1, round(recipe.steps * tenth / 10)) for tenth in range(1, 11)}
    told(0)
    for step, (images, scenes) in zip(range(1, recipe.steps + 1), batches, strict=False):
        loss_sum, since = loss_sum + _step(module, descent, images, scenes, recipe), since + 1
        told(step)
        if step in moments:
            yield LogEntry(step, loss_sum / since, measure_accuracy(module, *kept))
            loss_sum, since = 0.0, 0


def _step(module: nn.Sequential, descent: Optimizer, images: Tensor, scenes: Tensor, recipe: TrainConfig) -> float:
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        scores = module(images)
    return descent.step(nn.functional.cross_entropy(scores.float(), scenes))


def _batches(pictures: Images, scenes: Scenes, recipe: TrainConfig) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield shuffled batches without end, each moved and half of its pictures mirrored."""
    rng = np.random.default_rng(recipe.seed)
    normalize = preprocessing(pictures.shape[1])
    targets = torch.from_numpy(scenes)
    order: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
    while True:
        while len(order) < recipe.batch_size:
            order = np.concatenate([order, rng.permutation(len(pictures))])
        chosen, order = np.split(order, [recipe.batch_size])
        images = augment(torch.from_numpy(pictures[chosen]).permute(0, 3, 1, 2), rng)
        yield normalize(images).contiguous(memory_format=torch.channels_last), targets[torch.from_numpy(chosen)]


def augment(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Mirror every second picture or so, and shift the batch, repeating its edge: uint8 (B, 3, H, W)."""
    mirrored = torch.from_numpy(rng.random(len(images)) < 0.5)
    images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    height, width = images.shape[2:]
    down, right = rng.integers(-SHIFT, SHIFT + 1, 2)
    rows = (torch.arange(height) + int(down)).clamp(0, height - 1)
    columns = (torch.arange(width) + int(right)).clamp(0, width - 1)
    return images[:, :, rows][:, :, :, columns]


@torch.no_grad()
def measure_accuracy(module: nn.Module, pictures: Images, scenes: Scenes) -> float:
    """Return the share of pictures whose scene the network names rightly, in float32 and evaluation mode."""
    normalize = preprocessing(pictures.shape[1])
    training, right = module.training, 0
    module.eval()
    for start in range(0, len(pictures), 200):
        images = torch.from_numpy(pictures[start : start + 200]).permute(0, 3, 1, 2)
        named = module(normalize(images).contiguous(memory_format=torch.channels_last)).argmax(1)
        right += int((named == torch.from_numpy(scenes[start : start + 200])).sum())
    module.train(training)
    return right / len(pictures)


def choose_precision(module: nn.Sequential, recipe: TrainConfig) -> MeasuredPrecision:
    """Return the recipe's precision, or for ``auto`` the faster one, measured on a copy of the network.

    Notes
    -----
    On processors without bfloat16 arithmetic it is emulated and slower.
    """
    if recipe.precision != "auto":
        return recipe.precision
    seconds = {
        precision: seconds_a_step(module, recipe.model_copy(update={"precision": precision}))
        for precision in ("float32", "bfloat16")
    }
    return "bfloat16" if seconds["float32"] > BF16_GAIN * seconds["bfloat16"] else "float32"


def settle_precision(recipe: TrainConfig, path: Path) -> TrainConfig:
    """Return the recipe with a precision that is measured once and kept in a file.

    Networks that are compared have to be trained in the same one, in whichever session, and whatever else the machine
    did at the moment.

    Raises
    ------
    CheckpointError
        If the file holds something else.
    """
    if recipe.precision != "auto":
        return recipe
    if not path.exists():
        chosen = choose_precision(random_network(recipe), recipe)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: file.write(json.dumps(chosen).encode()))
    try:
        precision = TypeAdapter(MeasuredPrecision).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise CheckpointError(
            f"{path} does not hold the precision in which the networks here are trained ({reason}). Expected "
            '"float32" or "bfloat16", in quotes: write the one that the finished networks were trained in, or remove '
            "it with them to measure it anew."
        ) from error
    return recipe.model_copy(update={"precision": precision})


def seconds_a_step(module: nn.Sequential, recipe: TrainConfig) -> float:
    """Return the least wall time of a few optimizer steps of a copy of the network, in the recipe's precision."""
    images = torch.zeros(recipe.batch_size, 3, recipe.size, recipe.size).contiguous(memory_format=torch.channels_last)
    scenes = torch.zeros(recipe.batch_size, dtype=torch.int64)
    twin = copy.deepcopy(module)
    trial = recipe.model_copy(update={"steps": TRIALS})
    descent, times = Optimizer(twin, trial), []
    for _ in range(TRIALS):
        started = time.perf_counter()
        _step(twin, descent, images, scenes, trial)
        times.append(time.perf_counter() - started)
    return min(times)


def save_trained(trained: TrainedSceneNet, path: str | Path) -> Path:
    """Write weights, recipe, accuracy and history as one ``.safetensors`` file."""
    path = Path(path)
    facts = {
        "recipe": trained.recipe.model_dump_json(),
        "accuracy": json.dumps(trained.accuracy),
        "history": json.dumps([[one.step, one.loss, one.accuracy] for one in trained.history]),
        "seconds": json.dumps(trained.seconds),
    }
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(safetensors.torch.save(dict(trained.module.state_dict()), metadata=facts))
    partial.replace(path)
    return path


def load_trained(path: str | Path) -> TrainedSceneNet:
    """Read what `save_trained` wrote.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or was not written by `save_trained`.
    """
    path = Path(path)
    try:
        with safetensors.safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        recipe = TrainConfig.model_validate_json(facts["recipe"])
        module = scene_network(
            recipe.units,
            classes=len(weights["scene.bias"]),
            dropout=recipe.dropout,
            batch_norm=recipe.batch_norm,
        ).eval()
        module.load_state_dict(weights)
        history = tuple(LogEntry(*moment) for moment in json.loads(facts["history"]))
        return TrainedSceneNet(module, recipe, json.loads(facts["accuracy"]), history, json.loads(facts["seconds"]))
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist. Expected a scene network; train one: recipe.train().") from None
    except (
        KeyError,
        RuntimeError,
        TypeError,
        ValueError,
        ValidationError,
        OSError,
        safetensors.SafetensorError,
    ) as error:
        raise CheckpointError(
            f"{path} is not a scene network that save_trained wrote ({type(error).__name__}: {error}). "
            "Remove it and train again."
        ) from error
