"""Cells of CSV files that a spreadsheet would take for formulas.

Names of concepts, layers, images and raters come from others: a cell that begins with ``=``, ``+``, ``-`` or ``@``
would be run where the file is opened. Such a text is written with an apostrophe before it, which says "text" to a
spreadsheet, and read without it. Numbers stay numbers. `netdissect.result.csv_frames` does it to whole tables.

    escaped(text) -> cell        plain(cell) -> text
"""

import re

FORMULA = r"^('*[=+\-@\t\r])"
ESCAPED = r"^'('*[=+\-@\t\r])"


def escaped(text: str) -> str:
    """Return a text as a cell.

    >>> escaped("=1+1"), escaped("tree"), escaped("'=x")
    ("'=1+1", 'tree', "''=x")
    """
    return f"'{text}" if re.match(FORMULA, text) else text


def plain(cell: str) -> str:
    """Return the text of a cell: the inverse of `escaped`.

    >>> plain("'=1+1"), plain("tree"), plain("'tree'")
    ('=1+1', 'tree', "'tree'")
    """
    return cell[1:] if re.match(ESCAPED, cell) else cell
