"""The explorer in a real browser, from a real server: sliders, uploads, comparison, rating."""

import csv
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

import copy_menu
import screenshots
from explorer_client import HOSTILE, Pair, image_bytes, serving
from netdissect.explorer import create_app

pytestmark = pytest.mark.browser

LAYER = "/r0/l0/"
PAGES = (
    "/training.html",
    "/",
    LAYER,
    f"{LAYER}u1.html",
    "/concepts/",
    "/concepts/c1.html",
    "/image",
    "/compare",
    "/rate",
    "/about",
)


@pytest.fixture(scope="module")
def home(pair: Pair, training: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    ratings = tmp_path_factory.mktemp("ratings") / "ratings.sqlite"
    with serving(create_app(pair.folders, network=pair.given, ratings=ratings, training=training)) as address:
        yield address


def outlines(page: Page) -> list[str]:
    return page.locator(".tile path").evaluate_all("paths => paths.map(path => path.getAttribute('d'))")  # type: ignore[no-any-return]


def slide(page: Page, name: str, value: float) -> None:
    page.locator(f"#{name}").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }", value
    )


def test_every_page_is_accessible_fits_every_screen_and_holds_no_markup_from_data(page: Page) -> None:
    for number, address in enumerate(PAGES):
        page.goto(address)
        page.wait_for_load_state("networkidle")  # half a second without a request
        for width in (1440, 768, 390):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (address, width)
            screenshots.keep(page, f"explorer-{number}-{width}")
        violations = Axe().run(page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in violations] == [], address
    assert page.locator("script:not([src])").count() == 0


def test_the_quantile_changes_masks_and_the_iou_changes_detectors(page: Page) -> None:
    page.goto(LAYER)
    expect(page.locator(".unit")).to_have_count(4)
    expect(page.get_by_text("Measured by the run: masks, labels and counts are of the same quantile.")).to_be_visible()
    page.locator(".tile path").nth(20).wait_for(state="attached")
    before, labels = outlines(page), page.locator(".unit").evaluate_all("all => all.map(each => each.dataset.label)")
    slide(page, "quantile", 560)
    expect(page.get_by_text("Labels and counts remain those measured at")).to_be_visible()
    page.wait_for_function("before => document.querySelector('.tile path').getAttribute('d') !== before", arg=before[0])
    assert outlines(page) != before
    assert page.locator(".unit").evaluate_all("all => all.map(each => each.dataset.label)") == labels
    detectors = page.locator(".unit.detector").count()
    slide(page, "min-iou", 0.3)
    expect(page.locator(".unit.detector")).to_have_count(0)
    assert detectors > 0
    expect(page.locator(".lead")).to_contain_text("None of the 4 units")
    page.reload()
    expect(page.locator(".lead")).to_contain_text("None of the 4 units")
    expect(page.locator("[data-slider=limit] output")).to_have_text("0.300")
    expect(page.locator("[data-slider=quantile] output")).not_to_have_text("2.0 %")


def test_units_are_found_and_the_way_back_and_the_keys_keep_what_was_found(page: Page) -> None:
    page.goto(LAYER)
    expect(page.locator(".unit")).to_have_count(4)
    page.keyboard.press("/")
    page.keyboard.type("#2")
    expect(page.locator(".unit")).to_have_count(1)
    expect(page.locator(".shown-count")).to_have_text("1 of 4")
    page.locator(".unit h3 a").click()
    expect(page).to_have_url(re.compile(f"{LAYER}u2.html#q=%232"))
    expect(page.locator(".gallery .tile").first).to_be_visible()
    masks = outlines(page)
    slide(page, "quantile", 560)
    expect(page.get_by_text("Labels and counts remain those measured at")).to_be_visible()
    assert outlines(page) != masks
    page.go_back()
    expect(page.locator(".unit")).to_have_count(1)
    page.go_forward()
    expect(page.get_by_text("Labels and counts remain those measured at")).to_be_visible()
    expect(page.locator(".masks")).to_be_visible()
    expect(page.locator("[rel=next]")).to_have_count(0)  # it is the only unit that was found
    page.keyboard.press("m")
    assert page.evaluate("document.documentElement.dataset.masks") == "outline"
    page.keyboard.press("u")
    expect(page.locator(".unit")).to_have_count(1)
    assert "quantile=" + page.locator("[name=quantile]").input_value() in page.url
    expect(page.get_by_role("heading", name="Units", exact=True)).to_be_in_viewport()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()


