"""Requirements that a run must meet, for training pipelines.

    'unique_detectors - null_unique_detectors >= 10', 'concept:car', 'iou:car > 0.1'
        -> Requirement -> check_result -> RequirementResult

A requirement is text, so that it can be written in a build file.
"""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from netdissect.close_matches import did_you_mean
from netdissect.config import Rule, one_or_more
from netdissect.errors import ConfigError, ResultError
from netdissect.result.compare import detectors_of
from netdissect.result.result import Result, check_is_run
from netdissect.result.statistics_schema import COUNTS
from netdissect.scoring import count_detectors

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
COUNTED = ("detectors", "unique_detectors")
COLUMNS = tuple(name for name, dtype in COUNTS.items() if dtype.is_numeric() and name != "quantile")
"""Columns of the table ``counts`` that a requirement can name."""

# A name of a concept or category may hold anything but a comparison at its end.
_COMPARISON = re.compile(r"^(?P<left>.*?)\s*(?:(?P<sign>>=|<=|==|!=|>|<)\s*(?P<number>[-+.0-9eE]+))?\s*$", re.DOTALL)
_OPERATION = re.compile(r"\s+([+-])\s+")
EXPECTED = (
    "Expected 'detectors >= N', 'unique_detectors >= N' (of one category: 'unique_detectors:object >= N'), a sum or "
    "difference of such counts with spaces around + and - ('unique_detectors - null_unique_detectors >= N'), "
    "'concept:NAME' (some unit detects it), 'concept:NAME >= N' (N units do) or 'iou:NAME >= X' (its best unit), with "
    ">=, >, <=, <, == or !="
)


@dataclass(frozen=True)
class CountTerm:
    """One count of an expression.

    Attributes
    ----------
    factor
        1, or -1 if it is subtracted.
    column
        A number of the table ``counts``; see `netdissect.result.statistics_schema.COUNTS`.
    category
        A category, or ``total``.
    """

    factor: int
    column: str
    category: str


@dataclass(frozen=True)
class Requirement:
    """One requirement.

    Attributes
    ----------
    text
        As it was written.
    measure
        ``counts``: the sum of `terms`, ``concept``: the detectors of one concept, ``iou``: the highest IoU of any unit
        with one concept.
    concept
        A concept; empty for ``counts``.
    terms
        Counts of a layer; empty for the other measures.
    sign, number
        What the measure is compared with.
    """

    text: str
    measure: Literal["counts", "concept", "iou"]
    concept: str
    terms: tuple[CountTerm, ...]
    sign: str
    number: float

    def holds(self, value: float) -> bool:
        """Return whether a measured value meets the requirement."""
        return OPERATORS[self.sign](value, self.number)


@dataclass(frozen=True)
class RequirementResult:
    """The result of one requirement: the value, its layer, and whether the requirement is met."""

    requirement: Requirement
    value: float
    layer: str
    met: bool

    def __str__(self) -> str:
        whole = f"{self.value:.1f}".removesuffix(".0")
        value = f"{self.value:.4f}" if self.requirement.measure == "iou" else whole
        return f"{self.requirement.text}: {value} in {self.layer}"


@dataclass(frozen=True)
class DetectorCriteria:
    """Which detectors count: layer, rule, IoU limit and quantile; None: those of the run."""

    layer: str | None = None
    rule: Rule = "top-label"
    min_iou: float | None = None
    quantile: float | None = None


def parse_requirement(text: str) -> Requirement:
    """Read one requirement.

    Raises
    ------
    ConfigError
        If it is not one.

    Examples
    --------
    >>> parse_requirement("detectors:object >= 12").terms
    (CountTerm(factor=1, column='detectors', category='object'),)
    >>> [term.factor for term in parse_requirement("unique_detectors - null_unique_detectors >= 10").terms]
    [1, -1]
    """
    match = _COMPARISON.match(text.strip())
    left, sign, number = match.groups() if match else ("", None, None)
    measure, separator, concept = left.partition(":")
    concept = concept.strip()
    if measure in ("concept", "iou") and separator:
        terms: tuple[CountTerm, ...] = ()
        complete = bool(concept) and (sign is not None or measure == "concept")
        sign, number = sign or ">=", number or "1"
    else:
        measure, concept, terms = "counts", "", _read_terms(text, left)
        complete = sign is not None
    try:
        value = float(number) if complete and number else None
    except ValueError:
        value = None
    if value is None:
        raise ConfigError(f"{text!r} is not a complete requirement. {EXPECTED}.")
    return Requirement(text.strip(), measure, concept, terms, sign, value)  # type: ignore[arg-type]


