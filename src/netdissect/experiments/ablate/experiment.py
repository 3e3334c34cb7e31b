"""Ablate units and measure the loss of a classifier.

    single units -> ranking for each class -> the best n, the worst n, all but the best n, n at random

Units are ranked on one half of the images and measured on the other, so that the selection does not bias the measure.

Source: Bau et al. 2020 :cite:p:`bau2020understanding`, on the role of units in a scene classifier. Random sets of the
same size are not theirs: they measure the cost of ablating so many units, whichever they are.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from netdissect.concepts import ConceptData
from netdissect.config import Progress
from netdissect.config_fields import Config, Option
from netdissect.dissect.devices import choose_device, torch_device
from netdissect.dissect.work_dir.run_log import timed
from netdissect.errors import ConfigError
from netdissect.experiments.ablate.predictions import Classifier
from netdissect.experiments.ablate.unit_sets import (
    SET_TYPES,
    AblationRunner,
    balanced_terms,
    check_sets,
    image_table,
    measure_sets,
    rank_units,
    single_unit_effects,
    unit_sets,
    unit_table,
)
from netdissect.experiments.effect_sizes import Interval, decide, quantile_interval
from netdissect.experiments.inputs import ClassImages, Data, DissectedClassifierInputs
from netdissect.experiments.outcome import NO_TABLES, Conclusion, ConclusionOutcome, ExperimentResult, concluded
from netdissect.experiments.registry import Experiment
from netdissect.experiments.reproduce.schedule import Cost, ReproduceJob, ScheduledExperiment
from netdissect.models import Network, resolve_layers
from netdissect.models.surgery.unit_ablation import unit_ablator
from netdissect.result import Result
from netdissect.synthetic import SCENE_NAMES
from netdissect.training.class_names import class_names
from netdissect.training.classification_data import LabeledImages, balanced_halves, labeled_data, labeled_folder
from netdissect.training.workspace import Workspace

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MIN_IMAGES = 5  # images of a class below which a bootstrap over them is too narrow to decide
QUESTION = "Do the few units that matter most for a class carry its accuracy?"
PAPER = (
    "In VGG-16 on Places365, ablating the 20 of 512 units that matter most for a class brings its balanced accuracy "
    "down to 53 % on average, near chance; ablating the other 492 costs 3.6 points."
)


class AblateConfig(Config):
    """Which units are ablated, and how they are ranked."""

    layer: str = Field(description="Layer whose units are ablated, as 'netdissect layers' lists it.")
    sizes: Annotated[tuple[int, ...], Option("--units")] = Field(
        (1, 4, 20), min_length=1, description="How many units are ablated at a time; repeats."
    )
    rank: Literal["effect", "score", "iou"] = Field(
        "effect",
        description=(
            "How units are ranked for a class. effect: by the loss of balanced accuracy if the unit alone is ablated "
            "(ties: score). score: by the loss of the mean log probability of the class on its images. iou: by how "
            "well it detects a concept, whatever the class; needs a dissection."
        ),
    )
    random_sets: int = Field(10, ge=1, description="Random sets of each size.")
    seed: Annotated[int, Option("--sample-seed")] = Field(
        0, ge=0, description="Seed of the draw of images, the halves, the random sets and the bootstrap."
    )
    batch_size: int = Field(64, gt=0, description="Images in a forward pass.")
    device: str = Field("auto", description="Torch device of the forward pass; auto: an accelerator if there is one.")
    resamples: int = Field(2000, ge=100, description="Replicates of the bootstrap over images.")


class AblateInputs(DissectedClassifierInputs):
    """Inputs of the command."""

    class_images: Annotated[ClassImages | None, Option(metavar="PATH")] = Field(
        None, description="A folder of images for each class, named as the outputs."
    )
    data: Data = Field(None, description="Or a data set whose images have a class as image-level label.")
    category: str = Field("scene", description="Category of these classes in the data set.")
    max_images: int | None = Field(None, gt=0, description="Draw this many images at random. None: all.")
    config: AblateConfig

    def labeled_images(self) -> LabeledImages:
        """Read the images with their classes."""
        if self.class_images is not None and self.data is None:
            given = self.class_images
            images = labeled_folder(given) if isinstance(given, Path) else given
        elif self.data is not None and self.class_images is None:
            data = self.data if isinstance(self.data, ConceptData) else ConceptData.open(self.data)
            images = labeled_data(data, self.category)
        else:
            raise ConfigError("images with classes are needed once: name either --class-images or --concepts.")
        return images.sample(self.max_images, self.config.seed)


def ablate(
    network: Network,
    images: LabeledImages,
    config: AblateConfig,
    *,
    result: Result | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> ExperimentResult:
    """Ablate units, alone and in sets, and measure the loss of each class.

    Parameters
    ----------
    network
        A classifier.
    images
        With labels that are indices of its outputs; see `LabeledImages.relabeled`.
    config
        Layer, sizes of sets, ranking.
    result
        A dissection that holds the layer; needed to rank by IoU, and it adds labels to the table of units.
    out
        Predictions are saved in ``OUT/predictions`` and reused; None: not saved.
    progress
        Receives batches with ablated units (``single units``, ``sets``).

    Returns
    -------
    ExperimentResult
        `table`: class, kind (best, worst, others: all but the best, random), set_size (units of the ranking that define
        the set), num_ablated, replicate (of random sets), balanced_accuracy (of the class against all others, measured
        half), drop (of it), accuracy (of all classes).

        `extra_tables["units"]`: class, unit, drop (of the balanced accuracy, ranking half), score_drop (of the mean log
        probability of the class on its images), rank, and with a dissection label, category and iou.

        `extra_tables["images"]`, of the measured half: label (index of the class), predicted (by the whole network),
        best, worst, others and random (what the image adds to the mean drop by the largest sets of each kind).

    Raises
    ------
    ConfigError
        If the sets are larger than the layer, a class has too few images, the network has another number of
        outputs, or units are to be ranked by IoU without a dissection.
    NetworkError
        If the network is no classifier.
    ResultError
        If saved predictions are damaged.

    Notes
    -----
    Balanced accuracy of a class is the mean of two shares: of its images that are classified as it, and of all other
    images that are not; 0.5 for a random guess. The interval is a stratified bootstrap over the images of each class.
    """
    config = config.model_copy(update={"device": choose_device(config.device, network)})
    seconds: dict[str, float] = {}
    layer = resolve_layers(network, [config.layer])[0]
    ious = _ious(result, config, layer.units)
    check_sets(config, layer.units, images)
    folder = None if out is None else Path(out) / "predictions"
    ranked, measured = (images.subset(indices) for indices in balanced_halves(images.labels, config.seed))
    with network.prepared(torch_device(config.device)):
        classifier = Classifier(network, layer.name, unit_ablator(network, layer.name))
        runner = AblationRunner(classifier, config.batch_size, folder, progress)
        with timed("single units", seconds):
            ranking = runner.half("single units", ranked, [(), *((unit,) for unit in range(layer.units))])
            effects = single_unit_effects(ranking, layer.units)
        order = rank_units(effects, config.rank, ious)
        with timed("sets", seconds):
            sets = unit_sets(ranking.present, order, config)
            measuring = runner.half("sets", measured, [(), *(one.units for one in sets)])
    table = measure_sets(measuring, sets)
    extra = {
        "units": unit_table(measuring, effects, order, _labels(result, config)),
        "images": image_table(measuring, sets, config),
    }
    context = {
        "network": network.name,
        "images": len(images),
        "mode": classifier.ablator.mode,
        "units": layer.units,
    }
    return concluded("ablate", config, table, conclude, context=context, extra_tables=extra, seconds=seconds)


def conclude(table: pl.DataFrame, config: AblateConfig, *, extra: Mapping[str, pl.DataFrame] = NO_TABLES) -> Conclusion:
    """Compare what the best units of a class cost it with what as many units at random cost, for the largest sets.

    Parameters
    ----------
    table
        Of `ablate`.
    config
        Sizes; seed and number of bootstrap resamples.
    extra
        ``images``: the predicted class of each image of the measured half, and what it adds to each mean drop.

    Returns
    -------
    Conclusion
        Agrees if the interval of the difference lies above 0; few images of a class decide nothing.
    """
    images, size = extra["images"], max(config.sizes)
    labels, predicted = images["label"].to_numpy(), images["predicted"].to_numpy()
    best, worst, others, random = (_mean_drop(images[name].to_numpy(), labels, config) for name in SET_TYPES)
    more = _interval(best[0] - random[0], best[1] - random[1])
    whole = 0.5 + float(np.mean([balanced_terms(predicted, labels, label).sum() for label in np.unique(labels)]))
    finding = (
        f"Mean balanced accuracy of {table['class'].n_unique()} classes is {whole:.3f}. Ablating the {size} units "
        f"that matter most for a class costs {_text(_interval(*best))}, {size} at random "
        f"{_text(_interval(*random))}, the {size} that matter least {_text(_interval(*worst))}, all but the best "
        f"{size} {_text(_interval(*others))}. Best less random: {_text(more)}; intervals by bootstrap over "
        f"{len(images):,} images."
    )
    enough = np.unique(labels, return_counts=True)[1].min() >= MIN_IMAGES
    outcome: ConclusionOutcome = decide(more, "more") if enough else "inconclusive"
    return Conclusion(question=QUESTION, paper=PAPER, finding=finding, outcome=outcome)


def _labels(result: Result | None, config: AblateConfig) -> pl.DataFrame | None:
    """Return unit, label, category and IoU at the run's first quantile."""
    if result is None:
        return None
    units = result.layer(config.layer).units
    return units.filter(quantile=result.info.config.protocol.quantiles[0]).select("unit", "label", "category", "iou")


