"""Means and their intervals, and what an interval decides.

Few seeds are the rule here, so intervals are Student's: with three seeds they are 2.5 standard errors times
wider than a normal table would say, and many small effects stay open. That is what a conclusion has to say.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import scipy

from netdissect.errors import ConfigError
from netdissect.experiments.outcome import ConclusionOutcome
from netdissect.scoring.statistics.bootstrap import CONFIDENCE_LEVEL, percentile_interval

# Two counts that happen to be equal have an interval without width.
FEWEST = 3


class Interval(NamedTuple):
    """A mean of `number` numbers and the interval in which the true one lies in 95 of 100 cases.

    A single number has no interval: its ends are minus and plus infinity.
    """

    mean: float
    low: float
    high: float
    number: int

    def within(self, least: float, most: float) -> "Interval":
        """Clip to the possible values: a count is between 0 and the number of units."""
        if not math.isfinite(self.low):
            return self
        low, high = (min(max(end, least), most) for end in (self.low, self.high))
        return self._replace(low=low, high=high)

    def __str__(self) -> str:
        if not math.isfinite(self.low):
            few = "one value, no interval" if self.number == 1 else "too few values for an interval"
            return f"{self.mean:.3g} ({few})"
        return f"{self.mean:.3g} (95 % interval {self.low:.3g} to {self.high:.3g}, n = {self.number})"


def mean_interval(values: Sequence[float], level: float = CONFIDENCE_LEVEL) -> Interval:
    """Return the mean of independent numbers and Student's interval.

    Raises
    ------
    ConfigError
        If there is no number.

    Examples
    --------
    >>> print(mean_interval([20, 24, 22]))
    22 (95 % interval 17 to 27, n = 3)
    """
    if not len(values):
        raise ConfigError("There is no number to take a mean of. Expected at least one seed or network.")
    mean, count = float(np.mean(values)), len(values)
    if count == 1:
        return Interval(mean, -math.inf, math.inf, 1)
    half = float(scipy.stats.t.ppf((1 + level) / 2, count - 1) * np.std(values, ddof=1) / math.sqrt(count))
    return Interval(mean, mean - half, mean + half, count)


def band_range(values: Sequence[float], most: float) -> tuple[float, float]:
    """Return what a band shows: the interval of a mean of counts, or from the least to the largest of fewer than three.

    Nothing is drawn below 0 or above `most`, which a count cannot exceed.
    """
    if len(values) < FEWEST:
        return min(values), max(values)
    interval = mean_interval(values).within(0, most)
    return interval.low, interval.high


def paired_difference(left: Sequence[float], right: Sequence[float]) -> Interval:
    """Return the mean of ``right - left``, number by number: both of one seed.

    Raises
    ------
    ConfigError
        If the lists have different lengths, or are empty.
    """
    if len(left) != len(right):
        raise ConfigError(
            f"{len(left)} numbers are to be compared with {len(right)}, pair by pair. Expected the same seeds on both "
            "sides."
        )
    return mean_interval([after - before for before, after in zip(left, right, strict=True)])


def difference_of_means(left: Sequence[float], right: Sequence[float], seed: int = 0) -> Interval:
    """Return ``mean(right) - mean(left)`` of two independent lists, and its interval by the bootstrap.

    Notes
    -----
    Percentile bootstrap of 9,999 resamples, each list resampled by itself. `number` is that of both lists together.
    A list of one value has no spread to resample: the interval is then without ends.
    """
    samples = (np.asarray(left, float), np.asarray(right, float))
    middle = float(samples[1].mean() - samples[0].mean())
    if min(len(left), len(right)) < 2:
        return Interval(middle, -math.inf, math.inf, len(left) + len(right))
    if all(np.ptp(sample) == 0 for sample in samples):
        return Interval(middle, middle, middle, len(left) + len(right))
    interval = scipy.stats.bootstrap(
        samples,
        lambda first, second, axis: second.mean(axis=axis) - first.mean(axis=axis),
        method="percentile",
        confidence_level=CONFIDENCE_LEVEL,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(middle, float(interval.low), float(interval.high), len(left) + len(right))


def quantile_interval(replicates: Sequence[float]) -> Interval:
    """Return the mean of bootstrap replicates, and the interval that holds the middle 95 % of them."""
    return Interval(float(np.mean(replicates)), *percentile_interval(np.asarray(replicates)), len(replicates))


def decide(interval: Interval, expected: Literal["more", "fewer"]) -> ConclusionOutcome:
    """Return whether a difference has the direction that the paper found.

    Parameters
    ----------
    interval
        Of a difference.
    expected
        ``more``: the paper found it above 0.

    Returns
    -------
    ConclusionOutcome
        ``inconclusive`` where the interval holds 0, and for fewer than three numbers.
    """
    if interval.number < FEWEST:
        return "inconclusive"
    if interval.low > 0:
        return "agrees" if expected == "more" else "disagrees"
    if interval.high < 0:
        return "agrees" if expected == "fewer" else "disagrees"
    return "inconclusive"


def decide_equal(interval: Interval, margin: float) -> ConclusionOutcome:
    """Say whether a difference is as good as none: its interval lies within `margin` on both sides of 0.

    Notes
    -----
    An interval outside the margin disagrees; one that crosses it, or comes from fewer than three numbers, decides
    nothing.
    """
    if interval.number < FEWEST:
        return "inconclusive"
    if -margin < interval.low and interval.high < margin:
        return "agrees"
    return "disagrees" if interval.low > margin or interval.high < -margin else "inconclusive"
