"""Whether a layer with more object detectors also makes better features for other classes.

    pictures with classes -> pooled features of a layer -> linear SVM -> accuracy, against unique detectors

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 3.6 (linear SVM, C = 0.001).
"""

import hashlib
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from netdissect.cli_options import Option
from netdissect.config import Progress, Rule
from netdissect.dissect import dissect
from netdissect.dissect.work_dir.run_log import timed
from netdissect.errors import ConfigError, ResultError
from netdissect.experiments.counts import count_rows, unique_of
from netdissect.experiments.effect_sizes import LEVEL, Interval, decide, mean_interval
from netdissect.experiments.outcome import Conclusion, ExperimentResult
from netdissect.experiments.supervision.experiment import bench_config, bench_pictures
from netdissect.extras import need
from netdissect.models import ActivationRecorder, Network, resolve_layers
from netdissect.result import Result
from netdissect.result.files import write_whole
from netdissect.training.classification_data import LabeledImages, labeled_by
from netdissect.training.task_networks import trained_task
from netdissect.training.workspace import Workspace

exceptions, model_selection, pipeline, preprocessing, linear = (
    need(f"sklearn.{module}", "experiments", "The linear probe")
    for module in ("exceptions", "model_selection", "pipeline", "preprocessing", "svm")
)

Features = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PENALTY = "svm__C"
ENOUGH = 1000  # pictures of a world with 32 scenes
SHOWN = 10  # pictures of each class below which accuracies are too coarse to decide anything
ITERATIONS = 1000  # of the solver; cross-validation sees what came out of those that were not enough
FEWEST = 4  # networks for which a correlation has an interval

QUESTION = "Do layers with more unique object detectors make better features for other classes?"
PAPER = "The accuracy of a linear SVM on a layer's features rises with the number of unique object detectors there."


class LinearProbeConfig(BaseModel):
    """How features are made and classifiers are trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    category: str = Field("object", description="Whose unique detectors the accuracy is compared with.")
    rule: Rule = Field("per-category", description="Which published rule counts detectors.")
    pool: Literal["mean", "max"] = Field("mean", description="Pooling of a unit over the image.")
    penalty: float = Field(0.001, gt=0, description="C of the SVM, as in the paper.")
    penalties: Annotated[tuple[float, ...], Option("--penalties")] = Field(
        (1e-4, 1e-3, 1e-2, 1e-1),
        description="Of which cross-validation on the training half picks one; empty: no.",
    )
    folds: int = Field(5, ge=2, description="Folds of the cross-validation.")
    splits: int = Field(5, ge=1, description="Random halves of the pictures, train and test, class by class.")
    seed: Annotated[int, Option(hidden=True)] = Field(0, ge=0, description="Seed of the splits.")
    batch_size: Annotated[int, Option(hidden=True)] = Field(64, gt=0, description="Pictures in a forward pass.")


@dataclass(frozen=True)
class Subject:
    """A layer of a network, and the dissection that counts its detectors."""

    network: Network
    layer: str
    result: Result


def linear_probe(
    subjects: Sequence[Subject],
    pictures: LabeledImages,
    config: LinearProbeConfig | None = None,
    *,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> ExperimentResult:
    """Train linear SVMs on the features of several layers, and compare their accuracy with the detectors there.

    Parameters
    ----------
    subjects
        Layers; the correlation takes them as independent of one another.
    pictures
        With classes that the networks were not trained to tell.
    config
        None: the paper's C, and cross-validation beside it.
    out
        Features are kept in ``OUT/features``, named by what made them; None: nowhere.
    progress
        Told of pictures (``features``) and of classifiers (``SVM``).

    Returns
    -------
    Outcome
        `table`: network, layer, units, unique (detectors of the category), all (unique detectors of all categories),
        selection (paper, cross-validated), split, penalty, accuracy. `further["classes"]`: class, images.

    Raises
    ------
    ConfigError
        If a class has too few pictures for the splits and folds.
    ResultError
        If a dissection lacks the layer.

    Notes
    -----
    Features are brought to mean 0 and variance 1 on the training half, so that C means the same for every layer.
    """
    config = config or LinearProbeConfig()
    if not subjects:
        raise ConfigError("No layer of a network was given. Expected at least one; four for a correlation.")
    check_classes(pictures, config)
    seconds, rows = dict[str, float](), list[dict[str, object]]()
    folder = None if out is None else Path(out) / "features"
    for done, (name, subject) in enumerate(zip(_names(subjects), subjects, strict=True)):
        with timed("features", seconds):
            features = kept_features(subject, pictures, config, folder, progress)
        with timed("SVM", seconds):
            about = {"network": name} | _about(subject, config)
            rows += [about | row for row in _accuracies(features, pictures.labels, config)]
        if progress:
            progress("SVM", done + 1, len(subjects))
    table = pl.DataFrame(rows, infer_schema_length=None)
    made = {"pictures": len(pictures), "classes": len(pictures.classes)}
    further = {"classes": _class_table(pictures)}
    verdict = conclude(table, config, extra=further)
    return ExperimentResult("linear-probe", table, verdict, config.model_dump(mode="json") | made, seconds, further)


def conclude(table: pl.DataFrame, config: LinearProbeConfig, *, extra: Mapping[str, pl.DataFrame]) -> Conclusion:
    """Correlate accuracy, averaged over splits, with unique detectors over the layers.

    Parameters
    ----------
    table
        Of `linear_probe`.
    config
        The category of the detectors.
    extra
        ``classes``, with the images of each class: accuracies from few of them decide nothing.

    Returns
    -------
    Verdict
        Agrees if the interval of the correlation with the paper's C lies above 0.
    """
    classes, found, judged = extra["classes"], [], None
    for selection in table["selection"].unique(maintain_order=True):
        means = table.filter(selection=selection).group_by("network", "layer", maintain_order=True).agg(
            pl.col("unique_detectors").first(), pl.col("accuracy").mean()
        )  # fmt: skip
        interval = correlation(means["unique_detectors"].to_list(), means["accuracy"].to_list())
        accuracy = mean_interval(means["accuracy"].to_list())
        said = "no correlation can be told" if interval is None else f"correlation {interval}"
        found.append(f"{selection} C: mean accuracy {accuracy.mean:.3f}, {said}")
        if selection == "paper" and min(classes["images"]) >= SHOWN:
            judged = interval
    finding = (
        f"{len(table.select('network', 'layer').unique())} layers, {len(classes)} classes, accuracy against unique "
        f"{config.category} detectors. {'; '.join(found)} (Fisher's interval)."
    )
    undecided = Interval(math.nan, -math.inf, math.inf, 0)
    return Conclusion(question=QUESTION, paper=PAPER, finding=finding, agreement=decide(judged or undecided, "more"))


def pooled_features(
    network: Network, layer: str, pictures: LabeledImages, config: LinearProbeConfig, progress: Progress | None = None
) -> Features:
    """Return each unit's mean or maximum over each picture, float32 (N, U)."""
    chosen, found = resolve_layers(network, [layer]), list[torch.Tensor]()
    with network.prepared(), ActivationRecorder(network, chosen) as record:
        for pixels in pictures.batches(network.preprocessing, config.batch_size):
            maps = record(network.preprocessing(torch.from_numpy(pixels)).to(network.device))[chosen[0].name]
            found.append((maps.mean((2, 3)) if config.pool == "mean" else maps.amax((2, 3))).cpu())
            if progress:
                progress("features", min(len(found) * config.batch_size, len(pictures)), len(pictures))
    features: Features = torch.cat(found).numpy()
    return features


