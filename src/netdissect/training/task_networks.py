"""Backbones that are trained on a task, with one loop for all tasks, and saved.

TaskImages -> train_task -> TaskNetwork (backbone, loss and accuracy on held-out images)
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from netdissect.config import NetworkSource, Progress
from netdissect.errors import CheckpointError
from netdissect.models import Network
from netdissect.result.files import write_whole
from netdissect.training.choices import RANDOM, TaskName
from netdissect.training.pretext import Step, Task, make_task
from netdissect.training.scene_net import Images, TrainConfig, file_source, preprocessing, scene_network
from netdissect.training.task_images import TaskImages
from netdissect.training.train import Optimizer, augment, choose_precision

HELD_OUT_STEPS = 8  # batches over which the held-out loss is averaged


@dataclass(frozen=True)
class TaskNetwork:
    """A backbone that was trained on a task.

    Attributes
    ----------
    task, train_config
        What made it.
    module
        The convolutions ``conv1`` and so on, in evaluation mode.
    loss, accuracy
        On held-out images; None where the task has no classes.
    source
        The file that it was read from; None: it is in memory alone.
    """

    task: TaskName
    train_config: TrainConfig
    module: nn.Sequential
    loss: float | None
    accuracy: float | None
    source: NetworkSource | None = None

    def network(self) -> Network:
        """Return it with its preprocessing, ready to be dissected."""
        name = f"{self.task}, seed {self.train_config.seed}"
        return Network(name, self.module, preprocessing(self.train_config.size), source=self.source)


def trained_task(
    task: TaskName, images: TaskImages, train_config: TrainConfig, folder: Path, *, progress: Progress | None = None
) -> TaskNetwork:
    """Train a backbone on a task, or load the one that was trained so; a file is named by the digest of its inputs."""
    inputs = json.dumps({"task": task, "train_config": train_config.model_dump(mode="json"), "images": images.digest})
    path = folder / f"{task}-{hashlib.sha256(inputs.encode()).hexdigest()[:16]}.safetensors"
    if path.exists():
        return load_task(path)
    trained = train_task(task, images, train_config, progress=progress)
    metadata = {"inputs": inputs, "loss": json.dumps(trained.loss), "accuracy": json.dumps(trained.accuracy)}
    folder.mkdir(parents=True, exist_ok=True)
    weights = safetensors.torch.save(dict(trained.module.state_dict()), metadata=metadata)
    write_whole(path, lambda file: file.write(weights))
    return load_task(path)


def load_task(path: str | Path) -> TaskNetwork:
    """Read a network that `supervision` trained and kept in ``OUT/trained``.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or no such network.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata: dict[str, Any] = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        inputs = json.loads(metadata["inputs"])
        train_config = TrainConfig.model_validate(inputs["train_config"])
        module = backbone_of(train_config).eval()
        module.load_state_dict(weights)
        loss, accuracy = json.loads(metadata["loss"]), json.loads(metadata["accuracy"])
        return TaskNetwork(inputs["task"], train_config, module, loss, accuracy, file_source(path))
    except (KeyError, TypeError, RuntimeError, ValueError, OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path} is not what was trained there ({type(error).__name__}: {error}). Remove it; the same command "
            "trains it again."
        ) from error


def train_task(
    task: TaskName, images: TaskImages, train_config: TrainConfig, *, progress: Progress | None = None
) -> TaskNetwork:
    """Train a backbone on a task; the first images are held out.

    Parameters
    ----------
    task
        ``random``: the weights stay as they were drawn.
    images
        In memory.
    train_config
        Its seed draws the weights, the same for each task, and all that is random in training.
    progress
        Receives optimizer steps (``training``).
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(train_config.seed)
        backbone = backbone_of(train_config)
        if task == RANDOM:
            return TaskNetwork(task, train_config, backbone.eval(), None, None)
        module = make_task(task, backbone, train_config.size, images.labels(task)).to(memory_format=torch.channels_last)
        held_out = held_out_count(len(images.pixels), train_config)
        _fit(module, images.pixels, held_out, train_config, progress)
        loss, accuracy = _measure(module, images.pixels[:held_out], train_config)
    backbone = backbone.to(memory_format=torch.contiguous_format).eval()
    return TaskNetwork(task, train_config, backbone, loss, accuracy)


def backbone_of(train_config: TrainConfig) -> nn.Sequential:
    """Return the convolutions and poolings of a scene network, with the weights of its seed."""
    whole = scene_network(train_config.units, seed=train_config.seed, batch_norm=train_config.batch_norm)
    names = list(dict(whole.named_children()))
    return whole[: names.index(train_config.layers[-1]) + 1]


def held_out_count(count: int, train_config: TrainConfig) -> int:
    """Return how many images are held out: as many as configured, but no more than a fifth."""
    return min(train_config.held_out, count // 5)


def _fit(module: Task, pixels: Images, held_out: int, train_config: TrainConfig, progress: Progress | None) -> None:
    optimizer = Optimizer(module, train_config)
    rng = np.random.default_rng(train_config.seed)
    half = choose_precision(scene_network(train_config.units), train_config) == "bfloat16"
    module.train()
    for step in range(train_config.steps):
        rows = held_out + rng.choice(len(pixels) - held_out, train_config.batch_size, replace=False)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = module(augment(_channels_first(pixels[rows]), rng), torch.from_numpy(rows)).loss
        optimizer.step(loss)
        if progress:
            progress("training", step + 1, train_config.steps)


@torch.no_grad()
def _measure(module: Task, pixels: Images, train_config: TrainConfig) -> tuple[float | None, float | None]:
    """Return the mean loss and accuracy over batches of held-out images."""
    module.eval()
    starts = range(0, len(pixels) - 1, train_config.batch_size)[:HELD_OUT_STEPS]
    steps: list[Step] = []
    for start in starts:
        here = pixels[start : start + train_config.batch_size]
        steps.append(module(_channels_first(here), torch.arange(start, start + len(here))))
    if not steps:
        return None, None
    accuracies = [step.accuracy for step in steps if step.accuracy is not None]
    return float(np.mean([float(step.loss) for step in steps])), float(np.mean(accuracies)) if accuracies else None


def _channels_first(pixels: Images) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)