def test_all_units_are_shown_on_demand_and_found_again_by_going_back(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 600})
    page.goto(f"{LAYER}?limit=2")
    expect(page.locator(".shown-count")).to_have_text("2 of 4 shown")
    page.get_by_role("button", name="Show all units").click()
    expect(page.locator(".unit")).to_have_count(4)
    expect(page.get_by_role("button", name="Show all units")).to_be_hidden()
    units = page.locator(".unit").evaluate_all("all => all.map(each => each.dataset.unit)")
    page.locator(".unit h3 a").nth(3).scroll_into_view_if_needed()
    page.wait_for_function("() => history.state?.offset === 2")
    before = page.locator(".unit").nth(3).evaluate("node => node.getBoundingClientRect().top")
    page.locator(".unit h3 a").nth(3).click()
    expect(page).to_have_url(re.compile("html"))
    page.go_back()
    expect(page.locator(".unit")).to_have_count(4)
    assert page.locator(".unit").evaluate_all("all => all.map(each => each.dataset.unit)") == units
    page.wait_for_function(
        "top => Math.abs(document.querySelectorAll('.unit')[3].getBoundingClientRect().top - top) < 2", arg=before
    )


def test_the_charts_of_a_layer_are_drawn_when_the_reader_comes_near(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 200})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(LAYER)
    expect(page.locator(".unit")).to_have_count(4)
    link = page.locator("#iou[data-later] a")
    address = link.get_attribute("href") or ""
    expect(page.locator("#iou svg")).to_have_count(0)
    assert not any("charts=true" in each for each in asked)
    link.scroll_into_view_if_needed()
    expect(page.locator("#iou svg")).to_be_visible()
    expect(page.locator("[data-later]")).to_have_count(0)
    assert sum("charts=true" in each for each in asked) == 1
    # The link leads there without a script, too.
    page.goto(LAYER + address)
    expect(page.locator("#iou svg")).to_be_visible()


def test_only_cards_near_the_screen_are_in_the_page(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 600})
    page.goto(f"{LAYER}?limit=2")
    # The two units of a request fill ten screens, so that those of the first are far from the last.
    page.evaluate("document.styleSheets[0].insertRule('.unit { min-height: 3000px }', 0)")
    page.get_by_role("button", name="Show all units").click()
    page.evaluate("scrollTo(0, 0)")  # the click scrolls to the button, and units that arrive above it may keep it there
    first, last = page.locator(".block").first, page.locator(".block").last
    expect(first.locator(".unit")).to_have_count(2)
    expect(last.locator(".unit")).to_have_count(0)
    height = first.evaluate("block => block.offsetHeight")
    last.evaluate("block => block.scrollIntoView({ block: 'end' })")
    expect(last.locator(".unit")).to_have_count(2)
    expect(first.locator(".unit")).to_have_count(0)
    assert first.evaluate("block => block.offsetHeight") == height


def test_an_image_is_dissected_and_a_point_lists_the_units_active_there(page: Page) -> None:
    page.goto("/image")
    page.select_option("select[name=layer]", "0")
    slide(page, "quantile", 1000)
    page.set_input_files(
        "input[type=file]", {"name": "x.png", "mimeType": "image/png", "buffer": image_bytes((48, 32))}
    )
    expect(page.locator(".answer .unit").first).to_be_visible()
    own = page.locator(".tile.own path").first  # hard light of this gray leaves the image as it is
    assert own.evaluate("path => getComputedStyle(path).fill") == "rgb(128, 128, 128)"
    segments = page.locator(".legend button").count()
    assert segments > 0
    assert page.locator(".canvas .segments path").count() == segments
    expect(page.locator(".canvas .segments")).to_be_visible()
    page.locator(".legend button").first.click()
    expect(page.locator(".canvas .mask")).to_be_visible()
    expect(page.locator(".canvas .segments")).to_be_hidden()
    outline = page.locator(".legend button").first.get_attribute("data-outline")
    assert page.locator(".canvas .mask path").get_attribute("d") == outline
    page.locator(".seen > button").nth(1).click()
    outline = page.locator(".seen").nth(1).get_attribute("data-outline")
    assert page.locator(".canvas .mask path").get_attribute("d") == outline
    with page.expect_download() as download:
        page.get_by_role("link", name="SVG").click()
    assert "<svg" in Path(download.value.path()).read_text()
    everywhere = page.locator(".answer .unit").count()
    page.locator(".point").click(position={"x": 5, "y": 5})
    expect(page.get_by_role("heading", name="Units active at the point")).to_be_visible()
    expect(page.locator(".cross")).to_be_visible()
    assert page.locator(".answer .unit").count() <= everywhere
    page.locator(".point").focus()
    for key in ("ArrowRight", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.get_by_role("button", name="Whole image").click()
    expect(page.get_by_role("heading", name="Active units", exact=True)).to_be_visible()
    expect(page.locator(".answer .unit")).to_have_count(everywhere)


def test_classes_are_compared_with_and_without_units_on_a_page_that_fits_and_is_accessible(page: Page) -> None:
    page.goto("/image?layer=1&quantile=0.2")
    page.wait_for_load_state("networkidle")
    page.set_input_files(
        "input[type=file]", {"name": "x.png", "mimeType": "image/png", "buffer": image_bytes((48, 32))}
    )
    concept = page.locator("select[name=ablated] option").first.get_attribute("value")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".classes li")).to_have_count(3)
    expect(page.locator("[data-part=classes] p").first).to_contain_text(f"of {concept} in deep_relu the network says")
    page.select_option("select[name=ablated]", label=page.locator("optgroup").last.locator("option").first.inner_text())
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("[data-part=classes] p").first).to_contain_text("Without unit")
    for width in (1440, 768, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        screenshots.keep(page, f"explorer-image-{width}")
    violations = Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in violations] == []


