"""Train one network on several tasks, to test whether detectors need supervision.

    TaskImages -> trained_task (one loop for all tasks) -> dissect -> detectors by task, seed and category

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 3.4.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from pydantic import Field, InstanceOf

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, OneOrMore, Progress, Rule
from netdissect.config_fields import Config, Option
from netdissect.dissect import dissect
from netdissect.dissect.image_sample import sample_images
from netdissect.dissect.work_dir.run_log import timed
from netdissect.errors import ConfigError
from netdissect.experiments.counts import (
    TOTAL,
    count_rows,
    has_null,
    largest_unique,
    mean_text,
    null_note,
    with_excess,
)
from netdissect.experiments.effect_sizes import Interval, decide, paired_difference
from netdissect.experiments.inputs import DATA, LAST_CONVOLUTION, Data, caching, with_layers
from netdissect.experiments.outcome import (
    NO_TABLES,
    Conclusion,
    ConclusionOutcome,
    ExperimentResult,
    concluded,
    join_sentences,
)
from netdissect.experiments.registry import Experiment
from netdissect.experiments.reproduce.schedule import Cost, ReproduceJob, ScheduledExperiment
from netdissect.paths import OTHER_FOLDER, writing
from netdissect.result.files import write_whole
from netdissect.synthetic import training_objects
from netdissect.training.choices import RANDOM, SELF_SUPERVISED, SUPERVISED, TASKS, TaskName
from netdissect.training.classification_data import image_files
from netdissect.training.scene_net import TrainConfig, random_network
from netdissect.training.task_images import TaskImages, folder_images, synthetic_images
from netdissect.training.train import settle_precision, training_seconds
from netdissect.training.train_tasks import held_out_count, trained_task
from netdissect.training.workspace import SCALES, Workspace

TEXTURE = "texture"

QUESTION = "Do networks that are trained without labels have fewer and other detectors than supervised ones?"
PAPER = "Self-supervised networks have many fewer unique detectors than supervised ones, and those mostly of textures."


class SupervisionConfig(Config):
    """Which tasks are compared, how the networks are trained, and what is measured."""

    tasks: Annotated[tuple[TaskName, ...], OneOrMore, Option("--task")] = Field(
        TASKS, min_length=1, description="Tasks, trained for equal steps; repeats."
    )
    train_config: Annotated[TrainConfig, Option(panel="Training", without=("dropout",))] = Field(
        default_factory=TrainConfig, description="Backbone and training of all; its seed is replaced."
    )
    seeds: int = Field(3, ge=1, description="Networks of each task, of seeds 0, 1, ...")
    dissect: Annotated[DissectConfig, Option(panel="Dissection")] = Field(
        description="The dissection of layers of the backbone."
    )
    rule: Rule = Field("per-category", description="Published rule by which the figure and the conclusion count.")


class SupervisionInputs(Config):
    """Inputs of the command."""

    data: Data = Field(description=DATA)
    train_images: Annotated[InstanceOf[TaskImages] | Path | None, Option(metavar="PATH")] = Field(
        None, description="Train on the images at any depth below this folder. None: on synthetic images."
    )
    config: SupervisionConfig


def supervision(
    images: TaskImages,
    concepts: ConceptData | str | Path,
    config: SupervisionConfig,
    *,
    out: str | Path,
    progress: Progress | None = None,
) -> ExperimentResult:
    """Train one backbone on several tasks for equal steps, dissect each network, and compare.

    Parameters
    ----------
    images
        To train on; see `folder_images` and `synthetic_images`.
    concepts
        A data set in Broden's layout, or its folder.
    config
        Tasks, seeds, training, dissection.
    out
        Networks are kept in ``OUT/trained``, runs in ``OUT/runs``; what is there is reused.
    progress
        Receives every stage.

    Returns
    -------
    ExperimentResult
        `table`: task, kind (supervised, self-supervised, random), seed, layer, quantile, rule, category, units,
        detectors, unique_detectors.

        `extra_tables["training"]`: task, kind, seed, steps, loss and accuracy (null for tasks without classes), both on
        held-out images.

    Raises
    ------
    ConfigError
        If the images have no labels for a supervised task, or there are too few of them.
    """
    _check(images, config)
    data, dissect_config = sample_images(concepts, config.dissect)
    config = config.model_copy(update={"dissect": dissect_config})
    out, seconds = Path(out), dict[str, float]()
    counts, trainings = [], []
    base = settle_precision(config.train_config, out / "precision.json")
    jobs = [(task, seed) for task in config.tasks for seed in range(config.seeds)]
    for done, (task, seed) in enumerate(jobs):
        if progress:
            progress("networks", done, len(jobs))
        train_config = base.model_copy(update={"seed": seed})
        with timed(f"train {task}", seconds):
            trained = trained_task(task, images, train_config, out / "trained", progress=progress)
        with timed("dissect", seconds):
            run = out / "runs" / f"{task}-{seed}"
            result = dissect(
                trained.network(), data, config=dissect_config, execution=caching(out), out=run, progress=progress
            )
        keys: dict[str, Any] = {"task": task, "kind": kind_of(task), "seed": seed}
        counts.append(count_rows(result, **keys))
        steps = 0 if task == RANDOM else train_config.steps
        trainings.append(keys | {"steps": steps, "loss": trained.loss, "accuracy": trained.accuracy})
    if progress:
        progress("networks", len(jobs), len(jobs))
    context = {"quantile": dissect_config.protocol.quantiles[0]}
    extra = {"training": pl.DataFrame(trainings, infer_schema_length=None)}
    return concluded(
        "supervision", config, pl.concat(counts), conclude, context=context, extra_tables=extra, seconds=seconds
    )


def conclude(
    table: pl.DataFrame,
    config: SupervisionConfig,
    *,
    extra: Mapping[str, pl.DataFrame] = NO_TABLES,  # noqa: ARG001 - of the protocol
) -> Conclusion:
    """Compare self-supervised with supervised tasks in the last layer: detectors, and the share of textures.

    Parameters
    ----------
    table
        Of `supervision`.
    config
        Tasks, first quantile and rule.
    extra
        Not used.

    Returns
    -------
    Conclusion
        Agrees if both differences, paired by seed, go the paper's way; disagrees if one goes the other way.
    """
    keys = {"quantile": config.dissect.protocol.quantiles[0], "rule": config.rule}
    rows = table.filter(layer=table["layer"][-1], **keys)
    rows = with_excess(rows)
    totals = rows.filter(category=TOTAL)
    listed = ", ".join(f"{task} {mean_text(totals.filter(task=task))}" for task in config.tasks)
    means = f"Unique detectors of the last layer, mean of {config.seeds} seeds: {listed}."
    finding = join_sentences(means, null_note(rows))
    supervised = [task for task in config.tasks if task in SUPERVISED]
    others = [task for task in config.tasks if task in SELF_SUPERVISED]
    if not supervised or not others:
        return Conclusion(question=QUESTION, paper=PAPER, finding=finding, outcome="not compared")
    fewer = paired_difference(*(_seed_means(rows, tasks, column="excess") for tasks in (supervised, others)))
    beyond = has_null(rows)
    if not beyond:
        fewer = fewer.within(-largest_unique(rows), largest_unique(rows))
    texture = paired_difference(_texture_shares(rows, supervised), _texture_shares(rows, others)).within(-1, 1)
    finding += (
        f" Self-supervised less supervised, paired by seed{' and beyond the permutation null' if beyond else ''}: "
        f"{fewer} detectors; share of textures among all detectors: {texture}."
    )
    return Conclusion(question=QUESTION, paper=PAPER, finding=finding, outcome=_both(fewer, texture))


def kind_of(task: str) -> str:
    """Return ``supervised``, ``self-supervised`` or ``random``."""
    return RANDOM if task == RANDOM else "supervised" if task in SUPERVISED else "self-supervised"


def _check(images: TaskImages, config: SupervisionConfig) -> None:
    possible = images.tasks()
    for task in config.tasks:
        if task not in possible:
            raise ConfigError(
                f"the task {task!r} needs labels that these {len(images.pixels)} images do not have. Expected "
                f"tasks among {', '.join(possible)}; a folder for each class labels 'scene', "
                "synthetic images have both."
            )
    left = len(images.pixels) - held_out_count(len(images.pixels), config.train_config)
    if left < config.train_config.batch_size:
        raise ConfigError(
            f"{len(images.pixels)} images leave {left} to train on, fewer than a batch of "
            f"{config.train_config.batch_size}. Expected more images, or a smaller batch."
        )


def _seed_means(
    rows: pl.DataFrame, tasks: Sequence[str], category: str = TOTAL, column: str = "unique_detectors"
) -> list[float]:
    """Average a column over tasks, for each seed."""
    here = rows.filter(pl.col("task").is_in(tasks), pl.col("category") == category)
    return here.group_by("seed", maintain_order=True).agg(pl.col(column).mean())[column].to_list()


def _texture_shares(rows: pl.DataFrame, tasks: Sequence[str]) -> list[float]:
    textures = _seed_means(rows, tasks, TEXTURE) or [0.0] * rows["seed"].n_unique()
    return [part / whole if whole else 0.0 for part, whole in zip(textures, _seed_means(rows, tasks), strict=True)]


def _both(fewer: Interval, texture: Interval) -> ConclusionOutcome:
    """Combine both findings of the paper: agree if both do, disagree if one does not."""
    outcomes = {decide(fewer, "fewer"), decide(texture, "more")}
    return "disagrees" if "disagrees" in outcomes else "agrees" if outcomes == {"agrees"} else "inconclusive"


def synthetic_config(workspace: Workspace) -> SupervisionConfig:
    """Return the configuration at synthetic scale: every task, dissected at the last convolution."""
    train_config = workspace.train_config(precision=workspace.precision)
    dissection = workspace.dissect_config(train_config.layers[-1:], replicates=0)
    return SupervisionConfig(train_config=train_config, seeds=workspace.scale.seeds, dissect=dissection)


def workspace_images(workspace: Workspace) -> TaskImages:
    """Return the training images of the workspace with their objects, which are saved there."""
    path, train_config = workspace.folder("supervision") / "objects.npy", workspace.scale.train_config
    pixels, scenes = workspace.train_images
    if not path.exists():
        objects = training_objects(
            len(pixels), size=train_config.size, seed=train_config.data_seed, progress=workspace.progress
        )
        with writing(path, OTHER_FOLDER):
            path.parent.mkdir(exist_ok=True)
            write_whole(path, lambda file: np.save(file, objects))
    return TaskImages(pixels, scenes, np.load(path, allow_pickle=False))


def run_synthetic(workspace: Workspace) -> ExperimentResult:
    """Train every task on the images of the workspace."""
    config, out = synthetic_config(workspace), workspace.folder("supervision")
    return supervision(workspace_images(workspace), workspace.data, config, out=out, progress=workspace.progress)


def requirements(job: ReproduceJob) -> ScheduledExperiment:
    """Train the tasks for which a folder of images has labels."""
    folder, out = job.config.train_images, job.out / "supervision"
    if folder is None or job.config.train is None:
        return ScheduledExperiment.without("needs --train-images FOLDER of images to train on, and --train small")
    scale = SCALES[job.config.train]
    train_config, number = scale.train_config, len(image_files(folder))
    limit = train_config.num_images + train_config.held_out
    number = min(number, limit)
    if number - held_out_count(number, train_config) < train_config.batch_size:
        return ScheduledExperiment.without(f"needs more images than the {number} of {folder}")
    tasks = folder_images(folder, train_config.size, limit=1).tasks()
    dissection = job.config.dissect_config(train_config.layers[-1:])
    config = SupervisionConfig(tasks=tasks, train_config=train_config, seeds=scale.seeds, dissect=dissection)
    networks = len(tasks) * scale.seeds
    words = (
        f"{', '.join(tasks)}: {networks} networks of {train_config.steps} steps on {number:,} images, each dissected "
        f"on {len(job.data):,} images"
    )

    def run() -> ExperimentResult:
        images = folder_images(folder, train_config.size, limit=limit)
        return supervision(images, job.concepts, config, out=out, progress=job.progress)

    seconds = networks * training_seconds(random_network(train_config), train_config)
    return ScheduledExperiment((Cost(words, 0, seconds),), run)


def _run(inputs: SupervisionInputs, out: Path, progress: Progress | None) -> ExperimentResult:
    config, train_config, images = inputs.config, inputs.config.train_config, inputs.train_images
    if images is None:
        images = synthetic_images(train_config, folder=out, progress=progress)
    elif isinstance(images, Path):
        images = folder_images(images, train_config.size, limit=train_config.num_images)
    if config.dissect.layers == (LAST_CONVOLUTION,):
        dissection = config.dissect.model_copy(update={"layers": train_config.layers[-1:]})
        config = config.model_copy(update={"dissect": dissection})
    if "tasks" not in config.model_fields_set:
        config = config.model_copy(update={"tasks": images.tasks()})
    return supervision(images, inputs.data, config, out=out, progress=progress)


SUPERVISION = Experiment(
    question=QUESTION,
    paper=PAPER,
    config=SupervisionConfig,
    inputs=SupervisionInputs,
    run=_run,
    conclude=conclude,
    requirements=requirements,
    run_synthetic=run_synthetic,
    extra_tables=("training",),
    defaults=with_layers(LAST_CONVOLUTION),
)
