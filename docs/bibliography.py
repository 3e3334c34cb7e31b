"""The bibliography as a page of Markdown, and links to its entries.

`references.bib` -> entries under their short citation, such as "Bau et al. 2017" -> page and links
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

from pybtex.backends.markdown import Backend
from pybtex.database import Entry, parse_file
from pybtex.style.formatting.plain import Style

DOCS = Path(__file__).parent
PAGE = "reference/generated/bibliography.md"


@cache
def citations() -> dict[str, str]:
    """Return the short citation of each key; where two are the same, letters follow the year.

    Raises
    ------
    ValueError
        If two entries have the same short citation.
    """
    found = {key: _short(entry) for key, entry in _entries().items()}
    if len(set(found.values())) < len(found):
        raise ValueError(f"references.bib has entries of the same authors and year: {sorted(found.values())}")
    return found


def bibliography() -> str:
    """Return the page of all entries, by author."""
    formatted = Style().format_entries(_entries().values())
    texts = {entry.key: entry.text.render(Backend()) for entry in formatted}
    ordered = sorted(citations().items(), key=lambda item: item[1].lower())
    sections = [f"## {citation}\n\n{_clean(texts[key])}\n" for key, citation in ordered]
    return "\n".join(["# Bibliography\n", *sections])


def linked(text: str) -> str:
    """Replace the citations of a docstring, with the authors' names if they stand before, by links to the page."""

    def link(found: re.Match[str]) -> str:
        label = citations()[found["key"]]
        written = found["before"]
        address = f"bibliography.md#{label.lower().replace(' ', '-').replace('.', '')}"
        shown = written.strip() if written and re.search(r"\d{4}", written) else label
        return f"[{shown}]({address})"

    before = r"(?P<before>[A-Z][\w ,.-]{3,60}? (?:18|19|20)\d\d\s+)?"
    return re.sub(before + r":cite:[pt]:`(?P<key>\w+)`", link, text)


def _entries() -> dict[str, Entry]:
    found: Any = parse_file(str(DOCS / "references.bib")).entries
    return dict(found)


def _short(entry: Entry) -> str:
    names = [" ".join([*person.prelast_names, *person.last_names]) for person in entry.persons["author"]]
    authors = names[0] if len(names) == 1 else " and ".join(names) if len(names) == 2 else f"{names[0]} et al."
    return f"{authors} {entry.fields['year']}"


def _clean(text: str) -> str:
    """Undo what is escaped for Markdown without need."""
    return re.sub(r"\\([-.()!#])", r"\1", text).replace("\n", " ")
