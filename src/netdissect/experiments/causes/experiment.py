"""Whether units of a generator that match a concept also cause it.

    samples of a generator, labeled by a segmenter -> IoU of each unit -> each unit ablated alone -> rank correlation

A unit's label is the segmenter's concept of the highest IoU. Its effect is the part of the label's area that disappears
from the generator's output where the unit is 0.

Source: Bau et al. 2019 :cite:p:`bau2019gandissect`, who ablate sets of units; the correlation over units is not theirs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import torch
from pydantic import Field

from netdissect.config import DissectConfig, Progress
from netdissect.config_fields import Config, Option
from netdissect.dissect import dissect
from netdissect.dissect.devices import choose_device, torch_device
from netdissect.dissect.run_dissection import asked_layers
from netdissect.dissect.work_dir.run_log import timed
from netdissect.errors import ConfigError
from netdissect.experiments.causes.ablated_units import ablated_units
from netdissect.experiments.causes.rank_correlation import FEWEST_UNITS, correlation_rows
from netdissect.experiments.effect_sizes import Interval, decide
from netdissect.experiments.inputs import BATCH_SIZE, NetworkInputs, caching
from netdissect.experiments.interventions.areas import AreaMeter
from netdissect.experiments.outcome import (
    NO_TABLES,
    Conclusion,
    ConclusionOutcome,
    ExperimentResult,
    concluded,
    join_sentences,
)
from netdissect.experiments.registry import Experiment
from netdissect.experiments.reproduce.schedule import ReproduceJob, ScheduledExperiment, run_folder
from netdissect.models import Generator, resolve_layers
from netdissect.result import Result
from netdissect.segmenters import Segmenter, load_segmenter
from netdissect.segmenters.sample_dataset import SampleOptions, segment_samples
from netdissect.training.generators.scene_generator import GeneratorConfig, load_generator, save_generator
from netdissect.training.generators.train_generator import train_generator
from netdissect.training.workspace import Workspace

QUESTION = "Do units of a generator that match a concept also cause it?"
PAPER = (
    "Bau et al. (2019): ablating the units that match a concept best removes it from the output. They ablate sets of "
    "units and give no correlation over single units."
)
UNITS = "units"
OPEN: ConclusionOutcome = "inconclusive"


class CausesConfig(Config):
    """On which samples units are dissected and ablated."""

    dissect: Annotated[DissectConfig, Option(panel="Dissection", without=("categories", "split", "max_images"))] = (
        Field(description="The dissection on the samples.")
    )
    samples: int = Field(1_000, ge=2, description="Samples of the generator on which its units are dissected.")
    ablated_samples: int = Field(200, ge=2, description="Samples in which each unit is ablated, the first of these.")


class CausesInputs(NetworkInputs):
    """Inputs of the command."""

    model: Annotated[Any, Option(argument=True, metavar="GENERATOR")] = Field(
        description=(
            "A generator: python:package.module:factory, whose factory returns a module and its latent sampler, or the "
            ".safetensors file of a generator of synthetic scenes."
        )
    )
    segmenter: Annotated[str, Option(metavar="SPEC")] = Field(
        description="Labels the pixels of the samples; see 'netdissect concepts segment'."
    )
    labels: Annotated[Path | None, Option(metavar="FILE")] = Field(
        None, description="Names of the segmenter's classes: one a line, or CSV with name, value, category."
    )
    words: Annotated[Path | None, Option(metavar="FILE")] = Field(
        None,
        description="Words that a text-prompted segmenter searches for; of another one, labels to keep.",
    )
    min_score: float | None = Field(
        None, ge=0, le=1, description="Pixels of a lower score are unlabeled. None: 0; text-prompted: 0.5."
    )
    config: CausesConfig


def causes(
    generator: Generator,
    segmenter: Segmenter,
    config: CausesConfig,
    *,
    out: str | Path,
    progress: Progress | None = None,
) -> ExperimentResult:
    """Dissect a generator on its samples, ablate each unit alone, and correlate IoU with effect.

    Parameters
    ----------
    generator
        Draws square images.
    segmenter
        Labels their pixels.
    config
        Layers and samples.
    out
        Samples are kept in ``OUT/samples``, the run in ``OUT/runs``.
    progress
        Receives every stage.

    Returns
    -------
    ExperimentResult
        `table`: see `correlation_rows`. `extra_tables`: `units`, see `ablated_units`.

    Raises
    ------
    LayerError
        If there are no such layers, before anything is drawn.
    """
    seconds, folder, of_run = dict[str, float](), Path(out), config.dissect
    asked_layers(generator, of_run)
    options = SampleOptions(samples=config.samples, sample_seed=of_run.sample_seed, device=of_run.device)
    with timed("samples", seconds):
        data = segment_samples(generator, segmenter, folder / "samples", options, progress=progress)
    with timed("dissect", seconds):
        run = dissect(
            generator, data, config=of_run, execution=caching(folder), out=run_folder(folder, 0, generator),
            progress=progress,
        )  # fmt: skip
    with timed("ablate", seconds):
        units = _ablated(run, generator, segmenter, config, progress)
    table = correlation_rows(units, of_run.statistics.stats_seed)
    context = {"generator": generator.name, "segmenter": segmenter.spec}
    return concluded("causes", config, table, conclude, context=context, extra_tables={UNITS: units}, seconds=seconds)


def _ablated(
    run: Result, generator: Generator, segmenter: Segmenter, config: CausesConfig, progress: Progress | None
) -> pl.DataFrame:
    """Return the units of all layers."""
    count, seed = min(config.ablated_samples, config.samples), config.dissect.sample_seed
    samples = torch.tensor([(seed, index) for index in range(count)])
    layers = resolve_layers(generator, list(run.layers), run.info.config.assumed)
    with generator.prepared(torch_device(choose_device(config.dissect.device, generator))):
        return pl.concat(
            ablated_units(run, layer.name, AreaMeter(generator, layer, segmenter, samples), progress)
            for layer in layers
        )


def conclude(
    table: pl.DataFrame,
    config: CausesConfig,  # noqa: ARG001 - all experiments conclude alike
    *,
    extra: Mapping[str, pl.DataFrame] = NO_TABLES,  # noqa: ARG001 - the table decides alone
) -> Conclusion:
    """Conclude whether units of higher IoU remove more of their label, over all layers.

    Parameters
    ----------
    table
        Of `causes`.
    config
        Of the experiment.
    extra
        Not used.
    """
    total, *layers = table.iter_rows(named=True)
    interval, outcome = _interval(total), OPEN
    if interval is None:
        texts = [f"There is no correlation: {_undefined(total)}."]
    else:
        by_layer = "; ".join(f"{row['layer']} {_interval(row) or _undefined(row)}" for row in layers)
        texts = [
            f"Spearman correlation of IoU with the part of the label's area that disappears: {interval}, the mean over "
            f"layers: {by_layer}."
        ]
        outcome = decide(interval, "more")
    texts.append(
        f"Units that match a concept: {total['matching']}; of these cause it: {total['causing']} (the interval of what "
        "their ablation removes excludes 0)."
    )
    return Conclusion(question=QUESTION, paper=PAPER, finding=join_sentences(*texts), outcome=outcome)


def _interval(row: Mapping[str, Any]) -> Interval | None:
    if row["correlation"] is None:
        return None
    return Interval(row["correlation"], row["correlation_low"], row["correlation_high"], row["units"])


def _undefined(row: Mapping[str, Any]) -> str:
    if row["units"] < FEWEST_UNITS:
        return f"too few units overlap with a concept that the samples show ({row['units']})"
    return "no unit removes more of its label than another, or all have one IoU"


def run_synthetic(workspace: Workspace) -> ExperimentResult:
    """Ask it of a generator of synthetic scenes, in which planted units cause their concepts and a decoy does not."""
    out, scale = workspace.folder("causes"), workspace.scale
    path, training, default = out / "scenes.safetensors", scale.train_config, GeneratorConfig()
    if not path.exists():
        smaller = GeneratorConfig(
            num_images=min(training.num_images, default.num_images), steps=min(training.steps, default.steps)
        )
        save_generator(train_generator(smaller, progress=workspace.progress), path)
    # After a short training free units of layer2 change too little for the layout check.
    dissection = workspace.dissect_config(("layer1", "layer2"), replicates=0).model_copy(update={"force": True})
    config = CausesConfig(dissect=dissection, samples=scale.images)
    segmenter = load_segmenter("python:netdissect.training:PaintSegmenter")
    return causes(load_generator(path), segmenter, config, out=out, progress=workspace.progress)


def requirements(job: ReproduceJob) -> ScheduledExperiment:  # noqa: ARG001 - all experiments are planned alike
    """Leave it out: networks that are reproduced take images."""
    return ScheduledExperiment.without("needs --segmenter and a generator: netdissect experiment causes")


def _run(inputs: CausesInputs, out: Path, progress: Progress | None) -> ExperimentResult:
    generator = inputs.load()
    if not isinstance(generator, Generator):
        raise ConfigError(
            f"{generator.name!r} takes images and draws none. Expected a generator: python:package.module:factory, "
            "whose factory returns (module, latent sampler); for a classifier see 'netdissect experiment ablate'."
        )
    segmenter = load_segmenter(inputs.segmenter, labels=inputs.labels, words=inputs.words, min_score=inputs.min_score)
    return causes(generator, segmenter, inputs.config, out=out, progress=progress)


CAUSES = Experiment(
    question=QUESTION,
    paper=PAPER,
    config=CausesConfig,
    inputs=CausesInputs,
    run=_run,
    conclude=conclude,
    requirements=requirements,
    run_synthetic=run_synthetic,
    extra_tables=(UNITS,),
    defaults=BATCH_SIZE,
)
