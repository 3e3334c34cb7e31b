"""What the page of a training shows: the concepts with detectors after each number of steps.

    open_training(folder) -> ExperimentResult      of `netdissect experiment training-dynamics`
    training_view(result, name, runs) -> TrainingView
    open_trainings(folders, runs)                  both, for several

Concepts and counts are those of the rule ``top-label``, at the layer and quantile that the experiment followed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from pydantic import Field

from netdissect.config import Rule, one_or_more
from netdissect.errors import ResultError
from netdissect.experiments.counts import TOTAL
from netdissect.experiments.outcome import ExperimentResult
from netdissect.experiments.result_files import load_experiment_result
from netdissect.report import urls
from netdissect.report.layer_tables import LayerTables, Level, NumberedRun
from netdissect.report.views.masked_images import MaskedImage
from netdissect.report.views.unit_views import unit_view
from netdissect.result.files import RUN_FILE
from netdissect.result.queries import run_min_iou

NAME = "training-dynamics"
RULE: Rule = "top-label"
Trainings = Sequence[str | Path | ExperimentResult] | str | Path | ExperimentResult
Snapshots = Mapping[tuple[int, int], LayerTables]
"""The layer of a run that holds the units of a seed and step."""


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
        Relative URL of the page of each unit, where a run that is shown holds it; None: it has no page.
    image
        The top image of the first unit, with its mask, not in JSON; None: no run that is shown holds it.
    """

    concept: str
    category: str
    units: tuple[int, ...]
    iou: float
    since: int
    urls: tuple[str | None, ...]
    image: Annotated[MaskedImage | None, Field(exclude=True)]


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

    @property
    def values(self) -> Mapping[str, Sequence[Any]]:
        """Columns of the counts of its steps, for the copy menu."""
        names = ("step", "detectors", "unique_detectors", "ci_low", "ci_high", "null")
        return {name: [getattr(step, name) for step in self.steps] for name in names}


@dataclass(frozen=True)
class TrainingView:
    """A result of the experiment.

    Attributes
    ----------
    name
        Of its folder.
    layer, quantile, rule
        What is counted.
    categories
        Of the data set.
    finding, finding_rule, outcome
        The conclusion of the experiment, and the rule by which it counts.
    courses
        A training for each seed.
    """

    name: str
    layer: str
    quantile: float
    rule: Rule
    categories: tuple[str, ...]
    finding: str
    finding_rule: str
    outcome: str
    courses: tuple[TrainingCourse, ...]


def open_trainings(training: Trainings, runs: Sequence[NumberedRun] = ()) -> tuple[TrainingView, ...]:
    """Read results of the experiment, and find their snapshots among the runs.

    Raises
    ------
    ResultError
        If a folder holds no such result.
    """
    given: Any = training
    views = []
    for each in one_or_more(given):
        if isinstance(each, ExperimentResult):
            views.append(training_view(each, each.name, runs))
        else:
            views.append(training_view(open_training(each), Path(each).resolve().name, runs))
    return tuple(views)


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
    said = result.conclusion
    return TrainingView(
        name,
        layer,
        quantile,
        RULE,
        categories,
        said.finding,
        str(result.config["rule"]),
        said.outcome,
        tuple(courses),
    )


def training_images(
    trainings: Sequence[TrainingView], runs: Sequence[NumberedRun]
) -> Iterator[tuple[NumberedRun, MaskedImage]]:
    """Yield the images of a page of trainings, each with a run on its data set."""
    by_data = {urls.image(run.data_index, 0).rpartition("/")[0]: run for run in runs}
    for concept in (
        each for view in trainings for course in view.courses for step in course.steps for each in step.concepts
    ):
        if concept.image is not None:
            yield by_data[concept.image.url.rpartition("/")[0]], concept.image


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
    units: pl.DataFrame, step: int, before: Mapping[tuple[str, str], int], snapshot: LayerTables | None
) -> tuple[TrainedConcept, ...]:
    detectors = units.filter("detector").sort("iou", "unit", descending=[True, False])
    concepts = []
    for (label, category), own in detectors.group_by("label", "category", maintain_order=True):
        concept = (str(label), str(category))
        indices = tuple(own["unit"].to_list())
        pages, image = ((), None) if snapshot is None else _pages(snapshot, indices)
        concepts.append(TrainedConcept(*concept, indices, own["iou"][0], before.get(concept, step), pages, image))
    return tuple(sorted(concepts, key=lambda each: (-len(each.units), -each.iou, each.concept)))


def _pages(tables: LayerTables, units: Sequence[int]) -> tuple[tuple[str | None, ...], MaskedImage | None]:
    """Return the URL of the page of each unit, and the top image of the first one."""
    pages = tuple(
        urls.unit(tables.run.index, tables.index, unit) if unit in tables.units_with_page else None for unit in units
    )
    images = unit_view(tables, units[0], 1).top_images
    return pages, images[0] if images else None


def _snapshots(units: pl.DataFrame, layer: str, quantile: float, runs: Sequence[NumberedRun]) -> Snapshots:
    """Return which run holds which snapshot: the one whose units have the same labels and IoU."""
    found: dict[tuple[int, int], LayerTables] = {}
    tables = {
        (int(seed), int(step)): (own.filter("detector")["unit"].to_list(), _labels(own))
        for (seed, step), own in units.group_by("seed", "step", maintain_order=True)
    }
    for run in runs:
        if layer not in run.result.layers:
            continue
        own = _labels(run.result.layers[layer].units.filter(pl.col("quantile") == quantile))
        index, level = list(run.result.layers).index(layer), Level(quantile, run_min_iou(run.result, layer))
        for key, (detectors, labels) in tables.items():
            if key not in found and labels.equals(own):
                found[key] = LayerTables(run, index, level, detectors)
    return found


def _labels(units: pl.DataFrame) -> pl.DataFrame:
    """Return unit, label and IoU in one order and type."""
    types = {"unit": pl.Int64, "label": pl.String, "iou": pl.Float64}
    return units.select(pl.col(name).cast(dtype) for name, dtype in types.items()).sort("unit")
