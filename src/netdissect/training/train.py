"""Train a scene network on the synthetic data set, in about a minute.

    train(train_config) -> TrainedSceneNet
    train_on(images, scenes, train_config) -> TrainedSceneNet

`Optimizer`, `augment` and the choice of the precision serve the tasks of `netdissect.training.pretext`, too.
"""

import copy
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from netdissect.config import Progress
from netdissect.errors import CheckpointError, ConfigError
from netdissect.paths import OTHER_FOLDER, writing
from netdissect.result.files import write_whole
from netdissect.synthetic import training_set
from netdissect.training.scene_net import (
    DEMO,
    Images,
    LogEntry,
    MeasuredPrecision,
    Scenes,
    TrainConfig,
    TrainedSceneNet,
    preprocessing,
    random_network,
)

StepCallback = Callable[[int, nn.Sequential], None]
"""Called as ``callback(steps done, network)`` during training; it must not change the network."""

MAX_SHIFT = 6  # pixels by which a training image is shifted at most
TRIAL_STEPS = 4  # optimizer steps that are timed
BFLOAT16_GAIN = 1.2  # bfloat16 is chosen if it is faster by this factor


def train(
    train_config: TrainConfig = DEMO, *, workers: int | None = None, progress: Progress | None = None
) -> TrainedSceneNet:
    """Render training images and train a scene network on them.

    Parameters
    ----------
    train_config
        Everything that the weights depend on, apart from threads, processor and library versions.
    workers
        Processes that render; None: one for each processor.
    progress
        Receives images (``training set``) and optimizer steps (``training``).
    """
    total = train_config.held_out + train_config.num_images
    images, scenes = training_set(
        total, size=train_config.size, seed=train_config.data_seed, workers=workers, progress=progress
    )
    return train_on(images, scenes, train_config, progress=progress)


def train_on(
    images: Images,
    scenes: Scenes,
    train_config: TrainConfig = DEMO,
    *,
    progress: Progress | None = None,
    callback: StepCallback | None = None,
) -> TrainedSceneNet:
    """Train a scene network on images in memory; the first `train_config.held_out` of them are held out.

    Parameters
    ----------
    images : uint8 (N, size, size, 3)
        More than `train_config.held_out`.
    scenes : int64 (N,)
        Index of the scene of each image.
    train_config
        Its size, number and seed of images are not used: the arrays have them.
    progress
        Receives optimizer steps (``training``).
    callback
        Called with the number of steps done and the network, before the first step and after each.

    Raises
    ------
    ConfigError
        If nothing is left to train on.
    """
    if len(images) <= train_config.held_out:
        raise ConfigError(
            f"{len(images)} images leave none to train on when {train_config.held_out} are held out. "
            "Expected more images, or a smaller train_config.held_out."
        )
    module = random_network(train_config).to(memory_format=torch.channels_last)
    train_config = train_config.model_copy(update={"precision": choose_precision(module, train_config)})
    held_out = (images[: train_config.held_out], scenes[: train_config.held_out])
    batches = _batches(images[train_config.held_out :], scenes[train_config.held_out :], train_config)
    started = time.perf_counter()

    def report(step: int) -> None:
        if progress and step:
            progress("training", step, train_config.steps)
        if callback:
            callback(step, module)

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(train_config.seed)  # of dropout
        log = tuple(_fit(module, batches, held_out, train_config, report))
    seconds = time.perf_counter() - started
    module = module.to(memory_format=torch.contiguous_format).eval()
    return TrainedSceneNet(module, train_config, log[-1].accuracy, log, seconds)


class Optimizer:
    """AdamW under a one-cycle schedule with clipped gradients, for every network here.

    Parameters
    ----------
    module
        The parameters to optimize.
    train_config
        Steps, learning rate, weight decay.
    """

    def __init__(self, module: nn.Module, train_config: TrainConfig) -> None:
        self._parameters = list(module.parameters())
        rate = train_config.learning_rate
        self._optimizer = torch.optim.AdamW(self._parameters, lr=rate, weight_decay=train_config.weight_decay)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, rate, total_steps=max(2, train_config.steps), pct_start=0.2
        )

    def step(self, loss: Tensor) -> float:
        """Take one optimizer step; return the loss."""
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._schedule.step()
        return float(loss.item())


def _fit(
    module: nn.Sequential,
    batches: Iterator[tuple[Tensor, Tensor]],
    held_out: tuple[Images, Scenes],
    train_config: TrainConfig,
    report: Callable[[int], None],
) -> Iterator[LogEntry]:
    optimizer = Optimizer(module, train_config)
    loss_sum, since = 0.0, 0
    logged = {max(1, round(train_config.steps * tenth / 10)) for tenth in range(1, 11)}
    report(0)
    for step, (images, scenes) in zip(range(1, train_config.steps + 1), batches, strict=False):
        loss_sum, since = loss_sum + _step(module, optimizer, images, scenes, train_config), since + 1
        report(step)
        if step in logged:
            yield LogEntry(step, loss_sum / since, measure_accuracy(module, *held_out))
            loss_sum, since = 0.0, 0


