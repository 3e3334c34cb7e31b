"""Files of labels that a method gave to units: one row a unit.

    read_label_file(path) -> layer, unit, label, score        write_label_file(frame, path)

    unit,label[,layer][,score]            any method; other columns are ignored
    layer,unit,description[,similarity]   CLIP-Dissect's descriptions.csv, and the files of MILAN
    neuron,concept,concept_id,metric      INVERT, as CoSy distributes its labels
    unit,category,label,score,...         the authors' Caffe code (2017) and NetDissect-Lite, whose units begin at 1

Units begin at 0, except in the last one, which is known by its columns ``...-truth``.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from netdissect.close_matches import did_you_mean
from netdissect.concepts.csv_numbers import real_number, whole_number
from netdissect.config import one_or_more
from netdissect.counted import counted
from netdissect.csv_cells import plain
from netdissect.errors import ResultError
from netdissect.paths import check_regular
from netdissect.result import Result
from netdissect.result.files import write_csv
from netdissect.result.queries import run_quantile

LABELS: Mapping[str, type[pl.DataType]] = {
    "layer": pl.String,  # null: the file does not name layers
    "unit": pl.Int32,
    "label": pl.String,
    "score": pl.Float64,  # of the method itself; null: none
}
UNIT_COLUMNS = ("unit", "neuron")
LABEL_COLUMNS = ("label", "description", "summary", "concept")
SCORE_COLUMNS = ("score", "similarity", "metric")
NAMED = 3  # rows that a message names

LabelSource = str | Path | pl.DataFrame


def read_label_file(path: str | Path) -> pl.DataFrame:
    """Read the labels of a file.

    Returns
    -------
    DataFrame
        The columns `LABELS`, in the order of the file.

    Raises
    ------
    ResultError
        If the file cannot be read, a column is missing, a unit is no whole number, a label is empty, or a unit has two
        labels.
    """
    path = Path(path)
    rows = read_rows(path, (UNIT_COLUMNS, LABEL_COLUMNS))
    header = rows[0][1].keys()
    units, labels = (next(name for name in names if name in header) for names in (UNIT_COLUMNS, LABEL_COLUMNS))
    first = int(any(name.endswith("-truth") for name in header))
    found = []
    for line, row in rows:
        label = row[labels].strip()
        if first and not label:
            continue  # a unit without any concept
        unit = whole_number(row[units])
        if unit is None or unit < first:
            why = ", as in other tables of these columns" if first else ""
            raise ResultError(
                f"{path}, line {line}: {row[units]!r} is no unit. Expected a whole number from {first} on{why}."
            )
        found.append((line, _layer(path, line, row), unit - first, label, _score(path, line, row)))
    return _checked(str(path), found)


def label_frame(labels: pl.DataFrame, method: str) -> pl.DataFrame:
    """Return the labels of a frame with the columns of `LABELS`, checked as those of a file.

    Raises
    ------
    ResultError
        As `read_label_file`.
    """
    for wanted in ("unit", "label"):
        if wanted not in labels.columns:
            raise ResultError(
                f"the labels of {method} have no column {wanted!r}; their columns are {', '.join(labels.columns)}."
                f"{did_you_mean(wanted, labels.columns)} Expected unit and label, and optionally layer and score."
            )
    try:
        frame = labels.select(
            pl.col(name).cast(kind) if name in labels.columns else pl.lit(None, dtype=kind).alias(name)
            for name, kind in LABELS.items()
        )
    except pl.exceptions.PolarsError as error:
        raise ResultError(
            f"the labels of {method} have values of other types ({error}). Expected units as whole numbers, layers and "
            "labels as texts, and scores as numbers."
        ) from error
    if labels["unit"].dtype.is_float() or frame["unit"].null_count() or (frame["unit"] < 0).any():
        raise ResultError(
            f"the labels of {method} have units of the type {labels['unit'].dtype}, or below 0, or missing. Expected "
            "whole numbers from 0 on: convert the column to integers, and leave out rows without a unit."
        )
    rows = ((line, *row) for line, row in enumerate(frame.rows(), 1))
    return _checked(
        method, [(line, layer, unit, (label or "").strip(), score) for line, layer, unit, label, score in rows]
    )


def write_label_file(labels: pl.DataFrame, path: str | Path) -> Path:
    """Write labels as a label file.

    Parameters
    ----------
    labels
        unit and label, and optionally layer, score and others, which follow these.
    path
        File to write.

    Raises
    ------
    ResultError
        If it cannot be written.
    """
    first = [name for name in ("unit", "label", "layer", "score") if name in labels.columns]
    return write_csv(labels.select(*first, pl.exclude(first)), path)


def own_labels(
    result: Result, quantile: float | None = None, layers: str | Sequence[str] | None = None
) -> pl.DataFrame:
    """Return the labels of a run: unit, label, layer and score, which is their IoU. Units without one are left out.

    Parameters
    ----------
    result
        A finished run.
    quantile
        One of the run's; None: its first.
    layers
        Names; None: all.
    """
    level, frames = run_quantile(result, quantile), []
    for name in one_or_more(layers or result.layers):
        units = result.layer(name).units.filter(pl.col("quantile") == level, pl.col("label").is_not_null())
        columns = ("unit", "label", pl.lit(name).alias("layer"), pl.col("iou").alias("score"))
        frames.append(units.sort("unit").select(columns))
    return pl.concat(frames)


def named_files(texts: Sequence[str | Path]) -> dict[str, Path]:
    """Return label files by the name of their method: ``NAME=FILE``, or the stem of the file.

    Raises
    ------
    ResultError
        If two have one name.

    >>> list(named_files(["milan=out/descriptions.csv", "random.csv"]))
    ['milan', 'random']
    """
    pairs = []
    for text in map(str, texts):
        name, mark, file = text.partition("=")
        is_named = bool(mark and name and file) and not Path(text).exists()
        pairs.append((name, Path(file)) if is_named else (Path(text).stem, Path(text)))
    twice = [name for name, number in Counter(name for name, _ in pairs).items() if number > 1]
    if twice:
        files = ", ".join(str(file) for name, file in pairs if name == twice[0])
        raise ResultError(
            f"{files} have one name, {twice[0]!r}. Name the methods apart: clip-dissect={pairs[0][1]}, for example."
        )
    return dict(pairs)


def layer_sizes(result: Result) -> dict[str, int]:
    """Return how many units each layer of a run has."""
    return {name: layer.info.units for name, layer in result.layers.items()}


def check_units(units: Mapping[str, int], method: str, labels: pl.DataFrame, layers: Sequence[str]) -> pl.DataFrame:
    """Return the labels of the units of some layers of a run, each with its layer.

    Parameters
    ----------
    units
        How many units each layer of the run has.
    method
        Whose labels they are, for messages.
    labels
        From `read_label_file` or `label_frame`.
    layers
        Layers that are evaluated.

    Returns
    -------
    DataFrame
        The columns `LABELS` without nulls in ``layer``, by layer and unit.

    Raises
    ------
    ResultError
        If the file names no layer and the run has several, or it names a layer or a unit that the run does not have.
    """
    if labels["layer"].null_count() == len(labels):
        if len(layers) > 1:
            raise ResultError(
                f"{method} does not say of which layer its units are, and {counted(len(layers), 'layers')} are "
                f"evaluated: {', '.join(layers)}. Add a column 'layer', or name one with --layer."
            )
        labels = labels.with_columns(pl.lit(layers[0]).alias("layer"))
    unknown = [name for name in labels["layer"].unique(maintain_order=True) if name not in units]
    kept = labels.filter(pl.col("layer").is_in(layers))
    if unknown and (set(layers) == set(units) or kept.is_empty()):
        raise ResultError(
            f"{method} labels the layer {unknown[0]!r}, which the run does not have; it has "
            f"{', '.join(units)}.{did_you_mean(unknown[0], units)} Correct the name, or choose the "
            "layers to evaluate with --layer: then labels of other layers are left out."
        )
    if kept.is_empty():
        raise ResultError(
            f"{method} labels no unit of {', '.join(layers)}; it labels {', '.join(labels['layer'].unique())}. Choose "
            "other layers with --layer."
        )
    for name in layers:
        count, largest = units[name], kept.filter(pl.col("layer") == name)["unit"].max()
        if isinstance(largest, int) and largest >= count:
            raise ResultError(
                f"{method} labels unit {largest} of {name}, which has {counted(count, 'units')}, 0 to {count - 1}. "
                "Expected labels of the units of this run, numbered from 0: the file may belong to another network, "
                "or count from 1."
            )
    order = pl.col("layer").cast(pl.Enum(list(layers)))
    return kept.sort(order, "unit")


def read_rows(path: Path, columns: Sequence[Sequence[str]]) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a CSV table with their lines.

    Parameters
    ----------
    path
        The file.
    columns
        Names of each column that it must have: one of them must be there.

    Raises
    ------
    ResultError
        If the file cannot be read, a column is missing, a row has another number of fields, or there is no row.
    """
    named = " and ".join(names[0] for names in columns)
    expected = f"Expected a CSV table with the columns {named}, separated by commas"
    try:
        check_regular(path)
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = [plain(name.strip()) for name in reader.fieldnames or ()]
            reader.fieldnames = header
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ResultError(f"{path} cannot be read ({error}). {expected}.") from error
    for names in columns:
        if not set(names) & set(header):
            raise ResultError(
                f"{path} has no column {names[0]!r}; its columns are {', '.join(map(repr, header)) or 'none'}."
                f"{did_you_mean(names[0], header)} {expected}."
            )
    for line, row in rows:
        if None in row or None in row.values():
            raise ResultError(
                f"{path}, line {line} has another number of fields than the header, which has {len(header)}. Put "
                "quotes around a field that holds a comma."
            )
    if not rows:
        raise ResultError(f"{path} has no row below its header. {expected}.")
    return [(line, {name: plain(cell) for name, cell in row.items()}) for line, row in rows]


