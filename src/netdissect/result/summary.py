"""What a run found, in words: one wording for the terminal, Python and the pages.

MeasuredCount, count_sentence   281 unique detectors [270, 290]; 120 ± 1 under the permutation null
measured_count(result, ...)     the count of one layer, with what the run measured of it
difference_sentence             the difference of two counts, its null, and what is beyond the null
reports_q_values(result, ...)   whether there were enough permutations for q-values
layer_findings(result)          count and best units of each layer
legend(result, ...)             what the interval and the ± of a count are
text_summary, html_summary      the run in five lines, and for a notebook
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from netdissect.config import Rule
from netdissect.counted import counted, noun
from netdissect.scoring import count_detectors
from netdissect.scoring.detectors import limit_number
from netdissect.scoring.number_text import decisive_text, iou_text, p_text
from netdissect.scoring.statistics.multiple_testing import SIGNIFICANT

if TYPE_CHECKING:
    from netdissect.result.result import Result
    from netdissect.result.run_differences import PairedDifference

SIGNIFICANCE_PERMUTATIONS = 1000
"""Permutations from which on q-values are reported: with fewer, the number of units below 0.05 varies too much."""
NULL_NOT_MEASURED = "no permutation null: --permutations 100"
NULL_NAME = "under the permutation null"
Q_VALUES = ("q_value_bh", "q_value_by")
Q_VALUES_NOT_REPORTED = "q-values: --permutations 1000"
BEST_UNITS = 3
"""Units named for each layer."""
LEADING_LAYERS = 3
"""Layers in the five lines of a run."""
NOTEBOOK_LAYERS = 12


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


def count_sentence(measured: MeasuredCount, nouns: str = "unique detectors", *, signed: bool = False) -> str:
    """Write a count with its interval and its mean under the permutation null.

    Parameters
    ----------
    measured
        The count.
    nouns
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
    return f"{count_text(measured, nouns, signed=signed)}; {f'{null} {NULL_NAME}' if null else NULL_NOT_MEASURED}"


def count_text(measured: MeasuredCount, nouns: str, *, signed: bool = False) -> str:
    """Write a count with its interval.

    >>> count_text(MeasuredCount(-1, (-4, 2)), "detectors", signed=True)
    '-1 detector [-4, 2]'
    """
    words = noun(measured.count, nouns)
    parts = (_number(measured.count, 0, signed=signed), words, interval_text(measured))
    return " ".join(part for part in parts if part)


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
        if len(rows) and "unique_detectors" in rows.columns:
            return MeasuredCount.of_row(rows.row(0, named=True))
    counted = count_detectors(result.unit_labels(layer, quantile), rule, result.info.min_iou(layer))
    return MeasuredCount(counted.unique_detectors["total"])


def difference_sentence(difference: "PairedDifference", nouns: str = "unique detectors") -> str:
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
        return f"{count_text(measured, nouns, signed=True)}; {difference.no_null}."
    return f"{count_sentence(measured, nouns, signed=True)}. Beyond the null: {excess_text(difference)}."


def excess_text(difference: "PairedDifference") -> str:
    """Write the excess of a difference that has a null, and whether the difference exceeds its null."""
    interval = difference.excess_interval
    ends = "without an interval (--bootstrap 1000)"
    if interval is not None:  # whether it excludes 0 decides
        ends = f"[{', '.join(decisive_text(end, '1f', np.sign) for end in interval)}]"
    verdict = {True: ": the difference exceeds its null", False: ": the difference does not exceed its null", None: ""}
    p_value = "" if difference.p_value is None else f", p = {p_text(difference.p_value)}"
    if difference.exceeds_null is False and difference.p_value is not None and difference.p_value < SIGNIFICANT:
        p_value += ", but the interval contains 0"
    text = f"{difference.excess:+.1f} {ends}{p_value}{verdict[difference.exceeds_null]}"
    if interval is None or difference.exceeds_null is not None:
        return text
    return (
        f"{text}: undecided, as no p is below {SIGNIFICANT:g} with {counted(difference.permutations, 'permutations')}"
    )


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


@dataclass(frozen=True)
class LayerFindings:
    """What a run found in one layer at its first quantile.

    Attributes
    ----------
    layer
        Its name.
    units
        Number of its units.
    unique
        Its unique detectors.
    best
        Unit, label and IoU of the units of highest IoU.
    min_iou
        A unit with at least this IoU is a detector.
    significant
        Number of units with a q-value (Benjamini-Hochberg) below 0.05; None: not reported.
    basis_of
        The layer of which it is another basis; None: it is a layer of the network.
    same_as
        An earlier layer with the same results; None: there is none.
    """

    layer: str
    units: int
    unique: MeasuredCount
    best: tuple[tuple[int, str, float], ...]
    min_iou: float
    significant: int | None = None
    basis_of: str | None = None
    same_as: str | None = None

    @property
    def title(self) -> str:
        """Its name, with the layer that it equals."""
        return self.layer if self.same_as is None else f"{self.layer} (same as {self.same_as})"

    @property
    def count(self) -> str:
        """The count in words, with the number of significant units if it is reported."""
        known = self.significant
        more = "" if known is None else f"; {counted(known, 'units')} with q < {SIGNIFICANT:g}"
        return f"{count_sentence(self.unique)}{more}"

    @property
    def sentence(self) -> str:
        """The same after the name of the layer."""
        return f"{self.layer}: {self.count}"

    def best_units(self, number: int = BEST_UNITS) -> str:
        """Return the best units: ``85 red 0.050, 48 red 0.042``."""
        named = (f"{unit} {label} {iou_text(iou, self.min_iou)}" for unit, label, iou in self.best[:number])
        return ", ".join(named) or "none"


