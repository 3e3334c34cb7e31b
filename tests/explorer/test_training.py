"""A training beside its snapshots: which concepts appear at which step."""

from pathlib import Path

import polars as pl
import pytest
from starlette.testclient import TestClient

from explorer_client import HOME, Pair
from netdissect.errors import ResultError
from netdissect.experiments import Snapshot
from netdissect.experiments.result_files import save_experiment_result
from netdissect.experiments.training_dynamics.experiment import TrainingDynamicsConfig, training_dynamics
from netdissect.explorer import create_app, guarded
from netdissect.report.layer_tables import number_runs
from netdissect.report.training_views import open_training, snapshot_runs, training_view
from netdissect.result import Result


@pytest.fixture(scope="session")
def training(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a training whose snapshots, at steps 10 and 200, are the two runs."""
    snapshots = [Snapshot(200, pair.results[1]), Snapshot(10, pair.results[0])]
    result = training_dynamics(snapshots, TrainingDynamicsConfig(layer="deep_relu"))
    return save_experiment_result(result, tmp_path_factory.mktemp("training") / "dynamics")


def detected(result: Result) -> dict[str, list[int]]:
    """Return the detectors of each label at the first quantile, best first."""
    units = result.layers["deep_relu"].units.filter(pl.col("iou") >= 0.01, quantile=0.02)
    found: dict[str, list[int]] = {}
    for row in units.sort("iou", "unit", descending=[True, False]).to_dicts():
        found.setdefault(row["label"], []).append(row["unit"])
    return found


def test_a_training_shows_the_concepts_of_each_snapshot(pair: Pair, training: Path) -> None:
    view = training_view(open_training(training), "dynamics", number_runs(pair.results))
    (course,) = view.courses
    assert [step.step for step in course.steps] == [10, 200]
    before, after = (detected(result) for result in pair.results)
    for run, (step, result) in enumerate(zip(course.steps, pair.results, strict=True)):
        assert {each.concept: list(each.units) for each in step.concepts} == detected(result)
        counts = result.layers["deep_relu"].statistics["counts"]
        (own,) = counts.filter(quantile=0.02, rule="top-label", category="total").collect().to_dicts()
        assert (step.unique_detectors, step.ci_low, step.null) == (
            own["unique_detectors"], own["unique_detectors_ci_low"], own["null_unique_detectors"]
        )  # fmt: skip
        assert len(step.concepts) == step.unique_detectors
        for each in step.concepts:
            assert each.urls == tuple(f"r{run}/l1/u{unit}.html" for unit in each.units)
            assert each.since == (10 if run == 0 or each.concept in before else 200)
    assert (course.steps[0].gained, course.steps[0].lost) == ((), ())
    assert set(course.steps[1].gained) == after.keys() - before.keys()
    assert set(course.steps[1].lost) == before.keys() - after.keys()
    alone = training_view(open_training(training), "dynamics")
    assert {each.urls for step in alone.courses[0].steps for each in step.concepts} == {()}


def test_the_explorer_serves_trainings_beside_runs(pair: Pair, training: Path) -> None:
    app = create_app(pair.folders, network=pair.given, training=[training])
    with TestClient(guarded(app), base_url=HOME) as client:
        (found,) = client.get("/api/trainings").json()
    assert (found["name"], found["layer"], found["quantile"]) == ("dynamics", "deep_relu", 0.02)
    assert [step["step"] for step in found["courses"][0]["steps"]] == [10, 200]


def test_a_folder_of_something_else_is_no_training(pair: Pair, training: Path, tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="holds no result of an experiment"):
        create_app(pair.folders[0], training=tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "step-1").symlink_to(pair.folders[0])
    assert snapshot_runs([tmp_path, training]) == [tmp_path / "runs" / "step-1"]
