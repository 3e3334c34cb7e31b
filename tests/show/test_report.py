"""The report: a folder of plain files, complete and right whatever the run holds."""

import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from netdissect.concepts import ConceptData
from netdissect.config import RULES, DissectConfig
from netdissect.errors import ResultError
from netdissect.result import Result, load_result, save_result
from netdissect.show import report


class Page(HTMLParser):
    """Tags with their attributes, ids, and all text outside of style and script."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._silent = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._silent = self._silent or tag in {"style", "script"}

    def handle_endtag(self, tag: str) -> None:
        """Listen again after style and script."""
        if tag in {"style", "script"}:
            self._silent = False

    def handle_data(self, data: str) -> None:
        """Note what is read."""
        if not self._silent:
            self.text += data

    def all(self, tag: str, kind: str = "") -> list[dict[str, str]]:
        """Return the attributes of such tags."""
        return [each for name, each in self.tags if name == tag and kind in ["", *each.get("class", "").split()]]


@pytest.fixture(scope="module")
def page(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    save_result(result, folder / "run")
    return report(load_result(folder / "run"), folder / "report")


def test_every_unit_has_a_card_with_its_label_and_iou(page: Path, result: Result) -> None:
    cards = Page(page).all("article", "unit")
    units = result.units.filter(quantile=0.05)
    assert len(cards) == len(units)
    for index, layer in enumerate(result.layers):
        for row in units.filter(layer=layer).iter_rows(named=True):
            (card,) = [each for each in cards if each["id"] == f"u{index}-{row['unit']}"]
            assert float(card["data-iou"]) == row["iou"]
            assert card["data-label"] == (row["label"] or "")
            assert (card["data-state"] == "silent") == row["silent"]


def test_cards_marked_as_detectors_are_those_counted(page: Path, result: Result) -> None:
    cards = Page(page).all("article", "unit")
    for index, layer in enumerate(result.layers):
        count = next(entry.count for entry in result.detectors() if entry.layer == layer)
        marked = [card for card in cards if card["id"].startswith(f"u{index}-") and card["data-state"] == "detector"]
        assert len(marked) == count.detectors["total"]


def test_the_table_of_counts_shows_every_rule_and_quantile(page: Path, result: Result) -> None:
    text = " ".join(Page(page).text.split())
    for rule in RULES:
        for entry in result.detectors(rule):
            assert f"{entry.count.detectors['total']} / {entry.count.unique['total']}" in text
    assert "0.05, 0.1 (labels and pictures are of the first)" in text


def test_every_file_that_the_page_names_is_there_and_nothing_comes_from_the_web(page: Path) -> None:
    parsed = Page(page)
    named = [each[key] for _, each in parsed.tags for key in ("src", "srcset", "href") if key in each]
    named = [name for name in named if not name.startswith(("#", "data:"))]
    assert len(named) > 10
    for name in named:
        assert (page.parent / name).is_file(), name
    places = {f"#{each['id']}" for _, each in parsed.tags if "id" in each}
    links = {each["href"] for each in parsed.all("a") if each["href"].startswith("#")}
    assert links <= places
    assert len(places) == sum("id" in each for _, each in parsed.tags)
    for path in page.parent.rglob("*"):
        if path.suffix in {".html", ".css", ".js"}:
            assert "http" not in path.read_text(encoding="utf-8")


def test_pictures_are_lazy_described_and_of_the_stated_size(page: Path) -> None:
    images = [each for each in Page(page).all("img") if each["src"].startswith("units/")]
    assert len(images) == 12  # of 8 units in 2 layers, 2 are silent in each
    for image in images:
        assert image["loading"] == "lazy"
        assert "most active" in image["alt"]
        with Image.open(page.parent / image["src"]) as sheet:
            assert sheet.size == (int(image["width"]), int(image["height"]))


def test_markup_in_names_is_text(page: Path) -> None:
    parsed = Page(page)
    assert len(parsed.all("script")) == 1
    assert not parsed.all("b", "x")
    assert "disk <script>alert(1)</script>" in parsed.text
    assert "layer head/<b>" in parsed.text
    assert all(path.name.isascii() for path in page.parent.rglob("*"))


def test_the_same_run_gives_the_same_files(result: Result, page: Path, tmp_path: Path) -> None:
    again = report(result, tmp_path / "again").parent
    files = sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(page.parent) for path in page.parent.rglob("*") if path.is_file())
    for name in files:
        assert (again / name).read_bytes() == (page.parent / name).read_bytes()


def test_without_detectors_the_report_is_whole_and_says_why_units_are_silent(nothing: Result, tmp_path: Path) -> None:
    parsed = Page(report(nothing, tmp_path / "report"))
    assert [card["data-state"] for card in parsed.all("article", "unit")] == ["silent"] * 3
    assert "0 of 3 units are detectors (0 %)" in parsed.text
    assert parsed.text.count("a dead unit is no detector") == 2
    assert parsed.text.count("constant or saturated") == 1
    assert "no pictures" not in parsed.text


def test_too_few_activations_are_a_reason_for_silence(
    world: ConceptData, make_result: Callable[..., Result], tmp_path: Path
) -> None:
    maps = np.random.default_rng(0).random((len(world), 1, 1, 1)).astype(np.float32)
    run = make_result(world, {"head": maps}, DissectConfig(layers=("head",)))  # 0.005 of 24 values is none
    parsed = Page(report(run, tmp_path / "report"))
    assert parsed.all("article", "silent")
    assert "There are too few activations" in parsed.text


def test_a_run_without_layers_has_a_page_too(result: Result, tmp_path: Path) -> None:
    empty = Result(result.info.model_copy(update={"layers": ()}), result.concepts, {})
    assert "holds no layer" in Page(report(empty, tmp_path / "report")).text


def moved(result: Result, root: Path) -> Result:
    data = result.info.data.model_copy(update={"root": str(root)})
    return Result(result.info.model_copy(update={"data": data}), result.concepts, result.layers)


def test_without_the_pictures_the_report_says_so(result: Result, tmp_path: Path) -> None:
    parsed = Page(report(moved(result, tmp_path / "gone"), tmp_path / "report"))
    assert "This report has no pictures." in parsed.text
    assert len(parsed.all("article", "unit")) == 16
    assert not [each for each in parsed.all("img") if each["src"].startswith("units/")]


@pytest.mark.parametrize("inner", ["", "images"])
def test_pictures_are_found_where_they_have_moved(result: Result, tmp_path: Path, inner: str) -> None:
    shutil.copytree(Path(result.info.data.root) / "images", tmp_path / "new" / "images")
    page = report(moved(result, tmp_path / "gone"), tmp_path / "report", images=tmp_path / "new" / inner)
    assert "no pictures" not in Page(page).text
    assert (tmp_path / "report" / "units" / "0" / "0.webp").is_file()


def test_single_pictures_that_are_damaged_are_named(result: Result, tmp_path: Path) -> None:
    shutil.copytree(Path(result.info.data.root) / "images", tmp_path / "images")
    broken = result.layers["block.1"].top["image"][0]
    (tmp_path / "images" / broken).write_bytes(b"\x89PNG")
    text = " ".join(Page(report(result, tmp_path / "report", images=tmp_path)).text.split())
    assert f"1 picture could not be read and is gray below: {broken}." in text


def test_a_report_is_replaced_but_a_foreign_page_is_refused(result: Result, nothing: Result, tmp_path: Path) -> None:
    report(result, tmp_path / "report")
    page = report(nothing, tmp_path / "report")
    assert len(Page(page).all("article", "unit")) == 3
    page.write_text("<title>my page</title>")
    with pytest.raises(ResultError, match=r"index\.html exists and is no report of netdissect"):
        report(nothing, tmp_path / "report")
    assert page.read_text() == "<title>my page</title>"


def test_a_place_that_cannot_be_written_is_an_error(result: Result, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="cannot be written"):
        report(result, tmp_path / "file" / "report")


def test_progress_counts_the_units(result: Result, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    report(result, tmp_path / "report", progress=lambda *each: seen.append(each))
    assert seen == [("report", done, 16) for done in range(1, 17)]


@pytest.mark.real
def test_labels_of_a_real_layer_are_those_of_the_worked_result(
    camvid: Result, reference: pl.DataFrame, tmp_path: Path
) -> None:
    cards = Page(report(camvid, tmp_path / "report")).all("article", "unit")
    assert len(cards) == 32
    best = reference.sort("iou", descending=True, maintain_order=True).unique("unit", keep="first")
    expected = {unit: (concept, iou) for unit, concept, iou in best.select("unit", "concept", "iou").rows()}
    for card in cards:
        concept, iou = expected[int(card["data-unit"])]
        assert card["data-label"] == concept
        assert float(card["data-iou"]) == pytest.approx(iou, abs=1e-12)
