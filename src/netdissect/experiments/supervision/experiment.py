"""The same network trained on other tasks, to see whether it takes supervision to make detectors.

    TaskPictures -> trained_task (one loop for all tasks) -> dissect -> detectors by task, seed and category

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 3.4.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from netdissect.cli_options import Option
from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, OneOrMore, Progress, Rule
from netdissect.dissect import dissect
from netdissect.dissect.image_sample import sample_images
from netdissect.dissect.work_dir.run_log import timed
from netdissect.errors import ConfigError
from netdissect.experiments.counts import TOTAL, count_rows, largest_unique, unique_of
from netdissect.experiments.effect_sizes import Interval, decide, paired_difference
from netdissect.experiments.outcome import Conclusion, ConclusionOutcome, ExperimentResult
from netdissect.result.files import write_whole
from netdissect.synthetic import training_objects
from netdissect.training.choices import RANDOM, SELF_SUPERVISED, SUPERVISED, TASKS, TaskName
from netdissect.training.scene_net import TrainConfig, settle_precision
from netdissect.training.task_images import TaskImages
from netdissect.training.task_networks import kept_back, trained_task
from netdissect.training.workspace import Workspace

TEXTURE = "texture"

QUESTION = "Do networks that are trained without labels have fewer and other detectors than supervised ones?"
PAPER = "Self-supervised networks have many fewer unique detectors than supervised ones, and those mostly of textures."


class SupervisionConfig(BaseModel):
    """Which tasks are compared, how the networks are trained, and what is measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: Annotated[tuple[TaskName, ...], OneOrMore, Option("--task")] = Field(
        TASKS, min_length=1, description="Trained for equal steps."
    )
    recipe: TrainConfig = Field(description="Backbone and training of all; its seed is replaced.")
    seeds: Annotated[tuple[int, ...], Option("--training-seeds", metavar="SEED,...")] = Field(
        (0, 1, 2), min_length=1, description="One network of each task is trained for each of these seeds."
    )
    dissect: DissectConfig = Field(description="The dissection; its layers are the backbone's.")
    rule: Rule = Field("per-category", description="Which published rule the figure and the verdict count by.")


def supervision(
    pictures: TaskImages,
    concepts: ConceptData | str | Path,
    config: SupervisionConfig,
    *,
    out: str | Path,
    progress: Progress | None = None,
) -> ExperimentResult:
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
    data, measured = sample_images(concepts, config.dissect)
    config = config.model_copy(update={"dissect": measured})
    out, seconds = Path(out), dict[str, float]()
    counts, trainings = [], []
    first = settle_precision(config.recipe, out / "precision.json")
    jobs = [(task, seed) for task in config.tasks for seed in config.seeds]
    for done, (task, seed) in enumerate(jobs):
        if progress:
            progress("networks", done, len(jobs))
        recipe = first.model_copy(update={"seed": seed})
        with timed(f"train {task}", seconds):
            made = trained_task(task, pictures, recipe, out / "trained", progress=progress)
        with timed("dissect", seconds):
            run = out / "runs" / f"{task}-{seed}"
            result = dissect(made.network(), data, measured, out=run, progress=progress)
        keys: dict[str, Any] = {"task": task, "kind": kind_of(task), "seed": seed}
        counts.append(count_rows(result, **keys))
        steps = 0 if task == RANDOM else recipe.steps
        trainings.append(keys | {"steps": steps, "loss": made.loss, "right": made.right})
    if progress:
        progress("networks", len(jobs), len(jobs))
    table = pl.concat(counts)
    asked = config.model_dump(mode="json") | {"quantile": config.dissect.protocol.quantiles[0]}
    further = {"training": pl.DataFrame(trainings, infer_schema_length=None)}
    return ExperimentResult("supervision", table, conclude(table, config), asked, seconds, further)