def _layer(path: Path, line: int, row: Mapping[str, str]) -> str | None:
    if "layer" not in row:
        return None
    if not row["layer"].strip():
        raise ResultError(f"{path}, line {line} names no layer. Expected one in each row, or no column 'layer'.")
    return row["layer"].strip()


def _score(path: Path, line: int, row: Mapping[str, str]) -> float | None:
    text = next((row[name] for name in SCORE_COLUMNS if name in row), "")
    if not text.strip():
        return None
    score = real_number(text)
    if score is None:
        raise ResultError(f"{path}, line {line}: the score {text!r} is no finite number. Correct it or leave it empty.")
    return score


Row = tuple[int, str | None, int, str, float | None]


def _checked(origin: str, rows: Sequence[Row]) -> pl.DataFrame:
    """Return rows as a frame, if each has a label and no unit has two."""
    empty = [line for line, _, _, label, _ in rows if not label]
    if empty:
        raise ResultError(
            f"{origin} has {counted(len(empty), 'empty labels')} ({_lines(empty)}). Expected a label in each row: "
            "leave out units without one."
        )
    seen = Counter((layer, unit) for _, layer, unit, _, _ in rows)
    twice = [key for key, number in seen.items() if number > 1]
    if twice:
        names = ", ".join(f"{unit} of {layer}" if layer else str(unit) for layer, unit in twice[:NAMED])
        raise ResultError(
            f"{origin} labels {counted(len(twice), 'units')} more than once (unit {names}{_more(twice)}). Expected one "
            "label a unit: keep one, or put the others into files of their own."
        )
    return pl.DataFrame([row[1:] for row in rows], schema=dict(LABELS), orient="row")


def _lines(lines: Sequence[int]) -> str:
    return f"line {', '.join(map(str, lines[:NAMED]))}{_more(lines)}"


def _more(items: Sequence[object]) -> str:
    return " and others" if len(items) > NAMED else ""
