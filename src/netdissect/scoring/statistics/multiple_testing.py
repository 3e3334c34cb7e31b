"""How far an IoU lies above chance: p-values, false discoveries, and a limit in place of 0.04.

    best IoU of each unit, and the same in each repetition of chance -> p_values, chance_level, by_chance

A p-value is a rank among the repetitions as long as ten of them reach the unit's IoU. Beyond that the logarithms of
the repetitions' maxima are taken to follow Gumbel's law, which is that of the largest of many values, fitted by
L-moments: a few hundred repetitions then say what only many thousands could say by rank.

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

ENOUGH = 10  # repetitions that reach a unit's IoU, for a p-value by rank
FALSE_SHARE = 0.05  # of the detectors at the limit that chance gives


def p_values(observed: Floats, chance: Floats) -> Floats:
    """Return the probability that chance reaches each unit's best IoU, float64 (U,), never 0.

    Parameters
    ----------
    observed
        float64 (U,): best IoU over concepts.
    chance
        float64 (R, U): the same in each repetition.

    Notes
    -----
    By rank (1 + k) / (1 + R) where k >= 10 repetitions reach the IoU, where a repetition gave 0, or where all gave
    the same. Otherwise by the fit, 1 - exp(-exp(-(ln IoU - location) / scale)).
    """
    reached = (chance >= observed).sum(axis=0)
    by_rank = (1 + reached) / (1 + len(chance))
    fitted = (reached < ENOUGH) & (chance > 0).all(axis=0) & (np.ptp(chance, axis=0) > 0) & (observed > 0)
    found = by_rank.copy()
    location, scale = fit_gumbel(np.log(chance[:, fitted]))
    found[fitted] = scipy.stats.gumbel_r.sf(np.log(observed[fitted]), location, scale)
    return np.asarray(np.maximum(found, np.finfo(np.float64).tiny))


def fit_gumbel(values: Floats) -> tuple[Floats, Floats]:
    """Fit Gumbel's law to each column of float64 (R, U) by its first two L-moments: location and scale, (U,).

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
    """Correct p-values (U,) for the number of units: by Benjamini and Hochberg, and by Benjamini and Yekutieli.

    The first holds for units that are independent or depend positively, the second whatever their dependence.
    """
    hochberg, yekutieli = (scipy.stats.false_discovery_control(values, method=method) for method in ("bh", "by"))
    return hochberg, yekutieli


def fdr_threshold(observed: Floats, chance: Floats, share: float = FALSE_SHARE) -> float:
    """Find the smallest best IoU from which on chance gives at most `share` of the units that pass.

    Parameters
    ----------
    observed
        float64 (U,): best IoU of each unit, over concepts.
    chance
        float64 (R, U): the same in each repetition.
    share
        Expected number of units that pass by chance, over the number that pass.

    Returns
    -------
    float
        One of the observed IoUs; 1.0 if none will do.
    """
    levels = np.unique(observed[observed > 0])
    found = len(observed) - np.searchsorted(np.sort(observed), levels)
    expected = (chance.size - np.searchsorted(np.sort(chance, axis=None), levels)) / len(chance)
    passing = levels[expected <= share * found]
    return float(passing[0]) if len(passing) else 1.0


def null_detector_counts(
    repeats: Sequence[BestConcepts], categories: Sequence[str], rule: Rule, min_iou: float
) -> list[DetectorCount]:
    """Count the detectors of each repetition of chance by one of the two published rules."""
    names = tuple(categories)
    return [
        count_detectors(UnitLabels(names, best.label_ids.astype(object), best.scores), rule, min_iou)
        for best in repeats
    ]