def _ious(result: Result | None, config: AblateConfig, units: int) -> Floats | None:
    if config.rank != "iou":
        return None
    labels = _labels(result, config)
    if labels is None or len(labels) != units:
        reason = "there is none" if labels is None else f"its layer has {len(labels)} units, the network's {units}"
        raise ConfigError(
            f"units of {config.layer!r} are to be ranked by IoU, which needs a dissection of that layer: {reason}. "
            "Give the run of this very network, or rank by 'effect'."
        )
    return labels.sort("unit")["iou"].fill_null(0.0).to_numpy()


def _mean_drop(terms: Floats, labels: Ints, config: AblateConfig) -> tuple[float, Floats]:
    """Return a mean drop, and its bootstrap over the images of each class, (R,)."""
    # The same seed each time: differences of two means are then over the same images.
    rng, sums = np.random.default_rng(config.seed), np.zeros(config.resamples)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        weights = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), size=config.resamples)
        sums += weights @ terms[own]
    return float(terms.sum()), sums


def _interval(value: float, resampled: Floats) -> Interval:
    return quantile_interval(resampled.tolist())._replace(mean=value)


def _text(interval: Interval) -> str:
    return f"{interval.mean:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _sizes(units: int) -> tuple[int, ...]:
    """Return the default sizes that are at most half of the units."""
    return tuple(size for size in AblateConfig.model_fields["sizes"].default if size <= units // 2) or (1,)


def run_synthetic(workspace: Workspace) -> ExperimentResult:
    """Ablate units of the workspace's scene network."""
    trained = workspace.trained()
    images = labeled_data(workspace.data).frequent(2).relabeled(SCENE_NAMES)
    config = AblateConfig(layer=trained.train_config.layers[-1], sizes=_sizes(trained.train_config.units[-1]))
    result, out = workspace.dissected(trained), workspace.folder("ablate")
    return ablate(trained.network(), images, config, result=result, out=out, progress=workspace.progress)


def requirements(job: ReproduceJob) -> ScheduledExperiment:
    """Ablate units of the first network, whose dissection is that of compare."""
    network = job.first
    if job.config.class_images is None:
        return ScheduledExperiment.without(
            "needs --class-images FOLDER with a folder for each class of the first network"
        )
    names = class_names(network, job.config.classes)
    if names is None:
        return ScheduledExperiment.without(
            f"needs --classes FILE, the names of the outputs of {network.name}, one a line"
        )
    images = labeled_folder(job.config.class_images).relabeled(names)
    units = resolve_layers(network, [job.layer])[0].units
    config = AblateConfig(layer=job.layer, sizes=_sizes(units), batch_size=job.config.batch_size)
    check_sets(config, units, images)
    mode = unit_ablator(network, job.layer).mode
    sets = len(config.sizes) * (3 * len(set(images.labels.tolist())) + config.random_sets)
    times = 1 if mode == "linear" else (units + sets) / 2
    part = {
        "linear": "the network runs once",
        "partial": "what follows the layer runs at most as long as a whole pass for each",
        "full": "the whole network runs for each",
    }[mode]
    words = f"{units} units and {sets} sets of them ablated, on half of {len(images):,} images each: {part}"
    return ScheduledExperiment(
        (Cost(words, 0, times * len(images) * job.forward_seconds(network)),),
        lambda: ablate(network, images, config, result=job.dissected(0), out=job.out / "ablate", progress=job.progress),
    )


def _run(inputs: AblateInputs, out: Path, progress: Progress | None) -> ExperimentResult:
    network = inputs.load()
    names = inputs.names(network)
    if names is None:
        raise ConfigError(
            f"nothing is known of the classes of {network.name}. Expected --classes FILE, the name of one output on "
            "each line, in order."
        )
    images = inputs.labeled_images().relabeled(names)
    return ablate(network, images, inputs.config, result=inputs.result(), out=out, progress=progress)


ABLATE = Experiment(
    question=QUESTION,
    paper=PAPER,
    config=AblateConfig,
    inputs=AblateInputs,
    run=_run,
    conclude=conclude,
    requirements=requirements,
    run_synthetic=run_synthetic,
    extra_tables=("units", "images"),
)
