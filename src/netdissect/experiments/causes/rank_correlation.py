"""Rank correlation of IoU and effect over the units of a layer, with intervals by the bootstrap over units.

Source: Spearman's correlation with mean ranks for ties; percentile intervals, Efron and Tibshirani 1993
:cite:p:`efron1993bootstrap`, chapter 13.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy

from netdissect.scoring.statistics.bootstrap import percentile_interval

Floats = npt.NDArray[np.float64]

REPLICATES = 1000
FEWEST_UNITS = 3
SCHEMA: dict[str, type[pl.DataType]] = {
    "layer": pl.String, "units": pl.Int64, "correlation": pl.Float64, "correlation_low": pl.Float64,
    "correlation_high": pl.Float64, "matching": pl.Int64, "causing": pl.Int64,
}  # fmt: skip


class LayerCorrelation(NamedTuple):
    """The correlation over the units of a layer, and float64 (R,) of resampled units."""

    value: float
    replicates: Floats


def spearman(first: Floats, second: Floats) -> Floats:
    """Return Spearman's correlation of each row.

    Parameters
    ----------
    first, second
        float64 (R, U).

    Returns
    -------
    float64 (R,)
        NaN where all values of a row are equal.

    Examples
    --------
    >>> spearman(np.array([[1.0, 2.0, 3.0]]), np.array([[10.0, 20.0, 90.0]])).tolist()
    [1.0]
    """
    middle = (first.shape[1] + 1) / 2
    left, right = (scipy.stats.rankdata(values, axis=1) - middle for values in (first, second))
    size = np.sqrt((left**2).sum(axis=1) * (right**2).sum(axis=1))
    return np.asarray(np.divide((left * right).sum(axis=1), size, out=np.full(len(size), np.nan), where=size > 0))


def correlation_rows(units: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return one row for all layers (layer: null), and one for each layer.

    Parameters
    ----------
    units
        layer, iou, removed (null: the unit has no effect that could be measured), matches, causes.
    seed
        Of the bootstrap.

    Returns
    -------
    polars.DataFrame
        layer, units, correlation, correlation_low, correlation_high, matching, causing. The row of all layers holds the
        mean of their correlations; each layer's units are resampled by themselves.
    """
    measured = units.filter(pl.col("removed").is_not_null())
    layers = units["layer"].unique(maintain_order=True).to_list()
    found = {
        layer: _correlation(measured.filter(layer=layer), np.random.default_rng([seed, index]))
        for index, layer in enumerate(layers)
    }
    return pl.DataFrame(list(_rows(measured, found)), schema=SCHEMA, orient="row")


def _correlation(units: pl.DataFrame, rng: np.random.Generator) -> LayerCorrelation | None:
    """Return the correlation of a layer; None: it is not defined."""
    iou, removed = (units[name].cast(pl.Float64).to_numpy() for name in ("iou", "removed"))
    if len(iou) < FEWEST_UNITS or not (np.ptp(iou) and np.ptp(removed)):
        return None
    drawn = rng.integers(0, len(iou), (REPLICATES, len(iou)))
    # Units that are alike in a resample show no correlation, as those that are not drawn would.
    replicates = np.nan_to_num(spearman(iou[drawn], removed[drawn]))
    return LayerCorrelation(float(spearman(iou[None], removed[None])[0]), replicates)


def _rows(units: pl.DataFrame, found: dict[str, LayerCorrelation | None]) -> Iterator[tuple[object, ...]]:
    known = [each for each in found.values() if each is not None]
    total = None
    if known:
        replicates = np.mean([each.replicates for each in known], axis=0)
        total = LayerCorrelation(float(np.mean([each.value for each in known])), replicates)
    yield _row(None, units, total)
    for layer, each in found.items():
        yield _row(layer, units.filter(layer=layer), each)


def _row(layer: str | None, units: pl.DataFrame, found: LayerCorrelation | None) -> tuple[object, ...]:
    numbers = (None,) * 3 if found is None else (found.value, *percentile_interval(found.replicates))
    matching = units.filter("matches")
    return (layer, len(units), *numbers, len(matching), int(matching["causes"].sum()))
