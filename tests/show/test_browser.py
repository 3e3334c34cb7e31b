"""The report in a real browser, opened from disk."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from netdissect.result import Result
from netdissect.show import report

pytestmark = pytest.mark.browser

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SHOWN = ".layer:not([hidden]) .unit:not([hidden])"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(result: Result, tmp_path_factory: pytest.TempPathFactory) -> str:
    return report(result, tmp_path_factory.mktemp("browser") / "report").as_uri()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Open an empty page that fails the test on any console message, error, dialog or request to the web."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("requestfailed", lambda request: trouble.append(request.url))
    page.on("request", lambda each: trouble.extend([each.url] * (not each.url.startswith(("file:", "data:")))))
    page.on("dialog", lambda dialog: trouble.append(dialog.message))
    yield page
    page.close()
    assert trouble == []


def labels(page: Page) -> list[str]:
    return page.locator(SHOWN).evaluate_all("cards => cards.map(card => card.dataset.label)")  # type: ignore[no-any-return]


def numbers(page: Page, key: str) -> list[float]:
    return page.locator(SHOWN).evaluate_all(f"cards => cards.map(card => Number(card.dataset.{key}))")  # type: ignore[no-any-return]


def test_cards_are_sorted_by_iou_label_or_unit(page: Page, address: str) -> None:
    page.goto(address)
    assert numbers(page, "iou") == sorted(numbers(page, "iou"), reverse=True)
    sort = page.locator(".layer:not([hidden]) select[name=sort]")
    sort.select_option("unit")
    assert numbers(page, "unit") == list(range(8))
    sort.select_option("label")
    named = [label for label in labels(page) if label]
    assert named == sorted(named)
    assert labels(page)[: len(named)] == named


def test_search_finds_labels_and_unit_numbers(page: Page, address: str) -> None:
    page.goto(address)
    page.keyboard.press("/")
    page.keyboard.type("RED")
    expect(page.locator(SHOWN)).not_to_have_count(8)
    assert labels(page)
    assert all("red" in label for label in labels(page))
    search = page.locator(".layer:not([hidden]) input[type=search]")
    search.fill("#6")
    assert numbers(page, "unit") == [6]
    search.fill("no such thing")
    expect(page.get_by_text("No unit matches.").first).to_be_visible()


def test_categories_and_states_filter_and_stay_in_the_address(page: Page, address: str) -> None:
    page.goto(address)
    page.locator(".layer:not([hidden]) .toggle[data-category=color]").click()
    kept = labels(page)
    assert kept
    assert all(label.endswith("-c") for label in kept)
    assert "category=color" in page.url
    page.goto("about:blank")
    page.go_back()
    assert labels(page) == kept
    page.get_by_role("button", name="Show all").click()
    page.locator(".layer:not([hidden]) select[name=show]").select_option("silent")
    assert sorted(numbers(page, "unit")) == [6, 7]


def test_layers_are_tabs_and_links_lead_to_units(page: Page, address: str) -> None:
    page.goto(address)
    page.get_by_role("navigation").get_by_role("link", name="head/<b>").click()
    expect(page.locator("#layer-1")).to_be_visible()
    expect(page.locator("#layer-0")).to_be_hidden()
    page.locator("#concepts a[href^='#u0-']").first.click()
    expect(page.locator("#layer-0")).to_be_visible()
    expect(page.locator(".found-here")).to_be_focused()
    page.go_back()
    expect(page.locator("#layer-1")).to_be_visible()


def test_a_script_as_label_stays_text(page: Page, address: str) -> None:
    page.goto(f"{address}#layer-0?q=%3Cscript%3E")
    page.locator(".sortable").scroll_into_view_if_needed()
    expect(page.locator("#concepts").get_by_text("disk <script>alert(1)</script>")).to_be_visible()


def test_the_table_of_concepts_is_sorted_by_its_headers(page: Page, address: str) -> None:
    page.goto(address)
    page.locator(".sortable").get_by_role("button", name="concept").press("Enter")
    names = page.locator(".sortable tbody th").all_inner_texts()
    assert names == sorted(names)
    page.locator(".sortable").get_by_role("button", name="coverage").click()
    shares = page.locator(".sortable tbody td:nth-child(4)").evaluate_all("c => c.map(x => Number(x.dataset.value))")
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("width", [1440, 768, 390])
def test_pages_fit_the_screen_and_pictures_load(page: Page, address: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    picture = page.locator(f"{SHOWN} .sheet img").first
    picture.scroll_into_view_if_needed()
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=picture.element_handle())


def test_a_report_without_detectors_opens(page: Page, nothing: Result, tmp_path: Path) -> None:
    page.goto(report(nothing, tmp_path / "report").as_uri())
    expect(page.locator(SHOWN)).to_have_count(3)
    expect(page.get_by_text("0 of 3 units are detectors")).to_be_visible()


def test_without_script_every_unit_is_shown(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator(".unit:not([hidden])").count() == 16
    expect(page.locator("#layer-1")).to_be_visible()
    expect(page.locator(".controls").first).to_be_hidden()
    context.close()
