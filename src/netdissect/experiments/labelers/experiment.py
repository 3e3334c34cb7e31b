"""Whose labels simulate units best on images that had no part in the choice, and who recovers planted units.

A label predicts the mean activation of a unit on an image by its share of the pixels, a formula by the share of what it
covers, a linear explanation by its sum. A labeler is as good as predictions correlate with activations.

Source: Oikarinen and Weng 2024 :cite:p:`oikarinen2024linear` (simulation, linear explanations).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from pydantic import Field

from netdissect.compose_config import ComposeConfig
from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Progress
from netdissect.config_fields import Config, Option
from netdissect.dissect import dissect
from netdissect.dissect.image_sample import sample_images
from netdissect.dissect.run_dissection import asked_layers
from netdissect.dissect.work_dir.run_log import timed
from netdissect.evaluation.label_files import check_units, layer_sizes, named_files, read_label_file
from netdissect.evaluation.open_vocabulary.embedding_model import load_embedding_model
from netdissect.experiments.effect_sizes import Interval, decide
from netdissect.experiments.inputs import DATA, LAST_CONVOLUTION, Data, NetworkInputs, named_layers, with_layers
from netdissect.experiments.labelers.embedding_labels import EMBEDDING, embedding_labels
from netdissect.experiments.labelers.labeled_network import LINEAR, LabeledNetwork, Labels, unit_rows
from netdissect.experiments.labelers.labeler_tables import layer_rows, pair_rows
from netdissect.experiments.labelers.planted_units import planted_units
from netdissect.experiments.outcome import NO_TABLES, Conclusion, ExperimentResult, concluded, join_sentences
from netdissect.experiments.registry import Experiment
from netdissect.experiments.reproduce.schedule import ReproduceJob, ScheduledExperiment, run_folder
from netdissect.models import Network
from netdissect.models.dictionaries.basis_spec import NEURONS
from netdissect.result import Result
from netdissect.training.workspace import Workspace

QUESTION = "Whose labels of units predict best how active they are on images that had no part in the choice?"
PAPER = (
    "Does not ask this. Oikarinen and Weng (2024): linear explanations by several concepts predict units better than "
    "single labels, with a mean correlation of 0.38 against 0.12 on ResNet-50."
)
UNITS, PAIRS = "units", "pairs"
NO_OPTIONS = (
    "layers", "units", "quantile", "holdout", "restriction", "bootstrap", "stats_seed", "permutations", "workers",
    "ranges",
)  # fmt: skip
"""Fields of `ComposeConfig` that the dissection sets, or whose options would have the names of its own."""


class LabelersConfig(Config):
    """Which units are labeled, and how formulas are searched."""

    dissect: Annotated[DissectConfig, Option(panel="Dissection")] = Field(
        description="The dissection, which keeps moments and masks."
    )
    formulas: bool = Field(True, description="Search formulas, too: it takes most of the time.")
    compose: Annotated[ComposeConfig, Option(panel="Formulas", without=NO_OPTIONS)] = Field(
        default_factory=ComposeConfig, description="Which formulas are searched."
    )


class LabelersInputs(NetworkInputs):
    """Inputs of the command."""

    data: Data = Field(description=DATA)
    labels: Annotated[tuple[str, ...], Option("--labels", metavar="FILE")] = Field(
        (), description="Labels of another method: a CSV file with unit, label and layer, or NAME=FILE; repeats."
    )
    embeddings: Annotated[str | None, Option("--embeddings", metavar="SPEC")] = Field(
        None,
        description=(
            "What embeds images and words, for labels by their similarity: transformers:NAME_OR_DIR, "
            "python:package.module:factory, or the .safetensors file of a two-tower network."
        ),
    )
    config: LabelersConfig


def labelers(
    networks: Sequence[LabeledNetwork], config: LabelersConfig, *, out: str | Path, progress: Progress | None = None
) -> ExperimentResult:
    """Label the units of networks by all methods, and measure on held-out images how well they are predicted.

    Parameters
    ----------
    networks
        The first decides; one with planted units shows who recovers them.
    config
        Layers and formulas.
    out
        Runs and formulas are kept in ``OUT/runs``.
    progress
        Receives every stage.

    Returns
    -------
    ExperimentResult
        `table`: network, layer (null: all), labeler, units (that it labels), correlation, correlation_low,
        correlation_high, difference (of the correlation from that of the IoU label on units that both label),
        difference_low, difference_high, recovered (share of planted units), recovered_low, recovered_high.

        `extra_tables`: `units` (network, layer, unit, labeler, label, correlation, recovered) and `pairs` (network,
        labeler, other, units, difference, difference_low, difference_high).
    """
    seconds, found = dict[str, float](), list[pl.DataFrame]()
    for index, each in enumerate(networks):
        run, data = _dissected(each, config, run_folder(Path(out), index, each.network), seconds, progress)
        with timed("label", seconds):
            found.append(unit_rows(each, run, data, config.compose if config.formulas else None, progress))
    units = pl.concat(found)
    seed = config.dissect.statistics.stats_seed
    table = pl.concat([layer_rows(frame, seed) for frame in found])
    pairs = pl.concat([pair_rows(frame, seed) for frame in found])
    context = {"networks": [each.network.name for each in networks]}
    extra = {UNITS: units.drop("number"), PAIRS: pairs}
    return concluded("labelers", config, table, conclude, context=context, extra_tables=extra, seconds=seconds)


def _dissected(
    each: LabeledNetwork, config: LabelersConfig, folder: Path, seconds: dict[str, float], progress: Progress | None
) -> tuple[Result, ConceptData]:
    """Dissect a network with moments, and with masks if formulas are searched."""
    statistics = config.dissect.statistics.model_copy(update={"moments": True, "keep_masks": config.formulas})
    asked = config.dissect.model_copy(update={"statistics": statistics, "layers": each.layers or config.dissect.layers})
    data, asked = sample_images(each.data, named_layers(each.network, asked))
    with timed("dissect", seconds):
        return dissect(each.network, data, config=asked, out=folder, progress=progress), data


def conclude(
    table: pl.DataFrame,
    config: LabelersConfig,  # noqa: ARG001 - all experiments conclude alike
    *,
    extra: Mapping[str, pl.DataFrame] = NO_TABLES,
) -> Conclusion:
    """Conclude whether linear explanations predict units of the first network better than IoU labels, and who is best.

    Parameters
    ----------
    table
        Of `labelers`.
    config
        Of the experiment.
    extra
        ``pairs``: who is best needs an interval of the difference from each other labeler.
    """
    first = table["network"][0]
    totals = table.filter(pl.col("layer").is_null(), pl.col("network") == first)
    linear = totals.filter(labeler=LINEAR).row(0, named=True)
    interval = _interval(linear, "difference")
    texts = [_means(totals), _best(totals, extra.get(PAIRS)), f"Linear explanations less IoU labels: {interval}."]
    for name in table["network"].unique(maintain_order=True):
        planted = table.filter(pl.col("layer").is_null(), pl.col("network") == name, pl.col("recovered").is_not_null())
        texts += [_recovered(planted)] if len(planted) else []
    return Conclusion(question=QUESTION, paper=PAPER, finding=join_sentences(*texts), outcome=decide(interval, "more"))


def _means(totals: pl.DataFrame) -> str:
    ordered = totals.sort("correlation", descending=True, nulls_last=True).iter_rows(named=True)
    means = "; ".join(f"{row['labeler']} {_interval(row, 'correlation')}" for row in ordered)
    return f"{totals['network'][0]}, mean correlation of predicted and measured activation on held-out images: {means}."


def _best(totals: pl.DataFrame, pairs: pl.DataFrame | None) -> str:
    """Say which labeler is the best, if its difference from each other one excludes 0."""
    best = totals.sort("correlation", descending=True, nulls_last=True)["labeler"][0]
    if pairs is None:
        return ""
    open_to = []
    for row in pairs.filter(network=totals["network"][0]).iter_rows(named=True):
        sign = 1 if row["labeler"] == best else -1 if row["other"] == best else 0
        low = row["difference_low" if sign > 0 else "difference_high"]
        if sign and (low is None or sign * low <= 0):
            open_to.append(row["other"] if sign > 0 else row["labeler"])
    if not open_to:
        return f"Best is {best}, and each of its differences from the others excludes 0."
    return f"No labeler is established as the best: {best} is not told apart from {' and '.join(open_to)}."


def _recovered(planted: pl.DataFrame) -> str:
    shares = "; ".join(f"{row['labeler']} {_interval(row, 'recovered')}" for row in planted.iter_rows(named=True))
    return f"{planted['network'][0]}, share of the planted units whose concepts are recovered: {shares}."


def _interval(row: Mapping[str, Any], column: str) -> Interval:
    """Return a mean with its interval, which has no ends where too few units have a label."""
    middle, low, high = (row[name] for name in (column, f"{column}_low", f"{column}_high"))
    return Interval(
        float("nan") if middle is None else middle,
        -float("inf") if low is None else low,
        float("inf") if high is None else high,
        row["units"],
    )


def run_synthetic(workspace: Workspace) -> ExperimentResult:
    """Label the last convolutions of the workspace's network, by its two-tower network, too, and planted units."""
    trained, out = workspace.train_longer(), workspace.folder("labelers")
    layers = trained.train_config.layers[-2:]

    def words(run: Result, data: ConceptData) -> Labels:
        return {EMBEDDING: embedding_labels(run, data, workspace.two_tower(), workspace.progress)}

    networks = [
        LabeledNetwork(trained.network("trained"), workspace.data, layers, other_labels=words),
        planted_units(out / "planted", workspace.scale.images),
    ]
    config = LabelersConfig(dissect=workspace.dissect_config(layers, replicates=0))
    return labelers(networks, config, out=out, progress=workspace.progress)


