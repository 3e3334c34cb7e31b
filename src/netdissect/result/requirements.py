"""Requirements that a run must meet, for training pipelines.

    'unique_detectors >= 40', 'concept:car', 'iou:car > 0.1' -> Requirement -> check_result -> RequirementResult

A requirement is text, so that it can be written in a build file.
"""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import polars as pl

from netdissect.config import Rule
from netdissect.errors import ConfigError, ResultError
from netdissect.result.compare import detectors_of
from netdissect.result.result import Result
from netdissect.scoring import count_detectors

Measure = Literal["detectors", "unique_detectors", "concept", "iou"]

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
}  # fmt: skip

# A concept's name may hold anything but a comparison at its end.
_PATTERN = re.compile(
    r"^\s*(?P<measure>[a-z_]+)(?::(?P<of>.*?))?\s*(?:(?P<sign>>=|<=|==|!=|>|<)\s*(?P<number>[-+.0-9eE]+))?\s*$"
)
EXPECTED = (
    "Expected 'detectors >= N', 'unique_detectors >= N' (of one category: 'unique_detectors:object >= N'), "
    "'concept:NAME' (some unit detects it), 'concept:NAME >= N' (N units do) or 'iou:NAME >= X' (its best unit), "
    "with >=, >, <=, <, == or !="
)


@dataclass(frozen=True)
class Requirement:
    """One requirement.

    Attributes
    ----------
    text
        As it was written.
    measure
        ``detectors`` and ``unique_detectors`` count a layer's, ``concept`` the detectors of one concept, ``iou`` is the
        highest IoU of any unit with one concept.
    target
        A category of the first two measures (``total``: all), or a concept of the others.
    sign, number
        What the measure is compared with.
    """

    text: str
    measure: Measure
    target: str
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
        value = f"{self.value:.4f}" if self.requirement.measure == "iou" else f"{self.value:.0f}"
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
    >>> parse_requirement("detectors:object >= 12")
    Requirement(text='detectors:object >= 12', measure='detectors', target='object', sign='>=', number=12.0)
    """
    match = _PATTERN.match(text)
    if match is None or match["measure"] not in get_args(Measure):
        raise ConfigError(f"{text!r} is not a requirement. {EXPECTED}.")
    measure: Measure = match["measure"]  # type: ignore[assignment]
    of, sign, number = match["of"], match["sign"], match["number"]
    if measure in ("detectors", "unique_detectors"):
        complete = sign is not None and of != ""
        of = of or "total"
    else:
        complete = bool(of) and (sign is not None or measure == "concept")
        sign, number = sign or ">=", number or "1"
    try:
        value = float(number) if complete else None
    except ValueError:
        value = None
    if value is None:
        raise ConfigError(f"{text!r} is not a complete requirement. {EXPECTED}.")
    return Requirement(text.strip(), measure, of, sign, value)


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
    terms
        Which detectors count.

    Returns
    -------
    tuple of RequirementResult
        One for each requirement. Of several layers, the one with the highest value counts.

    Raises
    ------
    ResultError
        If the run lacks a layer, quantile, category or concept that was named.
    """
    quantiles = run.info.config.protocol.quantiles
    quantile = quantiles[0] if criteria.quantile is None else criteria.quantile
    if quantile not in quantiles:
        raise ResultError(f"the run has no quantile {quantile}; it has {', '.join(map(str, quantiles))}. Name one.")
    layers = list(run.layers) if criteria.layer is None else [run.layer(criteria.layer).info.name]
    levels = {name: run.info.min_iou(name) if criteria.min_iou is None else criteria.min_iou for name in layers}
    results = []
    for requirement in requirements:
        _refuse_unknown(run, requirement)
        values = {
            layer: _measure(run, layer, requirement, (quantile, criteria.rule, level))
            for layer, level in levels.items()
        }
        best = max(values, key=lambda layer: values[layer])
        results.append(RequirementResult(requirement, values[best], best, requirement.holds(values[best])))
    return tuple(results)


def _refuse_unknown(run: Result, requirement: Requirement) -> None:
    counted = requirement.measure in ("detectors", "unique_detectors")
    known = ["total", *run.info.data.categories] if counted else run.concepts["concept"].to_list()
    if requirement.target not in known:
        kind = "category" if counted else "concept"
        listed = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
        raise ResultError(
            f"{requirement.text!r} names the {kind} {requirement.target!r}, which this run's data do not have; they "
            f"have {listed}. Correct the name."
        )


def _measure(run: Result, layer: str, requirement: Requirement, made: tuple[float, Rule, float]) -> float:
    quantile, rule, level = made
    if requirement.measure == "concept":
        detectors = detectors_of(run, layer, quantile, rule, level)
        return float(detectors.filter(pl.col("concept") == requirement.target).height)
    if requirement.measure == "iou":
        scores = run.layer(layer).lazy_scores.filter(
            pl.col("quantile") == quantile, pl.col("concept").cast(pl.String) == requirement.target
        )
        return float(scores.select(pl.col("iou").max()).collect().item() or 0.0)
    count = count_detectors(run.unit_labels(layer, quantile), rule, level)
    return float(
        (count.detectors if requirement.measure == "detectors" else count.unique_detectors)[requirement.target]
    )
