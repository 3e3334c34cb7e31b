"""Responses of the explorer when files are replaced, removed or locked, or when the body is not JSON."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from explorer_client import HOME, Pair
from netdissect.errors import ResultError
from netdissect.explorer import create_app, guarded
from netdissect.explorer.queries import unit_details
from netdissect.result import files, load_result

ADDRESSES = (
    "/api/runs",
    "/api/runs/shown",
    "/api/runs/shown/layers/1/units",
    "/api/runs/shown/layers/1/units/2",
    "/api/runs/shown/layers/0/counts",
    "/api/concepts",
    "/index.html",
    "/r0/l1/u2.html",
    "/r0/l1/",
)


@pytest.fixture
def shown(pair: Pair, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pair.folders[0], tmp_path / "shown"))


@pytest.fixture
def client_of_shown(shown: Path, tmp_path: Path) -> Iterator[TestClient]:
    app = guarded(create_app([shown], ratings=tmp_path / "ratings.sqlite"))
    with TestClient(app, base_url=HOME, raise_server_exceptions=False) as client:
        yield client


def replaced(shown: Path, pair: Pair) -> None:
    shutil.rmtree(shown)
    shutil.copytree(pair.folders[1], shown)


def removed(shown: Path, pair: Pair) -> None:
    shutil.rmtree(shown)


def half_copied(shown: Path, pair: Pair) -> None:
    """Copy one table of another run over, as a copy does that is under way: run.json comes last."""
    name = "layers/deep_relu/scores.parquet"
    shutil.copy(pair.folders[1] / name, shown / name)


@pytest.mark.parametrize("change", [replaced, removed, half_copied])
def test_a_run_that_has_changed_since_it_was_opened_gets_status_410(
    client_of_shown: TestClient, pair: Pair, shown: Path, change: Callable[[Path, Pair], None]
) -> None:
    assert client_of_shown.get(ADDRESSES[2]).status_code == 200
    change(shown, pair)
    for address in ADDRESSES:
        answer = client_of_shown.get(address)
        assert answer.status_code == 410, address
        assert "was replaced, changed or removed since the run was opened" in answer.json()["message"]
    page = client_of_shown.get(ADDRESSES[-1], headers={"accept": "text/html"})
    assert (page.status_code, "<h1>A run has changed</h1>" in page.text) == (410, True)
    assert "Restart the explorer" in page.text


def test_a_response_in_progress_when_the_run_is_replaced_is_not_sent(
    client_of_shown: TestClient, pair: Pair, shown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit_detail = unit_details.unit_detail

    def meanwhile(*arguments: Any, **options: Any) -> Any:
        replaced(shown, pair)
        return unit_detail(*arguments, **options)

    monkeypatch.setattr(unit_details, "unit_detail", meanwhile)
    assert client_of_shown.get(ADDRESSES[3]).status_code == 410


def test_a_run_that_is_replaced_while_it_is_loaded_is_not_loaded(
    pair: Pair, shown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_layer = files.check_layer

    def meanwhile(*arguments: Any) -> Any:
        half_copied(shown, pair)
        return check_layer(*arguments)

    monkeypatch.setattr(files, "check_layer", meanwhile)
    with pytest.raises(ResultError, match=r"scores\.parquet was replaced, changed or removed"):
        load_result(shown)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e400", '"\\ud800"', "1" * 5000, '{"a": NaN}'])
@pytest.mark.parametrize("field", ["layer", "rater", "item", "no such field \\ud800"])
def test_values_that_json_cannot_represent_are_refused(client: TestClient, field: str, text: str) -> None:
    body = f'{{"run": "first-run", "layer": 0, "rater": "me", "item": 0, "rating": "yes", "{field}": {text}}}'
    answer = client.post("/api/rating/answers", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in ({400, 422} if len(text) > 100 else {422})
    assert "error" in answer.json() or {"loc", "msg", "type"} == answer.json()["detail"][0].keys()


def test_a_ratings_file_that_another_program_has_locked_is_reported(
    client_of_shown: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"run": "shown", "layer": 0, "rater": "me", "item": 0, "rating": "yes"}
    explorer = client_of_shown.app._app.state.explorer  # type: ignore[attr-defined]
    explorer.ratings._connection.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(tmp_path / "ratings.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    refused = client_of_shown.post("/api/rating/answers", json=answer)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert "another program has locked it" in refused.json()["message"]
    other.execute("ROLLBACK")
    assert client_of_shown.post("/api/rating/answers", json=answer).json()["done"] == 1
    other.execute("DROP TABLE ratings")
    other.close()
    assert client_of_shown.get("/api/rating/summary").status_code == 409
