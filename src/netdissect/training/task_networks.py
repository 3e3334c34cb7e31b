"""Backbones that are trained on a task, one loop for all tasks, and kept in files.

TaskPictures -> train_task -> TaskNetwork (backbone, loss and share of right answers on pictures kept back)
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

from netdissect.config import Progress
from netdissect.errors import CheckpointError
from netdissect.models import Network
from netdissect.result.files import write_whole
from netdissect.training.choices import RANDOM, TaskName
from netdissect.training.pretext import Step, Task, make_task
from netdissect.training.scene_net import (
    Images,
    Optimizer,
    TrainConfig,
    augment,
    choose_precision,
    preprocessing,
    scene_network,
)
from netdissect.training.task_images import TaskImages

HELD_OUT_STEPS = 8  # batches over which the held-out loss is averaged


@dataclass(frozen=True)
class TaskNetwork:
    """A backbone that was trained on a task.

    Attributes
    ----------
    task, recipe
        What made it.
    module
        The convolutions ``conv1`` and so on, in evaluation mode.
    loss, right
        On pictures that were kept back; right is the share of right answers, None where the task has none.
    """

    task: TaskName
    recipe: TrainConfig
    module: nn.Sequential
    loss: float | None
    right: float | None

    def network(self) -> Network:
        """Return it with its preprocessing, ready to be dissected."""
        return Network(f"{self.task}, seed {self.recipe.seed}", self.module, preprocessing(self.recipe.size))


def trained_task(
    task: TaskName, pictures: TaskImages, recipe: TrainConfig, folder: Path, *, progress: Progress | None = None
) -> TaskNetwork:
    """Train a backbone on a task, or load the one that was trained so; files are named by what made them."""
    made = json.dumps({"task": task, "recipe": recipe.model_dump(mode="json"), "pictures": pictures.digest})
    path = folder / f"{task}-{hashlib.sha256(made.encode()).hexdigest()[:16]}.safetensors"
    if path.exists():
        return load_task(path)
    trained = train_task(task, pictures, recipe, progress=progress)
    facts = {"made": made, "loss": json.dumps(trained.loss), "right": json.dumps(trained.right)}
    folder.mkdir(parents=True, exist_ok=True)
    weights = safetensors.torch.save(dict(trained.module.state_dict()), metadata=facts)
    write_whole(path, lambda file: file.write(weights))
    return trained


def load_task(path: str | Path) -> TaskNetwork:
    """Read a network that `tasks` trained and kept in ``OUT/trained``.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or no such network.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            facts: dict[str, Any] = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        made = json.loads(facts["made"])
        recipe = TrainConfig.model_validate(made["recipe"])
        module = backbone_of(recipe).eval()
        module.load_state_dict(weights)
        return TaskNetwork(made["task"], recipe, module, json.loads(facts["loss"]), json.loads(facts["right"]))
    except (KeyError, TypeError, RuntimeError, ValueError, OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path} is not what was trained there ({type(error).__name__}: {error}). Remove it; the same command "
            "trains it again."
        ) from error


def train_task(
    task: TaskName, pictures: TaskImages, recipe: TrainConfig, *, progress: Progress | None = None
) -> TaskNetwork:
    """Train a backbone on a task; the first pictures are kept back.

    Parameters
    ----------
    task
        ``random``: the weights stay as they were drawn.
    pictures
        In memory.
    recipe
        Its seed draws the weights, the same for each task, and all that is random in training.
    progress
        Told of optimizer steps (``training``).
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)
        backbone = backbone_of(recipe)
        if task == RANDOM:
            return TaskNetwork(task, recipe, backbone.eval(), None, None)
        module = make_task(task, backbone, recipe.size, pictures.labels(task)).to(memory_format=torch.channels_last)
        held_out = kept_back(len(pictures.pixels), recipe)
        _fit(module, pictures.pixels, held_out, recipe, progress)
        loss, right = _measure(module, pictures.pixels[:held_out], recipe)
    backbone = backbone.to(memory_format=torch.contiguous_format).eval()
    return TaskNetwork(task, recipe, backbone, loss, right)


def backbone_of(recipe: TrainConfig) -> nn.Sequential:
    """Return the convolutions and poolings of a recipe's scene network, with the weights of its seed."""
    whole = scene_network(recipe.units, seed=recipe.seed, batch_norm=recipe.batch_norm)
    names = list(dict(whole.named_children()))
    return whole[: names.index(recipe.layers[-1]) + 1]


def kept_back(count: int, recipe: TrainConfig) -> int:
    """Return how many pictures are kept back: the recipe's number, but no more than a fifth."""
    return min(recipe.held_out, count // 5)


def _fit(module: Task, pixels: Images, held_out: int, recipe: TrainConfig, progress: Progress | None) -> None:
    descent = Optimizer(module, recipe)
    rng = np.random.default_rng(recipe.seed)
    half = choose_precision(scene_network(recipe.units), recipe) == "bfloat16"
    module.train()
    for step in range(recipe.steps):
        rows = held_out + rng.choice(len(pixels) - held_out, recipe.batch_size, replace=False)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = module(augment(_channels_first(pixels[rows]), rng), torch.from_numpy(rows)).loss
        descent.step(loss)
        if progress:
            progress("training", step + 1, recipe.steps)


@torch.no_grad()
def _measure(module: Task, pixels: Images, recipe: TrainConfig) -> tuple[float | None, float | None]:
    """Return the mean loss and share of right answers over batches of pictures that were kept back."""
    module.eval()
    starts = range(0, len(pixels) - 1, recipe.batch_size)[:HELD_OUT_STEPS]
    found: list[Step] = []
    for start in starts:
        here = pixels[start : start + recipe.batch_size]
        found.append(module(_channels_first(here), torch.arange(start, start + len(here))))
    if not found:
        return None, None
    rights = [step.right for step in found if step.right is not None]
    return float(np.mean([float(step.loss) for step in found])), float(np.mean(rights)) if rights else None


def _channels_first(pixels: Images) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)
