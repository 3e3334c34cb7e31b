"""Check the tables and the images of a data set, and list all problems.

`ConceptData` raises an error at the first problem; these functions continue. `inspect.py` collects their results.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from netdissect.concepts.broden_files import (
    CATEGORY_COLUMNS,
    CODE_COLUMNS,
    LABEL_COLUMNS,
    LONGEST_SIDE,
    read_label_map,
    read_table,
)
from netdissect.concepts.csv_numbers import real_number, whole_number
from netdissect.concepts.image_io import read_as_stored
from netdissect.concepts.labels import Labels, Size
from netdissect.config import Split
from netdissect.errors import ConceptsError
from netdissect.paths import contained

SPLITS: tuple[Split, ...] = get_args(Split)

TableRow = Mapping[str, str]


class DatasetProblem(BaseModel):
    """One problem of a data set."""

    model_config = ConfigDict(frozen=True)

    file: str = Field(description="File with the problem, below the folder of the data set.")
    message: str = Field(description="What was found and what was expected.")


@dataclass(slots=True)
class _Checked:
    """Base of the results of a check.

    Attributes
    ----------
    problems
        All problems.
    turned
        Whether the image has an EXIF orientation; images and label maps of a data set are used as stored.
    """

    problems: list[DatasetProblem] = field(default_factory=list)
    turned: bool = False

    def report(self, file: str, message: str) -> None:
        """Add a problem."""
        self.problems.append(DatasetProblem(file=file, message=message))


@dataclass(slots=True)
class DatasetTables(_Checked):
    """The tables as far as they can be read.

    Attributes
    ----------
    categories
        In the order of ``category.csv``, those with a column in ``index.csv``.
    names
        Name of each label id.
    label_stats
        By category, the frequency and coverage of each label id in ``c_<category>.csv``.
    """

    categories: list[str] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    label_stats: dict[str, dict[int, tuple[int, float]]] = field(default_factory=dict)


@dataclass(slots=True)
class RowFacts(_Checked):
    """The labels of one image.

    Attributes
    ----------
    coverage
        By category, the share of the image's pixels with each label id; a pixel counts once.
    labeled
        By category, the share of pixels with any label id.
    pixels
        Number of pixels with each label id, over all categories; a pixel counts once.
    area
        Pixels of its label maps; 0 if its row has no label, so that it takes no part in a dissection.
    """

    coverage: dict[str, dict[int, float]] = field(default_factory=dict)
    labeled: dict[str, float] = field(default_factory=dict)
    pixels: dict[int, int] = field(default_factory=dict)
    area: int = 0


def check_tables(root: Path, header: Sequence[str] | None) -> DatasetTables:
    """Read category.csv, label.csv and c_*.csv; `header` are the columns of ``index.csv``, None if it has no row."""
    tables = DatasetTables()
    stated: dict[str, TableRow] = {}
    for row in _rows_of(root, "category.csv", CATEGORY_COLUMNS, tables):
        if header is None or row["name"] in header:
            tables.categories.append(row["name"])
            stated[row["name"]] = row
        else:
            tables.report("category.csv", f"names the category {row['name']!r}, but index.csv has no such column.")
    frequencies: dict[int, int | None] = {}
    for row in _rows_of(root, "label.csv", LABEL_COLUMNS, tables):
        if (number := _whole(row, "number", "label.csv", tables)) is not None:
            if number in tables.names:
                tables.report("label.csv", f"names the number {number} twice. Expected one row a number.")
            tables.names[number] = row["name"]
            frequencies[number] = _whole(row, "frequency", "label.csv", tables)
    for category in tables.categories:
        _check_codes(root, category, tables)
        _compare_category(category, stated[category], tables)
    _compare_labels(frequencies, tables)
    return tables


def check_row(row: TableRow, root: Path, known: Mapping[str, frozenset[int]]) -> RowFacts:
    """Read the files of one row of ``index.csv``; `known` are the label ids of each category."""
    facts = RowFacts()
    if row["split"] not in SPLITS:
        facts.report("index.csv", f"puts {row['image']} in the split {row['split']!r}. Expected {' or '.join(SPLITS)}.")
    numbers_of = {column: whole_number(row[column]) or 0 for column in ("ih", "iw", "sh", "sw")}
    for column, number in numbers_of.items():
        if not 0 < number <= LONGEST_SIDE:
            message = f"gives {row['image']} the {column} {row[column].strip()[:80]!r}. Expected a number of pixels."
            facts.report("index.csv", message)
            return facts
    height, width, *small = numbers_of.values()
    _check_image(row["image"], root, Size(height, width), facts)
    if any(row[category] is None for category in known):
        facts.report("index.csv", f"has a row for {row['image']} that is shorter than the header. It may be truncated.")
    size, read = Size(*small), list[Labels]()
    for category, numbers in known.items():
        labels = _read_cell(row[category] or "", root, size, facts)
        read.append(labels)
        _count_labels(labels.deduplicated(), category, facts)
        unnamed = sorted(facts.coverage[category].keys() - numbers)
        if unnamed:
            message = f"holds label id {unnamed[0]}" + (f" and {len(unnamed) - 1} more" if len(unnamed) > 1 else "")
            facts.report(_first_file(row[category]), f"{message} that c_{category}.csv does not name ({row['image']}).")
    _count_pixels(read, size, facts)
    return facts


def _rows_of(root: Path, file: str, columns: Sequence[str], tables: DatasetTables) -> list[dict[str, str]]:
    try:
        return read_table(contained(root, file, "category.csv"), columns)
    except ConceptsError as error:
        tables.report(file, str(error))
        return []


def _check_codes(root: Path, category: str, tables: DatasetTables) -> None:
    file = f"c_{category}.csv"
    codes = tables.label_stats.setdefault(category, {})
    for row in _rows_of(root, file, CODE_COLUMNS, tables):
        number = _whole(row, "number", file, tables)
        frequency = _whole(row, "frequency", file, tables)
        coverage = _real(row, "coverage", file, tables)
        if number is None or number == 0:
            continue
        if number in codes:
            tables.report(file, f"names the number {number} twice. Expected one row a number.")
        if tables.names.get(number) != row["name"]:
            seen = repr(tables.names[number]) if number in tables.names else "nothing"
            tables.report(file, f"calls {number} {row['name']!r}, but label.csv calls it {seen}.")
            tables.names.setdefault(number, row["name"])
        codes[number] = (frequency or 0, coverage or 0.0)


def _compare_category(category: str, stated: TableRow, tables: DatasetTables) -> None:
    codes = tables.label_stats[category]
    if not codes:
        tables.report(f"c_{category}.csv", "names no label. Expected at least one.")
        return
    frequency = sum(frequency for frequency, _ in codes.values())
    counted = {"first": min(codes), "last": max(codes), "count": len(codes), "frequency": frequency}
    for column, expected in counted.items():
        seen = _whole(stated, column, "category.csv", tables)
        if seen is not None and seen != expected:
            message = f"says {column} {seen} of {category}, but c_{category}.csv makes it {expected}."
            tables.report("category.csv", message)


def _compare_labels(frequencies: Mapping[int, int | None], tables: DatasetTables) -> None:
    if any(not codes for codes in tables.label_stats.values()):
        return  # a table that cannot be read is already listed
    for number, seen in frequencies.items():
        expected = sum(codes[number][0] for codes in tables.label_stats.values() if number in codes)
        if seen is not None and seen != expected:
            message = f"says frequency {seen} of {number} ({tables.names[number]}), but the c_*.csv make it {expected}."
            tables.report("label.csv", message)


def _whole(row: TableRow, column: str, file: str, tables: DatasetTables) -> int | None:
    number = whole_number(row[column])
    if number is None:
        tables.report(file, f"holds {row[column][:80]!r} in the column {column}. Expected a whole number.")
    return number


def _real(row: TableRow, column: str, file: str, tables: DatasetTables) -> float | None:
    number = real_number(row[column])
    if number is None:
        tables.report(file, f"holds {row[column][:80]!r} in the column {column}. Expected a number.")
    return number


def _check_image(image: str, root: Path, size: Size, facts: RowFacts) -> None:
    try:
        source_image, asks_for_turn = read_as_stored(contained(root / "images", image, "index.csv"))
    except ConceptsError as error:
        facts.report(f"images/{image}", str(error))
        return
    facts.turned = asks_for_turn
    if source_image.size != (size.width, size.height):
        seen = f"{source_image.height} x {source_image.width} pixels (height x width)"
        facts.report(f"images/{image}", f"is {seen}, but index.csv says {size.height} x {size.width}.")


def _read_cell(cell: str, root: Path, size: Size, facts: RowFacts) -> Labels:
    planes, whole = [], []
    for item in filter(None, (part.strip() for part in cell.split(";"))):
        number = whole_number(item)
        if number is not None:
            whole.append(number)
            continue
        try:
            planes.append(read_label_map(contained(root / "images", item, "index.csv"), size))
        except ConceptsError as error:
            facts.report(f"images/{item}", str(error))
    stack = np.array(planes, dtype=np.int32).reshape(len(planes), *size)
    return Labels(stack, np.array([number for number in whole if number], dtype=np.int32))


def _count_labels(labels: Labels, category: str, facts: RowFacts) -> None:
    area = labels.size.height * labels.size.width
    numbers, pixels = np.unique(labels.label_channels, return_counts=True)
    shares = {int(n): int(p) / area for n, p in zip(numbers, pixels, strict=True) if n}
    facts.coverage[category] = shares | {int(number): 1.0 for number in labels.image_level}
    facts.labeled[category] = 1.0 if labels.image_level.size else float((labels.label_channels > 0).any(axis=0).mean())


def _count_pixels(read: Sequence[Labels], size: Size, facts: RowFacts) -> None:
    """Count the pixels of each label id over all categories, as a dissection does."""
    planes = np.concatenate([np.zeros((0, *size), np.int32), *(labels.label_channels for labels in read)])
    whole = np.concatenate([np.zeros(0, np.int32), *(labels.image_level for labels in read)])
    labels, area = Labels(planes, whole).deduplicated(), size.height * size.width
    numbers, pixels = np.unique(labels.label_channels, return_counts=True)
    facts.pixels = {int(n): int(p) for n, p in zip(numbers, pixels, strict=True) if n}
    facts.pixels |= {int(number): area for number in labels.image_level}
    facts.area = area if len(planes) or len(whole) else 0


def _first_file(cell: str) -> str:
    maps = [item.strip() for item in cell.split(";") if whole_number(item) is None]
    return f"images/{maps[0]}" if maps else "index.csv"
