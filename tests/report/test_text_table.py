"""Tables of text: nothing is missing at any width, and a program can read what goes into a pipe."""

import io
import subprocess
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from netdissect.report.text_table import Column, TextTable, wrapped

QUANTILES = ("0.005", "0.01", "0.02", "0.05", "0.1")
LAYERS = ("layer4", "model.encoder.layers.encoder_layer_11.mlp_with_a_long_name.0")
CATEGORIES = ("total", "object", "part", "scene", "material", "texture", "color")
TABLE = TextTable(
    [
        Column("layer", "text", key=True),
        Column("quantile", key=True),
        Column("units"),
        *map(Column, CATEGORIES),
        Column("next best label of a unit", "text", styles={"a  [red]b\n<c>": "red"}),
    ],
    [
        [layer, quantile, "3,072", *(f"{116 + row},000,000 / {41 + column}" for column in range(7)), "a  [red]b\n<c>", ]
        for layer in LAYERS
        for row, quantile in enumerate(QUANTILES)
    ],
    "Detectors and [bold]unique[/] detectors of a network with a long name on 63,305 images of a data set, by layer",
    ["A first note.", "A second note that is longer than a line of eighty columns and is wrapped at spaces there."],
)  # fmt: skip
NUMBERS = {cell for row in TABLE.rows for cell in row[1:-1]}


def on_terminal(table: TextTable, width: int, color: str | None = None) -> str:
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=True, color_system=color).print(table, soft_wrap=True)  # type: ignore[arg-type]
    return file.getvalue()


def blocks(text: str) -> list[list[list[str]]]:
    """Read the blocks of a printed table back: the lines of each, cut where columns begin and end."""
    found = []
    lines = text.splitlines()
    for at in (index for index, line in enumerate(lines) if line.startswith("──")):
        end = next((index for index in range(at, len(lines)) if not lines[index]), len(lines))
        body = lines[at + 1 : end]
        width = max(map(len, body))
        padded = [line.ljust(width) for line in body]
        gaps = [column for column in range(width) if all(line[column] == " " for line in padded)]
        cuts = [column for column in gaps if column - 1 in gaps]
        starts = [0, *(column + 1 for column in cuts if column + 1 not in cuts)]
        ends = [*starts[1:], width]
        found.append([[line[low:high].strip() for low, high in zip(starts, ends, strict=True)] for line in padded])
    return found


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_every_number_and_what_identifies_its_row_is_printed_at_any_width(width: int) -> None:
    text = on_terminal(TABLE, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    columns: list[list[str]] = []
    for block in blocks(text):
        begins = [index for index, row in enumerate(block) if row[1]]  # a number is on the first line of its row
        rows = [block[low:high] for low, high in zip(begins, [*begins[1:], len(block)], strict=True)]
        joined = [["".join(line[column] for line in row) for column in range(len(row[0]))] for row in rows]
        assert [row[:2] for row in joined] == [[layer, quantile] for layer in LAYERS for quantile in QUANTILES]
        columns += [list(column) for column in zip(*joined, strict=True)][2:]
    assert columns[:-1] == [list(column) for column in zip(*TABLE.rows, strict=True)][2:-1]
    assert columns[-1] == ["a [red]b <c>"] * 10
    assert (len(blocks(text)) > 1) is (width < 200)


def test_a_table_as_wide_as_the_terminal_stays_on_one_line_and_one_column_less_wraps_its_text() -> None:
    table = TextTable([Column("unit", key=True), Column("label", "text")], [["7", "traffic light of a street"]])
    wide = 4 + 2 + len("traffic light of a street")
    assert on_terminal(table, wide).splitlines() == [
        "unit  label", "─" * wide, "   7  traffic light of a street"
    ]  # fmt: skip
    assert on_terminal(table, wide - 1).splitlines()[2:] == ["   7  traffic light of a", "      street"]


def test_a_pipe_gets_each_row_whole_and_awk_reads_it() -> None:
    file = io.StringIO()
    Console(file=file, width=40, color_system="truecolor").print(TABLE, soft_wrap=True)
    text = file.getvalue()
    assert text == f"{TABLE}\n"
    assert not set("─\x1b…") & set(text)
    lines = text.splitlines()
    table = "\n".join(lines[2:13])
    program = '{ if (NF != 11) exit 1; printf "%s|%s|%s|%s\\n", $1, $2, $5, $NF }'
    done = subprocess.run(["awk", "-F", "  +", program], input=table, capture_output=True, text=True, check=True)
    rows = [line.split("|") for line in done.stdout.splitlines()]
    assert rows[0] == ["layer", "quantile", "object", "next best label of a unit"]
    assert rows[1:] == [[row[0], row[1], row[4], "a [red]b <c>"] for row in TABLE.rows]
    assert lines[0] == TABLE.title
    assert lines[-2:] == TABLE.notes


def test_an_empty_cell_is_a_dash_in_a_pipe_and_a_number_in_the_first_column_begins_the_line() -> None:
    table = TextTable([Column("unit", key=True), Column("label", "text"), Column("IoU")], [["7", "", "0.1"]])
    assert str(table).splitlines() == ["unit  label  IoU", "7     -      0.1"]
    assert on_terminal(table, 80).splitlines()[2] == "   7         0.1"


def test_values_have_the_colors_of_their_column_and_no_name_is_markup() -> None:
    column = Column("label", "text", key=True, styles={"car": "red"})
    text = on_terminal(TextTable([column], [["car"], ["[red]bus"]]), 80, "standard")
    assert "\x1b[31mcar\x1b[0m" in text
    assert "[red]bus" in text


def test_a_notebook_shows_the_whole_table_with_names_as_text() -> None:
    page = ET.fromstring(f"<div>{TABLE._repr_html_()}</div>")  # noqa: S314 - made here
    rows = [[cell.text or "" for cell in row] for row in page.iter("tr")]
    assert rows == [[column.name for column in TABLE.columns], *TABLE.rows]
    assert page.find(".//caption").text == TABLE.title  # type: ignore[union-attr]
    assert [note.text for note in page.iter("p")] == TABLE.notes


@pytest.mark.parametrize("width", [5, 7, 12])
def test_wrapping_keeps_every_character_and_no_line_is_too_long(width: int) -> None:
    text = "encoder.layers_11 a 日本語の名前です b"
    lines = wrapped(text, width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(len(line) + sum(ord(character) > 0x3000 for character in line) <= width for line in lines)
