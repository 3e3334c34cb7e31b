"""Attribution to classes: contributions of units to the score of a class, and to the decision on one image.

If a layer is pooled into a linear classifier, the score of a class is its bias plus one term for each unit, weight
times pooled activation: the contribution of the unit. The attribution is exact.

Source: Zhou et al. 2018 :cite:p:`zhou2018interpreting`, on explaining decisions by units.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field

from netdissect.config import OneOrMore, Progress, Protocol, one_or_more
from netdissect.config_fields import Config, Option
from netdissect.counted import counted
from netdissect.dissect.devices import choose_device, torch_device
from netdissect.dissect.work_dir.fingerprint import layer_info
from netdissect.dissect.work_dir.run_log import timed
from netdissect.errors import ConfigError, NetworkError
from netdissect.experiments.attribution.contributions import (
    class_rows,
    contributions,
    image_rows,
    image_table,
    map_table,
)
from netdissect.experiments.effect_sizes import decide, mean_interval
from netdissect.experiments.inputs import DissectedClassifierInputs
from netdissect.experiments.outcome import NO_TABLES, Conclusion, ExperimentResult, concluded
from netdissect.experiments.registry import Experiment
from netdissect.experiments.reproduce.schedule import Cost, ReproduceJob, ScheduledExperiment
from netdissect.models import Network
from netdissect.models.surgery.linear_head import LinearHead, find_head
from netdissect.result import Result
from netdissect.scoring import passes
from netdissect.synthetic import SCENE_NAMES
from netdissect.training.class_names import class_names
from netdissect.training.classification_data import image_files
from netdissect.training.workspace import Workspace

QUESTION = "Which units contribute to a decision, and are they units that detect a concept?"
PAPER = (
    "Labels and masks of the units that contribute most to a prediction can explain it; this is shown on examples, "
    "without a count."
)


class AttributionConfig(Config):
    """How many units and images are listed."""

    layer: str | None = Field(
        None, description="Layer that is pooled. None: the last of the dissection, or the last convolution."
    )
    top: int = Field(5, ge=1, description="Strongest units that are listed.")
    shown: int = Field(6, ge=1, description="Images that are explained one by one, spread over all.")
    classes: Annotated[tuple[str, ...] | None, OneOrMore, Option(hidden=True)] = Field(
        None, description="Names of the outputs, in order. None: their indices."
    )
    batch_size: int = Field(64, gt=0, description="Images in a forward pass.")
    device: str = Field("auto", description="Torch device of the forward pass; auto: an accelerator if there is one.")


class AttributionInputs(DissectedClassifierInputs):
    """Inputs of the command."""

    images: Annotated[tuple[Path, ...], OneOrMore, Option(argument=True, metavar="IMAGES...")] = Field(
        min_length=1, description="Files, or folders at any depth."
    )
    config: AttributionConfig = Field(default_factory=AttributionConfig)


def attribution(
    network: Network,
    images: Sequence[Path],
    config: AttributionConfig | None = None,
    *,
    result: Result | None = None,
    progress: Progress | None = None,
) -> ExperimentResult:
    """Split decisions into the contributions of units.

    Parameters
    ----------
    network
        A classifier that ends in a linear layer on a pooled layer; see
        `netdissect.models.surgery.linear_head.find_head`.
    images
        Files; they need no labels.
    config
        None: the strongest five units of six images and of every predicted class.
    result
        A dissection that holds the layer: it adds labels and thresholds, and an outcome.
    progress
        Receives images.

    Returns
    -------
    ExperimentResult
        `table`: level (class: mean over the images that are classified as it; image), image, class, images, score, rank
        (0 is strongest), unit, contribution, share (of all positive contributions), and with a dissection label,
        category, iou, detector.

        `extra_tables["images"]`: image, class, score, share (of the strongest units), units_for_half (how many units
        make half of the positive contributions), detector_share (share of detectors among the strongest).

        `extra_tables["maps"]`, for figures: image, rank, unit, threshold, y, x, activation.

        `extra_tables["units"]`, with a dissection: unit, label, category, iou, threshold, detector.

    Raises
    ------
    NetworkError
        If the network has another structure.
    ConfigError
        If there is no image, or names are given for another number of classes.
    """
    config = config or AttributionConfig()
    config = config.model_copy(update={"device": choose_device(config.device, network)})
    seconds: dict[str, float] = {}
    head = find_head(network, config.layer or (list(result.layers)[-1] if result else None))
    images = one_or_more(images)
    _check(head, images, config)
    with timed("images", seconds), network.prepared(torch_device(config.device)):
        values = contributions(network, head, images, config, progress)
    root = Path(os.path.commonpath([path.resolve().parent for path in images]))
    names = [path.resolve().relative_to(root).as_posix() for path in images]
    labels = _labels(result, head.layer.name)
    rows = [*class_rows(values, config), *image_rows(values, names, config)]
    table = pl.DataFrame(rows, infer_schema_length=None)
    table = (
        table if labels is None else table.join(labels.drop("threshold"), on="unit", how="left", maintain_order="left")
    )
    context = {
        "network": network.name,
        "images": len(images),
        "root": str(root),
        "layer": layer_info(head.layer).model_dump(mode="json"),
        "size": list(network.preprocessing.size),
        "protocol": (Protocol() if result is None else result.info.config.protocol).model_dump(mode="json"),
    }
    extra = {
        "images": image_table(values, names, config, labels),
        "maps": map_table(values, names, config, labels),
    } | ({} if labels is None else {"units": labels})
    return concluded("attribution", config, table, conclude, context=context, extra_tables=extra, seconds=seconds)


def conclude(
    table: pl.DataFrame, config: AttributionConfig, *, extra: Mapping[str, pl.DataFrame] = NO_TABLES
) -> Conclusion:
    """Compare the share of detectors among the strongest units with that among all units.

    Parameters
    ----------
    table
        Of `attribution`; it holds labels if there is a dissection.
    config
        How many units are the strongest.
    extra
        ``images``, and with a dissection ``units``.

    Returns
    -------
    Conclusion
        Agrees if the interval of the difference, over classes, lies above 0.
    """
    each = extra["images"]
    share, half = float(np.median(each["share"])), float(np.median(each["units_for_half"]))
    finding = (
        f"On {counted(len(each), 'images')} the {config.top} strongest units make {share:.0%} of "
        f"the positive contributions to the predicted class, and {half:.0f} units make half of it (medians)."
    )
    if "label" not in table.columns:
        finding += " Without a dissection nothing says what these units detect."
        return Conclusion(question=QUESTION, paper=PAPER, finding=finding, outcome="not compared")
    # Images of one class share their units: classes, not images, are independent.
    classes = each.group_by("class", maintain_order=True).agg(pl.col("detector_share").mean())["detector_share"]
    everywhere = float(extra["units"]["detector"].to_numpy().mean())
    interval = mean_interval((classes - everywhere).to_list()).within(-everywhere, 1 - everywhere)
    finding += (
        f" Of these strongest units {classes.to_numpy().mean():.0%} are detectors, of all units {everywhere:.0%}: a "
        f"difference of {interval}, over the predicted classes."
    )
    return Conclusion(question=QUESTION, paper=PAPER, finding=finding, outcome=decide(interval, "more"))


def _check(head: LinearHead, images: Sequence[Path], config: AttributionConfig) -> None:
    if not images:
        raise ConfigError("There is no image to explain. Expected at least one image file.")
    if config.classes is not None and len(config.classes) != len(head.weight):
        raise ConfigError(
            f"{len(config.classes)} names are given for {len(head.weight)} classes. Expected a name for each output of "
            f"the linear layer {head.name!r}, in order."
        )


def _labels(result: Result | None, layer: str) -> pl.DataFrame | None:
    if result is None:
        return None
    units = result.layer(layer).units.filter(quantile=result.info.config.protocol.quantiles[0])
    detects = passes(pl.col("iou").fill_null(0.0), "top-label", result.info.min_iou(layer)).alias("detector")
    return units.select("unit", "label", "category", "iou", "threshold", detects).with_columns(
        pl.col("unit").cast(pl.Int64)
    )


def run_synthetic(workspace: Workspace) -> ExperimentResult:
    """Explain the decisions of the workspace's network on the dissected images."""
    trained = workspace.trained()
    paths = [workspace.data.image_path(index) for index in range(len(workspace.data))]
    config = AttributionConfig(layer=trained.train_config.layers[-1], classes=SCENE_NAMES)
    result = workspace.dissected(trained)
    return attribution(trained.network(), paths, config, result=result, progress=workspace.progress)


