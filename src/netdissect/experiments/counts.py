"""Detectors of runs as tidy rows, for tables and figures of experiments."""

from collections.abc import Mapping, Sequence

import polars as pl

from netdissect.config import Rule, one_or_more
from netdissect.experiments.effect_sizes import Interval
from netdissect.result import Result, mean_paired_difference

TOTAL = "total"
OVER_IMAGES = "over_images"
_OVER_IMAGES = {"before": pl.String, "after": pl.String} | dict.fromkeys(("mean", "ci_low", "ci_high"), pl.Float64)


def count_rows(result: Result, layers: Sequence[str] | None = None, **keys: object) -> pl.DataFrame:
    """Count the detectors of a run by layer, quantile, rule and category.

    Parameters
    ----------
    result
        A finished run.
    layers
        None: all.
    keys
        Further columns, the same in every row, that stand first: which network, seed or step this is.

    Returns
    -------
    DataFrame
        `keys`, layer, quantile, rule, category (the data set's, and ``total``), units (of the layer), detectors
        (units), unique (different concepts).
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
    return frame.select(*(pl.lit(value).alias(name) for name, value in keys.items()), pl.all())


def difference_over_images(
    left: Result, right: Result, layers: Sequence[tuple[str, str]], *, quantile: float, rule: Rule
) -> Interval | None:
    """Return the difference of all unique detectors, averaged over pairs of layers, and its interval over images.

    Returns
    -------
    Interval or None
        Right minus left; see `netdissect.result.mean_paired_difference`. None: a run was made without a bootstrap.

    Raises
    ------
    ResultError
        If the runs saw different images or have other replicates: their difference has no such interval.
    """
    sides = ((run, name) for pair in layers for run, name in zip((left, right), pair, strict=True))
    if not all("replicates" in run.layer(name).statistics for run, name in sides):
        return None
    return Interval(*mean_paired_difference(left, right, layers, quantile=quantile, rule=rule))


def over_images_table(differences: Mapping[tuple[str, str], Interval | None]) -> pl.DataFrame:
    """Return differences over images by their two sides: before, after, mean, ci_low, ci_high, replicates."""
    rows = [(*sides, *interval) for sides, interval in differences.items() if interval is not None]
    return pl.DataFrame(rows, schema=_OVER_IMAGES | {"replicates": pl.Int64}, orient="row")


def interval_over_images(extra: Mapping[str, pl.DataFrame], before: str, after: str) -> Interval | None:
    """Return one difference of the table ``over_images``; None: it has no such row."""
    rows = extra[OVER_IMAGES].filter(before=before, after=after) if OVER_IMAGES in extra else pl.DataFrame()
    return None if rows.is_empty() else Interval(*rows.row(0)[2:])


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
