"""Detectors of runs as tidy rows, which tables and figures of experiments are made of."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.config import Rule
from netdissect.result import Result

TOTAL = "total"


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
    wanted = list(result.layers) if layers is None else [result.layer(name).info.name for name in layers]
    rows = [
        {
            "layer": entry.layer,
            "quantile": entry.quantile,
            "rule": rule,
            "category": category,
            "units": entry.count.units,
            "detectors": entry.count.detectors[category],
            "unique": entry.count.unique[category],
        }
        for rule in ("top-label", "per-category")
        for entry in result.detectors(rule)
        if entry.layer in wanted
        for category in (*result.info.data.categories, TOTAL)
    ]
    schema = {"layer": pl.String, "quantile": pl.Float64, "rule": pl.String, "category": pl.String}
    frame = pl.DataFrame(rows, schema=schema | dict.fromkeys(("units", "detectors", "unique"), pl.Int64))
    return frame.select(*(pl.lit(value).alias(name) for name, value in keys.items()), pl.all())


def replicates(
    result: Result, layer: str, quantile: float, rule: Rule, category: str = TOTAL
) -> npt.NDArray[np.int64] | None:
    """Return the unique detectors of a layer in each replicate of the bootstrap over images.

    Runs of one data set and one seed of evidence have the same images in a replicate: their differences are paired.

    Returns
    -------
    int64 (replicates,) or None
        None: the run was made without a bootstrap.
    """
    evidence = result.layer(layer).evidence.get("replicates")
    if evidence is None:
        return None
    rows = evidence.filter(quantile=quantile, rule=rule, category=category).sort("replicate").collect()
    return rows["unique"].to_numpy().astype(np.int64) if len(rows) else None


def unique_of(table: pl.DataFrame, category: str = TOTAL, **keys: object) -> list[int]:
    """Return the unique detectors of one category in the rows where the other columns have these values."""
    rows = table.filter(pl.col("category") == category, *(pl.col(name) == value for name, value in keys.items()))
    return [int(value) for value in rows["unique"]]


def categories_of(table: pl.DataFrame) -> list[str]:
    """Return the categories of a table of counts, in the data set's order, without the total."""
    return [name for name in table["category"].unique(maintain_order=True) if name != TOTAL]
