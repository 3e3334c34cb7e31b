"""Tables as text: complete at any width of a terminal, plain where there is none.

    TextTable -> a terminal (`rich`), plain text (`str`), a notebook (HTML)

A terminal wraps the columns of text of a table that is wider; numbers are never wrapped. Columns that still do not fit
are in further blocks, each with the columns that identify a row. A file or pipe gets one line for each row, however
long: columns are separated by two or more spaces, no cell is empty or has two spaces in a row, and there is no rule and
no color, so that ``awk -F '  +'`` reads it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import zip_longest
from typing import Literal

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.style import Style

GAP = "  "
MIN_TEXT = 12
"""Width to which a head or a column of text is narrowed before columns move to another block."""
EMPTY = "-"
"""An empty cell in a file or pipe."""
PLAIN, HEAD, RULE = Style(), Style(bold=True), Style(dim=True)

Spans = list[tuple[str, Style]]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes
    ----------
    name
        Its head.
    kind
        ``text`` is aligned to the left and wrapped if need be, ``number`` to the right and never wrapped.
    key
        Whether it identifies the row and is part of each block of columns.
    styles
        Style of its values on a terminal, such as the colors of categories.
    """

    name: str
    kind: Literal["text", "number"] = "number"
    key: bool = False
    styles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class TextTable:
    """A table; see the module for how it is printed.

    Attributes
    ----------
    columns
        Its columns; none: a table without rows, of which title and notes are shown.
    rows
        A cell for each column. Names are text: nothing in them is markup.
    title
        Lines above it.
    notes
        Lines below it.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    title: str = ""
    notes: Sequence[str] = ()

    def __repr__(self) -> str:
        """Return the table as it is written to a file or pipe."""
        cells = [[_plain(column.name) for column in self.columns], *(list(map(_plain, row)) for row in self.rows)]
        widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
        kinds = ["text" if not index else column.kind for index, column in enumerate(self.columns)]  # no spaces first
        lines = [GAP.join(_padded(*each) for each in zip(row, widths, kinds, strict=True)).rstrip() for row in cells]
        parts = ["\n".join(part) for part in ([self.title], lines, self.notes) if any(part)]
        return "\n\n".join(parts)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Print the table on a terminal of any width, or as plain text."""
        if not console.is_terminal:
            yield Segment(f"{self}\n")
            return
        for spans in self.lines(options.max_width):
            yield from (Segment(text, style) for text, style in spans)
            yield Segment.line()

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        head = "".join(f"<th>{escape(column.name)}</th>" for column in self.columns)
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in self.rows)
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return (
            f"<table><caption>{escape(self.title)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            f"{notes}"
        )

    def lines(self, width: int) -> list[Spans]:
        """Return the lines on a terminal of `width` columns, as texts and their styles."""
        lines: list[Spans] = [[(line, HEAD)] for part in self.title.splitlines() for line in wrapped(part, width)]
        for block in self._blocks(width):
            lines += [[], *self._block_lines(block, width)] if lines else self._block_lines(block, width)
        notes = [[(line, PLAIN)] for note in self.notes for line in wrapped(note, width)]
        return lines + ([[], *notes] if lines and notes else notes)

    def _blocks(self, width: int) -> Iterator[list[int]]:
        """Yield the columns of each block: those that identify the row, and as many others as fit."""
        least = [self._least(index) for index in range(len(self.columns))]
        keys = [index for index, column in enumerate(self.columns) if column.key]
        block: list[int] = []
        for index in (index for index, column in enumerate(self.columns) if not column.key):
            if block and _total(least[one] for one in [*keys, *block, index]) > width:
                yield [*keys, *block]
                block = []
            block.append(index)
        if self.columns:
            yield [*keys, *block]

    def _least(self, index: int) -> int:
        """Return the width to which a column can be narrowed: heads and texts are wrapped, numbers are not."""
        column, content = self.columns[index], self._content_width(index)
        word = min(MIN_TEXT, max(map(cell_len, column.name.split()), default=0))
        return max(word, content if column.kind == "number" else min(content, MIN_TEXT))

    def _content_width(self, index: int) -> int:
        return max((cell_len(_clean(row[index])) for row in self.rows), default=0)

    def _widths(self, block: Sequence[int], width: int) -> list[int]:
        """Return the widths of the columns of a block: heads are wrapped first, then the widest text."""
        least = [self._least(index) for index in block]
        heads = [cell_len(self.columns[index].name) for index in block]
        content = [max(self._content_width(index), low) for index, low in zip(block, least, strict=True)]
        widths = [max(pair) for pair in zip(heads, content, strict=True)]
        for limits in (content, least):
            while _total(widths) > width:
                narrowed = [at for at in range(len(block)) if widths[at] > limits[at]]
                if not narrowed:
                    break
                widths[max(narrowed, key=lambda at: widths[at])] -= 1
        return widths

    def _block_lines(self, block: Sequence[int], width: int) -> list[Spans]:
        widths, columns = self._widths(block, width), [self.columns[index] for index in block]
        heads = [column.name for column in columns]
        lines = [[(text, HEAD) for text, _ in spans] for spans in _row_lines(columns, heads, widths)]
        lines.append([("─" * _total(widths), RULE)])
        for row in self.rows:
            lines += _row_lines(columns, [_clean(row[index]) for index in block], widths)
        return lines


def _row_lines(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int]) -> list[Spans]:
    """Return the lines of one row; cells that are wrapped make several."""
    styles = [Style.parse(column.styles.get(cell, "")) for column, cell in zip(columns, cells, strict=True)]
    of_cells = [wrapped(cell, width) for cell, width in zip(cells, widths, strict=True)]
    lines = []
    for texts in zip_longest(*of_cells, fillvalue=""):
        spans: Spans = []
        for column, text, width, style in zip(columns, texts, widths, styles, strict=True):
            spans += [(_padded(text, width, column.kind), style), (GAP, PLAIN)]
        lines.append(_without_trailing_spaces(spans))
    return lines


def _without_trailing_spaces(spans: Spans) -> Spans:
    while spans and not spans[-1][0].strip():
        spans = spans[:-1]
    return [*spans[:-1], (spans[-1][0].rstrip(), spans[-1][1])] if spans else []


def wrapped(text: str, width: int) -> list[str]:
    """Break a text into lines at spaces; words that are longer than a line also after dots, and anywhere at last.

    >>> wrapped("the layer encoder.layers.encoderlayer", 10)
    ['the layer', 'encoder.', 'layers.', 'encoderlay', 'er']
    """
    lines: list[str] = []
    for word in text.split():
        if lines and cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines += _chopped(word, width)
    return lines or [""]


def _chopped(word: str, width: int) -> Iterator[str]:
    while cell_len(word) > width:
        most = chop_cells(word, width)[0]
        at = 1 + max(most.rfind(mark) for mark in "._/-") or len(most)
        yield word[:at]
        word = word[at:]
    if word:
        yield word


def _total(widths: Iterable[int]) -> int:
    known = list(widths)
    return sum(known) + len(GAP) * max(len(known) - 1, 0)


def _padded(text: str, width: int, kind: str) -> str:
    spaces = " " * (width - cell_len(text))
    return spaces + text if kind == "number" else text + spaces


def _clean(cell: str) -> str:
    return " ".join(cell.split())


def _plain(cell: str) -> str:
    return _clean(cell) or EMPTY
