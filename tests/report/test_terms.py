"""Terms of the pages: each has its definition, which names a section of the documentation."""

import re
from pathlib import Path

import pytest

from netdissect.report import report, terms
from netdissect.report.terms import TERMS
from netdissect.result import Result, summary

DOCS = Path(__file__).parents[2] / "docs"


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as MyST makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_term_that_is_defined_is_used_on_a_page_and_the_other_way_around() -> None:
    package = Path(terms.__file__).parents[1]
    text = "".join(page.read_text(encoding="utf-8") for page in package.glob("*/templates/*.j2"))
    assert set(re.findall(r"""\bterm\(["']([\w-]+)["'][,)]""", text)) == set(TERMS)


@pytest.mark.parametrize("name", TERMS)
def test_the_section_of_the_documentation_that_explains_a_term_exists(name: str) -> None:
    page, _, anchor = TERMS[name].docs.partition("#")
    assert anchor in anchors(DOCS / f"{page}.md")


@pytest.mark.parametrize("fewest", [1000, 2000])
def test_a_q_value_is_not_broken_over_two_lines(
    with_statistics: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fewest: int
) -> None:
    monkeypatch.setattr(summary, "SIGNIFICANCE_PERMUTATIONS", fewest)  # the second: how they are had is told
    report(with_statistics, tmp_path, unit_pages=1, progress=False)
    pages = [page.read_text(encoding="utf-8") for page in tmp_path.rglob("*.html")]
    found = [
        before for page in pages for before in re.findall(r"(<[^>]*>)?[^<>]*?(?<!#)\b[pq]-values?\b(?=[^<>]*<)", page)
    ]
    assert len(found) >= 4, "a word of the overview or of the layer, and three of the list of terms"
    assert set(found) == {'<span class="unbroken">'}
    assert ".unbroken { white-space: nowrap; }" in (tmp_path / "static" / "report.css").read_text(encoding="utf-8")
