"""The conditions of training that are compared: what changes in each, and what decides.

    CONDITIONS["dropout"].changes(train_config) -> {"dropout": {...}, "no dropout": {...}}
    CONDITIONS["dropout"].decide(counts) -> finding, outcome

Source: Bau et al. 2017 :cite:p:`bau2017network`, sections 3.4 to 3.7.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from netdissect.experiments.counts import TOTAL, has_null, largest_unique, mean_null_text, mean_text, with_excess
from netdissect.experiments.effect_sizes import Interval, decide, decide_equal, mean_interval, paired_difference
from netdissect.experiments.outcome import ConclusionOutcome
from netdissect.training.choices import ConditionName
from netdissect.training.scene_net import TrainConfig

# Two seeds count as equal if they differ by less than this share of their mean.
EQUAL = 0.25
# Units keep their concepts over seeds if more than this share of the pairs do.
SAME_UNIT = 0.5


@dataclass(frozen=True)
class ConditionCounts:
    """Unique detectors at the deciding quantile, by condition and category, one number for each seed."""

    table: pl.DataFrame
    extra: Mapping[str, pl.DataFrame]

    @property
    def names(self) -> list[str]:
        """Conditions."""
        return [str(name) for name in self.table["condition"].unique(maintain_order=True)]

    def of(self, condition: str, category: str = TOTAL) -> list[int]:
        """Return the counts of one condition."""
        return self.table.filter(condition=condition, category=category)["unique_detectors"].to_list()

    def change(self, left: str, right: str, category: str = TOTAL) -> Interval:
        """Return the difference between two conditions, paired by seed: beyond the null, if there is one."""
        rows = with_excess(self.table)
        if has_null(rows):
            excess = (rows.filter(condition=name, category=category)["excess"].to_list() for name in (left, right))
            return paired_difference(*excess)
        most = self.most(category)
        return paired_difference(self.of(left, category), self.of(right, category)).within(-most, most)

    def most(self, category: str = TOTAL) -> int:
        """Return the largest possible count."""
        return largest_unique(self.table, category)

    def means(self) -> str:
        """Return the mean of each condition as text."""
        totals = self.table.filter(category=TOTAL)
        return ", ".join(f"{name} {mean_text(totals.filter(condition=name))}" for name in self.names)

    @property
    def null(self) -> str:
        """The mean of all counts under the permutation null, as text; empty: not measured."""
        return mean_null_text(self.table.filter(category=TOTAL))

    @property
    def beyond(self) -> str:
        """What differences are differences of."""
        return " beyond the permutation null" if has_null(self.table) else ""


@dataclass(frozen=True)
class Condition:
    """What one experiment changes in the training.

    Attributes
    ----------
    question, paper
        For the conclusion.
    changes
        From the base configuration to the fields that change, by name of the condition.
    decide
        From the counts to the finding and the outcome.
    """

    question: str
    paper: str
    changes: Callable[[TrainConfig], Mapping[str, Mapping[str, Any]]]
    decide: Callable[[ConditionCounts], tuple[str, ConclusionOutcome]]

    def train_configs(self, base: TrainConfig) -> dict[str, TrainConfig]:
        """Return the configuration of each condition."""
        return {
            name: TrainConfig.model_validate(base.model_dump() | dict(change))
            for name, change in self.changes(base).items()
        }


def _seeds(counts: ConditionCounts) -> tuple[str, ConclusionOutcome]:
    (name,) = counts.names
    values = counts.of(name)
    mean = sum(values) / len(values)
    units = counts.extra["pairs"]["units"].drop_nulls().to_list()
    if len(values) < 2 or not mean or not units:
        return f"Unique detectors: {values}: too few to compare.", "inconclusive"
    spread = mean_interval(values).within(0, counts.most())
    shared = counts.extra["pairs"]["concepts"].drop_nulls().to_list()
    concepts, same = sum(shared) / len(shared), sum(units) / len(units)
    relative = Interval(0.0, (spread.low - mean) / mean, (spread.high - mean) / mean, len(values))
    outcome = decide_equal(relative, EQUAL)
    if outcome == "agrees" and same > SAME_UNIT:
        outcome = "disagrees"
    return (
        f"Unique detectors by seed: {', '.join(map(str, values))}; mean {spread}{counts.null}. Two seeds "
        f"differ by {(max(values) - min(values)) / mean:.0%} of it at most, and share {concepts:.0%} of the concepts "
        f"that either detects, but the unit of the same number detects the same concept in {same:.0%} of cases."
    ), outcome


def _dropout(counts: ConditionCounts) -> tuple[str, ConclusionOutcome]:
    texture, objects = (counts.change("dropout", "no dropout", category) for category in ("texture", "object"))
    return (
        f"Unique detectors: {counts.means()}. Without dropout, textures change by {texture} and objects by "
        f"{objects}{counts.beyond}."
    ), _both(decide(texture, "more"), decide(objects, "fewer"))


def _batch_norm(counts: ConditionCounts) -> tuple[str, ConclusionOutcome]:
    change = counts.change("plain", "batch norm")
    return (
        f"Unique detectors: {counts.means()}. Batch normalization changes them by {change}{counts.beyond}.",
        decide(change, "fewer"),
    )


def _growth(counts: ConditionCounts) -> tuple[str, ConclusionOutcome]:
    first, *_, before, last = counts.names
    whole, step = counts.change(first, last), counts.change(before, last)
    return (
        f"Unique detectors: {counts.means()}. From {first} to {last} they change by {whole}{counts.beyond}; "
        f"of this {step} from {before} on.",
        decide(whole, "more"),
    )


def _both(first: ConclusionOutcome, second: ConclusionOutcome) -> ConclusionOutcome:
    if first == second:
        return first
    return "disagrees" if "disagrees" in (first, second) else "inconclusive"


def _widths(base: TrainConfig) -> dict[str, dict[str, Any]]:
    *lower, last = base.units
    return {f"{width} units": {"units": (*lower, width)} for width in (last // 4, last // 2, last, 2 * last)}


def _depths(base: TrainConfig) -> dict[str, dict[str, Any]]:
    one, two, three, *_, last = base.units
    middles = {3: (), 5: (three, base.units[-2]), 7: (three, three, base.units[-2], base.units[-2])}
    return {f"{depth} convolutions": {"units": (one, two, *middle, last)} for depth, middle in middles.items()}


CONDITIONS: dict[ConditionName, Condition] = {
    "seeds": Condition(
        "Do other initial weights give other detectors?",
        "Four initializations converge to similar counts of unique detectors, by different units.",
        lambda _base: {"seeds": {}},
        _seeds,
    ),
    "dropout": Condition(
        "What does dropout change?",
        "Without dropout, more texture detectors and fewer object detectors.",
        lambda _base: {"dropout": {"dropout": 0.5}, "no dropout": {"dropout": 0.0}},
        _dropout,
    ),
    "batchnorm": Condition(
        "What does batch normalization change?",
        "Batch normalization lowers the number of unique detectors much.",
        lambda _base: {"plain": {"batch_norm": False}, "batch norm": {"batch_norm": True}},
        _batch_norm,
    ),
    "width": Condition(
        "Do more units in the last convolution give more detectors?",
        "More units give more unique detectors, from 256 to 768 units of AlexNet-GAP; wider layers add no more.",
        _widths,
        _growth,
    ),
    "depth": Condition(
        "Do deeper networks have more detectors?",
        "Deeper architectures have more unique detectors: ResNet, then VGG, GoogLeNet and AlexNet.",
        _depths,
        _growth,
    ),
}
