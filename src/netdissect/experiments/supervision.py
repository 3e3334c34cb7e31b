"""The same network trained on other tasks, to see whether it takes supervision to make detectors.

    TaskPictures -> train_task (one loop for all tasks) -> dissect -> detectors by task, seed and category

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 3.4.
"""

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from netdissect.concepts import ConceptData
from netdissect.concepts.synthetic import training_objects, training_set
from netdissect.config import DissectConfig, Progress, Rule
from netdissect.dissect import dissect
from netdissect.errors import CheckpointError, ConfigError, ResultError
from netdissect.experiments.bench import Bench
from netdissect.experiments.counts import TOTAL, count_rows, unique_of
from netdissect.experiments.intervals import Interval, decide, paired_difference
from netdissect.experiments.labeled import LabeledPictures, labeled_folder, picture_files, pixel_batches
from netdissect.experiments.names import RANDOM, SELF_SUPERVISED, SUPERVISED, TASKS, TaskName
from netdissect.experiments.outcome import Agreement, Outcome, Verdict
from netdissect.experiments.pretext import Step, Task, make_task
from netdissect.experiments.recipe import (
    Descent,
    Pictures,
    Recipe,
    choose_precision,
    moved,
    preprocessing,
    scene_network,
)
from netdissect.experiments.timing import timed
from netdissect.models import Network
from netdissect.result.files import write_whole

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

TEXTURE = "texture"
HELD_OUT_STEPS = 8  # batches over which the held-out loss is averaged

QUESTION = "Do networks that are trained without labels have fewer and other detectors than supervised ones?"
PAPER = "Self-supervised networks have many fewer unique detectors than supervised ones, and those mostly of textures."


@dataclass(frozen=True)
class TaskPictures:
    """Pictures in memory, and what supervision says of them.

    Attributes
    ----------
    pixels
        uint8 (N, size, size, 3).
    classes
        int64 (N,); None: not labeled.
    objects
        bool (N, C): which objects each shows; None: not labeled.
    """

    pixels: Pictures
    classes: Ints | None = None
    objects: Bools | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 over pixels and labels."""
        digest = hashlib.sha256(repr(self.pixels.shape).encode())
        for values in (self.pixels, self.classes, self.objects):
            digest.update(b"-" if values is None else np.ascontiguousarray(values).data)
        return digest.hexdigest()

    def tasks(self) -> tuple[TaskName, ...]:
        """Return the tasks that these pictures can be used for."""
        missing = {"scene": self.classes is None, "object": self.objects is None}
        return tuple(name for name in TASKS if not missing.get(name, False))

    def labels(self, task: TaskName) -> Tensor | None:
        """Return what a supervised task is told; None for the others."""
        if task == "scene" and self.classes is not None:
            return torch.from_numpy(self.classes)
        if task == "object" and self.objects is not None:
            return torch.from_numpy(self.objects.astype(np.float32))
        return None


class TasksConfig(BaseModel):
    """Which tasks are compared, how the networks are trained, and what is measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: tuple[TaskName, ...] = Field(TASKS, min_length=1, description="Trained for equal steps.")
    recipe: Recipe = Field(description="Backbone and training of all; its seed is replaced.")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, description="One network of each task for each.")
    dissect: DissectConfig = Field(description="The dissection; its layers are the backbone's.")
    rule: Rule = Field("per-category", description="Which published rule the figure and the verdict count by.")


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
    recipe: Recipe
    module: nn.Sequential
    loss: float | None
    right: float | None

    def network(self) -> Network:
        """Return it with its preprocessing, ready to be dissected."""
        return Network(f"{self.task}, seed {self.recipe.seed}", self.module, preprocessing(self.recipe.size))


def synthetic_pictures(
    recipe: Recipe, *, folder: str | Path | None = None, progress: Progress | None = None
) -> TaskPictures:
    """Draw the training pictures of a recipe, with their scenes and the objects that they show.

    Parameters
    ----------
    recipe
        Number, size and seed of the pictures.
    folder
        They are kept there, as ``pictures-DIGEST.npz``, and taken up; None: nowhere.
    progress
        Told of pictures (``training set``, ``objects``).

    Raises
    ------
    ResultError
        If what is there is damaged.
    """
    count = recipe.held_out + recipe.pictures
    name = hashlib.sha256(repr((count, recipe.size, recipe.world)).encode()).hexdigest()[:16]
    path = None if folder is None else Path(folder) / f"pictures-{name}.npz"
    if path is not None and path.exists():
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return TaskPictures(**arrays)
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ResultError(f"{path} is damaged ({error}). Remove it; the same command makes it again.") from error
    pixels, scenes = training_set(count, size=recipe.size, seed=recipe.world, progress=progress)
    objects = training_objects(count, size=recipe.size, seed=recipe.world, progress=progress)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: np.savez(file, pixels=pixels, classes=scenes, objects=objects))
    return TaskPictures(pixels, scenes, objects)


