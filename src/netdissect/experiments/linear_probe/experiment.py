"""Test whether layers with more object detectors give better features for other classes.

    images with classes -> pooled features of a layer -> linear SVM -> accuracy, against unique detectors

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 3.6 (linear SVM, C = 0.001).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import scipy
from pydantic import BeforeValidator, Field

from netdissect.config import DissectConfig, Progress, Rule
from netdissect.config_fields import Config, Option
from netdissect.counted import counted
from netdissect.dissect import dissect
from netdissect.dissect.work_dir.run_log import timed
from netdissect.errors import ConfigError
from netdissect.experiments.counts import count_rows, unique_of
from netdissect.experiments.effect_sizes import Interval, decide, mean_interval
from netdissect.experiments.inputs import (
    DATA,
    LAST_CONVOLUTION,
    NETWORK,
    ClassImages,
    Data,
    Inputs,
    caching,
    named_layers,
    one_or_several,
)
from netdissect.experiments.linear_probe.probe import Subject, cached_features, probe_accuracies
from netdissect.experiments.outcome import NO_TABLES, Conclusion, ExperimentResult, concluded
from netdissect.experiments.registry import Experiment
from netdissect.experiments.reproduce.schedule import Cost, ReproduceJob, ScheduledExperiment
from netdissect.experiments.supervision.experiment import synthetic_config, workspace_images
from netdissect.scoring.statistics.bootstrap import CONFIDENCE_LEVEL
from netdissect.training.classification_data import LabeledImages, labeled_data, labeled_folder
from netdissect.training.train_tasks import trained_task
from netdissect.training.workspace import Workspace

ENOUGH = 1000  # images for folds of 32 scenes
MIN_IMAGES = 10  # images of each class below which accuracies are too coarse to decide anything
MIN_LAYERS = 4  # for an interval of a correlation

QUESTION = "Do layers with more unique object detectors make better features for other classes?"
PAPER = "The accuracy of a linear SVM on a layer's features rises with the number of unique object detectors there."


class LinearProbeConfig(Config):
    """How features are pooled and classifiers are trained."""

    category: str = Field("object", description="Category of the detectors that the accuracy is compared with.")
    rule: Rule = Field("per-category", description="Published rule by which detectors are counted.")
    pool: Literal["mean", "max"] = Field("mean", description="Pooling of a unit over the image.")
    penalty: float = Field(0.001, gt=0, description="C of the SVM; the default is that of the paper.")
    penalties: tuple[float, ...] = Field(
        (1e-4, 1e-3, 1e-2, 1e-1),
        description="Values of C from which cross-validation on the training half chooses; empty: none.",
    )
    folds: int = Field(5, ge=2, description="Folds of the cross-validation.")
    splits: int = Field(5, ge=1, description="Random halves of the images, train and test, stratified by class.")
    seed: Annotated[int, Option(hidden=True)] = Field(0, ge=0, description="Of the splits.")
    batch_size: Annotated[int, Option(hidden=True)] = Field(64, gt=0, description="Images in a forward pass.")
    device: Annotated[str, Option(hidden=True)] = Field("auto", description="Torch device of the forward pass.")


class LinearProbeInputs(Inputs):
    """Inputs of the command; the seed and batch size of the dissection are those of the probe, too."""

    models: Annotated[tuple[Any, ...], BeforeValidator(one_or_several), Option(argument=True, metavar="NETWORK...")] = (
        Field(min_length=1, description=f"{NETWORK} Each with all its layers.")
    )
    data: Data = Field(description=DATA)
    class_images: Annotated[ClassImages, Option(metavar="PATH")] = Field(
        description="A folder of images for each class."
    )
    dissect: Annotated[DissectConfig, Option(panel="Dissection")]
    config: LinearProbeConfig = Field(default_factory=LinearProbeConfig)


def linear_probe(
    subjects: Sequence[Subject],
    images: LabeledImages,
    config: LinearProbeConfig | None = None,
    *,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> ExperimentResult:
    """Train linear SVMs on the features of several layers, and compare their accuracy with the detectors there.

    Parameters
    ----------
    subjects
        Layers; the correlation treats them as independent.
    images
        With classes that the networks were not trained on.
    config
        None: the C of the paper, and cross-validation.
    out
        Features are saved in ``OUT/features``, named by the digest of their inputs; None: not saved.
    progress
        Receives images (``features``) and classifiers (``SVM``).

    Returns
    -------
    ExperimentResult
        `table`: network, layer, units, unique_detectors (of the category), unique_all (of all categories),
        C_selection (paper, cross-validated), split, C, accuracy. `extra_tables["classes"]`: class, images.

    Raises
    ------
    ConfigError
        If a class has too few images for the splits and folds.
    ResultError
        If a dissection lacks the layer.

    Notes
    -----
    Features are brought to mean 0 and variance 1 on the training half, so that C means the same for every layer.
    """
    config = config or LinearProbeConfig()
    if not subjects:
        raise ConfigError("No layer of a network was given. Expected at least one; four for a correlation.")
    check_classes(images, config)
    seconds, rows = dict[str, float](), list[dict[str, object]]()
    folder = None if out is None else Path(out) / "features"
    for done, (name, subject) in enumerate(zip(_names(subjects), subjects, strict=True)):
        with timed("features", seconds):
            features = cached_features(subject, images, config, folder, progress)
        with timed("SVM", seconds):
            about = {"network": name} | _about(subject, config)
            rows += [about | row for row in probe_accuracies(features, images.labels, config)]
        if progress:
            progress("SVM", done + 1, len(subjects))
    table = pl.DataFrame(rows, infer_schema_length=None)
    context = {"images": len(images), "classes": len(images.classes)}
    extra = {"classes": _class_table(images)}
    return concluded("linear-probe", config, table, conclude, context=context, extra_tables=extra, seconds=seconds)


def conclude(
    table: pl.DataFrame, config: LinearProbeConfig, *, extra: Mapping[str, pl.DataFrame] = NO_TABLES
) -> Conclusion:
    """Correlate accuracy, averaged over splits, with unique detectors over the layers.

    Parameters
    ----------
    table
        Of `linear_probe`.
    config
        The category of the detectors.
    extra
        ``classes``: the number of images of each class; accuracies from few images decide nothing.

    Returns
    -------
    Conclusion
        Agrees if the interval of the correlation with the paper's C lies above 0.
    """
    classes, texts, interval_of_paper = extra["classes"], [], None
    for selection in table["C_selection"].unique(maintain_order=True):
        means = table.filter(C_selection=selection).group_by("network", "layer", maintain_order=True).agg(
            pl.col("unique_detectors").first(), pl.col("accuracy").mean()
        )  # fmt: skip
        interval = correlation(means["unique_detectors"].to_list(), means["accuracy"].to_list())
        accuracy = mean_interval(means["accuracy"].to_list())
        text = "no correlation can be told" if interval is None else f"correlation {interval}"
        texts.append(f"{selection} C: mean accuracy {accuracy.mean:.3f}, {text}")
        if selection == "paper" and min(classes["images"]) >= MIN_IMAGES:
            interval_of_paper = interval
    layers = counted(len(table.select("network", "layer").unique()), "layers")
    finding = (
        f"{layers}, {len(classes)} classes, accuracy against unique "
        f"{config.category} detectors. {'; '.join(texts)} (Fisher's interval)."
    )
    undecided = Interval(math.nan, -math.inf, math.inf, 0)
    outcome = decide(interval_of_paper or undecided, "more")
    return Conclusion(question=QUESTION, paper=PAPER, finding=finding, outcome=outcome)


def correlation(unique: Sequence[float], accuracy: Sequence[float]) -> Interval | None:
    """Return Pearson's correlation with Fisher's interval; None for fewer than four pairs, or where one is constant."""
    if len(unique) < MIN_LAYERS or np.ptp(unique) == 0 or np.ptp(accuracy) == 0:
        return None
    pearson = scipy.stats.pearsonr(unique, accuracy)
    interval = pearson.confidence_interval(CONFIDENCE_LEVEL)
    return Interval(float(pearson.statistic), float(interval.low), float(interval.high), len(unique))


def _names(subjects: Sequence[Subject]) -> list[str]:
    """Return the names of the networks, numbered if the same layer of another one has the same name."""
    keys = [(subject.network.name, subject.layer) for subject in subjects]
    counts = [keys[: index + 1].count(key) for index, key in enumerate(keys)]
    return [name if count == 1 else f"{name} ({count})" for (name, _), count in zip(keys, counts, strict=True)]


def _about(subject: Subject, config: LinearProbeConfig) -> dict[str, object]:
    quantile = subject.result.info.config.protocol.quantiles[0]
    rows = count_rows(subject.result, [subject.layer]).filter(quantile=quantile, rule=config.rule)
    return {
        "layer": subject.layer,
        "units": rows["units"][0],
        "unique_detectors": (unique_of(rows, config.category) or [0])[0],
        "unique_all": unique_of(rows)[0],
    }


def _class_table(images: LabeledImages) -> pl.DataFrame:
    """Count the images of each class that has some."""
    labels, counts = np.unique(images.labels, return_counts=True)
    return pl.DataFrame({"class": [images.classes[label] for label in labels], "images": counts})


def check_classes(images: LabeledImages, config: LinearProbeConfig) -> None:
    """Check that there are enough images of each class to train on one half and test on the other.

    Raises
    ------
    ConfigError
        If a class has too few images for the splits and folds.
    """
    if len(images.labels) == 0:
        raise ConfigError("There are no images with a class. Expected at least two classes with images of each.")
    counts = np.bincount(images.labels, minlength=len(images.classes))
    counts = np.where(counts == 0, counts.max(), counts)  # classes without images are ignored
    needed = _min_images(config)
    if counts.min() < needed or len(set(images.labels.tolist())) < 2:
        rarest = images.classes[int(counts.argmin())]
        raise ConfigError(
            f"{len(set(images.labels.tolist()))} classes have images, {rarest!r} the fewest: {counts.min()}. "
            f"Expected at least 2 classes and {needed} images of each: half of them train, in {config.folds} folds."
        )


def _min_images(config: LinearProbeConfig) -> int:
    """Return how many images of a class halves and folds need."""
    return 2 * config.folds if config.penalties else 2


def run_synthetic(workspace: Workspace) -> ExperimentResult:
    """Probe the networks that were trained on different tasks for scenes."""
    config, train_images = synthetic_config(workspace), workspace_images(workspace)
    folder, layer = workspace.folder("supervision"), config.train_config.layers[-1]
    subjects = []
    for task in config.tasks:
        for seed in range(config.seeds):
            train_config = config.train_config.model_copy(update={"seed": seed})
            trained = trained_task(task, train_images, train_config, folder / "trained", progress=workspace.progress)
            network, run = trained.network(), folder / "runs" / f"{task}-{seed}"
            result = workspace.dissect(network, config.dissect, run)
            subjects.append(Subject(network, layer, result))
    images = labeled_data(workspace.data)
    # A data set of a few dozen images has too few of each scene for folds.
    probe = LinearProbeConfig() if len(images) >= ENOUGH else LinearProbeConfig(penalties=(), splits=2)
    frequent, out = images.frequent(max(4, _min_images(probe))), workspace.folder("linear-probe")
    return linear_probe(subjects, frequent, probe, out=out, progress=workspace.progress)


def requirements(job: ReproduceJob) -> ScheduledExperiment:
    """Probe the last convolutions of all networks, whose dissections are those of compare."""
    if job.config.train_images is None:
        return ScheduledExperiment.without("needs --train-images FOLDER with a folder for each of some other classes")
    images, config = labeled_folder(job.config.train_images), LinearProbeConfig(batch_size=job.config.batch_size)
    check_classes(images, config)
    words = (
        f"a linear SVM on {len(images):,} images of {len(images.classes)} classes, for each of {len(job.networks)} "
        "networks, and minutes more if a layer has a thousand units; their dissections are those of compare"
    )
    cost = Cost(words, 0, len(images) * sum(job.forward_seconds(network) for network in job.networks))

    def run() -> ExperimentResult:
        subjects = [
            Subject(network, job.config.layer_of(index), job.dissected(index))
            for index, network in enumerate(job.networks)
        ]
        return linear_probe(subjects, images, config, out=job.out / "linear-probe", progress=job.progress)

    return ScheduledExperiment((cost,), run)


def _run(inputs: LinearProbeInputs, out: Path, progress: Progress | None) -> ExperimentResult:
    given, subjects = inputs.class_images, list[Subject]()
    images = labeled_folder(given) if isinstance(given, Path) else given
    for model in inputs.models:
        network = inputs.open(model)
        dissection, run = named_layers(network, inputs.dissect), out / "runs" / network.digest[:16]
        result = dissect(network, inputs.data, config=dissection, execution=caching(out), out=run, progress=progress)
        subjects += [Subject(network, name, result) for name in result.layers]
    common = {
        "seed": inputs.dissect.sample_seed,
        "batch_size": subjects[0].result.info.config.images_per_batch,
        "device": inputs.dissect.device,
    }
    return linear_probe(subjects, images, inputs.config.model_copy(update=common), out=out, progress=progress)


LINEAR_PROBE = Experiment(
    question=QUESTION,
    paper=PAPER,
    config=LinearProbeConfig,
    inputs=LinearProbeInputs,
    run=_run,
    conclude=conclude,
    requirements=requirements,
    run_synthetic=run_synthetic,
    extra_tables=("classes",),
    defaults={"dissect": {"batch_size": 32, "layers": (LAST_CONVOLUTION,)}},
)
