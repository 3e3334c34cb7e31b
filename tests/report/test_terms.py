"""Terms of the pages: each has its definition, which names a section of the documentation."""

import re
from pathlib import Path

import pytest

from netdissect.report import terms
from netdissect.report.terms import TERMS

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