def folder_pictures(folder: str | Path, size: int, *, limit: int | None = None, seed: int = 0) -> TaskPictures:
    """Read pictures at any depth below a folder, squashed to a square.

    Parameters
    ----------
    folder
        If it holds a folder for each class, these are the labels of ``scene``.
    size
        Pixels of the square.
    limit
        Draw this many by `seed`; all of them lie in memory.

    Raises
    ------
    ConceptsError
        If there is no picture, or one cannot be decoded.
    """
    root = Path(folder)
    files = picture_files(root)
    flat = any(path.parent == root or path.parent == root / "images" for path in files)
    if flat or not files:
        found = LabeledPictures((), np.zeros(len(files), np.int64), tuple(files))
    else:
        found = labeled_folder(root)
    if not files:
        raise ConfigError(f"{root} holds no picture. Expected pictures, at any depth, to train on.")
    # In random order: the first are kept back.
    drawn = found.taken(np.random.default_rng(seed).permutation(len(found))[:limit])
    batches = pixel_batches(drawn.paths, preprocessing(size))
    pixels = np.concatenate([batch.transpose(0, 2, 3, 1) for batch in batches])
    return TaskPictures(pixels, drawn.labels if found.classes else None)


def tasks(
    pictures: TaskPictures,
    concepts: ConceptData | str | Path,
    config: TasksConfig,
    *,
    out: str | Path,
    progress: Progress | None = None,
) -> Outcome:
    """Train one backbone on several tasks for equal steps, dissect each network, and compare.

    Parameters
    ----------
    pictures
        To train on; `folder_pictures` and `synthetic_pictures` make them.
    concepts
        A data set in Broden's layout, or its folder.
    config
        Tasks, seeds, recipe.
    out
        Networks are kept in ``OUT/trained``, runs in ``OUT/runs``; what is there is taken up.
    progress
        Told of every stage.

    Returns
    -------
    Outcome
        `table`: task, kind (supervised, self-supervised, random), seed, layer, quantile, rule, category, units,
        detectors, unique. `further["training"]`: task, seed, steps, loss and right (share of right answers, where
        there are such), both on pictures that were kept back.

    Raises
    ------
    ConfigError
        If a supervised task is asked for that the pictures have no labels for, or there are too few pictures.
    """
    _check(pictures, config)
    out, seconds = Path(out), dict[str, float]()
    counts, trainings = [], []
    jobs = [(task, seed) for task in config.tasks for seed in config.seeds]
    for done, (task, seed) in enumerate(jobs):
        if progress:
            progress("networks", done, len(jobs))
        recipe = config.recipe.model_copy(update={"seed": seed})
        with timed(f"train {task}", seconds):
            made = trained_task(task, pictures, recipe, out / "trained", progress=progress)
        with timed("dissect", seconds):
            run = out / "runs" / f"{task}-{seed}"
            result = dissect(made.network(), concepts, config.dissect, out=run, progress=progress)
        keys: dict[str, Any] = {"task": task, "kind": kind_of(task), "seed": seed}
        counts.append(count_rows(result, **keys))
        steps = 0 if task == RANDOM else recipe.steps
        trainings.append(keys | {"steps": steps, "loss": made.loss, "right": made.right})
    if progress:
        progress("networks", len(jobs), len(jobs))
    table = pl.concat(counts)
    asked = config.model_dump(mode="json") | {"quantile": config.dissect.protocol.quantiles[0]}
    further = {"training": pl.DataFrame(trainings, infer_schema_length=None)}
    return Outcome("tasks", table, _verdict(table, config), asked, seconds, further)


def tasks_in_miniature(bench: Bench) -> Outcome:
    """Run the experiment on the bench's pictures and world."""
    return tasks(
        bench_pictures(bench), bench.data, bench_config(bench), out=bench.folder("tasks"), progress=bench.progress
    )


def bench_pictures(bench: Bench) -> TaskPictures:
    """Return the bench's training pictures, with the objects that they show; these are kept beside the outcome."""
    path, recipe = bench.folder("tasks") / "objects.npy", bench.scale.recipe
    pixels, scenes = bench.pictures
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        shown = training_objects(len(pixels), size=recipe.size, seed=recipe.world, progress=bench.progress)
        write_whole(path, lambda file: np.save(file, shown))
    return TaskPictures(pixels, scenes, np.load(path, allow_pickle=False))


def bench_config(bench: Bench) -> TasksConfig:
    """Return what the experiment asks on a bench: every task, dissected at the last convolution."""
    recipe = bench.scale.recipe
    return TasksConfig(
        recipe=recipe, seeds=tuple(range(bench.scale.seeds)), dissect=bench.measured(recipe.layers[-1:], 0)
    )


def kind_of(task: str) -> str:
    """Return ``supervised``, ``self-supervised`` or ``random``."""
    return RANDOM if task == RANDOM else "supervised" if task in SUPERVISED else "self-supervised"


