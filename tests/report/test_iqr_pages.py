"""The highest information quality ratio of each unit, on the pages of its run."""

import html
import json
import re
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import Browser
from starlette.testclient import TestClient

from netdissect.explorer.asgi import create_app
from netdissect.report.write import report
from netdissect.result import Result, load_result, save_result
from netdissect.result.statistics_schema import IQR

LAYER = "block.1"
RATIOS = {0: 0.125, 4: 0.5, 2: 0.25}


@pytest.fixture(scope="module")
def measured(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run in which three units of a layer have a threshold and label by the ratio, and none of the others."""
    rows = [(unit, 4, "red-c", "color", 0.0213, 0.75, ratio, 0.3125, 0.875) for unit, ratio in RATIOS.items()]
    table = pl.DataFrame(rows, schema=IQR, orient="row").lazy()
    layers = {
        name: replace(layer, statistics={**layer.statistics, "iqr": table if name == LAYER else table.clear()})
        for name, layer in result.layers.items()
    }
    made = replace(result, layers=layers)
    return load_result(save_result(made, tmp_path_factory.mktemp("iqr") / "run"))


@pytest.fixture(scope="module")
def pages(measured: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pages")
    report(measured, out, unit_pages=7)
    return out


def plain(page: str) -> str:
    """Return the text of a page without its elements."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_the_card_of_a_unit_has_its_ratio_and_the_label_of_it(pages: Path) -> None:
    page = (pages / "r0/l0/index.html").read_text()
    cards = dict(re.findall(r'data-unit="(\d+)"(.*?)</article>', page, re.DOTALL))
    assert "IQR 0.25" in plain(cards["2"])
    assert "information quality ratio: of red-c, at a threshold" in cards["2"]
    assert json.loads(html.unescape(re.findall(r'data-scores="(.*?)"', cards["2"])[0])) == {"iqr": 0.25}
    assert "IQR" not in plain(cards["1"])
    assert '<option value="iqr" data-name="IQR">by information quality</option>' in page
    assert "average precision" not in page
    assert "data-name" not in (pages / "r0/l1/index.html").read_text()


def test_the_page_of_a_unit_has_threshold_label_and_agreement(pages: Path) -> None:
    text = plain((pages / "r0/l0/u2.html").read_text())
    assert "information quality ratio 0.250 for red-c" in text
    assert "threshold 0.75, which 2.13 % of its activations exceed" in text
    assert "IoU at this threshold 0.3125; mask and label agree on 88 % of the pixels" in text
    assert "Information quality" not in plain((pages / "r0/l0/u1.html").read_text())


def test_a_reader_sorts_cards_and_the_list_of_all_units_by_the_ratio(pages: Path, browser: Browser) -> None:
    page = browser.new_page()
    page.goto((pages / "r0/l0/index.html").as_uri())
    page.select_option("select[name=sort]", "iqr")
    cards = page.eval_on_selector_all(".units .unit:not([hidden])", "nodes => nodes.map((node) => node.dataset.unit)")
    rows = page.eval_on_selector_all(".all-units .number", "nodes => nodes.map((node) => node.textContent)")
    assert (cards[:3], rows[:3]) == (["4", "2", "0"], ["4", "2", "0"])
    page.close()


def test_the_explorer_sorts_units_by_the_ratio(measured: Result) -> None:
    with TestClient(create_app(measured)) as client:
        run = client.get("/api/runs").json()[0]["id"]
        found = client.get(f"/api/runs/{run}/layers/0/units", params={"sort": "iqr", "images": 0}).json()["units"]
        assert [unit["unit"] for unit in found][:3] == [4, 2, 0]
        assert found[0]["iqr"]["iqr"] == 0.5
        assert 'value="iqr"' in client.get("/r0/l0/").text
        assert "ratio 0.500 for red-c" in plain(client.get("/r0/l0/u4.html").text)
