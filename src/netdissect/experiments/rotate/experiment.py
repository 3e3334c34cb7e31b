"""Rotate a layer, to test whether single units are special or any directions would do.

    with_rotations(network, layer, seeds, alphas) + other bases -> one dissection -> table of counts -> conclude

A rotation mixes units and keeps everything that the layer as a whole represents. If single units are arbitrary
directions, a rotation does not change the number of detectors.

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 3.2.
"""

from collections.abc import Mapping
from itertools import pairwise
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
from netdissect.errors import ConfigError
from netdissect.experiments.counts import (
    OVER_IMAGES,
    TOTAL,
    count_rows,
    decide_over_images,
    difference_over_images,
    has_null,
    largest_unique,
    mean_text,
    measured_text,
    null_note,
    over_images_table,
    read_over_images,
    with_excess,
)
from netdissect.experiments.effect_sizes import decide, mean_interval
from netdissect.experiments.inputs import BATCH_SIZE, DATA, Data, NetworkInputs
from netdissect.experiments.outcome import NO_TABLES, Conclusion, ExperimentResult, concluded, join_sentences
from netdissect.experiments.registry import Experiment
from netdissect.experiments.reproduce.schedule import ReproduceJob, ScheduledExperiment
from netdissect.models import Network, resolve_layers
from netdissect.models.dictionaries.basis_spec import NEURONS, BasisSpec, parse_specs
from netdissect.models.surgery.rotations import rotated_name, with_rotations
from netdissect.result import Result, difference_sentence
from netdissect.training.workspace import Workspace

ORIGINAL = "original"
ROTATION = "rotation"
QUESTION = "Do single units mean more than other directions of the same representation?"
PAPER = (
    "Unique detectors of AlexNet's conv5 fall monotonically as the units are rotated further, by 80 % at a whole "
    "random rotation: interpretability is not rotation-invariant."
)


class RotateConfig(Config):
    """Which bases of one layer are dissected."""

    dissect: Annotated[DissectConfig, Option(panel="Dissection")] = Field(description="The dissection, of one layer.")
    rotations: int = Field(5, ge=0, description="Random rotations, of seeds 0, 1, ...")
    steps: int = Field(5, ge=1, description="Steps from alpha 0, the units, to 1, the whole rotation.")
    rule: Rule = Field("per-category", description="Published rule by which the figure and the conclusion count.")

    @property
    def alphas(self) -> tuple[float, ...]:
        """Fractions of a rotation above 0."""
        return tuple(step / self.steps for step in range(1, self.steps + 1))

    @property
    def seeds(self) -> range:
        """Of the rotations."""
        return range(self.rotations)

    @property
    def others(self) -> tuple[BasisSpec, ...]:
        """Further bases of the layer, those of the dissection."""
        return tuple(spec for spec in parse_specs(self.dissect.bases) if spec.type != NEURONS)


class RotateInputs(NetworkInputs):
    """Inputs of the command."""

    data: Data = Field(description=DATA)
    config: RotateConfig


def rotate(
    network: Network,
    concepts: ConceptData | str | Path,
    config: RotateConfig,
    *,
    out: str | Path,
    progress: Progress | None = None,
) -> ExperimentResult:
    """Dissect one layer in rotated and other bases, and compare their counts with those of its own units.

    One forward pass serves all bases. Rotated activations are dense, and of every basis those that can matter
    are kept until the end of the run, about a third: the run says how many bytes before it starts, and if
    the disk lacks space it keeps none and runs the network twice.

    Parameters
    ----------
    network
        Any.
    concepts
        A data set in Broden's layout, or its folder.
    config
        The layer, and which bases.
    out
        The run is kept in ``OUT/runs/rotate``.
    progress
        Receives every stage.

    Returns
    -------
    ExperimentResult
        `table`: basis (``original``, ``rotation``, or what stands behind the ``@`` in the name of another one, such as
        ``pca``), seed and alpha (null but for rotations), layer, quantile, rule, category, units, detectors,
        unique_detectors.

        `extra_tables["over_images"]`: the change from ``original`` to ``rotation`` by the bootstrap over images; empty
        without one.

    Raises
    ------
    ConfigError
        If `config` has not exactly one layer.
    """
    data, dissect_config = sample_images(concepts, config.dissect)
    config, seconds = config.model_copy(update={"dissect": dissect_config}), dict[str, float]()
    layers = resolve_layers(network, config.dissect.layers, config.dissect.assumed)
    if len(layers) != 1:
        names = ", ".join(layer.name for layer in layers)
        raise ConfigError(f"rotate takes one layer; {names} are {len(layers)}. Name a single one.")
    layer = layers[0].name
    with timed("rotations", seconds):
        rotated = with_rotations(network, layer, config.seeds, config.alphas)
    with timed("dissect", seconds):
        result = dissect(
            rotated,
            data,
            config=config.dissect.model_copy(update={"bases": tuple(dict.fromkeys((NEURONS, *config.dissect.bases)))}),
            layers=[layer, *(name for name in rotated.bases if name not in network.bases)],
            out=Path(out) / "runs" / "rotate",
            progress=progress,
        )
    table = _table(result, layer, config)
    context = {
        "network": result.info.network.model_dump(mode="json"),
        "concepts": result.info.data.root,
        "layer": layer,
        "quantile": config.dissect.protocol.quantiles[0],
    }
    extra = {OVER_IMAGES: _over_images(result, layer, config)}
    return concluded("rotate", config, table, conclude, context=context, extra_tables=extra, seconds=seconds)


