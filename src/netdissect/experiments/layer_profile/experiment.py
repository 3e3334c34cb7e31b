"""Detectors by category over the depth of one network.

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 3.3: color and texture at low layers, objects and
parts at higher ones.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import polars as pl
from pydantic import Field

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Progress, Rule
from netdissect.config_fields import Config, Option
from netdissect.dissect import dissect
from netdissect.dissect.image_sample import sample_images
from netdissect.dissect.work_dir.run_log import timed
from netdissect.experiments.counts import TOTAL, count_rows, measured_text, null_note
from netdissect.experiments.effect_sizes import Interval, decide, difference_of_means
from netdissect.experiments.inputs import (
    CONVOLUTIONS,
    DATA,
    Data,
    NetworkInputs,
    convolutions,
    named_layers,
    with_layers,
)
from netdissect.experiments.outcome import NO_TABLES, Conclusion, ExperimentResult, concluded, join_sentences
from netdissect.experiments.registry import Experiment
from netdissect.experiments.reproduce.schedule import ReproduceJob, ScheduledExperiment
from netdissect.models import Network
from netdissect.training.workspace import Workspace

LOW = ("color", "texture")
HIGH = ("object", "part")
QUESTION = "Do the concepts that units detect change over the depth of the network?"
PAPER = "Color and texture concepts dominate at the lower layers, object and part concepts at the higher ones."


class LayerProfileConfig(Config):
    """What is measured over the layers of one network."""

    dissect: Annotated[DissectConfig, Option(panel="Dissection")] = Field(
        description="The dissection; the order in which its layers run is the depth."
    )
    rule: Rule = Field("per-category", description="Published rule by which the figure and the conclusion count.")


class LayerProfileInputs(NetworkInputs):
    """Inputs of the command."""

    data: Data = Field(description=DATA)
    config: LayerProfileConfig


def layer_profile(
    network: Network,
    concepts: ConceptData | str | Path,
    config: LayerProfileConfig,
    *,
    out: str | Path,
    progress: Progress | None = None,
) -> ExperimentResult:
    """Dissect the layers of a network and conclude how their concepts change with depth.

    Parameters
    ----------
    network
        Any.
    concepts
        A data set in Broden's layout, or its folder.
    config
        Layers and protocol; the layer name ``convolutions`` stands for all convolutions.
    out
        The run is kept in ``OUT/runs/layer-profile``.
    progress
        Receives every stage.

    Returns
    -------
    ExperimentResult
        `table`: layer, quantile, rule, category, units, detectors, unique_detectors.
    """
    data, dissect_config = sample_images(concepts, named_layers(network, config.dissect))
    config, seconds = config.model_copy(update={"dissect": dissect_config}), dict[str, float]()
    with timed("dissect", seconds):
        result = dissect(
            network, data, config=dissect_config, out=Path(out) / "runs" / "layer-profile", progress=progress
        )
    context = {
        "network": result.info.network.model_dump(mode="json"),
        "concepts": result.info.data.root,
        "quantile": config.dissect.protocol.quantiles[0],
    }
    return concluded("layer-profile", config, count_rows(result), conclude, context=context, seconds=seconds)


def conclude(
    table: pl.DataFrame,
    config: LayerProfileConfig,
    *,
    extra: Mapping[str, pl.DataFrame] = NO_TABLES,  # noqa: ARG001 - all experiments conclude alike
) -> Conclusion:
    """Conclude whether detectors of objects and parts are deeper than those of colors and textures.

    Parameters
    ----------
    table
        Of `layer_profile`; its layers in the order of execution.
    config
        Of the experiment.
    extra
        Not used.
    """
    rows = table.filter(quantile=config.dissect.protocol.quantiles[0], rule=config.rule)
    low, high = _depths(rows, LOW), _depths(rows, HIGH)
    totals = ", ".join(
        f"{row['layer']} {measured_text(row)}" for row in rows.filter(category=TOTAL).iter_rows(named=True)
    )
    finding = join_sentences(f"Unique detectors: {totals}.", null_note(rows))
    if len(low) < 2 or len(high) < 2:
        few = f" Detectors of colors or textures: {len(low)}, of objects or parts: {len(high)}: too few to compare."
        return Conclusion(question=QUESTION, paper=PAPER, finding=finding + few, outcome="inconclusive")
    interval = difference_of_means(low, high)
    return Conclusion(
        question=QUESTION,
        paper=PAPER,
        finding=f"{finding} On a scale from 0 (first layer) to 1 (last), {_mean_depths(low, high, interval)}",
        outcome=decide(interval, "more"),
    )


def _depths(rows: pl.DataFrame, categories: Sequence[str]) -> list[float]:
    """Return the depth of each unit that detects one of these categories: 0 for the first layer, 1 for the last."""
    names = rows["layer"].unique(maintain_order=True)
    last = max(len(names) - 1, 1)
    depths: list[float] = []
    for index, layer in enumerate(names):
        here = rows.filter(pl.col("layer") == layer, pl.col("category").is_in(categories))
        depths += [index / last] * int(here["detectors"].sum())
    return depths


def _mean_depths(low: Sequence[float], high: Sequence[float], interval: Interval) -> str:
    return (
        f"detectors of colors and textures lie at {sum(low) / len(low):.2f} on average ({len(low)}), those of objects "
        f"and parts at {sum(high) / len(high):.2f} ({len(high)}): a difference of {interval}, bootstrap over units."
    )


def run_synthetic(workspace: Workspace) -> ExperimentResult:
    """Dissect all convolutions of the workspace's network."""
    trained = workspace.train_longer()
    config = LayerProfileConfig(dissect=workspace.dissect_config(trained.train_config.layers))
    out, progress = workspace.folder("layer-profile"), workspace.progress
    return layer_profile(trained.network(), workspace.data, config, out=out, progress=progress)


def requirements(job: ReproduceJob) -> ScheduledExperiment:
    """Dissect all convolutions of the first network."""
    names, out = convolutions(job.first), job.out / "layer-profile"
    config = LayerProfileConfig(dissect=job.config.dissect_config(names))
    return ScheduledExperiment(
        (job.dissection(job.first, names),),
        lambda: layer_profile(job.first, job.concepts, config, out=out, progress=job.progress),
    )


def _run(inputs: LayerProfileInputs, out: Path, progress: Progress | None) -> ExperimentResult:
    return layer_profile(inputs.load(), inputs.data, inputs.config, out=out, progress=progress)


LAYER_PROFILE = Experiment(
    question=QUESTION,
    paper=PAPER,
    config=LayerProfileConfig,
    inputs=LayerProfileInputs,
    run=_run,
    conclude=conclude,
    requirements=requirements,
    run_synthetic=run_synthetic,
    defaults=with_layers(CONVOLUTIONS),
)