def _read_terms(text: str, expression: str) -> tuple[CountTerm, ...]:
    """Read a sum or difference of counts."""
    first, *rest = _OPERATION.split(expression)
    terms = []
    for sign, written in [("+", first), *zip(rest[::2], rest[1::2], strict=True)]:
        column, separator, category = written.partition(":")
        column, category = column.strip(), category.strip()
        if column not in COLUMNS:
            raise ConfigError(
                f"{text!r} is not a requirement: {column!r} is no count of a run.{did_you_mean(column, COLUMNS)} "
                f"{EXPECTED}."
            )
        if separator and not category:
            raise ConfigError(f"{text!r} is not a complete requirement: {written!r} names no category. {EXPECTED}.")
        terms.append(CountTerm(-1 if sign == "-" else 1, column, category or "total"))
    return tuple(terms)


def check_result(
    run: Result, requirements: Sequence[Requirement], criteria: DetectorCriteria = DetectorCriteria()
) -> tuple[RequirementResult, ...]:
    """Check a run against requirements.

    Parameters
    ----------
    run
        A finished run.
    requirements
        From `parse_requirement`.
    criteria
        Which detectors count.

    Returns
    -------
    tuple of RequirementResult
        One for each requirement. Of several layers, the one with the highest value counts.

    Raises
    ------
    ResultError
        If the run lacks a layer, quantile, category or concept that was named, or did not measure a count.
    """
    check_is_run(run)
    wrong = next((one for one in one_or_more(requirements) if not isinstance(one, Requirement)), None)
    if wrong is not None:
        raise ConfigError(
            f"the requirement {wrong!r} is a {type(wrong).__name__}. Expected a Requirement: "
            f"netdissect.parse_requirement({str(wrong)!r})."
        )
    quantiles = run.info.config.protocol.quantiles
    quantile = quantiles[0] if criteria.quantile is None else criteria.quantile
    if quantile not in quantiles:
        raise ResultError(f"the run has no quantile {quantile}; it has {', '.join(map(str, quantiles))}. Name one.")
    layers = list(run.layers) if criteria.layer is None else [run.layer(criteria.layer).info.name]
    levels = {name: run.info.min_iou(name) if criteria.min_iou is None else criteria.min_iou for name in layers}
    results = []
    for requirement in one_or_more(requirements):
        _refuse_unknown(run, requirement)
        values = {
            layer: _measure(run, layer, requirement, (quantile, criteria.rule, level))
            for layer, level in levels.items()
        }
        best = max(values, key=lambda layer: values[layer])
        results.append(RequirementResult(requirement, values[best], best, requirement.holds(values[best])))
    return tuple(results)


def _refuse_unknown(run: Result, requirement: Requirement) -> None:
    if requirement.measure == "counts":
        kind, named, known = (
            "category", [term.category for term in requirement.terms], ["total", *run.info.data.categories]
        )  # fmt: skip
    else:
        kind, named, known = "concept", [requirement.concept], run.concepts["concept"].to_list()
    for name in named:
        if name not in known:
            listed = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
            raise ResultError(
                f"{requirement.text!r} names the {kind} {name!r}, which this run's data do not have; they have "
                f"{listed}.{did_you_mean(name, known)} Correct the name."
            )


def _measure(run: Result, layer: str, requirement: Requirement, made: tuple[float, Rule, float]) -> float:
    quantile, rule, level = made
    if requirement.measure == "concept":
        detectors = detectors_of(run, layer, quantile, rule, level)
        return float(detectors.filter(pl.col("concept") == requirement.concept).height)
    if requirement.measure == "iou":
        scores = run.layer(layer).lazy_scores.filter(
            pl.col("quantile") == quantile, pl.col("concept").cast(pl.String) == requirement.concept
        )
        return float(scores.select(pl.col("iou").max()).collect().item() or 0.0)
    return sum(term.factor * _counted(run, layer, term, made) for term in requirement.terms)


def _counted(run: Result, layer: str, term: CountTerm, made: tuple[float, Rule, float]) -> float:
    """Return one count of a layer; its interval and its null are in the tables of the run."""
    quantile, rule, level = made
    if term.column in COUNTED:
        count = count_detectors(run.unit_labels(layer, quantile), rule, level)
        return float((count.detectors if term.column == "detectors" else count.unique_detectors)[term.category])
    if level != run.info.min_iou(layer):
        raise ResultError(
            f"{term.column} of layer {layer!r} was measured at the IoU limit {run.info.min_iou(layer):g} of the run, "
            f"not at {level:g}. Leave --min-iou out, or repeat the run with it."
        )
    statistics = run.layer(layer).statistics
    keys = {"quantile": quantile, "rule": rule, "category": term.category}
    rows = statistics["counts"].filter(**keys).collect() if "counts" in statistics else pl.DataFrame()
    value = rows[term.column][0] if term.column in rows.columns and len(rows) else None
    if value is None:
        option = "--permutations 100" if term.column.startswith("null_") else "--bootstrap 1000"
        raise ResultError(f"the run did not measure {term.column} of layer {layer!r}. Repeat it with {option}.")
    return float(value)