def _table(result: Result, layer: str, config: RotateConfig) -> pl.DataFrame:
    """Count each basis."""
    bases: list[tuple[str, str, int | None, float | None]] = [(layer, ORIGINAL, None, 0.0)]
    bases += [
        (rotated_name(layer, seed, alpha), ROTATION, seed, alpha) for seed in config.seeds for alpha in config.alphas
    ]
    bases += [(spec.virtual_name(layer), spec.name, None, None) for spec in config.others]
    types = pl.Schema({"basis": pl.String, "seed": pl.Int64, "alpha": pl.Float64})
    return pl.concat(
        count_rows(result, [name], basis=basis, seed=seed, alpha=alpha).cast(types)
        for name, basis, seed, alpha in bases
    )


def _over_images(result: Result, layer: str, config: RotateConfig) -> pl.DataFrame:
    """Measure the change by a whole rotation over replicates of the images."""
    pairs, quantile = (
        [(layer, rotated_name(layer, seed)) for seed in config.seeds],
        config.dissect.protocol.quantiles[0],
    )
    change = difference_over_images(result, result, pairs, quantile=quantile, rule=config.rule) if pairs else None
    return over_images_table({(ORIGINAL, ROTATION): change})


def conclude(table: pl.DataFrame, config: RotateConfig, *, extra: Mapping[str, pl.DataFrame] = NO_TABLES) -> Conclusion:
    """Conclude whether whole rotations cost unique detectors.

    Parameters
    ----------
    table
        Of `rotate`.
    config
        Of the experiment.
    extra
        Without ``over_images`` the rotations alone decide.
    """
    counts = table.filter(quantile=config.dissect.protocol.quantiles[0], rule=config.rule)
    rows = counts.filter(category=TOTAL)
    rows = with_excess(rows)
    original = rows.filter(basis=ORIGINAL).row(0, named=True)
    layer, before = original["layer"], original["unique_detectors"]
    others = rows.filter(~pl.col("basis").is_in([ORIGINAL, ROTATION]))
    listed = ", ".join(f"{row['basis']} {measured_text(row)}" for row in others.iter_rows(named=True))
    other_bases = f"Other bases: {listed}." if listed else ""
    rotated = rows.filter(basis=ROTATION, alpha=1.0)
    has = f"{layer} has {measured_text(original)} unique detectors"
    if not len(rotated) or not before:
        finding = join_sentences(f"{has}; there is nothing that rotations could cost.", other_bases)
        return Conclusion(question=QUESTION, paper=PAPER, finding=finding, outcome="inconclusive")
    change = mean_interval((rotated["unique_detectors"] - before).to_list())
    change = change.within(-before, largest_unique(counts) - before)
    beyond = mean_interval((rotated["excess"] - original["excess"]).to_list()) if has_null(rows) else None
    images = read_over_images(extra, ORIGINAL, ROTATION)
    finding = join_sentences(
        f"{has}, and {mean_text(rotated)} after a whole random rotation: a change by {change.mean / before:+.0%}, that "
        f"is {change} concepts over rotations{f'; beyond the permutation null {beyond}' if beyond else ''}.",
        f"Over the same images: {difference_sentence(images)}" if images else null_note(rows),
        _course(rows, config, before),
        other_bases,
    )
    outcome = decide(beyond or change, "fewer")
    # Both sources of randomness have to be ruled out: the draw of rotations and the draw of images.
    if images is not None and decide_over_images(images, "fewer") != outcome:
        outcome = "inconclusive"
    return Conclusion(question=QUESTION, paper=PAPER, finding=finding, outcome=outcome)


def _course(rows: pl.DataFrame, config: RotateConfig, before: int) -> str:
    """Write the mean counts at every step of the rotations."""
    each = [rows.filter(basis=ROTATION, alpha=alpha)["unique_detectors"].to_list() for alpha in config.alphas]
    means = [float(before), *(sum(values) / len(values) for values in each)]
    course = ", ".join(f"{value:.3g}" for value in means)
    falls = all(after < former for former, after in pairwise(means))
    return f"Means from alpha 0 to 1: {course}; they {'fall' if falls else 'do not fall'} at every step."


def run_synthetic(workspace: Workspace) -> ExperimentResult:
    """Rotate the last convolution of the workspace's network, with all other bases."""
    trained = workspace.train_longer()
    dissection = workspace.dissect_config(trained.train_config.layers[-1:])
    config = RotateConfig(
        dissect=dissection.model_copy(update={"bases": (NEURONS, "pca", "ica", "permutation:0")}),
        rotations=workspace.scale.rotations,
        steps=workspace.scale.steps,
    )
    out, progress = workspace.folder("rotate"), workspace.progress
    return rotate(trained.network(), workspace.data, config, out=out, progress=progress)


def requirements(job: ReproduceJob) -> ScheduledExperiment:
    """Rotate the last convolution of the first network."""
    dissection = job.config.dissect_config([job.layer])
    config = RotateConfig(dissect=dissection, rotations=job.config.rotations, steps=job.config.steps)
    rotated = with_rotations(job.first, job.layer, config.seeds, config.alphas)
    bases = (job.layer, *(name for name in rotated.bases if name not in job.first.bases))
    return ScheduledExperiment(
        (job.dissection(rotated, bases),),
        lambda: rotate(job.first, job.concepts, config, out=job.out / "rotate", progress=job.progress),
    )


def _run(inputs: RotateInputs, out: Path, progress: Progress | None) -> ExperimentResult:
    return rotate(inputs.load(), inputs.data, inputs.config, out=out, progress=progress)


ROTATE = Experiment(
    question=QUESTION,
    paper=PAPER,
    config=RotateConfig,
    inputs=RotateInputs,
    run=_run,
    conclude=conclude,
    requirements=requirements,
    run_synthetic=run_synthetic,
    extra_tables=(OVER_IMAGES,),
    defaults=BATCH_SIZE,
)
