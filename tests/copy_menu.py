"""The copy menu of a page, as a browser test uses it."""

from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator


def open_menu(item: Locator) -> None:
    """Open the menu of a card, chart or table."""
    item.scroll_into_view_if_needed()
    item.get_by_role("button", name="Copy or save").click()


def saved(item: Locator, choice: str) -> Path:
    """Choose an entry of the menu, and return the file that it saves."""
    open_menu(item)
    with item.page.expect_download() as download:
        item.page.get_by_role("menuitem", name=choice).click()
    return download.value.path()


def assert_pixels(item: Locator, shown: Locator) -> Image.Image:
    """Save an image of an item; assert that it has two pixels for each of the screen's, and more than one color."""
    with Image.open(saved(item, "Save PNG")) as image:
        image.load()
        size = "node => [Math.max(node.offsetWidth, node.scrollWidth), node.offsetHeight]"
        width, height = shown.evaluate(size)
        assert abs(image.width - 2 * width) < 3
        assert abs(image.height - 2 * height) < 3
        assert len(image.getcolors(1 << 24) or []) > 20
        return image
