"""Cells of tables with one label or several.

A table does not say whether ``car;person`` is two labels or one label with a synonym, and whether ``car person`` is two
labels or one of two words. A cell that looks like several labels is an error unless ``?separator=`` decides it.
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
    """Return the separator of labels in a cell; empty: cells are single labels; None: the option is not given.

    Raises
    ------
    SourceError
        If the option has an unknown value.
    """
    separator = spec.choice("separator", tuple(SEPARATORS))
    return None if separator is None else SEPARATORS[separator]


def split_cell(cell: str, separator: str | None) -> tuple[str, ...]:
    """Return the labels in a cell without repetitions; without a separator the cell is one label.

    Examples
    --------
    >>> split_cell("car|person|car", "|"), split_cell("['car', 'person']", ","), split_cell("traffic light", None)
    (('car', 'person'), ('car', 'person'), ('traffic light',))

    In brackets, quotes delimit the labels, whatever the separator, as in lists that NumPy prints:

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
    """Return the labels of a list in which all labels are in quotes; empty for other lists."""
    try:  # JSON may escape letters, and quotes within a label
        listed = json.loads(f"[{text}]")
    except (ValueError, RecursionError):
        listed = [single or double for single, double in QUOTED.findall(text)]
        if QUOTED.sub("", text).strip(", \n\t"):
            return ()
    if not all(isinstance(label, str) for label in listed):
        return ()
    parts = (label.strip() for label in listed)
    return tuple(dict.fromkeys(part for part in parts if part))


def find_list(cells: Iterable[str]) -> str | None:
    """Return a cell that looks like several labels: with a separator, in brackets, or of words that are labels.

    The words of a cell, separated by blanks or one of ``_/+-``, are labels if each of them is another cell by itself,
    or begins one cell and ends another.

    Examples
    --------
    >>> find_list(["car;person"]), find_list(["person", "dog", "person dog"]), find_list(["a b", "b c", "c a"])
    ('car;person', 'person dog', 'a b')
    >>> find_list(["person", "dog", "person_dog"]), find_list(["traffic light", "traffic sign", "light", "t-shirt"])
    ('person_dog', None)
    """
    distinct = list(dict.fromkeys(cell.strip() for cell in cells))
    listed = [cell for cell in distinct if any(mark in cell for mark in MARKS) or LIST.fullmatch(cell)]
    if listed:  # prefer a list of several labels, which shows the separator
        return next((cell for cell in listed if any(mark in cell for mark in MARKS)), listed[0])
    tokens = {cell: list(filter(None, WORDS.split(cell))) for cell in distinct}
    alone = {parts[0] for cell, parts in tokens.items() if parts == [cell]}
    longer = [parts for parts in tokens.values() if len(parts) > 1]
    free = alone | ({parts[0] for parts in longer} & {parts[-1] for parts in longer})
    return next((cell for cell, parts in tokens.items() if len(parts) > 1 and free.issuperset(parts)), None)


def check_cells(cells: Iterable[str], separator: str | None, where: str, spec: SourceSpec) -> None:
    """Raise an error for cells that look like several labels, unless a separator is given.

    Raises
    ------
    SourceError
        If there is such a cell; `where` names the table.
    """
    if separator is not None:
        return
    cell = find_list(cells)
    if cell is None:
        return
    listed = LIST.fullmatch(cell)
    marks = [name for name, sign in SEPARATORS.items() if sign and len(split_cell(cell, sign)) > 1]
    mark = "," if listed and (_quoted(listed[1]) or not marks) else (*marks, "space")[0]
    option = {**spec.options, "separator": mark}
    several = SourceSpec(spec.type, spec.location, spec.category, option).text
    parts = " and ".join(map(repr, split_cell(cell, SEPARATORS[mark])[:2]))
    raise SourceError(
        f"{where} holds the cell {cell[:80]!r}, which looks like several labels. Expected one label a cell, or the "
        f"mark between them: say ?separator={mark} ({several}) if it holds {parts}, or ?separator=none if it is one "
        "label (semicolons then separate its synonyms)."
    )
