"""Detectors of runs as tidy rows with their intervals and permutation null, for tables and figures of experiments."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import polars as pl

from netdissect.config import Rule, one_or_more
from netdissect.experiments.effect_sizes import Interval, decide
from netdissect.experiments.outcome import ConclusionOutcome
from netdissect.result import PairedDifference, Result, mean_paired_difference
from netdissect.result.run_differences import NOT_MEASURED
from netdissect.result.statistics_schema import COUNTS, complete
from netdissect.result.summary import NULL_NAME, MeasuredCount, interval_text, null_text

TOTAL = "total"
KEYS = ("quantile", "rule", "category")
STATISTICS = tuple(name for name in COUNTS if name not in (*KEYS, "detectors", "unique_detectors"))
"""Columns of a table of counts that a run may not have measured: intervals and nulls."""
OVER_IMAGES = "over_images"
NO_NULL = "The permutation null was not measured."
_OVER_IMAGES = {
    "before": pl.String, "after": pl.String, "mean": pl.Float64, "ci_low": pl.Float64, "ci_high": pl.Float64,
    "replicates": pl.Int64, "null": pl.Float64, "null_se": pl.Float64, "p_value": pl.Float64, "permutations": pl.Int64,
    "no_null": pl.String,
}  # fmt: skip


def count_rows(result: Result, layers: Sequence[str] | None = None, **keys: object) -> pl.DataFrame:
    """Count the detectors of a run by layer, quantile, rule and category.

    Parameters
    ----------
    result
        A finished run.
    layers
        None: all.
    **keys
        Further columns, the same in every row, that stand first: which network, seed or step this is.

    Returns
    -------
    DataFrame
        `keys`, layer, quantile, rule, category (the data set's, and ``total``), units (of the layer), detectors
        (units), unique_detectors (different concepts); then the intervals and nulls of both counts, null if not
        measured: see `netdissect.result.statistics_schema.COUNTS`.
    """
    names = list(result.layers) if layers is None else [result.layer(name).info.name for name in one_or_more(layers)]
    rows = [
        {
            "layer": entry.layer,
            "quantile": entry.quantile,
            "rule": rule,
            "category": category,
            "units": entry.count.units,
            "detectors": entry.count.detectors[category],
            "unique_detectors": entry.count.unique_detectors[category],
        }
        for rule in ("top-label", "per-category")
        for entry in result.detectors(rule)
        if entry.layer in names
        for category in (*result.info.data.categories, TOTAL)
    ]
    schema = {"layer": pl.String, "quantile": pl.Float64, "rule": pl.String, "category": pl.String}
    frame = pl.DataFrame(rows, schema=schema | dict.fromkeys(("units", "detectors", "unique_detectors"), pl.Int64))
    joined = frame.join(_statistics(result, names), on=("layer", *KEYS), how="left", maintain_order="left")
    return joined.select(*(pl.lit(value).alias(name) for name, value in keys.items()), pl.all())


def _statistics(result: Result, layers: Sequence[str]) -> pl.DataFrame:
    """Return intervals and nulls of the counts of some layers, as far as they were measured."""
    schema = {"layer": pl.String} | {name: COUNTS[name] for name in (*KEYS, *STATISTICS)}
    frames = [
        complete(result.layer(name).statistics["counts"].collect(), COUNTS).select(
            pl.lit(name).alias("layer"), *KEYS, *STATISTICS
        )
        for name in layers
        if "counts" in result.layer(name).statistics
    ]
    return pl.concat([pl.DataFrame(schema=schema), *frames])


def difference_over_images(
    left: Result, right: Result, layers: Sequence[tuple[str, str]], *, quantile: float, rule: Rule
) -> PairedDifference | None:
    """Return the difference of all unique detectors, averaged over pairs of layers, with its interval over images.

    Returns
    -------
    PairedDifference or None
        Right minus left; see `netdissect.result.mean_paired_difference`. None: a run was made without a bootstrap.

    Raises
    ------
    ResultError
        If the runs saw different images or have other replicates: their difference has no such interval.
    """
    sides = ((run, name) for pair in layers for run, name in zip((left, right), pair, strict=True))
    if not all("replicates" in run.layer(name).statistics for run, name in sides):
        return None
    return mean_paired_difference(left, right, layers, quantile=quantile, rule=rule)


def over_images_table(differences: Mapping[tuple[str, str], PairedDifference | None]) -> pl.DataFrame:
    """Return differences over images by their two sides: before, after, and the fields of `PairedDifference`."""
    rows = [
        (*sides, each.value, *each.interval, each.replicates, each.null, each.null_se, each.p_value, each.permutations,
         each.no_null)
        for sides, each in differences.items()
        if each is not None and each.interval is not None
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=_OVER_IMAGES, orient="row")


def read_over_images(extra: Mapping[str, pl.DataFrame], before: str, after: str) -> PairedDifference | None:
    """Return one difference of the table ``over_images``; None: it has no such row."""
    rows = extra[OVER_IMAGES].filter(before=before, after=after) if OVER_IMAGES in extra else pl.DataFrame()
    if rows.is_empty():
        return None
    value, low, high, replicates, *null = rows.row(0)[2:]
    return PairedDifference(value, (low, high), replicates, *null)


def decide_over_images(difference: PairedDifference | None, expected: Literal["more", "fewer"]) -> ConclusionOutcome:
    """Return whether a difference over images has the direction that the paper found, beyond its permutation null.

    Parameters
    ----------
    difference
        None: not measured.
    expected
        ``more``: the paper found it above 0.

    Returns
    -------
    ConclusionOutcome
        ``inconclusive`` where the difference does not exceed its null, and if only one of the runs has a null. If
        neither has one, the interval of the counts decides.
    """
    if difference is None or difference.interval is None:
        return "inconclusive"
    if difference.exceeds_null is None:
        whole = Interval(difference.value, *difference.interval, difference.replicates)
        return decide(whole, expected) if difference.no_null == NOT_MEASURED else "inconclusive"
    if not difference.exceeds_null:
        return "inconclusive"
    return "agrees" if ((difference.excess or 0.0) > 0) == (expected == "more") else "disagrees"


def has_null(rows: pl.DataFrame) -> bool:
    """Return whether every row of a table of counts has a permutation null; published tables have none."""
    name = "null_unique_detectors"
    return bool(len(rows)) and name in rows.columns and rows[name].null_count() == 0


def with_excess(rows: pl.DataFrame) -> pl.DataFrame:
    """Add the column ``excess``: unique detectors less their mean under the null; the whole count without a null."""
    null = pl.col("null_unique_detectors") if has_null(rows) else pl.lit(0.0)
    return rows.with_columns((pl.col("unique_detectors") - null).alias("excess"))


def measured_text(row: Mapping[str, Any]) -> str:
    """Write the unique detectors of a row of a table of counts with what was measured of them.

    >>> row = {"unique_detectors": 21, "null_unique_detectors": 21.46, "null_unique_detectors_se": 0.31}
    >>> measured_text(row)
    '21 (21.5 ± 0.3 under the permutation null)'
    """
    measured = MeasuredCount.of_row(row)
    interval, null = interval_text(measured), null_text(measured)
    return f"{measured.count:,}{interval and ' ' + interval}{f' ({null} {NULL_NAME})' if null else ''}"


def mean_text(rows: pl.DataFrame) -> str:
    """Write the mean of the unique detectors of some rows of a table of counts, with the mean of their nulls."""
    return f"{rows['unique_detectors'].to_numpy().mean():.3g}{mean_null_text(rows)}"


def mean_null_text(rows: pl.DataFrame) -> str:
    """Write the mean of the nulls of some rows of a table of counts, in brackets; empty: not measured."""
    return f" ({rows['null_unique_detectors'].to_numpy().mean():.3g} {NULL_NAME})" if has_null(rows) else ""


def null_note(rows: pl.DataFrame) -> str:
    """Return a sentence that says that the counts of a table lack a null; empty: they have one."""
    return "" if has_null(rows) else NO_NULL


def largest_unique(rows: pl.DataFrame, category: str = TOTAL) -> int:
    """Return how many unique detectors the widest layer of a table of counts could have, whatever the concepts.

    Under its best concept a unit counts once; per category, it counts in each of them. `rows` are of one rule.
    """
    units = int(rows["units"].max() or 0)  # type: ignore[arg-type]
    each = rows["rule"][0] == "per-category" and category == TOTAL
    return units * len(categories_of(rows)) if each else units


def unique_of(table: pl.DataFrame, category: str = TOTAL, **keys: object) -> list[int]:
    """Return the unique detectors of one category in the rows where the other columns have these values."""
    rows = table.filter(pl.col("category") == category, *(pl.col(name) == value for name, value in keys.items()))
    return [int(value) for value in rows["unique_detectors"]]


def categories_of(table: pl.DataFrame) -> list[str]:
    """Return the categories of a table of counts, in the data set's order, without the total."""
    return [name for name in table["category"].unique(maintain_order=True) if name != TOTAL]
