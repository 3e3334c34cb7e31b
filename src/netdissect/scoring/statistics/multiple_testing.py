"""Multiple testing of IoU: p-values, false discovery rates, and a limit that controls them.

    best IoU of each unit in the data and in each permutation -> p_values, adjust_pvalues, fdr_threshold

A p-value is a rank among the permutations if at least ten of them reach the IoU of the unit. Otherwise a Gumbel
distribution, that of the largest of many values, is fitted to the logarithms of the maxima of the permutations by
L-moments. A few hundred permutations then replace many thousands.

Sources: Phipson and Smyth 2010 :cite:p:`phipson2010permutation`; Knijnenburg et al. 2009
:cite:p:`knijnenburg2009fewer` (a fitted tail below ten exceedances); Hosking 1990 :cite:p:`hosking1990lmoments`;
Benjamini and Hochberg 1995 :cite:p:`benjamini1995controlling`; Benjamini and Yekutieli 2001
:cite:p:`benjamini2001control`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy

from netdissect.config import Rule
from netdissect.scoring.detectors import DetectorCount, UnitLabels, count_detectors
from netdissect.scoring.statistics.permutation import BestConcepts

Floats = npt.NDArray[np.float64]

MIN_EXCEEDANCES = 10  # permutations that reach the IoU of a unit, for a p-value by rank
SIGNIFICANT = 0.05  # p- and q-values below it
FDR_LEVEL = 0.05  # expected share of false detectors at the limit


def p_values(observed: Floats, null: Floats) -> Floats:
    """Return the probability under the null of each unit's best IoU or a larger one, float64 (U,), never 0.

    Parameters
    ----------
    observed
        float64 (U,): best IoU over concepts.
    null
        float64 (R, U): best IoU of each unit in each permutation.

    Notes
    -----
    By rank, (1 + k) / (1 + R), where k >= 10 permutations reach the IoU, where a permutation gave 0, or where all gave
    the same value. Otherwise by the fit, 1 - exp(-exp(-(ln IoU - location) / scale)).
    """
    exceedances = (null >= observed).sum(axis=0)
    by_rank = (1 + exceedances) / (1 + len(null))
    fitted = (exceedances < MIN_EXCEEDANCES) & (null > 0).all(axis=0) & (np.ptp(null, axis=0) > 0) & (observed > 0)
    p = by_rank.copy()
    location, scale = fit_gumbel(np.log(null[:, fitted]))
    # The survival function of a Gumbel distribution; importing scipy.stats takes half a second.
    p[fitted] = -scipy.special.expm1(-np.exp(-(np.log(observed[fitted]) - location) / scale))
    return np.asarray(np.maximum(p, np.finfo(np.float64).tiny))


def two_sided_p_values(observed: Floats, null: Floats) -> Floats:
    """Return the probability under the null of numbers as far out as those observed, to either side, float64 (n,).

    Parameters
    ----------
    observed
        float64 (n,).
    null
        float64 (n, R): the same numbers in each permutation.

    Notes
    -----
    Twice the smaller of the two one-sided p-values by rank, (1 + k) / (1 + R), and at most 1.

    Examples
    --------
    >>> two_sided_p_values(np.array([12.0, 7.0]), np.array([np.arange(9.0)] * 2))
    array([0.2, 0.6])
    """
    above, below = ((side(null, observed[:, None])).sum(axis=1) for side in (np.greater_equal, np.less_equal))
    return np.asarray(np.minimum(2 * (1 + np.minimum(above, below)) / (1 + null.shape[1]), 1.0))


def smallest_two_sided_p_value(permutations: int) -> float:
    """Return the smallest value of `two_sided_p_values`: below 0.05 from 40 permutations on.

    >>> smallest_two_sided_p_value(39), smallest_two_sided_p_value(99)
    (0.05, 0.02)
    """
    return 2 / (1 + permutations)


def fit_gumbel(values: Floats) -> tuple[Floats, Floats]:
    """Fit a Gumbel distribution to each column of float64 (R, U) by two L-moments: location and scale, (U,).

    Notes
    -----
    The second L-moment is scale * ln 2, the first location + scale * Euler's constant.
    """
    count = len(values)
    weights = np.arange(count)[:, None] / (count * max(count - 1, 1))
    first = values.mean(axis=0)
    second = 2 * (np.sort(values, axis=0) * weights).sum(axis=0) - first
    scale = second / np.log(2)
    return np.asarray(first - np.euler_gamma * scale), np.asarray(scale)


def adjust_pvalues(values: Floats) -> tuple[Floats, Floats]:
    """Adjust p-values (U,) for the number of units: by Benjamini and Hochberg, and by Benjamini and Yekutieli.

    The first holds for independent or positively dependent units, the second for any dependence.
    """
    order, ranks = np.argsort(values), np.arange(1, len(values) + 1)
    scaled = values[order] * (len(values) / ranks)
    adjusted = []
    for factor in (1.0, (1 / ranks).sum()):
        smallest = np.minimum.accumulate((scaled * factor)[::-1])[::-1]
        adjusted.append(np.empty(len(values)))
        adjusted[-1][order] = smallest.clip(0, 1)
    return adjusted[0], adjusted[1]


def fdr_threshold(observed: Floats, null: Floats, share: float = FDR_LEVEL) -> float:
    """Find the smallest observed IoU at which the false discovery rate is at most `share`.

    Parameters
    ----------
    observed
        float64 (U,): best IoU of each unit, over concepts.
    null
        float64 (R, U): best IoU of each unit in each permutation.
    share
        Expected number of units that pass under the null, over the number that pass.

    Returns
    -------
    float
        One of the observed IoUs; 1.0 if none qualifies.
    """
    levels = np.unique(observed[observed > 0])
    passed = len(observed) - np.searchsorted(np.sort(observed), levels)
    expected = (null.size - np.searchsorted(np.sort(null, axis=None), levels)) / len(null)
    passing = levels[expected <= share * passed]
    return float(passing[0]) if len(passing) else 1.0


def null_detector_counts(
    permutations: Sequence[BestConcepts], categories: Sequence[str], rule: Rule, min_iou: float
) -> list[DetectorCount]:
    """Count the detectors of each permutation by one of the two published rules."""
    names = tuple(categories)
    return [
        count_detectors(UnitLabels(names, best.label_ids.astype(object), best.scores), rule, min_iou)
        for best in permutations
    ]