def requirements(job: ReproduceJob) -> ScheduledExperiment:
    """Label the last convolution of the first network."""
    config, out = LabelersConfig(dissect=job.config.dissect_config([job.layer])), job.out / "labelers"
    return ScheduledExperiment(
        (job.dissection(job.first, [job.layer]),),
        lambda: labelers([LabeledNetwork(job.first, job.concepts)], config, out=out, progress=job.progress),
    )


def _run(inputs: LabelersInputs, out: Path, progress: Progress | None) -> ExperimentResult:
    files = {name: read_label_file(path) for name, path in named_files(inputs.labels).items()}
    network = inputs.load()
    _check_labels(files, network, inputs.config.dissect)
    model = None if inputs.embeddings is None else load_embedding_model(inputs.embeddings)

    def other_labels(run: Result, data: ConceptData) -> Labels:
        read = {name: check_units(layer_sizes(run), name, labels, list(run.layers)) for name, labels in files.items()}
        return read if model is None else read | {EMBEDDING: embedding_labels(run, data, model, progress)}

    labeled = LabeledNetwork(network, inputs.data, other_labels=other_labels)
    return labelers([labeled], inputs.config, out=out, progress=progress)


def _check_labels(files: Labels, network: Network, config: DissectConfig) -> None:
    """Refuse labels of layers or units that there are not, before the network is dissected."""
    if config.bases != (NEURONS,):
        return  # how many units other bases have is known when they are made
    sizes = {layer.name: layer.units for layer in asked_layers(network, named_layers(network, config))}
    for name, labels in files.items():
        check_units(sizes, name, labels, list(sizes))


LABELERS = Experiment(
    question=QUESTION,
    paper=PAPER,
    config=LabelersConfig,
    inputs=LabelersInputs,
    run=_run,
    conclude=conclude,
    requirements=requirements,
    run_synthetic=run_synthetic,
    extra_tables=(UNITS, PAIRS),
    defaults=with_layers(LAST_CONVOLUTION),
)
