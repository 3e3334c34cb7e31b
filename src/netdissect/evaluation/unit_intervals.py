"""Confidence intervals of means over units, by the bootstrap.

The weight of a unit in a replicate depends only on the seed and the unit, so that differences of two methods on the
same units are paired.

Source: Efron and Tibshirani 1993 :cite:p:`efron1993bootstrap`, chapter 13 (percentile interval).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.evaluation.evaluate_config import REPLICATES
from netdissect.scoring.statistics.bootstrap import percentile_interval, poisson_weights

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_COLUMNS = 64  # whose replicates are in memory together


class UnitMeans(NamedTuple):
    """Means over units with their 95 % intervals.

    Attributes
    ----------
    value
        float64 (K,); NaN where no unit has a value.
    ci_low, ci_high
        float64 (K,); NaN where fewer than two units have a value.
    units
        int64 (K,): units with a value.
    """

    value: Floats
    ci_low: Floats
    ci_high: Floats
    units: Ints


def unit_means(values: Floats, units: npt.ArrayLike, seed: int, replicates: int = REPLICATES) -> UnitMeans:
    """Return the means of columns over units, and their intervals.

    Parameters
    ----------
    values
        float64 (U, K): scores of U units in K columns, such as methods, metrics, or differences of two methods; NaN
        where a unit has no score. The mean of a column is over the units that have one.
    units
        int (U,): numbers of the units.
    seed
        Of the run's statistics.
    replicates
        Number of replicates.
    """
    weights = poisson_weights(seed, units, replicates).T.astype(np.float64)
    known = ~np.isnan(values)
    filled, counts = np.where(known, values, 0.0), known.sum(axis=0)
    value = np.divide(filled.sum(axis=0), counts, out=np.full(len(counts), np.nan), where=counts > 0)
    interval = np.full((2, len(counts)), np.nan)
    for start in range(0, len(counts), _COLUMNS):
        part = slice(start, start + _COLUMNS)
        sums, sizes = weights @ filled[:, part], weights @ known[:, part]
        means = np.divide(sums, sizes, out=np.full(sums.shape, np.nan), where=sizes > 0)
        for column in np.flatnonzero(counts[part] > 1):
            drawn = means[:, column]
            interval[:, start + column] = percentile_interval(drawn[~np.isnan(drawn)])
    return UnitMeans(value, interval[0], interval[1], counts)


def paired_means(
    left: Floats, right: Floats, units: npt.ArrayLike, seed: int, replicates: int = REPLICATES
) -> UnitMeans:
    """Return the means of left less right over the units that have both, with paired intervals; see `unit_means`."""
    return unit_means(left - right, units, seed, replicates)
