"""What a run found, in words: one wording for the terminal, Python and the pages.

MeasuredCount, count_sentence   281 unique detectors [270, 290]; 120 ± 1 under the permutation null
measured_count(result, ...)     the count of one layer, with what the run measured of it
difference_sentence             the difference of two counts, its null, and what is beyond the null
reports_q_values(result, ...)   whether there were enough permutations for q-values
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netdissect.config import Rule
from netdissect.scoring import count_detectors

if TYPE_CHECKING:
    from netdissect.result.result import Result
    from netdissect.result.run_differences import PairedDifference

SIGNIFICANCE_PERMUTATIONS = 1000
"""Permutations from which on q-values are reported: with fewer, the number of units below 0.05 varies too much."""
NULL_NOT_MEASURED = "no permutation null: --permutations 100"
Q_VALUES = ("q_value_bh", "q_value_by")
NULL_NAME = "under the permutation null"


@dataclass(frozen=True)
class MeasuredCount:
    """A number of detectors, or the difference of two, with its interval and its null.

    Attributes
    ----------
    count
        The number.
    interval
        95 % confidence interval; None: not measured.
    null
        Its mean under the permutation null; None: not measured.
    null_se
        Monte Carlo standard error of that mean; None: not measured.
    """

    count: float
    interval: tuple[float, float] | None = None
    null: float | None = None
    null_se: float | None = None

    @classmethod
    def of_row(cls, row: Mapping[str, Any], name: str = "unique_detectors") -> "MeasuredCount":
        """Read a row of the table ``counts``.

        Parameters
        ----------
        row
            See `netdissect.result.statistics_schema.COUNTS`.
        name
            ``unique_detectors`` or ``detectors``.
        """
        low, high = (row.get(f"{name}_ci_{end}") for end in ("low", "high"))
        interval = None if low is None or high is None else (float(low), float(high))
        return cls(row[name], interval, row.get(f"null_{name}"), row.get(f"null_{name}_se"))


def count_sentence(measured: MeasuredCount, noun: str = "unique detectors", *, signed: bool = False) -> str:
    """Write a count with its interval and its mean under the permutation null.

    Parameters
    ----------
    measured
        The count.
    noun
        What was counted, in the plural.
    signed
        Whether the count is a difference, whose numbers have a sign.

    Examples
    --------
    >>> count_sentence(MeasuredCount(281, (270.2, 289.6), 120.4, 1.2), "detectors")
    '281 detectors [270, 290]; 120 ± 1 under the permutation null'
    >>> count_sentence(MeasuredCount(19, (11, 26), -0.31, 0.42), signed=True)
    '+19 unique detectors [11, 26]; -0.3 ± 0.4 under the permutation null'
    >>> count_sentence(MeasuredCount(1))
    '1 unique detector; no permutation null: --permutations 100'
    """
    null = null_text(measured, signed=signed)
    return f"{count_text(measured, noun, signed=signed)}; {f'{null} {NULL_NAME}' if null else NULL_NOT_MEASURED}"


def count_text(measured: MeasuredCount, noun: str, *, signed: bool = False) -> str:
    """Write a count with its interval.

    >>> count_text(MeasuredCount(-1, (-4, 2)), "detectors", signed=True)
    '-1 detector [-4, 2]'
    """
    words = noun.removesuffix("s") if abs(measured.count) == 1 else noun
    interval = interval_text(measured)
    return f"{_number(measured.count, 0, signed=signed)} {words}{interval and ' ' + interval}"


def interval_text(measured: MeasuredCount) -> str:
    """Return the interval of a count in square brackets; empty: not measured.

    >>> interval_text(MeasuredCount(281, (270.2, 289.6)))
    '[270, 290]'
    """
    if measured.interval is None:
        return ""
    return f"[{', '.join(_number(end, 0) for end in measured.interval)}]"


def null_text(measured: MeasuredCount, *, signed: bool = False) -> str:
    """Return the mean of a count under the null with its standard error, to the digits that it fixes.

    >>> [null_text(MeasuredCount(9, None, 21.47, se)) for se in (None, 12.3, 1.2, 0.52, 0.041, 0.0)]
    ['21.5', '21 ± 12', '21 ± 1', '21.5 ± 0.5', '21.47 ± 0.04', '21 ± 0']
    >>> null_text(MeasuredCount(9))
    ''
    """
    if measured.null is None:
        return ""
    error = measured.null_se
    if error is None or math.isnan(error):
        return _number(measured.null, 1, signed=signed)
    digits = 0 if error == 0 or error >= 0.95 else 1 if error >= 0.095 else 2
    return f"{_number(measured.null, digits, signed=signed)} ± {_number(error, digits)}"


def _number(value: float, digits: int, *, signed: bool = False) -> str:
    rounded = round(float(value), digits) + 0.0  # -0.0 becomes 0.0
    return f"{rounded:{'+' if signed and rounded else ''},.{digits}f}"


def measured_count(result: "Result", layer: str, quantile: float, rule: Rule = "top-label") -> MeasuredCount:
    """Return the unique detectors of one layer, with interval and null as far as the run measured them.

    Parameters
    ----------
    result
        A finished run.
    layer
        One of its layers.
    quantile
        One of its quantiles.
    rule
        Rule by which detectors are counted.
    """
    of_layer = result.layer(layer)
    if "counts" in of_layer.statistics:
        rows = of_layer.statistics["counts"].filter(quantile=quantile, rule=rule, category="total").collect()
        if len(rows):
            return MeasuredCount.of_row(rows.row(0, named=True))
    counted = count_detectors(result.unit_labels(layer, quantile), rule, result.info.min_iou(layer))
    return MeasuredCount(counted.unique_detectors["total"])


def difference_sentence(difference: "PairedDifference", noun: str = "unique detectors") -> str:
    """Write a difference with its interval, its permutation null, and what is beyond the null.

    Examples
    --------
    >>> from netdissect.result import PairedDifference
    >>> difference = PairedDifference(19, (11, 26), 1000, 19.46, 0.31, 0.93, 100, "")
    >>> first, second = difference_sentence(difference).split(". ")
    >>> first
    '+19 unique detectors [11, 26]; +19.5 ± 0.3 under the permutation null'
    >>> second
    'Beyond the null: -0.5 [-8.5, 6.5], p = 0.93: the difference does not exceed its null.'
    >>> difference_sentence(PairedDifference(19, (11, 26), 1000))
    '+19 unique detectors [11, 26]; the permutation null was not measured.'
    """
    measured = MeasuredCount(difference.value, difference.interval, difference.null, difference.null_se)
    if difference.excess is None or difference.p_value is None:
        return f"{count_text(measured, noun, signed=True)}; {difference.no_null}."
    return f"{count_sentence(measured, noun, signed=True)}. Beyond the null: {excess_text(difference)}."


def excess_text(difference: "PairedDifference") -> str:
    """Write the excess of a difference that has a null, and whether the difference exceeds its null."""
    interval = difference.excess_interval
    ends = "without an interval (--bootstrap 1000)" if interval is None else f"[{interval[0]:.1f}, {interval[1]:.1f}]"
    verdict = {True: ": the difference exceeds its null", False: ": the difference does not exceed its null", None: ""}
    return f"{difference.excess:+.1f} {ends}, p = {difference.p_value:.2g}{verdict[difference.exceeds_null]}"


def num_permutations(result: "Result", layer: str) -> int:
    """Return the number of permutations of the permutation test of one layer; 0: not measured."""
    statistics = result.layer(layer).statistics
    if "null_counts" in statistics:
        return int(statistics["null_counts"].select("permutation").collect()["permutation"].n_unique())
    asked = result.info.config.permutations
    return 0 if asked == "auto" else asked


def reports_q_values(result: "Result", layer: str) -> bool:
    """Return whether the q-values of a layer are reported; its tables hold them in any case."""
    return num_permutations(result, layer) >= SIGNIFICANCE_PERMUTATIONS
