"""Numbers in tables that somebody else wrote: read, or refused with the file's name, whatever stands there."""

import csv
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import strategies
from netdissect.concepts import ConceptData
from netdissect.concepts.csv_numbers import LARGEST, real_number, whole_number
from netdissect.concepts.inspect.inspect import inspect_dataset
from netdissect.concepts.sources import parse_source
from netdissect.concepts.transfer.subset_merge import merge
from netdissect.errors import ConceptsError, SourceError
from networks import COVERAGE, SIDE, images

HUGE = "9" * 5000


@given(st.text(max_size=8))
@example("\x1f7")  # a mark that strip takes away and int does not
@example("7\x1c")
@example(HUGE)  # more digits than int takes
@example("0" * 5000 + "7")
@example("٣")
@example("²")  # a digit, but no decimal one
@example("1_0")
@example("")
def test_a_text_is_a_number_or_none(text: str) -> None:
    number = whole_number(text)
    if number is None:
        assert not text.strip().isdecimal()
    else:
        digits = "".join(str(int(one)) for one in text.strip()).lstrip("0") or "0"
        assert number == (int(digits) if len(digits) <= 10 and int(digits) <= LARGEST else LARGEST)


@given(st.text(max_size=8))
@example("\x1f0.5")
@example("1e999")
@example("-inf")
@example("nan")
def test_a_text_is_a_finite_number_or_none(text: str) -> None:
    number = real_number(text)
    assert number is None or abs(number) < float("inf")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return strategies.write_broden(tmp_path / "broden", images(3), COVERAGE, image=(SIDE, SIDE))


def write(path: Path, column: str, value: str) -> None:
    """Put a value into a column of the first row of a table."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0][column] = value
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def use(root: Path) -> None:
    data = ConceptData.open(root)
    for row in range(len(data)):
        data.labels(row)


@pytest.mark.parametrize("value", ["\x1f12", "12\x1c"])
@pytest.mark.parametrize(
    ("table", "column"), [("index.csv", "sh"), ("index.csv", "ih"), ("c_object.csv", "number"), ("label.csv", "number")]
)
def test_a_number_beside_a_mark_that_nobody_sees_is_that_number(
    root: Path, tmp_path: Path, table: str, column: str, value: str
) -> None:
    with (root / table).open(newline="") as file:
        own = next(csv.DictReader(file))[column]
    write(root / table, column, value.replace("12", own))
    use(root)
    assert [str(problem) for problem in inspect_dataset(root).problems if "whole number" in problem.message] == []
    merge(tmp_path / "merged", root)


@pytest.mark.parametrize("value", [HUGE, "x", "", "-1", "1.5"])
@pytest.mark.parametrize(
    ("table", "column"),
    [("index.csv", "sh"), ("index.csv", "ih"), ("c_object.csv", "number"), ("c_object.csv", "coverage")],
)
def test_what_is_no_number_is_refused_or_told(root: Path, tmp_path: Path, table: str, column: str, value: str) -> None:
    write(root / table, column, value)
    problems = inspect_dataset(root).problems
    if column != "coverage" or value in ("x", ""):
        assert any(problem.file == table for problem in problems), problems
    for job in (lambda: use(root), lambda: merge(tmp_path / "merged", root)):
        try:
            job()
        except ConceptsError as error:
            assert str(root) in str(error)  # noqa: PT017 - some values are read, the others are refused


def test_a_cell_of_the_index_holds_labels_whatever_stands_around_them(root: Path) -> None:
    write(root / "index.csv", "object", "\x1f1 ; 2\x1c")
    assert ConceptData.open(root).labels(0).image_level.tolist()[:2] == [1, 2]
    write(root / "index.csv", "object", HUGE)
    with pytest.raises(ConceptsError, match=f"label id {LARGEST}"):
        use(root)


def test_label_numbers_that_no_pixel_can_hold_are_refused_before_tables_are_made_for_them(root: Path) -> None:
    write(root / "c_object.csv", "number", "2000000000")
    with pytest.raises(ConceptsError, match=r"holds the label id 2000000000\. Expected at most 65535"):
        ConceptData.open(root)
    write(root / "c_object.csv", "number", "1")
    write(root / "index.csv", "sh", "100000")
    with pytest.raises(ConceptsError, match=r"gives 0.png the sh 100000\. Expected from 1 to 65536 pixels"):
        ConceptData.open(root)


def test_sources_refuse_huge_numbers(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="Expected the value of a pixel"):
        parse_source(f"hf:{tmp_path}?ignore={HUGE}")
