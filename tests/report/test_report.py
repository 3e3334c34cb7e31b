"""The report: a folder of plain files, complete and correct for any run."""

import json
import posixpath
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import polars as pl
import pytest
from PIL import Image

import woken_units
from corruption import snapshot
from netdissect.concepts import ConceptData
from netdissect.config import RULES, DissectConfig
from netdissect.errors import ResultError
from netdissect.plots.matching.unit_matching import match_units
from netdissect.report import pages, report, urls
from netdissect.report.layer_tables import number_runs
from netdissect.report.views import wall
from netdissect.report.views.run_views import concept_views, run_views
from netdissect.result import LayerResult, Result, count_difference, difference_sentence, load_result, save_result
from netdissect.result.summary import interval_text, measured_count, null_text


class Page(HTMLParser):
    """Tags with their attributes, ids, and all text outside of style and script."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._skipped = False
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record a tag."""
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._skipped = self._skipped or tag in {"style", "script"}

    def handle_endtag(self, tag: str) -> None:
        """Read text again after style and script."""
        if tag in {"style", "script"}:
            self._skipped = False

    def handle_data(self, data: str) -> None:
        """Record text."""
        if not self._skipped:
            self.text += data

    def all(self, tag: str, css_class: str = "") -> list[dict[str, str]]:
        """Return the attributes of all such tags."""
        return [each for name, each in self.tags if name == tag and css_class in ["", *each.get("class", "").split()]]


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def folder(result: Result, no_detectors: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a report of two runs, the first of them from its files."""
    root = tmp_path_factory.mktemp("pages")
    save_result(result, root / "run")
    return report([load_result(root / "run"), no_detectors], root / "report").parent


def test_every_unit_has_a_card_with_its_label_and_iou(folder: Path, result: Result) -> None:
    units = result.units.filter(quantile=0.05)
    for index, layer in enumerate(result.layers):
        cards = Page(folder / f"r0/l{index}/index.html").all("article", "unit")
        rows = {row["unit"]: row for row in units.filter(layer=layer).iter_rows(named=True)}
        assert sorted(int(card["data-unit"]) for card in cards) == sorted(rows)
        for card in cards:
            row = rows[int(card["data-unit"])]
            assert float(card["data-iou"]) == row["iou"]
            assert card["data-label"] == (row["label"] or "")
            assert ("dead" in card["class"]) == row["dead"]


def test_cards_marked_as_detectors_are_those_counted(folder: Path, result: Result) -> None:
    for index, layer in enumerate(result.layers):
        count = next(entry.count for entry in result.detectors() if entry.layer == layer)
        cards = Page(folder / f"r0/l{index}/index.html").all("article", "detector")
        assert len(cards) == count.detectors["total"]


def test_the_table_of_counts_shows_every_rule_and_quantile(folder: Path, result: Result) -> None:
    text = Page(folder / "r0/l0/index.html").text
    for rule in RULES:
        for entry in result.detectors(rule):
            if entry.layer == "block.1":
                count = entry.count
                share = 100 * count.detectors["total"] / count.units
                assert f"{count.detectors['total']} {share:.0f} % {count.unique_detectors['total']}" in text
    assert "0.05, 0.1 (the report shows labels and masks at the first)" in Page(folder / "index.html").text


@pytest.mark.parametrize("limit", [0.04, 0.5])
def test_the_first_page_opens_with_the_best_unit_of_each_concept(
    result: Result, limit: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit below the limit stands for its concept only where few concepts are detected."""
    monkeypatch.setattr(wall, "LEAST_TILES", 2)
    config = result.info.config.model_copy(update={"min_iou": limit})
    runs = number_runs([replace(result, info=result.info.model_copy(update={"config": config}))])
    (tmp_path / "index.html").write_text(pages.Pages(runs).index(run_views(runs), concept_views(runs)), "utf-8")
    index = Page(tmp_path / "index.html")
    tiles = [attrs["href"] for tag, attrs in index.tags if tag == "a" and "/u" in attrs.get("href", "")]
    units = pl.concat(
        layer.units.filter(pl.col("quantile") == 0.05, pl.col("label").is_not_null()).with_columns(
            layer=pl.lit(number), below=pl.col("iou") < limit
        )
        for number, layer in enumerate(result.layers.values())
    )
    best = units.sort("below", -pl.col("iou")).unique("label", keep="first", maintain_order=True)
    shown = best.filter((pl.int_range(pl.len()) < 2) | ~pl.col("below"))
    assert shown["below"].any() == (limit == 0.5)
    assert tiles == [f"r0/l{row['layer']}/u{row['unit']}.html" for row in shown.iter_rows(named=True)]
    assert sum("below" in attrs.get("class", "") for tag, attrs in index.tags if tag == "li") == shown["below"].sum()
    drawn = [attrs for tag, attrs in index.tags if tag == "img"]
    for row, image in zip(shown.iter_rows(named=True), drawn, strict=True):
        top = list(result.layers.values())[row["layer"]].top.filter(unit=row["unit"], rank=0)["image_index"].item()
        assert image["src"] == f"images/0/{top}.webp"
        assert image["loading"] == "lazy"


def test_concepts_beyond_the_first_ones_are_shown_on_demand(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "WALL_SIZE", 1)
    index = Page(report(result, tmp_path / "report"))
    number = len({label for entry in result.layers.values() for label in layer_labels(entry)})
    assert f"Show all {number} concepts" in index.text
    opened = [tag for tag, _ in index.tags].index("details")
    images = [position for position, (tag, _) in enumerate(index.tags) if tag == "img"]
    assert len([position for position in images if position < opened]) == 1
    assert len(images) == number


def layer_labels(layer: LayerResult) -> list[str]:
    return layer.units.filter(pl.col("quantile") == 0.05, pl.col("iou") >= 0.04)["label"].drop_nulls().to_list()


def test_a_report_of_two_runs_says_what_of_their_difference_is_beyond_the_null(tmp_path: Path) -> None:
    before, after = woken_units.runs(tmp_path / "data", followed=False)
    text = Page(report([before, after], tmp_path / "report")).text
    difference = count_difference(before, after, ("conv", "conv"), quantile=0.25, rule="top-label")
    assert "Differences after minus before, conv" in text
    assert difference_sentence(difference) in text
    assert difference.exceeds_null is False
    for run in (before, after):
        measured = measured_count(run, "conv", 0.25)
        assert f"{interval_text(measured)}; {null_text(measured)} under the permutation null" in text
    alone = Page(report(after, tmp_path / "alone")).text
    assert "Differences" not in alone
    limited = after.info.config.model_copy(update={"min_iou": 0.2})
    strict = replace(after, info=after.info.model_copy(update={"config": limited}))
    assert "Differences" not in Page(report([before, strict], tmp_path / "limits")).text


def test_a_report_of_two_runs_has_their_matched_units_in_rows_of_images(result: Result, tmp_path: Path) -> None:
    folder = report([result, result], tmp_path / "report", names=["first", "second"], unit_pages=7).parent
    first = Page(folder / "index.html")
    assert [each["href"] for each in first.all("a") if "matched" in each["href"]] == ["matched/r1.html"]
    page = Page(folder / "matched/r1.html")
    found = [match_units(result, name, result, name) for name in result.layers]
    for matches, name in zip(found, result.layers, strict=True):
        mutual = sum(pair.mutual for pair in matches.pairs)
        assert mutual > 0
        assert f"{mutual} of 8 units of {name}" in first.text
        assert f"{mutual} of 8 units of {name} in first" in page.text
    for run, units in enumerate(("left_unit", "right_unit")):
        for index, matches in enumerate(found):
            chosen = {getattr(pair, units) for pair in matches.pairs}
            linked = {f"../r{run}/l{index}/u{unit}.html" for unit in chosen}
            linked = {url for url in linked if (folder / "matched" / url).exists()}
            assert {each["href"] for each in page.all("a") if f"r{run}/l{index}/u" in each["href"]} == linked
    assert len(page.all("img")) == sum(2 * 4 * len(matches.pairs) for matches in found)
    assert all((folder / "matched" / each["src"]).is_file() for each in page.all("img"))
    data = result.info.data.model_copy(update={"digest": "0" * 64})
    others = replace(result, info=result.info.model_copy(update={"data": data}))
    folder = report([result, others], tmp_path / "report").parent
    assert "Not matched: the runs used different images. Units are matched" in Page(folder / "index.html").text
    assert not (folder / "matched").exists()


def test_every_unit_and_every_concept_has_its_page(folder: Path, result: Result) -> None:
    names = files_of(folder)
    for index, layer in enumerate(result.layers.values()):
        assert {f"r0/l{index}/u{unit}.html" for unit in range(layer.info.units)} <= set(names)
    assert sum(name.startswith("concepts/c") for name in names) == len(result.concepts)
    best = result.layer("block.1").units.filter(quantile=0.05).sort("iou", descending=True).row(0, named=True)
    page = Page(folder / f"r0/l0/u{best['unit']}.html")
    assert f"IoU {best['iou']:.4f}" in page.text
    scores = result.layer("block.1").scores.filter(quantile=0.05, unit=best["unit"]).filter(pl.col("iou") >= 0.01)
    for row in scores.iter_rows(named=True):
        counts = f"{row['intersection']:,}{row['mask_pixels']:,}{row['concept_pixels']:,}"
        assert counts in page.text.replace(" ", "")
    # As many top images as the run kept; four at the top, at 50 % and at random; one of each similar unit.
    assert len(page.all("span", "tile")) == 7 + 3 * 4 + page.text.count("r = ")


def test_a_concept_lists_its_units_over_all_layers_best_first_and_examples(folder: Path, result: Result) -> None:
    page = Page(folder / "concepts/c0.html")
    concept = result.concepts["concept"][0]
    scores = result.scores.filter(quantile=0.05, concept=concept).filter(pl.col("iou") > 0).sort("iou", descending=True)
    shown = [f"{row['iou']:.4f}" for row in scores.head(24).iter_rows(named=True)]
    positions = [page.text.index(iou) for iou in dict.fromkeys(shown)]
    assert positions == sorted(positions)
    gallery = [each for each in page.all("img") if each.get("alt", "").endswith(".png")]
    assert len(gallery) == 8
    for image in gallery:  # every third image shows a square
        assert int(image["alt"][:2]) % 3 == 0


def measured(result: Result, data_set: ConceptData) -> Result:
    """Give unit 0 of the first layer statistics, with two false positives and a false negative."""
    layer = result.layers["block.1"]
    errors = [("false positive", 5, 12, "4 12"), ("false positive", 1, 3, "31 3"), ("false negative", 6, 81, "")]
    error_images = pl.DataFrame(errors, schema=("type", "image_index", "pixels", "mask"), orient="row").with_columns(
        quantile=0.05, unit=0, label_height=32, label_width=32
    )
    with_statistics = {"quantile": 0.05, "unit": 0, "iou_ci_low": 0.2111, "iou_ci_high": 0.4222, "stability": 0.875,
    "heldout_iou": 0.3333,
            "selection_iou": 0.3444, "p_value": 0.001, "q_value_bh": 0.002, "null_iou_p95": None,
            "label_r2": 0.0123, "linear_r2": 0.4567, "linear_correlation": 0.6789}  # fmt: skip
    concept, category = result.concepts.select("concept", "category").row(1)
    term = {"unit": 0, "rank": 0, "concept": concept, "category": category, "weight": -2.5,
            "standardized_weight": -0.375, "intercept": 0.75, "selection_correlation": 0.6543}  # fmt: skip
    counts = {
        "quantile": 0.05, "rule": "top-label", "category": "total", "detectors": 3, "unique_detectors": 3,
        "detectors_ci_low": 2.0, "detectors_ci_high": 7.0, "unique_detectors_ci_low": 1.0,
        "unique_detectors_ci_high": 4.0, "null_detectors": 0.25,
    }  # fmt: skip
    statistics = {
        "error_images": error_images.lazy(),
        "units": pl.DataFrame([with_statistics]).lazy(),
        "counts": pl.DataFrame([counts]).lazy(),
        "linear_explanations": pl.DataFrame([term]).lazy(),
        "histogram": pl.DataFrame({"unit": [0, 0, 0], "bin_low": [0.0, 0.5, 1.0], "bin_high": [0.0, 1.0, 1.25],
                                   "count": [50, 40, 10]}).lazy(),
        "firing_map": pl.DataFrame({"unit": [0], "y": [0], "x": [7], "count": [3]}).lazy(),
    }  # fmt: skip
    return Result(result.info, result.concepts, {"block.1": replace(layer, statistics=statistics)})


def test_a_unit_shows_its_false_positives_false_negatives_and_statistics(
    result: Result, data_set: ConceptData, tmp_path: Path
) -> None:
    page = Page(report(measured(result, data_set), tmp_path / "report").parent / "r0/l0/u0.html")
    tiles = page.all("img")[7:]
    assert [each["alt"] for each in tiles[:3]] == [data_set.rows[row].image for row in (5, 1, 6)]
    assert "(95 % 0.211 to 0.422)" in page.text
    assert "88 %" in page.text
    assert "0.3333; 0.3444 on the half that selected the label" in page.text
    assert "under the null" not in page.text
    assert "100 activations, counts on a logarithmic scale; 50 % are exactly 0" in page.text
    assert "most often at the top, right" in page.text
    assert "0.012 on held-out images" in page.text
    assert "0.457 on held-out images, correlation 0.679" in page.text
    assert "-0.375" in page.text
    assert "-2.5" not in page.text
    assert "0.654" in page.text
    layer = Page(tmp_path / "report" / "r0/l0/index.html").text
    assert "2–7, 1–4" in layer
    assert "null 0.2" in layer
    assert "0.211–0.422" in layer
    assert "R² label 0.01, linear 0.46" in layer


def count_links(folder: Path) -> int:
    """Count the links of all pages, each of which leads to a file."""
    checked = 0
    for path in folder.rglob("*"):
        if path.suffix in {".html", ".css", ".js"}:
            text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")  # a name, no address
            assert "http" not in text, path
        if path.suffix != ".html":
            continue
        parsed = Page(path)
        here = path.relative_to(folder).parent.as_posix()
        identifiers = [each["id"] for _, each in parsed.tags if "id" in each]
        assert len(set(identifiers)) == len(identifiers), path
        for _, each in parsed.tags:
            for key in ("src", "href"):
                if key in each and not each[key].startswith(("#", "data:")):
                    target = posixpath.normpath(posixpath.join(here, urlsplit(each[key]).path))
                    assert (folder / target).is_file(), (path, each[key])
                    checked += 1
    return checked


def test_every_link_leads_to_a_file_and_nothing_comes_from_the_web(folder: Path) -> None:
    assert count_links(folder) > 200


def test_the_best_units_have_pages_and_all_have_rows(result: Result, tmp_path: Path) -> None:
    out = report(result, tmp_path / "report", unit_pages=3).parent
    units = result.layer("block.1").units.filter(quantile=0.05).sort("iou", "unit", descending=[True, False])
    best = sorted(units["unit"][:3])
    assert {name for name in files_of(out) if name.startswith("r0/l0/u")} == {
        "r0/l0/units.js", *(f"r0/l0/u{unit}.html" for unit in best)
    }  # fmt: skip
    page = Page(out / f"r0/l0/u{best[1]}.html")
    steps = [each["href"] for each in page.all("a") if each.get("rel") in {"prev", "next"}]
    assert [step.rpartition("/")[2] for step in steps] == [f"u{best[0]}.html", f"u{best[2]}.html"]
    rows = json.loads((out / "r0/l0/units.js").read_text().removeprefix("globalThis.unitRows = ").rstrip(";\n"))
    assert rows["unit"] == units["unit"].to_list()
    assert [None if at < 0 else rows["labels"][at] for at in rows["label"]] == units["label"].to_list()
    assert [f"{iou:.3f}" for iou in units["iou"]] == rows["iou"]
    assert rows["page"] == [1, 1, 1, 0, 0, 0, 0, 0]
    assert [state == "dead" for state in rows["state"]] == units["dead"].to_list()
    assert count_links(out) > 50


def test_images_are_written_once_lazy_and_named(folder: Path, result: Result) -> None:
    shown = set(pl.concat(layer.top for layer in result.layers.values())["image_index"])
    images = [name for name in files_of(folder) if name.endswith(".webp")]
    assert {name.replace(".js", ".webp") for name in files_of(folder) if name.startswith("images/")} == set(images)
    assert len(images) <= 24  # of two layers and eight units each, and examples: each image once
    assert {f"images/0/{row}.webp" for row in shown} & set(images)
    for image in Page(folder / "r0/l0/u0.html").all("img"):
        assert image["loading"] == "lazy"
        assert image["alt"].endswith(".png")
    with Image.open(folder / images[0]) as shown_image:
        assert shown_image.size == (128, 128)


def test_markup_in_names_is_text(folder: Path) -> None:
    for path in folder.rglob("*.html"):
        assert len(Page(path).all("script")) == 1, path
        assert "<script>alert" not in path.read_text(encoding="utf-8")
    assert "disk <script>alert(1)</script>" in Page(folder / "concepts/index.html").text
    assert "head/<b>" in Page(folder / "r0/l1/index.html").text
    assert all(name.isascii() for name in files_of(folder))


def test_the_same_runs_give_the_same_files(result: Result, no_detectors: Result, folder: Path, tmp_path: Path) -> None:
    again = report([result, no_detectors], tmp_path / "again").parent
    assert files_of(again) == files_of(folder)
    for name in files_of(again):
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name


def test_the_first_page_states_how_large_the_report_is(folder: Path) -> None:
    text = Page(folder / "index.html").text
    names = files_of(folder)
    size = sum((folder / name).stat().st_size for name in names)
    assert f"{len(names)} files" in text
    stated = float(text.partition(f"{len(names)} files, ")[2].split()[0])
    assert stated == pytest.approx(size / (1e6 if " MB" in text else 1e3), rel=0.1)


def test_runs_of_the_same_network_are_told_apart(folder: Path, result: Result, tmp_path: Path) -> None:
    text = Page(folder / "index.html").text
    assert "planted (1)" in text
    assert "planted (2)" in text
    named = Page(report([result, result], tmp_path / "named", names=["first", "second"])).text
    assert "first, second" in named


def test_without_detectors_the_report_is_complete_and_explains_dead_units(no_detectors: Result, tmp_path: Path) -> None:
    page = report(no_detectors, tmp_path / "report")
    layer = Page(page.parent / "r0/l0/index.html")
    assert len(layer.all("article", "dead")) == 3
    assert "None of the 3 units is a detector: no IoU reaches 0.04." in layer.text
    assert layer.text.count("the unit is dead and cannot be a detector") == 2
    assert layer.text.count("constant or saturated") == 1
    assert "no images" not in Page(page).text
    assert "No unit detects it." in Page(page.parent / "concepts/c0.html").text


def test_a_unit_of_too_few_activations_is_dead(
    data_set: ConceptData, make_result: Callable[..., Result], tmp_path: Path
) -> None:
    maps = np.random.default_rng(0).random((len(data_set), 1, 1, 1)).astype(np.float32)
    run = make_result(data_set, {"head": maps}, DissectConfig(layers=("head",)))  # 0.005 of 24 values is none
    folder = report(run, tmp_path / "report").parent
    assert "There are too few activations" in Page(folder / "r0/l0/u0.html").text


def test_a_run_without_layers_has_a_page_too(result: Result, tmp_path: Path) -> None:
    empty = Result(result.info.model_copy(update={"layers": ()}), result.concepts, {})
    assert "has no layers" in Page(report(empty, tmp_path / "report")).text


def moved(result: Result, root: Path) -> Result:
    data = result.info.data.model_copy(update={"root": str(root)})
    return Result(result.info.model_copy(update={"data": data}), result.concepts, result.layers)


def test_without_the_images_the_report_says_so(result: Result, tmp_path: Path) -> None:
    page = report(moved(result, tmp_path / "gone"), tmp_path / "report")
    assert "This report has no images." in Page(page).text
    layer = Page(page.parent / "r0/l0/index.html")
    assert len(layer.all("article", "unit")) == 8
    assert not layer.all("img")
    assert layer.all("span", "gone")


@pytest.mark.parametrize("inner", ["", "images"])
def test_images_are_found_in_the_folder_to_which_they_have_moved(result: Result, tmp_path: Path, inner: str) -> None:
    shutil.copytree(Path(result.info.data.root) / "images", tmp_path / "new" / "images")
    page = report(moved(result, tmp_path / "gone"), tmp_path / "report", data_root=tmp_path / "new" / inner)
    assert "no images" not in Page(page).text
    assert list((tmp_path / "report" / "images" / "0").glob("*.webp"))


def test_single_images_that_are_damaged_are_named(result: Result, tmp_path: Path) -> None:
    shutil.copytree(Path(result.info.data.root) / "images", tmp_path / "images")
    broken = result.layers["block.1"].top["image"][0]
    (tmp_path / "images" / broken).write_bytes(b"\x89PNG")
    text = Page(report(result, tmp_path / "report", data_root=tmp_path)).text
    assert f"1 image could not be read and is left blank: {broken}." in text


def test_a_smaller_report_leaves_nothing_of_a_larger_one_and_nothing_else_is_touched(
    result: Result, no_detectors: Result, tmp_path: Path
) -> None:
    report(result, tmp_path / "report")
    (tmp_path / "report" / "r0" / "notes.txt").write_text("mine")
    listed = tmp_path / "report" / "files.txt"
    listed.write_text(listed.read_text() + "../outside.html\nr0/notes.txt\n")
    (tmp_path / "outside.html").write_text("mine")
    report(no_detectors, tmp_path / "report")
    report(no_detectors, tmp_path / "fresh")
    assert files_of(tmp_path / "report") == sorted([*files_of(tmp_path / "fresh"), "r0/notes.txt"])
    assert (tmp_path / "outside.html").is_file()
    assert not (tmp_path / "report" / "r0" / "l1").exists()


def test_what_a_killed_report_left_is_removed_by_the_next(result: Result, no_detectors: Result, tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int | None) -> None:
        if done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        report(result, tmp_path / "report", progress=stop)
    assert (tmp_path / "report" / "r0" / "l1" / "u2.html").is_file()
    report(no_detectors, tmp_path / "report")
    report(no_detectors, tmp_path / "fresh")
    assert files_of(tmp_path / "report") == files_of(tmp_path / "fresh")


def test_two_reports_in_one_folder_at_once_do_not_mix(result: Result, no_detectors: Result, tmp_path: Path) -> None:
    refused: list[str] = []

    def meanwhile(stage: str, done: int, total: int | None) -> None:
        if done == 12:
            with pytest.raises(ResultError, match=r"report is being written by process \d+ of ") as caught:
                report(no_detectors, tmp_path / "report")
            refused.append(str(caught.value))

    report(result, tmp_path / "report", progress=meanwhile)
    assert len(refused) == 1
    report(result, tmp_path / "alone")
    assert snapshot(tmp_path / "report") == snapshot(tmp_path / "alone")
    report(no_detectors, tmp_path / "report")  # and nothing stands in the way of the next


def test_a_run_that_is_replaced_while_its_report_is_written_is_an_error(
    result: Result, no_detectors: Result, tmp_path: Path
) -> None:
    save_result(result, tmp_path / "run")

    def meanwhile(stage: str, done: int, total: int | None) -> None:
        if done == 12:
            shutil.rmtree(tmp_path / "run")
            save_result(no_detectors, tmp_path / "run")

    with pytest.raises(ResultError, match=r"was replaced, changed or removed since the run was opened"):
        report(load_result(tmp_path / "run"), tmp_path / "report", progress=meanwhile)


def test_a_link_in_a_report_folder_is_not_written_through(no_detectors: Result, tmp_path: Path) -> None:
    (tmp_path / "mine.css").write_text("mine")
    style = tmp_path / "report" / urls.STYLE
    style.parent.mkdir(parents=True)
    style.symlink_to(tmp_path / "mine.css")
    with pytest.raises(ResultError, match=r"report\.css is a link that leads outside"):
        report(no_detectors, tmp_path / "report")
    assert (tmp_path / "mine.css").read_text() == "mine"


def test_a_foreign_page_is_refused(no_detectors: Result, tmp_path: Path) -> None:
    page = report(no_detectors, tmp_path / "report")
    page.write_text("<title>my page</title>")
    with pytest.raises(ResultError, match=r"index\.html exists and is not a report of netdissect"):
        report(no_detectors, tmp_path / "report")
    assert page.read_text() == "<title>my page</title>"


def test_a_report_without_runs_or_in_a_folder_that_cannot_be_written_is_an_error(
    result: Result, tmp_path: Path
) -> None:
    with pytest.raises(ResultError, match="needs a run and none was given"):
        report([], tmp_path / "report")
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
    cards = Page(report(camvid, tmp_path / "report").parent / "r0/l0/index.html").all("article", "unit")
    assert len(cards) == 32
    best = reference.sort("iou", descending=True, maintain_order=True).unique("unit", keep="first")
    expected = {unit: (concept, iou) for unit, concept, iou in best.select("unit", "concept", "iou").rows()}
    for card in cards:
        concept, iou = expected[int(card["data-unit"])]
        assert card["data-label"] == concept
        assert float(card["data-iou"]) == pytest.approx(iou, abs=1e-12)
