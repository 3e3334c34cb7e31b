"""The page of interventions: areas of concepts before and after, with intervals and controls."""

import json
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser
from starlette.testclient import TestClient

import screenshots
from measured_effects import cells, intervention
from netdissect.errors import ResultError
from netdissect.explorer.asgi import create_app
from netdissect.report import report
from netdissect.result import Result

HOSTILE = "<b>&'x"
PREFIXES = {"effect": "ci", "control_effect": "control", "matched_effect": "matched", "excess": "excess"}


@pytest.fixture(scope="module")
def files(result: Result, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two interventions in the run: a set of units inserted, with a map, and three units ablated, each alone."""
    folder, digest = tmp_path_factory.mktemp("interventions"), result.info.network.digest
    named = result.concepts.select("concept", "category").row(0)
    concepts, several = (
        [named, (HOSTILE, "object"), *((f"other {index}", "object") for index in range(3))],
        [[4], [2], [0]],
    )
    made = [
        intervention(digest, "block.1", concepts, how="insert", map=cells()),
        intervention(digest, "block.1", concepts[:2], units=several),
    ]
    made[1]["effects"] = [{**row, "set": number} for number in range(3) for row in made[1]["effects"]]
    paths = [folder / f"{index}.json" for index in range(2)]
    for path, content in zip(paths, made, strict=True):
        path.write_text(json.dumps(content))
    return paths


def test_a_small_effect_has_the_digits_that_show_its_sign(result: Result, files: list[Path], tmp_path: Path) -> None:
    saved = json.loads(files[0].read_text())
    saved["effects"][0] |= {"effect": -2e-5, "ci_low": -3e-5, "ci_high": -1e-5, "excess": 0.0}
    path = tmp_path / "small.json"
    path.write_text(json.dumps(saved))
    report(result, tmp_path / "report", interventions=path, progress=False)
    page = (tmp_path / "report" / "interventions.html").read_text()
    assert "changes by -0.002 % of the image [-0.003, -0.001]; " in page
    assert ">-0.002 <small>-0.003 to -0.001</small>" in page
    assert ">0.00 <small>" in page


def test_the_page_has_every_effect_with_its_interval_and_links(
    result: Result, files: list[Path], tmp_path: Path
) -> None:
    site = report(result, tmp_path / "report", interventions=files, progress=False).parent
    page = (site / "interventions.html").read_text()
    saved = json.loads(files[0].read_text())
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", page)
    assert len(rows) == 5 + 3
    row, (name, columns) = saved["effects"][0], rows[0]
    assert f">{row['concept']}</a>" in name
    text = re.sub(r'data-value="[^"]*"', "", columns)
    intervals = [(key, f"{prefix}_low", f"{prefix}_high") for key, prefix in PREFIXES.items()]
    expected = [100 * row[key] for key in ("before", "after", *(key for keys in intervals for key in keys))]
    assert [float(number) for number in re.findall(r"[+-]?\d+\.\d\d", text)] == pytest.approx(expected, abs=0.00501)
    assert HOSTILE not in page
    assert "&lt;b&gt;&amp;&#39;x" in page
    assert 'href="concepts/c0.html"' in rows[0][0]
    assert re.search(r'href="r0/l\d/u\d.html"', rows[5][0])
    assert "3 units, each alone, ablated" in page
    index = (site / "index.html").read_text()
    assert 'href="interventions.html#i1"' in index
    report(result, site, progress=False)
    assert not (site / "interventions.html").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"generator_digest": "0" * 64},
            r"'drawing' \(000000000000\), which none of the runs dissects",
        ),
        ({"layer": "nowhere"}, r"an intervention in layer 'nowhere'"),
        ({"units": [[0, 999]]}, r"which none of the runs dissects"),
        ({"units": [[0], [1]]}, r"effects of 1 sets of units, but names 2"),
        ({"units": [[]]}, r"is no intervention: units.0: Tuple should have at least 1 item"),
        ({"units": [[-1]]}, r"is no intervention: units.0.0: Input should be greater than or equal to 0"),
        ({"effects": []}, r"is no intervention: effects: Tuple should have at least 1 item"),
        ({"how": "paint"}, r"is no intervention: how: Input should be 'ablate' or 'insert'"),
    ],
)
def test_another_file_is_refused(
    result: Result, files: list[Path], tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps(json.loads(files[0].read_text()) | change))
    with pytest.raises(ResultError, match=message):
        report(result, tmp_path / "report", interventions=path, progress=False)


def test_what_is_no_json_is_refused(result: Result, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ResultError, match=r"a.json is no intervention: the file: Invalid JSON"):
        report(result, tmp_path / "report", interventions=tmp_path / "a.json", progress=False)
    with pytest.raises(ResultError, match=r"none.json cannot be read"):
        report(result, tmp_path / "report", interventions=tmp_path / "none.json", progress=False)


@pytest.mark.browser
def test_the_page_fits_every_screen_and_is_accessible(
    browser: Browser, result: Result, files: list[Path], tmp_path: Path
) -> None:
    site = report(result, tmp_path / "report", interventions=files, unit_pages=1, progress=False).parent
    page = browser.new_page()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.goto((site / "interventions.html").as_uri())
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        screenshots.keep(page, f"report-interventions-{width}")
    assert Axe().run(page, options={"preload": False}).response["violations"] == []
    page.close()
    assert trouble == []


def test_the_explorer_has_the_same_page(result: Result, files: list[Path], tmp_path: Path) -> None:
    site = report(result, tmp_path / "report", interventions=files, progress=False).parent
    written = re.findall(r"<tr>.*?</tr>", (site / "interventions.html").read_text())
    with TestClient(create_app(result, interventions=files)) as client:
        page = client.get("/interventions.html")
        assert page.status_code == 200
        assert re.findall(r"<tr>.*?</tr>", page.text) == written
        assert 'href="interventions.html#i1"' in client.get("/").text
        found = client.get("/api/interventions").json()
        assert [len(each["saved"]["units"]) for each in found] == [1, 3]
        assert client.get(found[0]["layer_url"]).status_code == 200
    with TestClient(create_app(result)) as client:
        assert client.get("/interventions.html").status_code == 404
        assert "interventions.html" not in client.get("/").text
