"""Read and write the tables of the authors' Caffe code (2017), which the rewrite of 2018 kept.

One row a unit, numbered from 1, best first: unit, category, label, score, then for each category
``<category>-label``, ``-truth``, ``-activation``, ``-intersect``, ``-iou``.
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from netdissect.csv_cells import plain
from netdissect.errors import ResultError
from netdissect.paths import check_regular
from netdissect.result.files import write_csv
from netdissect.result.result import Result
from netdissect.scoring import UnitLabels

LEADING = ("unit", "category", "label", "score")
PARTS = ("label", "truth", "activation", "intersect", "iou")
# As the columns of the published tables follow each other; other categories come after these.
CATEGORY_ORDER = ("object", "color", "material", "scene", "texture", "part")


@dataclass(frozen=True)
class PublishedTable:
    """A result table of one layer.

    Attributes
    ----------
    units
        int64 (U,): numbers from 1, in the order of the file.
    labels
        Best concepts of each category.
    counts
        The columns truth, activation and intersect of each category, as float64 (U,) by column name.
    """

    units: np.ndarray
    labels: UnitLabels
    counts: dict[str, np.ndarray]


def read_published(path: str | Path) -> PublishedTable:
    """Read a ``*-result.csv`` of the authors' Caffe code (2017) or a ``tally.csv`` of the rewrite of 2018.

    Raises
    ------
    ResultError
        If the file is missing, or is no such table.
    """
    path = Path(path)
    try:
        check_regular(path)
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            header = list(reader.fieldnames or ())
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ResultError(
            f"{path} cannot be read as a result table ({error}). Expected the CSV of one layer as 'netdissect export "
            "--format netdissect-csv' or the authors' Caffe code writes it."
        ) from error
    categories = tuple(name.removesuffix("-label") for name in header if name.endswith("-label"))
    wanted = [*LEADING, *(f"{category}-{part}" for category in categories for part in PARTS)]
    missing = [name for name in wanted if name not in header]
    if missing or not categories or not rows:
        what = f"the column {missing[0]!r} is missing" if missing else "it has no category or no unit"
        raise ResultError(
            f"{path} is no result table: {what}. Expected a row a unit with the columns {', '.join(LEADING)} and, for "
            f"each category, {', '.join(PARTS)}."
        )
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise ResultError(
                f"{path}, line {line} has another number of fields than the header. Expected {len(header)}; the file "
                "may be cut short, restore it."
            )
    return _parse(path, [{name: plain(cell) for name, cell in row.items()} for row in rows], categories)


def _parse(path: Path, rows: list[dict[str, str]], categories: tuple[str, ...]) -> PublishedTable:
    names = np.array([[row[f"{category}-label"] for category in categories] for row in rows], dtype=object)
    try:
        units = np.array([int(row["unit"]) for row in rows])
        scores = np.array([[_number(row, category, "iou") for category in categories] for row in rows])
        counts = {
            f"{category}-{part}": np.array([_number(row, category, part) for row in rows])
            for category in categories
            for part in ("truth", "activation", "intersect")
        }
    except (ValueError, TypeError) as error:
        raise ResultError(
            f"{path} holds a value that is no number ({error}). Expected whole lines of numbers; the file may be cut "
            "short, restore it."
        ) from error
    # In tables of the Caffe code a blank label means that label 0 won: no concept at all.
    scores[names == ""] = 0
    return PublishedTable(units, UnitLabels(categories, names, scores), counts)


def _number(row: dict[str, str], category: str, part: str) -> float:
    """Read one number; where there is no concept, there may be none."""
    text = row[f"{category}-{part}"]
    if not text and not row[f"{category}-label"]:
        return 0.0
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{category}-{part} is {text}")
    return number


def write_published(result: Result, layer: str, path: str | Path, quantile: float | None = None) -> Path:
    """Write one layer with exactly the columns of the published tables.

    Raises
    ------
    ResultError
        If the layer or quantile is not in the run, or the file cannot be written.
    """
    quantiles = result.info.config.protocol.quantiles
    level = quantiles[0] if quantile is None else quantile
    if level not in quantiles:
        raise ResultError(
            f"the run has no quantile {level}; it has {', '.join(map(str, quantiles))}. Name one of these."
        )
    present = result.info.data.categories
    categories = [name for name in CATEGORY_ORDER if name in present]
    categories += [name for name in present if name not in CATEGORY_ORDER]
    units = result.layer(layer).units.filter(pl.col("quantile") == level)
    table = units.sort("iou", descending=True, maintain_order=True).select(
        pl.col("unit") + 1,
        "category",
        "label",
        pl.col("iou").alias("score"),
        *(pl.col(f"{category}-{part}") for category in categories for part in PARTS),
    )
    table = table.with_columns(pl.selectors.ends_with("-activation").cast(pl.Float64))
    return write_csv(table, path)