def kept_features(
    subject: Subject, pictures: LabeledImages, config: LinearProbeConfig, folder: Path | None, progress: Progress | None
) -> Features:
    """Return a subject's features, from the folder if they are there."""
    network = subject.network
    if folder is None:
        return pooled_features(network, subject.layer, pictures, config, progress)
    prepared = repr(network.preprocessing)
    made = [network.digest, prepared, subject.layer, pictures.digest, config.pool, config.batch_size]
    path = folder / f"{hashlib.sha256(json.dumps(made).encode()).hexdigest()[:24]}.npy"
    if path.exists():
        try:
            features: Features = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ResultError(f"{path} is damaged ({error}). Remove it; the same command makes it again.") from error
        return features
    features = pooled_features(network, subject.layer, pictures, config, progress)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: np.save(file, features))
    return features


def classifier(penalty: float) -> Any:
    """Return a linear SVM on standardized features.

    Notes
    -----
    A larger C than `LinearProbeConfig.penalties` holds fits such features beyond any use for new pictures, and takes
    most
    of the time: with C = 1 the solver needs hundreds of iterations where 0.01 needs seven.
    """
    machine = linear.LinearSVC(C=penalty, dual="auto", max_iter=ITERATIONS, random_state=0)
    return pipeline.Pipeline([("scale", preprocessing.StandardScaler()), ("svm", machine)])


def halves(labels: Ints, config: LinearProbeConfig) -> list[tuple[Ints, Ints]]:
    """Return the places of training and test pictures of each split."""
    splitter = model_selection.StratifiedShuffleSplit(config.splits, test_size=0.5, random_state=config.seed)
    return list(splitter.split(np.zeros((len(labels), 1)), labels))