def conclude(table: pl.DataFrame, config: SupervisionConfig) -> Conclusion:
    """Compare self-supervised with supervised tasks in the last layer: detectors, and the share of textures.

    Parameters
    ----------
    table
        Of `supervision`.
    config
        Tasks, first quantile and rule.

    Returns
    -------
    Verdict
        Agrees if both differences, paired by seed, go the paper's way; disagrees if one goes the other way.
    """
    keys = {"quantile": config.dissect.protocol.quantiles[0], "rule": config.rule}
    rows = table.filter(layer=table["layer"][-1], **keys)
    totals = {task: unique_of(rows, task=task) for task in config.tasks}
    said = ", ".join(f"{task} {np.mean(values):.1f}" for task, values in totals.items())
    found = f"Unique detectors of the last layer, mean of {len(config.seeds)} seeds: {said}."
    supervised = [task for task in config.tasks if task in SUPERVISED]
    others = [task for task in config.tasks if task in SELF_SUPERVISED]
    if not supervised or not others:
        return Conclusion(question=QUESTION, paper=PAPER, finding=found, agreement="not compared")
    fewer = paired_difference(_seed_means(rows, supervised), _seed_means(rows, others))
    fewer = fewer.within(-largest_unique(rows), largest_unique(rows))
    texture = paired_difference(_texture_shares(rows, supervised), _texture_shares(rows, others)).within(-1, 1)
    found += (
        f" Self-supervised less supervised, paired by seed: {fewer} detectors; share of textures among them: {texture}."
    )
    return Conclusion(question=QUESTION, paper=PAPER, finding=found, agreement=_both(fewer, texture))


def supervision_synthetic(bench: Workspace) -> ExperimentResult:
    """Run the experiment on the bench's pictures and world."""
    return supervision(
        bench_pictures(bench), bench.data, bench_config(bench), out=bench.folder("supervision"), progress=bench.progress
    )


def bench_pictures(bench: Workspace) -> TaskImages:
    """Return the bench's training pictures, with the objects that they show; these are kept beside the outcome."""
    path, recipe = bench.folder("supervision") / "objects.npy", bench.scale.recipe
    pixels, scenes = bench.pictures
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        shown = training_objects(len(pixels), size=recipe.size, seed=recipe.world, progress=bench.progress)
        write_whole(path, lambda file: np.save(file, shown))
    return TaskImages(pixels, scenes, np.load(path, allow_pickle=False))


def bench_config(bench: Workspace) -> SupervisionConfig:
    """Return what the experiment asks on a bench: every task, dissected at the last convolution."""
    recipe = bench.recipe(precision=bench.precision)
    return SupervisionConfig(
        recipe=recipe, seeds=tuple(range(bench.scale.seeds)), dissect=bench.measured(recipe.layers[-1:], 0)
    )


def kind_of(task: str) -> str:
    """Return ``supervised``, ``self-supervised`` or ``random``."""
    return RANDOM if task == RANDOM else "supervised" if task in SUPERVISED else "self-supervised"


def _check(pictures: TaskImages, config: SupervisionConfig) -> None:
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


def _seed_means(rows: pl.DataFrame, tasks: Sequence[str], category: str = TOTAL) -> list[float]:
    """Average the unique detectors over tasks, for each seed."""
    here = rows.filter(pl.col("task").is_in(tasks), pl.col("category") == category)
    return (
        here.group_by("seed", maintain_order=True).agg(pl.col("unique_detectors").mean())["unique_detectors"].to_list()
    )


def _texture_shares(rows: pl.DataFrame, tasks: Sequence[str]) -> list[float]:
    textures = _seed_means(rows, tasks, TEXTURE) or [0.0] * rows["seed"].n_unique()
    return [part / whole if whole else 0.0 for part, whole in zip(textures, _seed_means(rows, tasks), strict=True)]


def _both(fewer: Interval, texture: Interval) -> ConclusionOutcome:
    """Judge the two things that the paper says: agree if both do, disagree if one does not."""
    judged = {decide(fewer, "fewer"), decide(texture, "more")}
    return "disagrees" if "disagrees" in judged else "agrees" if judged == {"agrees"} else "not established"