def layer_findings(result: "Result", quantile: float | None = None) -> list[LayerFindings]:
    """Return what a run found in each layer at one of its quantiles (None: the first), in order of execution."""
    quantile = quantile or result.info.config.protocol.quantiles[0]
    return [findings_of_layer(result, name, quantile) for name in result.layers]


def findings_of_layer(result: "Result", name: str, quantile: float) -> LayerFindings:
    """Return what a run found in one layer at one of its quantiles."""
    layer = result.layer(name)
    labeled = layer.units.filter(pl.col("quantile") == quantile, pl.col("label").is_not_null())
    best = labeled.sort("iou", "unit", descending=[True, False]).head(BEST_UNITS).select("unit", "label", "iou")
    unique, significant = measured_count(result, name, quantile), _significant(result, name, quantile)
    limit = result.info.min_iou(name)
    return LayerFindings(
        name, layer.info.units, unique, tuple(best.iter_rows()), limit, significant, layer.info.basis_of,
        result.same_as.get(name),
    )  # fmt: skip


def _significant(result: "Result", layer: str, quantile: float) -> int | None:
    tables = result.layer(layer).statistics
    if "units" not in tables or not reports_q_values(result, layer):
        return None
    values = tables["units"].filter(pl.col("quantile") == quantile).select(Q_VALUES[0]).collect()[Q_VALUES[0]]
    return int((values < SIGNIFICANT).sum())


def leading(findings: Sequence[LayerFindings], number: int) -> list[LayerFindings]:
    """Return the layers with most unique detectors, in order of execution; virtual ones and repeated ones come last."""

    def rank(index: int) -> tuple[bool, float]:
        each = findings[index]
        return each.basis_of is not None or each.same_as is not None, -each.unique.count

    ranked = sorted(range(len(findings)), key=rank)
    return [findings[index] for index in sorted(ranked[:number])]


def basis_note(source: str) -> str:
    """Explain the units of a virtual layer."""
    return (
        f"Virtual layer: each unit is computed from the units of {source} and is no unit of the network. "
        "Compare unique detectors with those of that layer: in such a basis many detectors can share few concepts."
    )


def headline(result: "Result", quantile: float | None = None) -> str:
    """Return network, images and definition of a detector at one of the run's quantiles; None: the first."""
    info = result.info
    limits = sorted({info.min_iou(name) for name in result.layers})
    words = " to ".join(map(limit_number, limits[:1] + limits[1:][-1:]))
    quantile = quantile or info.config.protocol.quantiles[0]
    return (
        f"{info.network.name} on {counted(info.data.images, 'images')} of {PurePath(info.data.root).name}; "
        f"IoU >= {words} at quantile {quantile:g}"
    )


def null_note(result: "Result") -> str:
    """Return how the null, or q-values, would be measured; empty: they are."""
    fewest = min((num_permutations(result, name) for name in result.layers), default=0)
    return NULL_NOT_MEASURED if not fewest else Q_VALUES_NOT_REPORTED if fewest < SIGNIFICANCE_PERMUTATIONS else ""


def legend(result: "Result", findings: Sequence[LayerFindings]) -> str:
    """Return what the interval and the ± of the counts are, and how q-values would be measured; empty: nothing."""
    fewest = min((num_permutations(result, each.layer) for each in findings), default=0)
    parts = (
        "95 % interval" if any(each.unique.interval for each in findings) else "",
        f"± standard error, {counted(fewest, 'permutations')}" if fewest else "",
        "q: Benjamini-Hochberg" if any(each.significant is not None for each in findings) else "",
        null_note(result),
    )
    return "; ".join(filter(None, parts))


def text_summary(result: "Result") -> str:
    """Return a run in at most five lines."""
    findings = layer_findings(result)
    lines = [headline(result), *(each.sentence for each in leading(findings, LEADING_LAYERS))]
    if len(findings) == 1:
        lines.append(f"    best of {counted(findings[0].units, 'units')}: {findings[0].best_units()}")
    hidden = len(findings) - LEADING_LAYERS
    notes = [f"... {counted(hidden, 'more layers')}"] if hidden > 0 else []
    notes += [text] if (text := legend(result, findings)) and text != NULL_NOT_MEASURED else []
    return "\n".join([*lines, "; ".join([*notes, "tables: netdissect.console_tables"])])


def findings_rows(findings: Sequence[LayerFindings], best: int = BEST_UNITS) -> list[dict[str, str]]:
    """Return a row for each layer, as texts by column; `best` units are named."""
    rows = []
    for each in findings:
        row = {
            "layer": each.title,
            "units": f"{each.units:,}",
            "unique detectors": count_text(each.unique, ""),
            "null": null_text(each.unique) or "not measured",
        }
        if any(other.significant is not None for other in findings):
            row[f"q < {SIGNIFICANT:g}"] = "" if each.significant is None else f"{each.significant:,}"
        rows.append({**row, "best units": each.best_units(best)})
    return rows


def html_summary(result: "Result") -> str:
    """Return a run as an HTML table for a notebook."""
    findings = layer_findings(result)
    shown = findings_rows(leading(findings, NOTEBOOK_LAYERS))
    hidden = len(findings) - len(shown)
    notes = [f"... {counted(hidden, 'more layers')}"] if hidden else []
    notes += [text] if (text := legend(result, findings)) else []
    head = "".join(f"<th>{escape(name)}</th>" for name in (shown[0] if shown else ()))
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row.values())}</tr>" for row in shown)
    return (
        f"<table><caption>{escape(headline(result))}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        f"</table>{''.join(f'<p>{escape(note)}</p>' for note in notes)}"
    )