def correlation(unique: Sequence[float], accuracy: Sequence[float]) -> Interval | None:
    """Return Pearson's correlation with Fisher's interval; None for fewer than four pairs, or where one is constant."""
    if len(unique) < FEWEST or np.ptp(unique) == 0 or np.ptp(accuracy) == 0:
        return None
    found = stats.pearsonr(unique, accuracy)
    interval = found.confidence_interval(LEVEL)
    return Interval(float(found.statistic), float(interval.low), float(interval.high), len(unique))


def linear_probe_synthetic(bench: Workspace) -> ExperimentResult:
    """Compare the networks that were trained on different tasks, by how well their features tell scenes apart."""
    trained, shown = bench_config(bench), bench_pictures(bench)
    folder, layer = bench.folder("supervision"), bench.scale.recipe.layers[-1]
    subjects = []
    for task in trained.tasks:
        for seed in trained.seeds:
            recipe = trained.recipe.model_copy(update={"seed": seed})
            made = trained_task(task, shown, recipe, folder / "trained", progress=bench.progress)
            network, run = made.network(), folder / "runs" / f"{task}-{seed}"
            result = dissect(network, bench.data, trained.dissect, out=run, progress=bench.progress)
            subjects.append(Subject(network, layer, result))
    pictures = labeled_by(bench.data)
    # A world of a few dozen pictures has too few of each scene for folds.
    config = LinearProbeConfig() if len(pictures) >= ENOUGH else LinearProbeConfig(penalties=(), splits=2)
    frequent = pictures.frequent(max(4, _needed(config)))
    return linear_probe(subjects, frequent, config, out=bench.folder("linear-probe"), progress=bench.progress)


def _names(subjects: Sequence[Subject]) -> list[str]:
    """Return the names of the subjects' networks, numbered where the same layer of another one has the same name."""
    keys = [(subject.network.name, subject.layer) for subject in subjects]
    counts = [keys[: place + 1].count(key) for place, key in enumerate(keys)]
    return [name if count == 1 else f"{name} ({count})" for (name, _), count in zip(keys, counts, strict=True)]


def _about(subject: Subject, config: LinearProbeConfig) -> dict[str, object]:
    quantile = subject.result.info.config.protocol.quantiles[0]
    rows = count_rows(subject.result, [subject.layer]).filter(quantile=quantile, rule=config.rule)
    return {
        "layer": subject.layer,
        "units": rows["units"][0],
        "unique_detectors": (unique_of(rows, config.category) or [0])[0],
        "all": unique_of(rows)[0],
    }


def _class_table(pictures: LabeledImages) -> pl.DataFrame:
    """Count the images of each class that has some."""
    labels, counts = np.unique(pictures.labels, return_counts=True)
    return pl.DataFrame({"class": [pictures.classes[label] for label in labels], "images": counts})


def _accuracies(features: Features, labels: Ints, config: LinearProbeConfig) -> list[dict[str, Any]]:
    rows = []
    for split, (train, test) in enumerate(halves(labels, config)):
        fixed = classifier(config.penalty)
        machines: dict[str, Any] = {"paper": fixed}
        if config.penalties:
            folds = model_selection.StratifiedKFold(config.folds, shuffle=True, random_state=config.seed)
            grid = {PENALTY: list(config.penalties)}
            machines["cross-validated"] = model_selection.GridSearchCV(fixed, grid, cv=folds)
        for selection, machine in machines.items():
            with warnings.catch_warnings():
                # With a large C the solver may stop early: cross-validation then sees what came out.
                warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
                machine.fit(features[train], labels[train])
            penalty = machine.best_params_[PENALTY] if selection == "cross-validated" else config.penalty
            accuracy = float(machine.score(features[test], labels[test]))
            rows.append({"selection": selection, "split": split, "penalty": penalty, "accuracy": accuracy})
    return rows


def check_classes(pictures: LabeledImages, config: LinearProbeConfig) -> None:
    """Make sure that there are enough pictures of each class to train on one half and test on the other.

    Raises
    ------
    ConfigError
        If a class has too few pictures for the splits and folds.
    """
    if len(pictures.labels) == 0:
        raise ConfigError("There are no pictures with a class. Expected at least two classes with pictures of each.")
    counts = np.bincount(pictures.labels, minlength=len(pictures.classes))
    counts = np.where(counts == 0, counts.max(), counts)  # classes without any picture do not take part
    needed = _needed(config)
    if counts.min() < needed or len(set(pictures.labels.tolist())) < 2:
        rarest = pictures.classes[int(counts.argmin())]
        raise ConfigError(
            f"{len(set(pictures.labels.tolist()))} classes have pictures, {rarest!r} the fewest: {counts.min()}. "
            f"Expected at least 2 classes and {needed} pictures of each: half of them train, in {config.folds} folds."
        )


def _needed(config: LinearProbeConfig) -> int:
    """Return how many pictures of a class halves and folds take."""
    return 2 * config.folds if config.penalties else 2
