"""A training beside its snapshots: which concepts appear at which step."""

import re
from pathlib import Path

import polars as pl
import pytest
from starlette.testclient import TestClient

from explorer_client import HOME, Pair
from netdissect.errors import ResultError
from netdissect.explorer import create_app, guarded
from netdissect.report import report
from netdissect.report.layer_tables import number_runs
from netdissect.report.views.training_views import open_training, snapshot_runs, training_view
from netdissect.result import Result


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
            top = result.layers["deep_relu"].top.filter(unit=each.units[0], rank=0)
            assert each.image is not None
            assert each.image.image == top["image"][0]
            assert each.since == (10 if run == 0 or each.concept in before else 200)
    assert (course.steps[0].gained, course.steps[0].lost) == ((), ())
    assert set(course.steps[1].gained) == after.keys() - before.keys()
    assert set(course.steps[1].lost) == before.keys() - after.keys()
    alone = training_view(open_training(training), "dynamics")
    assert {(each.urls, each.image) for step in alone.courses[0].steps for each in step.concepts} == {((), None)}


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


def test_the_report_has_a_page_of_the_training_that_opens_from_disk(pair: Pair, training: Path, tmp_path: Path) -> None:
    index = report(list(pair.results), tmp_path / "report", training=training, progress=False)
    page = (tmp_path / "report" / "training.html").read_text()
    assert 'href="training.html"' in index.read_text()
    for step in ("After 10 steps", "After 200 steps"):
        assert step in page
    links = set(re.findall(r'(?:src|href)="((?:images|r\d)[^"#]*)"', page))
    assert any(link.startswith("images/") for link in links)
    assert all((tmp_path / "report" / link).is_file() for link in links)
    report(list(pair.results), tmp_path / "report", progress=False)
    assert not (tmp_path / "report" / "training.html").exists()
