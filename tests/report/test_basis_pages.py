"""An evaluation of bases is shown on the pages of its run: the table of a layer, and the scores of each unit."""

import html
import json
import re
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import Browser
from starlette.testclient import TestClient

from netdissect.evaluation.dictionaries.bases_evaluation import BasesEvaluation, keep_bases, table_schemas
from netdissect.evaluation.dictionaries.evaluate_bases_config import EvaluateBasesConfig
from netdissect.report.write import report
from netdissect.result import Result, load_result, save_result

LAYER = "block.1"


@pytest.fixture(scope="module")
def evaluated(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run with an evaluation in which unit 2 is the best one for two concepts, and unit 6 is dead."""
    saved = load_result(save_result(result, tmp_path_factory.mktemp("evaluated") / "run"))
    schemas = table_schemas(with_embeddings=True)
    bases = [
        dict.fromkeys(schemas["bases"], 0.25)
        | {"layer": name, "basis_of": basis, "choice": "all", "units": 8, "cells": 1536, "concepts": 4, "nmse": nmse}
        for name, basis, nmse in ((LAYER, None, 0.0), (f"{LAYER}@pca", LAYER, None))
    ]
    best = (("square", 2, 0.5), ("red-c", 2, 0.75), ("blue-c", 1, 0.125), ("a$b_$ [bold]", None, None))
    concepts = [(LAYER, "all", concept, "object", unit, 1.0, precision, 0.1, 9) for concept, unit, precision in best]
    units = [
        (LAYER, unit, 0.0 if unit == 6 else 0.5, 0.25, None if unit > 5 else 0.625, None if unit > 5 else 0.375, 0.5)
        for unit in range(8)
    ]
    tables = (
        pl.DataFrame(rows, schema=schemas[name], orient="row")
        for name, rows in (("bases", bases), ("concepts", concepts), ("units", units))
    )
    keep_bases(saved, BasesEvaluation(EvaluateBasesConfig(), *tables))
    return saved


@pytest.fixture(scope="module")
def pages(evaluated: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pages")
    report(evaluated, out, unit_pages=7)
    return out


def plain(page: str) -> str:
    """Return the text of a page without its elements."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_the_page_of_a_layer_has_the_table_of_its_bases(pages: Path) -> None:
    page = (pages / "r0/l0/index.html").read_text()
    table = plain(page[page.index('id="bases"') : page.index("</table>", page.index('id="bases"'))])
    assert f"{LAYER} all 8 0.000 0.25" in table
    assert f"{LAYER}@pca all 8 - 0.25" in table
    assert "0.250 0.250–0.250" in table  # mAP and its interval
    assert page.count('<span title="Average precision of red-c') == 1
    assert "AP 0.75 MS 0.62 clarity 0.38" in plain(page)


def test_the_page_of_a_unit_has_its_scores(pages: Path) -> None:
    second, dead = (plain((pages / f"r0/l0/u{unit}.html").read_text()) for unit in (2, 6))
    assert (
        "average precision 0.750 for red-c active in 50 % of the cells purity@16 0.250 monosemanticity 0.625" in second
    )
    assert "it is the best unit of no concept active in no cell: the unit is dead purity@16 0.250 redundancy" in dead


def test_the_list_of_all_units_has_their_scores(pages: Path) -> None:
    (script,) = pages.glob("r0/l0/*.js")
    rows = json.loads(script.read_text().partition("=")[2].strip(" ;\n"))
    scores = dict(zip(rows["unit"], zip(*rows["scores"].values(), strict=True), strict=True))
    assert list(rows["scores"]) == ["AP", "MS", "clarity"]
    assert scores[2] == ("0.75", "0.62", "0.38")
    assert scores[0] == ("", "0.62", "0.38")
    assert scores[7] == ("", "", "")


def test_the_explorer_shows_the_same(evaluated: Result) -> None:
    from netdissect.explorer.asgi import create_app

    with TestClient(create_app(evaluated)) as browser:
        assert "AP 0.75 MS 0.62 clarity 0.38" in plain(browser.get("/r0/l0/").text)
        assert "average precision 0.750 for red-c" in plain(browser.get("/r0/l0/u2.html").text)
        run = browser.get("/api/runs").json()[0]["id"]
        unit = browser.get(f"/api/runs/{run}/layers/0/units/2").json()
        assert unit["summary"]["basis_scores"]["average_precision"] == 0.75


def test_cards_are_sorted_by_scores_of_their_units(pages: Path) -> None:
    page = (pages / "r0/l0/index.html").read_text()
    options = re.findall(r'<option value="(\w+)" data-name="(\w+)">by ([\w ]+)</option>', page)
    assert options == [
        ("average_precision", "AP", "average precision"), ("monosemanticity", "MS", "monosemanticity"),
        ("clarity", "clarity", "clarity"),
    ]  # fmt: skip
    cards = {int(unit): html.unescape(card) for unit, card in re.findall(r'data-unit="(\d+)"(.*?)>', page)}
    found = re.search(r'data-scores="(\{.*?\})"', cards[2])
    assert found is not None
    assert json.loads(found[1]) == {"average_precision": 0.75, "monosemanticity": 0.625, "clarity": 0.375}


def test_a_reader_sorts_cards_and_the_list_of_all_units_by_a_score(pages: Path, browser: Browser) -> None:
    page = browser.new_page()
    page.goto((pages / "r0/l0/index.html").as_uri())
    page.select_option("select[name=sort]", "average_precision")
    cards = page.eval_on_selector_all(".units .unit:not([hidden])", "nodes => nodes.map((node) => node.dataset.unit)")
    rows = page.eval_on_selector_all(".all-units .number", "nodes => nodes.map((node) => node.textContent)")
    assert (cards[:2], rows[:2]) == (["2", "1"], ["2", "1"])
    assert "sort=average_precision" in page.url
    page.close()


def test_the_explorer_sorts_units_by_their_scores(evaluated: Result) -> None:
    from netdissect.explorer.asgi import create_app

    with TestClient(create_app(evaluated)) as browser:
        run = browser.get("/api/runs").json()[0]["id"]

        def units(sort: str) -> list[int]:
            found = browser.get(f"/api/runs/{run}/layers/0/units", params={"sort": sort, "images": 0}).json()
            return [unit["unit"] for unit in found["units"]]

        by_iou = units("iou")
        assert units("average_precision") == [2, 1, *(unit for unit in by_iou if unit not in (1, 2))]
        assert units("clarity") == sorted(by_iou, key=lambda unit: unit > 5)


def test_a_run_without_an_evaluation_has_no_scores(result: Result, tmp_path: Path) -> None:
    report(result, tmp_path, unit_pages=7)
    assert 'id="bases"' not in (tmp_path / "r0/l0/index.html").read_text()
    assert "data-name" not in (tmp_path / "r0/l0/index.html").read_text()
    assert 'id="basis"' not in (tmp_path / "r0/l0/u2.html").read_text()
