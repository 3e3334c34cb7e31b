"""Train backbones on tasks, with one loop for all tasks, and save them.

TaskImages -> trained_task -> TaskNetwork (backbone, loss and accuracy on held-out images)
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from netdissect.config import Progress
from netdissect.training.choices import RANDOM, TaskName
from netdissect.training.pretext import Step, Task, make_task
from netdissect.training.scene_net import Images, TrainConfig, scene_network
from netdissect.training.task_images import TaskImages
from netdissect.training.task_networks import TaskNetwork, backbone_of, load_task
from netdissect.training.train import Optimizer, augment, choose_precision
from netdissect.training.weights_file import write_weights

HELD_OUT_STEPS = 8  # batches over which the held-out loss is averaged


def trained_task(
    task: TaskName, images: TaskImages, train_config: TrainConfig, folder: Path, *, progress: Progress | None = None
) -> TaskNetwork:
    """Train a backbone on a task, or load the one that was trained so; a file is named by the digest of its inputs."""
    inputs = {"task": task, "train_config": train_config.model_dump(mode="json"), "images": images.digest}
    digest = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
    path = folder / f"{task}-{digest[:16]}.safetensors"
    if path.exists():
        return load_task(path)
    trained = train_task(task, images, train_config, progress=progress)
    facts = {"inputs": inputs, "loss": trained.loss, "accuracy": trained.accuracy}
    return load_task(write_weights(path, trained.module, facts))


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
