"""The labels of all methods for the units of one network, and how well each predicts its unit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from netdissect.compose_config import ComposeConfig
from netdissect.concepts import ConceptData
from netdissect.config import Execution, Progress
from netdissect.dissect.compose.compose import compose
from netdissect.dissect.compose.label_set_pass import LabelSetPass
from netdissect.errors import ResultError
from netdissect.evaluation.concept_matching import ConceptNames
from netdissect.experiments.labelers.formula_shares import formula_labels
from netdissect.experiments.labelers.labeler_tables import IOU
from netdissect.experiments.labelers.simulations import (
    SimulatedImages,
    Simulation,
    correlation_labels,
    given_labels,
    iou_labels,
    linear_explanations,
    random_labels,
)
from netdissect.models import Network
from netdissect.result import Result
from netdissect.result.formulas.formula_result import formula_folder
from netdissect.result.queries import run_quantile
from netdissect.scoring.formulas.image_rows import ImageRows

FORMULA, CORRELATION, LINEAR, RANDOM = "formula", "correlation label", "linear explanation", "random label"
UNIT_ROWS = {
    "network": pl.String, "layer": pl.String, "unit": pl.Int64, "labeler": pl.String, "label": pl.String,
    "correlation": pl.Float64, "recovered": pl.Boolean, "number": pl.Int64,
}  # fmt: skip

Labels = Mapping[str, pl.DataFrame]
"""By method: layer, unit, label."""
Simulate = Callable[[SimulatedImages], Simulation]


def no_labels(_run: Result, _data: ConceptData) -> Labels:
    """Return the labels of no other method."""
    return {}


@dataclass(frozen=True)
class LabeledNetwork:
    """A network whose units are labeled.

    Attributes
    ----------
    network
        The network.
    data
        The images on which it is dissected.
    layers
        Names of its layers; empty: those of the configuration.
    other_labels
        Returns the labels of other methods for its run and data set.
    planted
        The concepts that activate each unit of its layer; None: nobody knows them.
    """

    network: Network
    data: ConceptData | str | Path
    layers: tuple[str, ...] = ()
    other_labels: Callable[[Result, ConceptData], Labels] = field(default=no_labels)
    planted: Sequence[frozenset[str]] | None = None


def unit_rows(
    labeled: LabeledNetwork,
    run: Result,
    data: ConceptData,
    search: ComposeConfig | None,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Label the units of a run by all methods, and correlate predictions with activations on the held-out images.

    Parameters
    ----------
    labeled
        The network.
    run
        Its dissection, with moments.
    data
        Its data set.
    search
        How formulas are searched; None: not.
    progress
        Receives the stages of that search.

    Returns
    -------
    DataFrame
        One row for each unit and labeler, the columns `UNIT_ROWS`; `number` tells the units of all layers apart.
    """
    formulas = _formulas(run, data, search, progress)
    methods = {IOU: iou_labels, **formulas, CORRELATION: correlation_labels, LINEAR: linear_explanations}
    names = ConceptNames.of(
        [concept.name for concept in data.concepts], {concept.name: concept.synonyms for concept in data.concepts}
    )
    methods |= {name: _given(labels, names) for name, labels in labeled.other_labels(run, data).items()}
    methods |= {RANDOM: random_labels}
    frames, number = list[pl.DataFrame](), 0
    for layer in run.layers:
        images = SimulatedImages.of(run, layer)
        for name, simulate in methods.items():
            simulation = simulate(images)
            units = range(len(simulation.texts))
            columns = {
                "network": labeled.network.name, "layer": layer, "unit": units, "labeler": name,
                "label": simulation.texts, "correlation": simulation.correlations(images),
                "recovered": simulation.recovers(labeled.planted), "number": [number + unit for unit in units],
            }  # fmt: skip
            frames.append(pl.DataFrame(columns, schema=UNIT_ROWS).with_columns(pl.col("correlation").fill_nan(None)))
        number += len(units)
    return pl.concat(frames)


def _formulas(
    run: Result, data: ConceptData, search: ComposeConfig | None, progress: Progress | None
) -> dict[str, Simulate]:
    """Search formulas with the run's own halves of the images."""
    if search is None:
        return {}
    statistics = run.info.config.statistics
    halves = {"holdout": statistics.holdout_share, "stats_seed": statistics.stats_seed, "bootstrap": 0}
    found = compose(run, config=search.model_copy(update=halves), data_root=data, progress=progress)
    rows = _image_rows(run, data, progress)
    return {FORMULA: lambda images: formula_labels(images, found, rows)}


def _image_rows(run: Result, data: ConceptData, progress: Progress | None) -> ImageRows:
    """Return the label sets of the images of a run, on which its formulas were searched."""
    if run.origin is None:
        raise ResultError("the run is in no folder, and its formulas are kept there. Name one with --out.")
    tables = LabelSetPass(run, data, run_quantile(run), formula_folder(run.origin.folder), Execution(), progress)
    return tables.tables(list(run.layers)).image_rows()


def _given(labels: pl.DataFrame, names: ConceptNames) -> Simulate:
    """Return what simulates units by labels of another method; those that match no concept predict nothing."""

    def simulate(images: SimulatedImages) -> Simulation:
        texts = dict(labels.filter(pl.col("layer") == images.layer).select("unit", "label").rows())
        matches = {unit: names.match(text).concept for unit, text in texts.items()}
        return given_labels(images, {unit: name for unit, name in matches.items() if name is not None}, texts)

    return simulate