def test_a_slider_follows_the_concepts_of_a_training(page: Page) -> None:
    page.goto("/training.html")
    shown = page.locator(".snapshot:visible")
    expect(shown).to_have_count(1)
    expect(shown).to_contain_text("After 200 steps")
    slide(page, "t0c0-step", 0)
    expect(shown).to_contain_text("After 10 steps")
    expect(page.locator(".course output")).to_have_text("10")
    expect(shown.locator(".mark")).to_have_count(0)
    assert page.url.endswith("#t0c0s0")
    page.reload()
    expect(shown).to_contain_text("After 10 steps")
    page.locator(".steps-chart a").last.click()
    expect(shown).to_contain_text("After 200 steps")
    shown.locator("a").first.click()
    expect(page).to_have_url(re.compile(r"/r1/l1/u\d+\.html"))


def test_a_file_that_is_not_an_image_is_refused_on_the_page(page: Page) -> None:
    page.goto("/image")
    page.wait_for_load_state("networkidle")
    page.set_input_files("input[type=file]", {"name": "a <b>.gif", "mimeType": "image/gif", "buffer": b"GIF89a"})
    expect(page.get_by_role("alert")).to_have_text("a <b>.gif is not a JPEG, PNG or WebP image.")


def test_an_image_of_the_data_set_opens_from_a_unit(page: Page) -> None:
    page.goto(f"{LAYER}u1.html")
    page.locator(".gallery a").first.click()
    expect(page.locator(".canvas img")).to_be_visible()
    expect(page.locator(".answer")).to_be_visible()


