"""Cells of tables that hold one label or several.

A table cannot say whether ``car;person`` is two labels or one with a synonym, whether ``car person`` is two or one of
two spec. What looks like several labels is asked about, and ``?separator=`` settles it.
"""

import json
import re
from collections.abc import Iterable

from netdissect.concepts.sources.spec import SourceSpec
from netdissect.errors import SourceError

SEPARATORS = {
    **{mark: mark for mark in (";", "|", ",", "/", "+", "_", "-")},
    "semicolon": ";",
    "pipe": "|",
    "comma": ",",
    "slash": "/",
    "space": " ",
    "none": "",
}
MARKS = ";|,\t\n"
WORDS = re.compile(r"[\s_/+-]+")
LIST = re.compile(r"\s*[\[({](.*)[\])}]\s*", re.DOTALL)
QUOTES = "\"' "
QUOTED = re.compile("'([^']*)'|\"([^\"]*)\"")


def parse_separator(spec: SourceSpec) -> str | None:
    """Return what separates the labels in a cell: one mark, empty for none; None unless the source says.

    Raises
    ------
    SourceError
        If it says something else.
    """
    separator = spec.choice("separator", tuple(SEPARATORS))
    return None if separator is None else SEPARATORS[separator]


def split_cell(cell: str, separator: str | None) -> tuple[str, ...]:
    """Return the labels in a cell, each once; without a separator the cell is one label.

    Examples
    --------
    >>> split_cell("car|person|car", "|"), split_cell("['car', 'person']", ","), split_cell("traffic light", None)
    (('car', 'person'), ('car', 'person'), ('traffic light',))

    In brackets quotes say where a label ends, whatever stands between them, as where NumPy wrote the list:

    >>> split_cell("['traffic light' 'car']", " "), split_cell('["door, sliding", "car"]', ",")
    (('traffic light', 'car'), ('door, sliding', 'car'))
    """
    if not separator:
        return (cell.strip(),) if cell.strip() else ()
    inner = LIST.fullmatch(cell)
    if inner and (quoted := _quoted(inner[1])):
        return quoted
    text = inner[1] if inner else cell
    parts = (part.strip(QUOTES) for part in (text.split() if separator == " " else text.split(separator)))
    return tuple(dict.fromkeys(part for part in parts if part))


def _quoted(text: str) -> tuple[str, ...]:
    """Return the labels of a list in which every label is in quotes; none if it is another one."""
    try:  # JSON may escape letters, and quotes within a label
        listed = json.loads(f"[{text}]")
    except (ValueError, RecursionError):
        listed = [single or double for single, double in QUOTED.findall(text)]
        if QUOTED.sub("", text).strip(", \n\t"):
            return ()
    if not all(isinstance(one, str) for one in listed):
        return ()
    parts = (one.strip() for one in listed)
    return tuple(dict.fromkeys(part for part in parts if part))


def find_list(cells: Iterable[str]) -> str | None:
    """Return a cell that looks like several labels: with a separator, in brackets, or of words that are labels.

    Words of a cell, between blanks or one of ``_/+-``, are labels if each stands alone in another cell, or begins one
    and ends another.

    Examples
    --------
    >>> find_list(["car;person"]), find_list(["person", "dog", "person dog"]), find_list(["a b", "b c", "c a"])
    ('car;person', 'person dog', 'a b')
    >>> find_list(["person", "dog", "person_dog"]), find_list(["traffic light", "traffic sign", "light", "t-shirt"])
    ('person_dog', None)
    """
    distinct = list(dict.fromkeys(cell.strip() for cell in cells))
    listed = [cell for cell in distinct if any(mark in cell for mark in MARKS) or LIST.fullmatch(cell)]
    if listed:  # of lists one that holds several shows what is between them
        return next((cell for cell in listed if any(mark in cell for mark in MARKS)), listed[0])
    tokens = {cell: list(filter(None, WORDS.split(cell))) for cell in distinct}
    alone = {parts[0] for cell, parts in tokens.items() if parts == [cell]}
    longer = [parts for parts in tokens.values() if len(parts) > 1]
    free = alone | ({parts[0] for parts in longer} & {parts[-1] for parts in longer})
    return next((cell for cell, parts in tokens.items() if len(parts) > 1 and free.issuperset(parts)), None)


def check_cells(cells: Iterable[str], separator: str | None, where: str, spec: SourceSpec) -> None:
    """Refuse cells that look like several labels, unless the source says how to read them.

    Raises
    ------
    SourceError
        If one does; `where` names the table.
    """
    if separator is not None:
        return
    found = find_list(cells)
    if found is None:
        return
    listed = LIST.fullmatch(found)
    marks = [name for name, sign in SEPARATORS.items() if sign and len(split_cell(found, sign)) > 1]
    mark = "," if listed and (_quoted(listed[1]) or not marks) else (*marks, "space")[0]
    option = {**spec.options, "separator": mark}
    several = SourceSpec(spec.type, spec.location, spec.category, option).text
    parts = " and ".join(map(repr, split_cell(found, SEPARATORS[mark])[:2]))
    raise SourceError(
        f"{where} holds the cell {found[:80]!r}, which looks like several labels. Expected one label a cell, or the "
        f"mark between them: say ?separator={mark} ({several}) if it holds {parts}, or ?separator=none if it is one "
        "label (semicolons then separate its synonyms)."
    )
