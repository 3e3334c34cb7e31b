"""What the page of a training shows: the concepts with detectors after each number of steps.

    open_training(folder) -> ExperimentResult      of `netdissect experiment training-dynamics`
    training_view(result, name, runs) -> TrainingView

Concepts and counts are those of the rule ``top-label``, at the layer and quantile that the experiment followed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from netdissect.config import Rule
from netdissect.errors import ResultError
from netdissect.experiments.counts import TOTAL
from netdissect.experiments.outcome import ExperimentResult
from netdissect.experiments.result_files import load_experiment_result
from netdissect.report import urls
from netdissect.report.layer_tables import NumberedRun
from netdissect.result.files import RUN_FILE

NAME = "training-dynamics"
RULE: Rule = "top-label"
Snapshots = Mapping[tuple[int, int], tuple[int, int]]
"""Run and layer that hold the units of a seed and step, by their indices."""


@dataclass(frozen=True)
class TrainedConcept:
    """A concept that has a detector after some steps.

    Attributes
    ----------
    concept, category
        Of its detectors.
    units
        Its detectors, highest IoU first.
    iou
        The highest.
    since
        The step from which on it has had a detector at every snapshot.
    urls
        Relative URL of the page of each unit, where a run that is shown holds it; empty otherwise.
    """

    concept: str
    category: str
    units: tuple[int, ...]
    iou: float
    since: int
    urls: tuple[str, ...]


@dataclass(frozen=True)
class TrainingStep:
    """A snapshot of a training.

    Attributes
    ----------
    step
        Optimizer steps or iterations before it.
    detectors, unique_detectors
        Counts.
    ci_low, ci_high
        Interval of `unique_detectors` over images; None: not measured.
    null
        Mean of `unique_detectors` under the permutation null; None: not measured.
    concepts
        By descending number of units, then IoU.
    gained, lost
        Concepts with a detector here but not at the snapshot before, and the reverse; of the first snapshot none.
    """

    step: int
    detectors: int
    unique_detectors: int
    ci_low: float | None
    ci_high: float | None
    null: float | None
    concepts: tuple[TrainedConcept, ...]
    gained: tuple[str, ...]
    lost: tuple[str, ...]


@dataclass(frozen=True)
class TrainingCourse:
    """The snapshots of one training, by step; `seed` tells several trainings apart."""

    seed: int
    steps: tuple[TrainingStep, ...]


@dataclass(frozen=True)
class TrainingView:
    """A result of the experiment.

    Attributes
    ----------
    name
        Of its folder.
    network
        Name of the network.
    layer, quantile, rule
        What is counted.
    categories
        Of the data set.
    finding, outcome
        The conclusion of the experiment.
    courses
        A training for each seed.
    """

    name: str
    network: str
    layer: str
    quantile: float
    rule: Rule
    categories: tuple[str, ...]
    finding: str
    outcome: str
    courses: tuple[TrainingCourse, ...]


def open_training(folder: str | Path) -> ExperimentResult:
    """Read the result of `netdissect experiment training-dynamics`.

    Raises
    ------
    ResultError
        If the folder holds none.
    """
    result = load_experiment_result(folder)
    if result.name != NAME:
        raise ResultError(
            f"{folder} holds a result of {result.name}. Expected one of {NAME}: the folder that 'netdissect experiment "
            f"{NAME}' wrote with --out."
        )
    return result


def snapshot_runs(folders: Sequence[Path]) -> list[Path]:
    """Return the run folders that the experiment made in its own folder: ``FOLDER/runs/step-N``."""
    return sorted(path.parent for folder in folders for path in folder.glob(f"runs/*/{RUN_FILE}"))


def training_view(result: ExperimentResult, name: str, runs: Sequence[NumberedRun] = ()) -> TrainingView:
    """Return what a page shows of the result of `training-dynamics`.

    Parameters
    ----------
    result
        Of the experiment.
    name
        Title.
    runs
        Runs that are shown with it. Those whose units have the labels and IoU of a snapshot are its run, and units are
        linked to their pages.
    """
    layer, quantile = str(result.config["layer"]), float(result.config["quantile"])
    counts = result.table.filter(layer=layer, quantile=quantile, rule=RULE)
    categories = tuple(each for each in counts["category"].unique(maintain_order=True) if each != TOTAL)
    units = result.extra_tables["units"]
    snapshots = _snapshots(units, layer, quantile, runs)
    totals = counts.filter(category=TOTAL).sort("seed", "step")
    courses = [
        TrainingCourse(int(seed), _steps(own, units.filter(seed=seed), snapshots))
        for (seed,), own in totals.group_by("seed", maintain_order=True)
    ]
    network = result.context.get("network", {})
    said = result.conclusion
    return TrainingView(
        name,
        str(network.get("name", "")),
        layer,
        quantile,
        RULE,
        categories,
        said.finding,
        said.outcome,
        tuple(courses),
    )


def _steps(counts: pl.DataFrame, units: pl.DataFrame, snapshots: Snapshots) -> tuple[TrainingStep, ...]:
    steps: list[TrainingStep] = []
    before: dict[tuple[str, str], int] = {}
    for row in counts.iter_rows(named=True):
        snapshot = snapshots.get((row["seed"], row["step"]))
        concepts = _concepts(units.filter(step=row["step"]), row["step"], before, snapshot)
        now = {(each.concept, each.category): each.since for each in concepts}
        steps.append(
            TrainingStep(
                step=row["step"],
                detectors=row["detectors"],
                unique_detectors=row["unique_detectors"],
                ci_low=row.get("unique_detectors_ci_low"),
                ci_high=row.get("unique_detectors_ci_high"),
                null=row.get("null_unique_detectors"),
                concepts=concepts,
                gained=tuple(concept for concept, category in now if (concept, category) not in before and steps),
                lost=tuple(concept for concept, category in before if (concept, category) not in now),
            )
        )
        before = now
    return tuple(steps)


def _concepts(
    units: pl.DataFrame, step: int, before: Mapping[tuple[str, str], int], snapshot: tuple[int, int] | None
) -> tuple[TrainedConcept, ...]:
    detectors = units.filter("detector").sort("iou", "unit", descending=[True, False])
    concepts = []
    for (label, category), own in detectors.group_by("label", "category", maintain_order=True):
        concept = (str(label), str(category))
        indices = tuple(own["unit"].to_list())
        pages = () if snapshot is None else tuple(urls.unit(*snapshot, unit) for unit in indices)
        concepts.append(TrainedConcept(*concept, indices, own["iou"][0], before.get(concept, step), pages))
    return tuple(sorted(concepts, key=lambda each: (-len(each.units), -each.iou, each.concept)))


def _snapshots(units: pl.DataFrame, layer: str, quantile: float, runs: Sequence[NumberedRun]) -> Snapshots:
    """Return which run holds which snapshot: the one whose units have the same labels and IoU."""
    found: dict[tuple[int, int], tuple[int, int]] = {}
    tables = [
        ((int(seed), int(step)), _labels(own))
        for (seed, step), own in units.group_by("seed", "step", maintain_order=True)
    ]
    for run in runs:
        if layer not in run.result.layers:
            continue
        own = _labels(run.result.layers[layer].units.filter(pl.col("quantile") == quantile))
        where = run.index, list(run.result.layers).index(layer)
        found |= {key: where for key, table in tables if key not in found and table.equals(own)}
    return found


def _labels(units: pl.DataFrame) -> pl.DataFrame:
    """Return unit, label and IoU in one order and type."""
    types = {"unit": pl.Int64, "label": pl.String, "iou": pl.Float64}
    return units.select(pl.col(name).cast(dtype) for name, dtype in types.items()).sort("unit")