def trained_task(
    task: TaskName, pictures: TaskPictures, recipe: Recipe, folder: Path, *, progress: Progress | None = None
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
        recipe = Recipe.model_validate(made["recipe"])
        module = backbone_of(recipe).eval()
        module.load_state_dict(weights)
        return TaskNetwork(made["task"], recipe, module, json.loads(facts["loss"]), json.loads(facts["right"]))
    except (KeyError, RuntimeError, ValueError, OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path} is not what was trained there ({type(error).__name__}: {error}). Remove it; the same command "
            "trains it again."
        ) from error


def train_task(
    task: TaskName, pictures: TaskPictures, recipe: Recipe, *, progress: Progress | None = None
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


def backbone_of(recipe: Recipe) -> nn.Sequential:
    """Return the convolutions and poolings of a recipe's scene network, with the weights of its seed."""
    whole = scene_network(recipe.units, seed=recipe.seed, batch_norm=recipe.batch_norm)
    names = list(dict(whole.named_children()))
    return whole[: names.index(recipe.layers[-1]) + 1]


def kept_back(count: int, recipe: Recipe) -> int:
    """Return how many pictures are kept back: the recipe's number, but no more than a fifth."""
    return min(recipe.held_out, count // 5)


def _fit(module: Task, pixels: Pictures, held_out: int, recipe: Recipe, progress: Progress | None) -> None:
    descent = Descent(module, recipe)
    rng = np.random.default_rng(recipe.seed)
    half = choose_precision(scene_network(recipe.units), recipe) == "bfloat16"
    module.train()
    for step in range(recipe.steps):
        rows = held_out + rng.choice(len(pixels) - held_out, recipe.batch_size, replace=False)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = module(moved(_channels_first(pixels[rows]), rng), torch.from_numpy(rows)).loss
        descent.step(loss)
        if progress:
            progress("training", step + 1, recipe.steps)


@torch.no_grad()
def _measure(module: Task, pixels: Pictures, recipe: Recipe) -> tuple[float | None, float | None]:
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


def _channels_first(pixels: Pictures) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _check(pictures: TaskPictures, config: TasksConfig) -> None:
    possible = pictures.tasks()
    for task in config.tasks:
        if task not in possible:
            raise ConfigError(
                f"the task {task!r} needs labels that these {len(pictures.pixels)} pictures do not have. Expected "
                f"tasks among {', '.join(possible)}; a folder for each class labels 'scene', the synthetic world both."
            )
    left = len(pictures.pixels) - kept_back(len(pictures.pixels), config.recipe)
    if left < config.recipe.batch_size:
        raise ConfigError(
            f"{len(pictures.pixels)} pictures leave {left} to train on, fewer than a batch of "
            f"{config.recipe.batch_size}. Expected more pictures, or a smaller batch."
        )


def _verdict(table: pl.DataFrame, config: TasksConfig) -> Verdict:
    keys = {"quantile": config.dissect.protocol.quantiles[0], "rule": config.rule}
    rows = table.filter(layer=table["layer"][-1], **keys)
    totals = {task: unique_of(rows, task=task) for task in config.tasks}
    said = ", ".join(f"{task} {np.mean(values):.1f}" for task, values in totals.items())
    found = f"Unique detectors of the last layer, mean of {len(config.seeds)} seeds: {said}."
    supervised = [task for task in config.tasks if task in SUPERVISED]
    others = [task for task in config.tasks if task in SELF_SUPERVISED]
    if not supervised or not others:
        return Verdict(question=QUESTION, paper=PAPER, finding=found, agreement="not compared")
    fewer = paired_difference(_seed_means(rows, supervised), _seed_means(rows, others))
    texture = paired_difference(_texture_shares(rows, supervised), _texture_shares(rows, others))
    found += (
        f" Self-supervised less supervised, paired by seed: {fewer} detectors; share of textures among them: {texture}."
    )
    return Verdict(question=QUESTION, paper=PAPER, finding=found, agreement=_both(fewer, texture))


def _seed_means(rows: pl.DataFrame, tasks: Sequence[str], category: str = TOTAL) -> list[float]:
    """Average the unique detectors over tasks, for each seed."""
    here = rows.filter(pl.col("task").is_in(tasks), pl.col("category") == category)
    return here.group_by("seed", maintain_order=True).agg(pl.col("unique").mean())["unique"].to_list()


def _texture_shares(rows: pl.DataFrame, tasks: Sequence[str]) -> list[float]:
    textures = _seed_means(rows, tasks, TEXTURE) or [0.0] * rows["seed"].n_unique()
    return [part / whole if whole else 0.0 for part, whole in zip(textures, _seed_means(rows, tasks), strict=True)]


def _both(fewer: Interval, texture: Interval) -> Agreement:
    """Judge the two things that the paper says: agree if both do, disagree if one does not."""
    judged = {decide(fewer, "fewer"), decide(texture, "more")}
    return "disagrees" if "disagrees" in judged else "agrees" if judged == {"agrees"} else "not established"