def _step(
    module: nn.Sequential, optimizer: Optimizer, images: Tensor, scenes: Tensor, train_config: TrainConfig
) -> float:
    with torch.autocast("cpu", torch.bfloat16, enabled=train_config.precision == "bfloat16"):
        scores = module(images)
    return optimizer.step(nn.functional.cross_entropy(scores.float(), scenes))


def _batches(images: Images, scenes: Scenes, train_config: TrainConfig) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield shuffled batches without end, each shifted and half of its images mirrored."""
    rng = np.random.default_rng(train_config.seed)
    normalize = preprocessing(images.shape[1])
    targets = torch.from_numpy(scenes)
    order: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
    while True:
        while len(order) < train_config.batch_size:
            order = np.concatenate([order, rng.permutation(len(images))])
        chosen, order = np.split(order, [train_config.batch_size])
        batch = augment(torch.from_numpy(images[chosen]).permute(0, 3, 1, 2), rng)
        yield normalize(batch).contiguous(memory_format=torch.channels_last), targets[torch.from_numpy(chosen)]


def augment(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Mirror about half of the images and shift the batch, repeating its edge: uint8 (B, 3, H, W)."""
    mirrored = torch.from_numpy(rng.random(len(images)) < 0.5)
    images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    height, width = images.shape[2:]
    down, right = rng.integers(-MAX_SHIFT, MAX_SHIFT + 1, 2)
    rows = (torch.arange(height) + int(down)).clamp(0, height - 1)
    columns = (torch.arange(width) + int(right)).clamp(0, width - 1)
    return images[:, :, rows][:, :, :, columns]


@torch.no_grad()
def measure_accuracy(module: nn.Module, images: Images, scenes: Scenes) -> float:
    """Return the share of images whose scene is classified correctly, in float32 and evaluation mode."""
    normalize = preprocessing(images.shape[1])
    training, correct = module.training, 0
    module.eval()
    for start in range(0, len(images), 200):
        batch = torch.from_numpy(images[start : start + 200]).permute(0, 3, 1, 2)
        predicted = module(normalize(batch).contiguous(memory_format=torch.channels_last)).argmax(1)
        correct += int((predicted == torch.from_numpy(scenes[start : start + 200])).sum())
    module.train(training)
    return correct / len(images)


def choose_precision(module: nn.Sequential, train_config: TrainConfig) -> MeasuredPrecision:
    """Return the configured precision, or for ``auto`` the faster one, measured on a copy of the network.

    Notes
    -----
    On processors without bfloat16 arithmetic it is emulated and slower.
    """
    if train_config.precision != "auto":
        return train_config.precision
    seconds = {
        precision: seconds_per_step(module, train_config.model_copy(update={"precision": precision}))
        for precision in ("float32", "bfloat16")
    }
    return "bfloat16" if seconds["float32"] > BFLOAT16_GAIN * seconds["bfloat16"] else "float32"


def settle_precision(train_config: TrainConfig, path: Path) -> TrainConfig:
    """Return the configuration with a precision that is measured once and kept in a file.

    Networks that are compared must be trained in one precision, in every session and under any load of the machine.

    Raises
    ------
    CheckpointError
        If the file holds something else.
    """
    if train_config.precision != "auto":
        return train_config
    if not path.exists():
        chosen = choose_precision(random_network(train_config), train_config)
        with writing(path, OTHER_FOLDER):
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
    return train_config.model_copy(update={"precision": precision})


def training_seconds(module: nn.Sequential, train_config: TrainConfig) -> float:
    """Return the wall time that a training is expected to take."""
    return train_config.steps * seconds_per_step(module, train_config)


def seconds_per_step(module: nn.Sequential, train_config: TrainConfig) -> float:
    """Return the least wall time of a few optimizer steps of a copy of the network, in the train_config's precision."""
    images = torch.zeros(train_config.batch_size, 3, train_config.size, train_config.size).contiguous(
        memory_format=torch.channels_last
    )
    scenes = torch.zeros(train_config.batch_size, dtype=torch.int64)
    trained = copy.deepcopy(module)
    trial = train_config.model_copy(update={"steps": TRIAL_STEPS})
    optimizer, times = Optimizer(trained, trial), []
    for _ in range(TRIAL_STEPS):
        started = time.perf_counter()
        _step(trained, optimizer, images, scenes, trial)
        times.append(time.perf_counter() - started)
    return min(times)
