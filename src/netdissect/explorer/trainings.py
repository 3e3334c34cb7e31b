"""Results of the experiment `training-dynamics` that an explorer shows beside its runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from netdissect.config import one_or_more
from netdissect.experiments.outcome import ExperimentResult
from netdissect.explorer.run_registry import RunRegistry
from netdissect.report.layer_tables import number_runs
from netdissect.report.training_views import TrainingView, open_training, training_view

Trainings = Sequence[str | Path | ExperimentResult] | str | Path | ExperimentResult


def open_trainings(registry: RunRegistry, training: Trainings) -> tuple[TrainingView, ...]:
    """Read results of the experiment, and find their snapshots among the runs.

    Raises
    ------
    ResultError
        If a folder holds no such result.
    """
    given: Any = training
    runs = number_runs([run.result for run in registry], [run.name for run in registry])
    views = []
    for each in one_or_more(given):
        if isinstance(each, ExperimentResult):
            views.append(training_view(each, each.name, runs))
        else:
            views.append(training_view(open_training(each), Path(each).resolve().name, runs))
    return tuple(views)
