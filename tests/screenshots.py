"""Screenshots that the browser tests leave for a look, in `screenshots/` beside the tests."""

from pathlib import Path

from playwright.sync_api import Page

FOLDER = Path(__file__).resolve().parents[1] / "screenshots"


def keep(page: Page, name: str) -> None:
    """Keep an image of the whole page."""
    FOLDER.mkdir(exist_ok=True)
    page.screenshot(path=FOLDER / f"{name}.png", full_page=True)
