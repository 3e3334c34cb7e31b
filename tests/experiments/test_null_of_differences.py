"""Experiments on runs of a training that wakes dead units: only units that follow the labels are a gain."""

from collections.abc import Sequence
from pathlib import Path

import pytest

import woken_units
from netdissect.experiments import Snapshot
from netdissect.experiments.compare.experiment import CompareConfig, compare
from netdissect.experiments.counts import count_rows
from netdissect.experiments.training_dynamics.experiment import training_dynamics
from netdissect.plots.style import NULL_LABEL
from netdissect.result import Result, count_difference, difference_sentence, load_result

Runs = tuple[Result, Result]


@pytest.fixture(scope="module", params=[False, True], ids=["ignored", "followed"])
def woken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[bool, Path, Runs]:
    """Return whether the units follow the labels, the folder of the runs, and the runs before and after."""
    folder = tmp_path_factory.mktemp("woken")
    return request.param, folder, woken_units.runs(folder / "data", followed=request.param, out=folder)


def test_a_training_that_wakes_units_grows_only_if_they_follow_the_labels(woken: tuple[bool, Path, Runs]) -> None:
    followed, _, (before, after) = woken
    result = training_dynamics([Snapshot(0, before), Snapshot(100, after)])
    wanted = count_difference(before, after, ("conv", "conv"), quantile=0.25, rule="per-category")
    finding = result.conclusion.finding
    assert f"From first to last, over the same images: {difference_sentence(wanted)}" in finding
    assert ("the difference exceeds its null." in finding) == followed
    assert ("the difference does not exceed its null." in finding) == (not followed)
    assert finding.count("under the permutation null)") == 2  # of each step
    assert result.conclusion.outcome == "inconclusive"  # no unit is a detector at both steps


@pytest.mark.parametrize(("expected", "outcome"), [(("after", "before"), "agrees"), (("before", "after"), "disagrees")])
def test_networks_are_in_order_only_beyond_their_null(
    woken: tuple[bool, Path, Runs], expected: Sequence[str], outcome: str, tmp_path: Path
) -> None:
    followed, folder, _ = woken
    result = compare([folder / "before", folder / "after"], CompareConfig(expected=expected), out=tmp_path)
    assert result.conclusion.outcome == (outcome if followed else "inconclusive")
    (row,) = result.extra_tables["over_images"].rows(named=True)
    assert row["permutations"] == 99
    assert (row["p_value"] < 0.05) == followed


def test_tables_of_counts_have_the_intervals_and_nulls_of_the_run(woken: tuple[bool, Path, Runs]) -> None:
    run = load_result(woken[1] / "after")
    rows, counts = count_rows(run), run.layer("conv").statistics["counts"].collect()
    assert rows.height == counts.height > 0
    for row in counts.to_dicts():
        (counted,) = rows.filter(rule=row["rule"], category=row["category"]).to_dicts()
        assert {name: counted[name] for name in row} == row


def test_figures_of_experiments_mark_the_null_of_each_count(woken: tuple[bool, Path, Runs], tmp_path: Path) -> None:
    _, folder, runs = woken
    nulls = {run.info.network.name: count_rows(run).filter(rule="per-category", category="total") for run in runs}
    results = (
        compare([folder / "before", folder / "after"], CompareConfig(), out=tmp_path),
        training_dynamics([Snapshot(0, runs[0]), Snapshot(100, runs[1])]),
    )
    for result in results:
        figure = result.figure
        assert NULL_LABEL in [text.get_text() for text in figure.legends[0].get_texts()]
        axes, *_ = figure.axes
        (line,) = [line for line in axes.get_lines() if line.get_label() == NULL_LABEL]
        values = line.get_xdata() if result.name == "compare" else line.get_ydata()
        assert sorted(values) == sorted(rows["null_unique_detectors"].item() for rows in nulls.values())