def requirements(job: ReproduceJob) -> ScheduledExperiment:
    """Explain the decisions of the first network, whose dissection is that of compare."""
    if job.config.class_images is None:
        return ScheduledExperiment.without(
            "needs --class-images FOLDER with a folder for each class of the first network"
        )
    try:
        find_head(job.first, job.layer)
    except NetworkError as error:
        return ScheduledExperiment.without(str(error))
    files, names = image_files(job.config.class_images), class_names(job.first, job.config.classes)
    config = AttributionConfig(layer=job.layer, classes=names, batch_size=job.config.batch_size)
    return ScheduledExperiment(
        (Cost(f"decisions on {len(files):,} images", 0, len(files) * job.forward_seconds(job.first)),),
        lambda: attribution(job.first, files, config, result=job.dissected(0), progress=job.progress),
    )


def _run(inputs: AttributionInputs, _out: Path, progress: Progress | None) -> ExperimentResult:
    network = inputs.load()
    config = inputs.config.model_copy(update={"classes": inputs.names(network)})
    files = [file for path in inputs.images for file in image_files(path)]
    return attribution(network, files, config, result=inputs.result(), progress=progress)


ATTRIBUTION = Experiment(
    question=QUESTION,
    paper=PAPER,
    config=AttributionConfig,
    inputs=AttributionInputs,
    run=_run,
    conclude=conclude,
    requirements=requirements,
    run_synthetic=run_synthetic,
    extra_tables=("images", "maps", "units"),
    defaults={"config": {"batch_size": 32}},
)