def test_two_runs_are_compared_and_their_units_matched(page: Page) -> None:
    page.goto("/compare")
    expect(page.locator(".scatter circle").first).to_be_visible()
    expect(page.locator(".lead")).to_contain_text("gained")
    texts = page.locator(".scatter text")
    written = texts.evaluate_all("all => all.map((each) => each.textContent)")
    for title in page.locator("table.counts thead th").all_inner_texts():
        assert title in written  # of an axis
    boxes = texts.evaluate_all("all => all.map((each) => each.getBoundingClientRect().toJSON())")
    for one, other in itertools.combinations(boxes, 2):
        apart = (one["left"] - other["right"], other["left"] - one["right"],
                 one["top"] - other["bottom"], other["top"] - one["bottom"])  # fmt: skip
        assert max(apart) > -1, (one, other)
    concepts = page.locator(".changes li").evaluate_all("all => all.map((each) => each.textContent)")
    assert any(concept.startswith(text) for text in written for concept in concepts)
    page.evaluate(
        "for (const each of document.querySelectorAll('.of-side option')) each.text = 'a long name of a run '.repeat(3)"
    )
    for width in (390, 768, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
    page.select_option("select[name=rule]", "per-category")
    expect(page).to_have_url(re.compile("rule=per-category"))
    assert page.locator(".sentences li").last.inner_text().startswith("second, deep_relu minus First run, deep_relu: ")
    compared = json.loads(copy_menu.saved(page.locator("figure.chart"), "Save JSON").read_text())
    result = page.evaluate(
        "address => fetch(address).then((answer) => answer.json())", f"/api/compare{page.url[page.url.index('?') :]}"
    )
    values = {each["concept"]: (each["left_iou"], each["right_iou"]) for each in result["concepts"]}
    assert {row["concept"]: (row["left_iou"], row["right_iou"]) for row in compared} == {
        name: both for name, both in values.items() if both != (None, None)
    }
    page.get_by_role("heading", name="Units matched by activation").scroll_into_view_if_needed()
    pair = page.locator(".matched li").first
    expect(pair.locator(".side")).to_have_count(2)
    expect(pair.locator(".tile img").first).to_have_js_property("complete", True)
    expect(pair.locator(".tie")).to_contain_text("r = ")
    expect(page.locator(".pairs")).to_contain_text("over 24 images")
    addresses = pair.locator("a").evaluate_all("links => links.map(link => new URL(link.href).pathname)")
    assert [re.sub(r"\d+\.html", "", address) for address in addresses] == ["/r0/l1/u", "/r1/l1/u"]


def test_the_layer_that_is_chosen_at_first_is_the_last_one_of_the_network(page: Page) -> None:
    page.goto("/image")
    chosen = page.evaluate("""async (layers) => {
      const { layerOptions } = await import("/static/lib.js");
      const select = document.createElement("select");
      const choose = (chosen) => (layerOptions(select, layers, chosen), [select.value, select.options.length]);
      return [choose(""), choose("2"), [...select.options].map((each) => each.text)];
    }""", [{"index": index, "name": name, "basis_of": source} for index, (name, source) in
           enumerate([("conv4", None), ("conv5", None), ("conv5@rotation-0", "conv5")])])  # fmt: skip
    assert chosen == [["1", 3], ["2", 3], ["conv4", "conv5", "conv5@rotation-0 (virtual: basis of conv5)"]]


def test_one_thing_is_counted_in_the_singular(page: Page) -> None:
    def answer(route: Route) -> None:
        body = route.fetch().json()
        body["changes"] = {"gained": 1, "lost": 2, "kept": 0}
        route.fulfill(json=body)

    page.route("**/api/compare*", answer)
    page.goto("/compare")
    expect(page.locator(".lead")).to_have_text("1 concept gained, 2 lost, 0 kept from left to right.")


def test_a_hostile_concept_is_shown_as_text(page: Page) -> None:
    page.goto("/concepts/?q=script")
    expect(page.locator(".entry:not([hidden])")).to_have_count(1)
    page.get_by_role("link", name=HOSTILE).click()
    expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
    page.go_back()
    expect(page.locator(".entry:not([hidden])")).to_have_count(1)


def test_a_rater_rates_by_keys_and_undoes_ratings(page: Page) -> None:
    page.goto("/rate")
    page.select_option("select[name=run]", "second")
    page.get_by_label("Your name").fill(f"Ann {HOSTILE}")
    page.get_by_role("button", name="Begin").click()
    done = page.locator(".rating output")
    expect(done).to_contain_text("0 of")
    first = page.locator(".phrase").inner_text()
    expect(page.locator(".fifteen .tile")).to_have_count(6)
    for count, key in enumerate("yns", 1):
        page.keyboard.press(key)
        expect(done).to_contain_text(f"{count} of")
    for count in (2, 1, 0):
        page.keyboard.press("u")
        expect(done).to_contain_text(f"{count} of")
    expect(page.locator(".phrase")).to_have_text(first)
    page.get_by_role("button", name="Yes").click()
    expect(done).to_contain_text("1 of")
    assert "IoU" not in page.locator(".rating").inner_text()
    page.get_by_role("button", name="End").click()
    expect(page.get_by_role("cell", name="second")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Ratings as CSV").click()
    assert Path(download.value.path()).read_text().startswith("run,layer,unit,label,iou,rater,rating,time\n")


def test_the_copy_menu_saves_the_images_of_a_card_and_its_values_as_a_table(page: Page, pair: Pair) -> None:
    page.goto(LAYER)
    card = page.locator(".unit").first
    tile = card.locator(".tile").first
    tile.wait_for()
    image = copy_menu.assert_pixels(card, card)
    here, whole = tile.bounding_box(), card.bounding_box()
    assert here is not None
    assert whole is not None
    left, top = 2 * (here["x"] - whole["x"]), 2 * (here["y"] - whole["y"])
    colors = image.crop((int(left), int(top), int(left + 2 * here["width"]), int(top + 2 * here["height"]))).getcolors(
        1 << 24
    )
    assert colors is not None
    assert len(colors) > 50
    [row] = json.loads(copy_menu.saved(card, "Save JSON").read_text())
    with copy_menu.saved(card, "Save CSV").open(newline="") as file:
        [cells] = csv.DictReader(file)
    assert cells == {name: str(value) for name, value in row.items()}
    layer = next(iter(pair.results[0].layers.values()))
    assert row["iou"] == layer.units.filter(unit=row["unit"])["iou"][0]
    page.goto(f"{LAYER}u1.html")
    bars = json.loads(copy_menu.saved(page.locator("#activation figure"), "Save JSON").read_text())
    histogram = layer.statistics["histogram"].filter(unit=1).collect()
    assert sum(row["activations"] for row in bars) == pytest.approx(histogram["count"].sum(), abs=len(bars) / 2)
    cells = json.loads(copy_menu.saved(page.locator("#firing figure"), "Save JSON").read_text())
    firing = layer.statistics["firing_map"].filter(unit=1).collect().select("y", "x", "count").rows()
    shown = {(row["y"], x): row[f"x = {x}"] for row in cells for x in range(layer.info.width)}
    assert {cell: count for cell, count in shown.items() if count} == {(y, x): count for y, x, count in firing if count}
