"""The report in a real browser, opened from disk."""

import csv
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

import copy_menu
import screenshots
from netdissect.concepts import ConceptData
from netdissect.config import RULES
from netdissect.plots.overlap import REGION_COLORS
from netdissect.report import report
from netdissect.report.layer_tables import LayerTables, number_runs
from netdissect.report.views.unit_views import unit_view
from netdissect.result import Result
from svg_paths import held

pytestmark = pytest.mark.browser

SHOWN = ".unit:not([hidden])"


@pytest.fixture(scope="module")
def site(
    result: Result, no_detectors: Result, with_statistics: Result, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Write a report of two runs, the second without any detector, and one that measured all; return its folder."""
    folder = report([result, no_detectors], tmp_path_factory.mktemp("browser") / "report").parent
    report(with_statistics, folder / "statistics")
    return folder


@pytest.fixture(scope="module")
def layer(site: Path) -> str:
    return (site / "r0/l0/index.html").as_uri()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Open an empty page that fails the test on any console message, error, dialog or request to the web."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(5000)
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    # Images that are still on their way when the page is left are no failure.
    page.on("requestfailed", lambda each: trouble.extend([each.url] * (each.failure != "net::ERR_ABORTED")))
    page.on("request", lambda each: trouble.extend([each.url] * (not each.url.startswith(("file:", "data:")))))
    page.on("dialog", lambda dialog: trouble.append(dialog.message))
    yield page
    page.close()
    assert trouble == []


def labels(page: Page) -> list[str]:
    return page.locator(SHOWN).evaluate_all("cards => cards.map(card => card.dataset.label)")  # type: ignore[no-any-return]


def numbers(page: Page, key: str) -> list[float]:
    return page.locator(SHOWN).evaluate_all(f"cards => cards.map(card => Number(card.dataset.{key}))")  # type: ignore[no-any-return]


def test_cards_are_sorted_by_iou_label_or_unit(page: Page, layer: str) -> None:
    page.goto(layer)
    assert numbers(page, "iou") == sorted(numbers(page, "iou"), reverse=True)
    sort = page.locator("select[name=sort]")
    sort.select_option("unit")
    assert numbers(page, "unit") == list(range(8))
    sort.select_option("label")
    named = [label for label in labels(page) if label]
    assert named == sorted(named)
    assert labels(page)[: len(named)] == named


def test_a_list_has_a_row_for_each_unit_and_only_those_on_screen_are_in_the_page(
    page: Page, result: Result, tmp_path: Path
) -> None:
    site = report(result, tmp_path / "report", unit_pages=3).parent
    page.goto((site / "r0/l0/index.html").as_uri())
    rows = page.locator(".all-units [role=row]")
    expect(rows).to_have_count(8)
    expect(rows.locator("a")).to_have_count(3)
    best = page.locator(".unit").first
    expect(rows.first).to_contain_text(best.get_attribute("data-label") or "")
    page.get_by_label("Search label or unit number").fill("7")
    expect(rows).to_have_count(1)
    expect(rows.locator(".state")).to_have_text("dead")
    page.set_viewport_size({"width": 390, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # The rows of a layer of 65,536 units.
    script = site / "r0/l0/units.js"
    column = "Array.from({ length: 65536 }, (_, at) => name === 'unit' ? at : unitRows[name][at % 8])"
    names = "['unit', 'label', 'iou', 'state', 'page']"
    script.write_text(f"{script.read_text()}for (const name of {names}) unitRows[name] = {column};\n")
    page.goto("about:blank")
    page.goto((site / "r0/l0/index.html").as_uri())
    expect(rows.first).to_have_attribute("aria-rowindex", "1")
    assert 10 < rows.count() < 60
    page.locator(".all-units").evaluate("list => list.scrollTo(0, list.scrollHeight)")
    expect(rows.last).to_have_attribute("aria-rowindex", "65536")
    expect(rows.last.locator(".number")).to_have_text("65535")
    assert rows.count() < 60
    assert Axe().run(page, options={"preload": False}).response["violations"] == []
    screenshots.keep(page, "report-all-units")


def test_search_finds_labels_and_unit_numbers(page: Page, layer: str) -> None:
    page.goto(layer)
    page.keyboard.press("/")
    page.keyboard.type("RED")
    expect(page.locator(SHOWN)).not_to_have_count(8)
    assert labels(page)
    assert all("red" in label for label in labels(page))
    page.locator("input[type=search]").fill("#6")
    assert numbers(page, "unit") == [6]
    page.locator("input[type=search]").fill("no such label")
    expect(page.get_by_text("No unit matches.")).to_be_visible()


def test_filters_stay_in_the_address_and_come_back_from_a_unit(page: Page, layer: str) -> None:
    page.goto(layer)
    page.locator(".toggle[data-category=color]").click()
    kept = labels(page)
    assert kept
    assert all(label.endswith("-c") for label in kept)
    assert page.url.endswith("#category=color")
    page.locator(f"{SHOWN} h3 a").first.click()
    expect(page.locator("h1")).to_have_text(kept[0])
    page.go_back()
    assert labels(page) == kept
    page.locator(f"{SHOWN} h3 a").first.click()
    page.locator("[rel=up]").click()  # the way back by the page's own link keeps it, too
    assert "index.html#category=color&unit=" in page.url
    assert labels(page) == kept
    assert page.evaluate("document.activeElement.closest('.unit').dataset.label") == kept[0]
    page.get_by_role("button", name="Show all").click()
    page.locator("select[name=show]").select_option("dead")
    assert sorted(numbers(page, "unit")) == [6, 7]


def test_everything_is_reached_by_keys(page: Page, layer: str) -> None:
    page.goto(layer)
    order = [str(int(number)) for number in numbers(page, "unit")]
    page.locator(f"{SHOWN} h3 a").first.focus()
    focused = "document.activeElement.closest('.unit').dataset.unit"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == order[1]
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == order[1 + 4]  # four columns at this width
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page.locator("[aria-current=page]")).to_have_text(f"unit {order[0]}")
    expect(page.locator(".masks")).to_be_visible()  # the script of the page has run
    page.keyboard.press("ArrowRight")
    expect(page.locator("[aria-current=page]")).to_have_text(f"unit {int(order[0]) + 1}")
    expect(page.locator(".masks")).to_be_visible()
    page.keyboard.press("u")
    expect(page).to_have_url(f"{layer}#unit={int(order[0]) + 1}")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("u")
    expect(page.locator("[aria-current=page]")).to_have_text("Overview")


def test_next_follows_the_order_and_the_filters_of_the_grid(page: Page, layer: str) -> None:
    page.goto(f"{layer}#sort=label&category=color")
    order = [str(int(number)) for number in numbers(page, "unit")]
    assert order != sorted(order, key=int)
    page.locator(f"{SHOWN} h3 a").first.click()
    expect(page.locator("[rel=prev]")).to_have_count(0)
    for unit in order[1:]:
        page.keyboard.press("ArrowRight")
        expect(page.locator("[aria-current=page]")).to_have_text(f"unit {unit}")
        expect(page.locator(".masks")).to_be_visible()
    expect(page.locator("[rel=next]")).to_have_count(0)


def test_masks_are_switched_and_remembered(page: Page, layer: str) -> None:
    page.goto(layer)
    mask = page.locator(".tile svg").first
    unit = mask.locator(".u")
    style = "(node, name) => getComputedStyle(node)[name]"
    assert mask.evaluate(style, "mixBlendMode") == "hard-light"
    expect(page.locator(".regions")).to_be_hidden()
    page.get_by_text("outline", exact=True).click()
    assert (mask.evaluate(style, "mixBlendMode"), unit.evaluate(style, "fill")) == ("normal", "none")
    page.keyboard.press("Tab")  # away from the switch
    page.keyboard.press("m")
    for region, color in REGION_COLORS.items():
        shown = page.locator(f".regions .{region.replace(' ', '-')}").evaluate(style, "backgroundColor")
        assert shown == f"rgb({', '.join(str(int(color[at : at + 2], 16)) for at in (1, 3, 5))})"
    assert unit.evaluate(style, "fill") == page.locator(".regions .unit-only").evaluate(style, "backgroundColor")
    page.reload()
    expect(page.locator(".regions")).to_be_visible()
    page.keyboard.press("m")
    expect(mask).to_be_hidden()
    page.reload()
    expect(page.locator(".tile svg").first).to_be_hidden()


def test_masks_of_unit_and_concept_are_drawn_as_they_were_scored(
    page: Page, layer: str, result: Result, data_set: ConceptData
) -> None:
    page.goto(layer)
    page.keyboard.press("m")
    page.keyboard.press("m")
    label = result.layers["block.1"].units.filter(unit=0)["label"][0]
    label_id = result.concepts.filter(concept=label)["label_id"].item()
    page.goto(layer.replace("index.html", "u0.html"))
    tiles = page.locator(".images .gallery").first.locator(".tile")
    views = unit_view(LayerTables(number_runs([result])[0], 0), 0, 25).top_images
    assert tiles.count() == len(views)
    shown_in = [(data_set.labels(view.index).label_channels == label_id).any() for view in views]
    expect(tiles.locator(".c")).to_have_count(int(sum(shown_in)))  # read from the script of each image
    concepts = 0
    for tile, view in zip(tiles.all(), views, strict=True):
        labels = data_set.labels(view.index).label_channels == label_id
        drawn = tile.locator(".c")
        shown = held(drawn.get_attribute("d") or "", view.size) if drawn.count() else np.zeros(view.size, bool)
        np.testing.assert_array_equal(shown, labels.any(axis=0))
        np.testing.assert_array_equal(
            held(tile.locator(".u").get_attribute("d") or "", view.size), held(view.unit, view.size)
        )
        concepts += int(labels.any())
        of_image = f"{view.pixels['overlap']:,} / {sum(view.pixels.values()):,}"
        expect(tile.locator("xpath=..").locator(".regions-only")).to_have_text(of_image)
    assert concepts > 0
    expect(page.get_by_role("heading", name="How the IoU comes about")).to_be_visible()


def test_links_lead_from_the_overview_to_concepts_and_their_units(page: Page, site: Path) -> None:
    page.goto((site / "index.html").as_uri())
    found = page.locator(".found a").first
    name = found.inner_text()
    found.click()
    expect(page.locator("h1")).to_have_text(name)
    page.locator(".ranked a").first.click()
    expect(page.locator("h1")).to_have_text(name)
    page.get_by_role("link", name="block.1").click()
    expect(page.locator("h1")).to_have_text("block.1")
    page.get_by_role("link", name="Concepts").click()
    page.locator("input[type=search]").fill("script")
    expect(page.locator(".entry:not([hidden])")).to_have_count(1)


def test_a_script_as_label_stays_text(page: Page, site: Path) -> None:
    page.goto((site / "concepts/index.html").as_uri())
    page.get_by_role("link", name="disk <script>alert(1)</script>").click()
    expect(page.locator("h1")).to_have_text("disk <script>alert(1)</script>")


def test_the_table_of_concepts_is_sorted_by_its_headers(page: Page, site: Path) -> None:
    page.goto((site / "concepts/index.html").as_uri())
    page.get_by_role("button", name="concept", exact=True).press("Enter")
    names = page.locator(".sortable tbody th").all_inner_texts()
    assert names == sorted(names)
    page.locator(".sortable").get_by_role("button", name="pixel share").click()
    shares = page.locator(".sortable tbody td:nth-child(4)").evaluate_all("c => c.map(x => Number(x.dataset.value))")
    assert shares == sorted(shares, reverse=True)


PAGES = {
    "overview": "index.html", "layer": "r0/l0/index.html", "unit": "r0/l0/u0.html", "dead": "r0/l0/u6.html",
    "no-detectors": "r1/l0/index.html", "concepts": "concepts/index.html", "concept": "concepts/c0.html",
    "terms": "terms.html", "statistics-layer": "statistics/r0/l0/index.html",
    "statistics-unit": "statistics/r0/l0/u0.html",
}  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_have_no_barrier_that_axe_finds(browser: Browser, site: Path, scheme: str) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    for name, path in PAGES.items():
        page.goto((site / path).as_uri())
        if page.locator("[data-term]").count():
            page.locator("[data-term]").first.focus()  # opens its definition
        found = Axe().run(page)
        assert found.violations_count == 0, (name, found.generate_report())
    page.close()


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_the_first_screen_shows_the_count_images_and_on_a_wide_screen_the_chart(
    page: Page, site: Path, width: int, height: int
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.goto((site / "index.html").as_uri())
    shown = [page.locator(".lead").first, page.locator(".wall img").first]
    shown += [page.locator(".front .chart svg")] if width == 1440 else []
    for part in shown:
        box = part.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < height
    first = page.locator(".wall li").first
    assert "block.1" in first.inner_text()
    concept = first.locator("b").inner_text()
    first.locator("a").click()
    expect(page.locator("h1")).to_have_text(concept)


@pytest.mark.parametrize("width", [1440, 768, 390])
def test_pages_fit_the_screen_and_images_load(page: Page, site: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    for name, path in PAGES.items():
        page.goto((site / path).as_uri())
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        image = page.locator(".tile img")
        if image.count():
            image.first.scroll_into_view_if_needed()
            loaded = "image => image.complete && image.naturalWidth > 0"
            page.wait_for_function(loaded, arg=image.first.element_handle())
        screenshots.keep(page, f"report-{name}-{width}")


def test_a_term_opens_its_definition_by_hover_focus_and_tap(page: Page, site: Path) -> None:
    page.goto((site / "statistics/r0/l0/u0.html").as_uri())
    definition = page.get_by_role("tooltip")
    terms = page.locator("[data-term]:visible")
    terms.first.hover()
    expect(definition).to_contain_text("Intersection over union")
    page.locator(".gallery").first.hover()
    expect(definition).to_be_hidden()
    terms.nth(1).focus()
    expect(definition).to_be_visible()
    page.keyboard.press("Tab")
    expect(definition.get_by_role("link")).to_be_focused()
    page.keyboard.press("Escape")
    expect(definition).to_be_hidden()
    page.set_viewport_size({"width": 390, "height": 800})
    terms.nth(2).click()
    box = definition.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    definition.get_by_role("link").click()
    expect(page.locator("dt:target")).to_be_visible()


def test_on_a_phone_the_overview_shows_the_null_of_every_layer(page: Page, site: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto((site / "statistics/index.html").as_uri())
    cut = """() => {
      for (const name of document.querySelectorAll(".layers code")) name.textContent = "conv5@rotation-0";
      for (const row of document.querySelectorAll(".layers tbody tr")) row.lastElementChild.textContent = "0.07 ± 0.02";
      const region = document.querySelector(".layers").parentNode;
      return region.scrollWidth - region.clientWidth;
    }"""
    assert page.evaluate(cut) == 0


def test_on_a_phone_the_categories_of_a_layer_do_not_widen_the_page(page: Page, layer: str) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(layer)
    page.locator(".toggles").evaluate(
        "all => { for (let at = 0; at < 8; at++) all.append(all.lastElementChild.cloneNode(true)); }"
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_images_that_are_not_drawn_yet_leave_no_markup_on_the_page(page: Page, layer: str) -> None:
    page.add_init_script("window.IntersectionObserver = class { observe() {} unobserve() {} }")
    page.goto(layer)
    assert page.locator(".tiles > noscript").count() > 0
    assert "<span" not in page.locator(".units").inner_text()


def test_without_script_every_unit_is_shown(browser: Browser, layer: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(layer)
    assert page.locator(".unit:visible").count() == 8
    expect(page.locator(".controls")).to_be_hidden()
    page.locator(".unit h3 a").first.click()
    expect(page.locator("[aria-current=page]")).to_contain_text("unit")
    context.close()


def test_a_unit_leads_to_similar_units_and_the_map_of_its_layer_leads_to_it(page: Page, layer: str) -> None:
    page.goto(layer)
    assert page.locator("main section").first.get_attribute("id") == "units"
    point = page.locator(".unit-map a", has=page.locator("title", has_text="unit 0")).first
    expect(point.locator("circle")).to_be_visible()
    point.evaluate("link => link.dispatchEvent(new MouseEvent('click', { bubbles: true }))")
    expect(page).to_have_url(f"{layer.removesuffix('index.html')}u0.html")
    assert page.locator(".band b").all_inner_texts() == ["top", "50 %", "at random"]
    page.locator("#range").scroll_into_view_if_needed()
    expect(page.locator(".band img").first).to_have_js_property("complete", True)
    first = page.locator("#similar li").first
    assert first.locator("small").last.inner_text().startswith("r = 0.")
    number = first.locator("small").first.inner_text()
    first.locator("a").click()
    expect(page.locator(".kicker")).to_contain_text(number)


def test_the_copy_menu_saves_counts_with_intervals_and_the_course_over_layers(
    page: Page, site: Path, with_statistics: Result
) -> None:
    page.goto((site / "statistics/r0/l0/index.html").as_uri())
    rows = json.loads(copy_menu.saved(page.get_by_role("group", name="Table of counts"), "Save JSON").read_text())
    total = next(row for row in rows if row["name"] == "total")
    counts = with_statistics.layers["block.1"].statistics["counts"].collect()
    for quantile, rule in itertools.product((0.05, 0.1), RULES):
        own = counts.filter(quantile=quantile, rule=rule, category="total").row(0, named=True)
        for name in ("unique_detectors_ci_low", "unique_detectors_ci_high", "null_unique_detectors"):
            assert total[f"{rule} {quantile:g} {name}"] == own[name]
    page.goto((site / "statistics/index.html").as_uri())
    points = json.loads(copy_menu.saved(page.locator("#depth"), "Save JSON").read_text())
    assert [row["layer"] for row in points] == list(with_statistics.layers)
    for row in points:
        entry = next(
            each for each in with_statistics.detectors() if (each.layer, each.quantile) == (row["layer"], 0.05)
        )
        assert row["unique_detectors"] == entry.count.unique_detectors["total"]
    assert (points[0]["unique_detectors_ci_low"], points[0]["null_unique_detectors"]) == (1.0, 0.5)


def test_the_copy_menu_saves_a_table_a_card_and_a_chart(page: Page, layer: str, result: Result) -> None:
    page.goto(layer.replace("index.html", "u0.html"))
    table = page.get_by_role("group", name="Table of concepts")
    rows = json.loads(copy_menu.saved(table, "Save JSON").read_text())
    exact = table.locator("tbody tr").evaluate_all(
        "all => all.map(row => [...row.cells].map(each => each.dataset.value))"
    )
    assert rows
    assert [list(row.values())[1:] for row in rows] == [[float(value) for value in row[1:]] for row in exact]
    assert [row["concept"] for row in rows] == table.locator("tbody th").all_inner_texts()
    with copy_menu.saved(table, "Save CSV").open(newline="") as file:
        assert list(csv.DictReader(file)) == [{name: str(value) for name, value in row.items()} for row in rows]
    copy_menu.assert_pixels(table, table.locator("table"))
    page.goto(layer)
    card = page.locator(".unit.detector").first
    [row] = json.loads(copy_menu.saved(card, "Save JSON").read_text())
    best = result.layers["block.1"].units.filter(unit=row["unit"]).row(0, named=True)
    assert (row["label"], row["iou"], row["state"]) == (best["label"], best["iou"], "detector")
    chart = page.get_by_role("group", name="Distribution of IoU")
    copy_menu.assert_pixels(chart, chart)
    opener = chart.get_by_role("button", name="Copy or save")
    opener.press("Enter")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("menuitem", name="Save PNG")).to_be_focused()
    assert Axe().run(page, options={"preload": False}).response["violations"] == []
    page.keyboard.press("Escape")
    expect(opener).to_be_focused()
    layer_units = result.layers["block.1"].units.filter(quantile=0.05)
    intervals = json.loads(copy_menu.saved(chart, "Save JSON").read_text())
    named = [name for name in intervals[0] if not name.startswith("iou_")]
    for name in named:
        own = layer_units.filter(pl.col("category").eq_missing(None if name == "no concept" else name))["iou"]
        inside = [((row["iou_from"] <= own) & (own < row["iou_to"])).sum() for row in intervals]
        assert [row[name] for row in intervals] == inside
    assert sum(row[name] for row in intervals for name in named) == 8
    bars = json.loads(copy_menu.saved(page.get_by_role("group", name="Bar graph of concepts"), "Save JSON").read_text())
    detectors = layer_units.filter(pl.col("iou") >= 0.04).drop_nulls("label")
    counted = dict(detectors.group_by("label").len().rows())
    assert {row["concept"]: row["detectors"] for row in bars} == counted
    for bar in bars:
        assert bar["best_iou"] == detectors.filter(label=bar["concept"])["iou"].max()
    points = json.loads(copy_menu.saved(page.locator(".unit-map"), "Save JSON").read_text())
    labels_of = dict(layer_units.select("unit", "label").rows())
    assert points
    assert all(point["label"] == labels_of[point["unit"]] for point in points)
    copy_menu.open_menu(card)
    expect(page.get_by_role("menuitem", name="Save PNG")).to_be_hidden()
    expect(page.locator(".copy-menu p")).to_contain_text("netdissect serve")
    page.evaluate("() => { navigator.clipboard.writeText = async () => { throw new Error('not allowed'); }; }")
    page.get_by_role("menuitem", name="Copy link").click()
    link = page.get_by_label("Link, to be copied by hand")
    expect(link).to_have_value(layer.replace("index.html", f"u{row['unit']}.html"))
    assert link.evaluate("field => field.selectionEnd - field.selectionStart") == len(link.input_value())
    page.emulate_media(media="print")
    expect(page.locator(".copy").first).to_be_hidden()
