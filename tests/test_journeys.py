"""Every page of `docs/journeys` is run: its commands and its Python print what it shows, numbers apart."""

import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
JOURNEYS = sorted((DOCS / "journeys").glob("*.md"))


def run_page(page: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, DOCS / "run_page.py", page], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("page", JOURNEYS, ids=lambda page: page.stem)
def test_a_journey_prints_what_its_page_shows(page: Path) -> None:
    done = run_page(page)
    assert done.returncode == 0, done.stderr


def test_a_page_that_shows_other_words_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh\necho 12 units\n```\n\n```text\n9 units\n```\n", encoding="utf-8")
    assert run_page(page).returncode == 0
    page.write_text("```python\nprint('12 units')\n```\n\n```text\n12 concepts\n```\n", encoding="utf-8")
    done = run_page(page)
    assert done.returncode == 1
    assert "-# concepts\n+# units" in done.stderr
    page.write_text("```sh\nfalse\n```\n", encoding="utf-8")
    assert "exit status 1" in run_page(page).stderr
