"""Ratings: the items of a rater, what is stored, what survives a crash, and what a rater never sees."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from starlette.testclient import TestClient

from explorer_client import HOME, HOSTILE, Pair, asking_both, table
from netdissect.errors import ResultError
from netdissect.experiments import read_ratings
from netdissect.experiments.rater_agreement.experiment import RaterAgreementConfig, rater_agreement
from netdissect.explorer import create_app, guarded
from netdissect.explorer.ratings import COLUMNS, Ratings, rating_items
from netdissect.explorer.run_registry import OpenRun, RunRegistry

ANN = {"run": "first-run", "layer": 1, "rater": "Ann"}


def session(client: TestClient, **who: Any) -> Any:
    return client.get("/api/rating/session", params=ANN | who).json()


def rate(client: TestClient, rating: str, **who: Any) -> Any:
    item = session(client, **who)["next"]["item"]
    answer = client.post("/api/rating/answers", json=ANN | who | {"item": item, "rating": rating})
    assert answer.status_code == 200, answer.text
    return answer.json()


def exported(client: TestClient, *, controls: bool = False) -> list[dict[str, str]]:
    return table(client.get("/api/rating/export.csv", params={"controls": controls}).text)


@pytest.fixture
def client(pair: Pair, tmp_path: Path) -> Iterator[TestClient]:
    """Ask an explorer without ratings."""
    with asking_both(pair, tmp_path) as client:
        yield client


@pytest.fixture
def run(pair: Pair) -> OpenRun:
    return RunRegistry.open(pair.folders)["first-run"]


def test_every_labeled_unit_is_rated_once_in_an_order_of_the_rater(run: OpenRun, pair: Pair) -> None:
    table_of_units = pair.results[0].layers["deep_relu"].units
    units = table_of_units.filter(pl.col("label").is_not_null(), ~pl.col("dead"), quantile=0.02)
    items = rating_items(run, 1, "Ann")
    rated = {item.unit: (item.label, item.iou) for item in items if not item.control}
    assert rated == {unit: (label, iou) for unit, label, iou in units.select("unit", "label", "iou").rows()}
    assert items == rating_items(run, 1, "Ann")
    orders = {tuple(item.unit for item in rating_items(run, 1, name)) for name in ("Ann", "Ben", "Cy", "Dee", "Eve")}
    assert len(orders) > 1


def test_controls_have_the_wrong_label_of_lowest_iou(run: OpenRun, pair: Pair) -> None:
    scores = pair.results[0].layers["deep_relu"].scores.filter(quantile=0.02)
    labels = {item.label for item in rating_items(run, 1, "Ann") if not item.control}
    controls = [item for name in ("Ann", "Ben", "Cy") for item in rating_items(run, 1, name) if item.control]
    assert len(controls) == 3  # one in ten units, at least one
    for item in controls:
        own = pair.results[0].layers["deep_relu"].units.filter(quantile=0.02, unit=item.unit)["label"][0]
        assert item.label in labels - {own}
        ious = dict(scores.filter(unit=item.unit).select(pl.col("concept").cast(pl.String), "iou").rows())
        assert item.iou == ious[item.label] == min(ious[label] for label in labels - {own})


def test_a_rater_never_sees_an_iou(client: TestClient) -> None:
    answer = client.get("/api/rating/session", params=ANN).text.lower()
    assert "iou" not in answer
    assert "control" not in answer
    assert "data-iou" not in client.get("/rate").text


def test_ratings_are_counted_undone_and_exported(client: TestClient, pair: Pair, run: OpenRun) -> None:
    items = rating_items(run, 1, "Ann")
    first = session(client)
    assert (first["done"], first["total"], first["can_undo"]) == (0, len(items), False)
    assert len(first["next"]["images"]) == 6  # as many as the run keeps, at most 15
    said = ["yes", "no", "skip", "yes", "no", "yes"][: len(items)]
    for rating in said:
        rate(client, rating)
    assert session(client)["next"] is None
    back = client.post("/api/rating/undo", json=ANN).json()
    assert (back["done"], back["next"]["item"]) == (len(items) - 1, len(items) - 1)
    kept = [(item, rating) for item, rating in zip(items, said[:-1], strict=False) if rating != "skip"]
    for controls in (False, True):
        rows = exported(client, controls=controls)
        assert [(int(row["unit"]), row["label"], float(row["iou"]), row["rating"]) for row in rows] == [
            (item.unit, item.label, item.iou, rating) for item, rating in kept if item.control is controls
        ]
        assert all(tuple(row) == COLUMNS for row in rows)
        assert all((row["run"], row["layer"], row["rater"]) == ("First run", "deep_relu", "Ann") for row in rows)
        assert all(row["time"].endswith("+00:00") for row in rows)


def test_a_second_rating_of_one_unit_replaces_the_first(client: TestClient) -> None:
    item = session(client)["next"]["item"]
    for rating in ("yes", "no", "no"):
        client.post("/api/rating/answers", json=ANN | {"item": item, "rating": rating})
    rows = exported(client) + exported(client, controls=True)
    assert [row["rating"] for row in rows] == ["no"]


def test_raters_and_layers_do_not_mix(client: TestClient) -> None:
    rate(client, "yes")
    rate(client, "no", rater="Ben")
    rate(client, "no", rater="Ben", layer=0)
    assert session(client)["done"] == 1
    assert session(client, rater="Ben")["done"] == 1
    assert session(client, rater="Ben", run="second")["done"] == 0
    client.post("/api/rating/undo", json=ANN | {"rater": "Ben"})
    assert session(client, rater="Ben", layer=0)["done"] == 1
    assert session(client)["done"] == 1
    raters = client.get("/api/rating/summary").json()["raters"]
    assert [(each["rater"], each["layer"]) for each in raters] == [("Ann", "deep_relu"), ("Ben", "wide_relu")]


def test_a_summary_counts_rejected_controls(client: TestClient, run: OpenRun) -> None:
    for item in rating_items(run, 1, "Ann"):
        rate(client, "no" if item.control else "yes")
    (found,) = client.get("/api/rating/summary").json()["raters"]
    labeled = sum(not item.control for item in rating_items(run, 1, "Ann"))
    assert (found["yes"], found["no"], found["controls_rejected"], found["controls"]) == (labeled, 0, 1, 1)
    assert (len(exported(client)), len(exported(client, controls=True))) == (labeled, 1)


def test_the_agreement_experiment_reads_what_is_exported(client: TestClient, run: OpenRun, tmp_path: Path) -> None:
    for rater in ("Ann", "Ben"):
        for index, _ in enumerate(rating_items(run, 1, rater)):
            rate(client, "yes" if index % 3 else "no", rater=rater)
    path = tmp_path / "ratings.csv"
    path.write_text(client.get("/api/rating/export.csv").text, encoding="utf-8")
    found = read_ratings(path)
    wanted = exported(client)
    assert found.height == len(wanted) > 4
    assert set(found["rater"]) == {"Ann", "Ben"}
    outcome = rater_agreement(path, RaterAgreementConfig(resamples=100))
    (layer,) = [row for row in outcome.table.to_dicts() if row["layer"] == "deep_relu"]
    assert layer["labels"] == len({row["unit"] for row in wanted})


def test_hostile_names_are_kept_as_they_are(client: TestClient) -> None:
    name = f"{HOSTILE}'; DROP TABLE ratings; --"
    rate(client, "yes", rater=name)
    rows = exported(client) + exported(client, controls=True)
    assert [row["rater"] for row in rows] == [name]


@pytest.mark.parametrize("rater", ["", "   ", "a\nb", "x" * 61])
def test_a_rater_needs_a_name(client: TestClient, rater: str) -> None:
    assert client.get("/api/rating/session", params=ANN | {"rater": rater}).status_code == 422
    answer = client.post("/api/rating/answers", json=ANN | {"rater": rater, "item": 0, "rating": "yes"})
    assert answer.status_code == 422


def test_without_a_ratings_file_ratings_are_refused(pair: Pair) -> None:
    with TestClient(guarded(create_app(pair.folders)), base_url=HOME) as client:
        answers = [
            client.get("/api/rating/session", params=ANN),
            client.post("/api/rating/undo", json=ANN),
            client.get("/api/rating/export.csv"),
        ]
    assert [answer.status_code for answer in answers] == [403] * 3
    assert "--ratings FILE" in answers[0].json()["message"]


def test_a_file_that_is_not_a_ratings_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, but long enough to look at" * 50)
    with pytest.raises(ResultError, match=r"notes\.txt cannot be used for ratings"):
        Ratings(tmp_path / "notes.txt")
    with pytest.raises(ResultError, match="cannot be used for ratings"):
        Ratings(tmp_path / "gone" / "ratings.sqlite")
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE ratings (stars INTEGER)")
    with pytest.raises(ResultError, match="cannot be used for ratings"):
        Ratings(tmp_path / "other.sqlite")


KILLED = """
import os, signal, sys
from types import SimpleNamespace
from netdissect.explorer.ratings import Item, Ratings
ratings = Ratings(sys.argv[1])
run = SimpleNamespace(name="run", digest="d")
for unit in range(5):
    ratings.add(run, "layer", Item(unit, "sky", 0.1, False), "Ann", "yes")
print("kept", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_confirmed_ratings_survive_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "ratings.sqlite"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.strip()) == (-signal.SIGKILL, "kept"), ended.stderr
    again = Ratings(path)
    assert len(table(again.csv())) == 5
    again.close()
