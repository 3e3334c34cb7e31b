"""Trained variants of one recipe: other seeds, dropout, batch normalization, widths and depths.

All variants of one question see the same pictures for equally many steps, and every variant is trained with
the same seeds, so that differences are paired.

Source: Bau et al. 2017 :cite:p:`bau2017network`, sections 3.4 to 3.7.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from netdissect.config import Rule
from netdissect.dissect.work_dir.run_log import timed
from netdissect.experiments.counts import TOTAL, count_rows, largest_unique
from netdissect.experiments.effect_sizes import Interval, decide, decide_equal, mean_interval, paired_difference
from netdissect.experiments.outcome import Conclusion, ConclusionOutcome, ExperimentResult
from netdissect.result import Result
from netdissect.scoring import passes
from netdissect.training.choices import ConditionName
from netdissect.training.scene_net import TrainConfig
from netdissect.training.workspace import Scale, Workspace

# Two seeds count as equal where they differ by less than this share of their mean.
EQUAL = 0.25
# A unit that keeps its place keeps its meaning, if more than half of the pairs did so.
SAME_UNIT = 0.5


class VariantsConfig(BaseModel):
    """Which variants of which recipe are compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    condition: ConditionName = Field(description="What the variants differ in.")
    scale: Scale = Field(description="Recipe, seeds and quantiles; the first quantile decides.")
    rule: Rule = Field("per-category", description="Which published rule the figure and the verdict count by.")


@dataclass(frozen=True)
class _Condition:
    """What a set of variants asks.

    Attributes
    ----------
    asks, paper
        For the verdict.
    recipes
        The variants' changes of a recipe, by name, in the order of the figure.
    judge
        From the counts to what was found.
    """

    asks: str
    paper: str
    recipes: Callable[[TrainConfig], Mapping[str, Mapping[str, Any]]]
    judge: Callable[["_ConditionCounts"], tuple[str, ConclusionOutcome]]


@dataclass(frozen=True)
class _ConditionCounts:
    """Unique detectors at the deciding quantile, by variant and category, one number a seed."""

    table: pl.DataFrame
    extra: Mapping[str, pl.DataFrame]

    @property
    def names(self) -> list[str]:
        return [str(name) for name in self.table["variant"].unique(maintain_order=True)]

    def of(self, variant: str, category: str = TOTAL) -> list[int]:
        return self.table.filter(variant=variant, category=category)["unique_detectors"].to_list()

    def change(self, left: str, right: str, category: str = TOTAL) -> Interval:
        most = self.most(category)
        return paired_difference(self.of(left, category), self.of(right, category)).within(-most, most)

    def most(self, category: str = TOTAL) -> int:
        return largest_unique(self.table, category)

    def means(self) -> str:
        return ", ".join(f"{name} {mean_interval(self.of(name)).mean:.3g}" for name in self.names)


def training_conditions(name: ConditionName, bench: Workspace) -> ExperimentResult:
    """Train variants of the bench's recipe, and compare the detectors of their last convolutions.

    Parameters
    ----------
    name
        Which question.
    bench
        Pictures, recipe, seeds; networks and runs that are there are taken up.

    Returns
    -------
    Outcome
        Its table: variant, seed, accuracy (share of held-out pictures whose scene is right), layer, quantile, rule,
        category, units, detectors, unique. Beside it ``pairs``: for each two seeds of a variant, the concepts that
        both have (as a share of those that either has), and the share of units that detect the same concept.
    """
    config, seconds = VariantsConfig(condition=name, scale=bench.scale), dict[str, float]()
    rows: list[pl.DataFrame] = []
    pairs: list[dict[str, object]] = []
    recipes = _QUESTIONS[name].recipes(bench.scale.recipe)
    done, total = 0, len(recipes) * bench.scale.seeds
    for variant, changes in recipes.items():
        results: dict[int, Result] = {}
        for seed in range(bench.scale.seeds):
            recipe = bench.recipe(**changes, seed=seed)
            with timed("train", seconds):
                trained = bench.trained(recipe)
            with timed("dissect", seconds):
                results[seed] = bench.dissected(trained)
            rows.append(count_rows(results[seed], variant=variant, seed=seed, accuracy=trained.accuracy))
            done += 1
            if bench.progress:
                bench.progress(f"{name}: networks", done, total)
        pairs += [{"variant": variant} | pair for pair in _pairs(results, bench.scale.quantiles[0])]
    table, further = pl.concat(rows), {"pairs": pl.DataFrame(pairs, schema=_PAIRS)}
    asked = config.model_dump(mode="json") | {"quantile": bench.scale.quantiles[0]}
    asked["variants"] = {variant: dict(changes) for variant, changes in recipes.items()}
    return ExperimentResult(name, table, conclude(table, config, extra=further), asked, seconds, further)


def conclude(table: pl.DataFrame, config: VariantsConfig, *, extra: Mapping[str, pl.DataFrame] = {}) -> Conclusion:
    """Say whether the variants differ as the paper found.

    Parameters
    ----------
    table
        Of `training_conditions`.
    config
        Of the experiment.
    extra
        Tables beside it; seeds are compared by ``pairs``.
    """
    question, scale = _QUESTIONS[config.condition], config.scale
    decided = table.filter(quantile=scale.quantiles[0], rule=config.rule)
    finding, agreement = question.judge(_ConditionCounts(decided, extra))
    accuracies = decided.group_by("variant", maintain_order=True).agg(pl.col("accuracy").mean()).rows()
    told = ", ".join(f"{variant} {accuracy:.0%}" for variant, accuracy in accuracies)
    return Conclusion(
        question=question.asks,
        paper=question.paper,
        finding=f"{finding} Accuracy: {told}. {scale.seeds} seeds each, {scale.recipe.steps} steps.",
        agreement=agreement,
    )


def condition_configs(name: ConditionName, recipe: TrainConfig) -> dict[str, TrainConfig]:
    """Return the recipes of a set of variants, by name; each is trained from several seeds."""
    changed = _QUESTIONS[name].recipes(recipe)
    return {
        variant: TrainConfig.model_validate(recipe.model_dump() | dict(change)) for variant, change in changed.items()
    }


_PAIRS = {"variant": pl.String, "left": pl.Int64, "right": pl.Int64, "concepts": pl.Float64, "units": pl.Float64}


def _pairs(results: Mapping[int, Result], quantile: float) -> list[dict[str, object]]:
    """Compare each two seeds: which concepts they share, and whether the same units detect them."""
    found: list[dict[str, object]] = []
    labels = {seed: _labels(result, quantile) for seed, result in results.items()}
    for left, right in combinations(labels, 2):
        one, other = labels[left], labels[right]
        either = set(one.values()) | set(other.values())
        both = set(one.values()) & set(other.values())
        units = set(one) | set(other)
        same = sum(one.get(unit) == other.get(unit) for unit in units)
        shares = (len(part) / len(whole) if whole else None for part, whole in ((both, either), (range(same), units)))
        found.append({"left": left, "right": right, **dict(zip(("concepts", "units"), shares, strict=True))})
    return found


def _labels(result: Result, quantile: float) -> dict[int, str]:
    """Return the label of each unit that is a detector, by top label."""
    (layer,) = result.layers
    units = result.layer(layer).units.filter(
        pl.col("quantile") == quantile,
        passes(pl.col("iou"), "top-label", result.info.min_iou(layer)),
        pl.col("label").is_not_null(),
    )
    return dict(units.select("unit", "label").rows())


def _seeds(counts: _ConditionCounts) -> tuple[str, ConclusionOutcome]:
    (name,) = counts.names
    values = counts.of(name)
    mean = sum(values) / len(values)
    units = counts.extra["pairs"]["units"].drop_nulls().to_list()
    if len(values) < 2 or not mean or not units:
        return f"Unique detectors: {values}: too few to compare.", "not established"
    spread = mean_interval(values).within(0, counts.most())
    shared = counts.extra["pairs"]["concepts"].drop_nulls().to_list()
    concepts, same = sum(shared) / len(shared), sum(units) / len(units)
    relative = Interval(0.0, (spread.low - mean) / mean, (spread.high - mean) / mean, len(values))
    agreement = decide_equal(relative, EQUAL)
    if agreement == "agrees" and same > SAME_UNIT:
        agreement = "disagrees"
    return (
        f"Unique detectors by seed: {', '.join(map(str, values))}; mean {spread}. Two seeds differ by "
        f"{(max(values) - min(values)) / mean:.0%} of it at most, and share {concepts:.0%} of the concepts that either "
        f"detects, but the unit of the same number detects the same concept in {same:.0%} of cases."
    ), agreement


def _dropout(counts: _ConditionCounts) -> tuple[str, ConclusionOutcome]:
    with_it, without = "dropout", "no dropout"
    texture, objects = (counts.change(with_it, without, category) for category in ("texture", "object"))
    return (
        f"Unique detectors: {counts.means()}. Without dropout, textures change by {texture} and objects by {objects}."
    ), _both(decide(texture, "more"), decide(objects, "fewer"))


def _batch_norm(counts: _ConditionCounts) -> tuple[str, ConclusionOutcome]:
    change = counts.change("plain", "batch norm")
    return (
        f"Unique detectors: {counts.means()}. Batch normalization changes them by {change}.",
        decide(change, "fewer"),
    )


def _growth(counts: _ConditionCounts) -> tuple[str, ConclusionOutcome]:
    first, *_, before, last = counts.names
    whole, step = counts.change(first, last), counts.change(before, last)
    return (
        f"Unique detectors: {counts.means()}. From {first} to {last} they change by {whole}; of this {step} from "
        f"{before} on.",
        decide(whole, "more"),
    )


def _both(one: ConclusionOutcome, other: ConclusionOutcome) -> ConclusionOutcome:
    if one == other:
        return one
    return "disagrees" if "disagrees" in (one, other) else "not established"


def _widths(recipe: TrainConfig) -> dict[str, dict[str, Any]]:
    *lower, last = recipe.units
    return {f"{width} units": {"units": (*lower, width)} for width in (last // 4, last // 2, last, 2 * last)}


def _depths(recipe: TrainConfig) -> dict[str, dict[str, Any]]:
    one, two, three, *_, last = recipe.units
    middles = {3: (), 5: (three, recipe.units[-2]), 7: (three, three, recipe.units[-2], recipe.units[-2])}
    return {f"{depth} convolutions": {"units": (one, two, *middle, last)} for depth, middle in middles.items()}


_QUESTIONS: dict[ConditionName, _Condition] = {
    "seeds": _Condition(
        "Do other initial weights give other detectors?",
        "Four initializations converge to similar counts of unique detectors, by different units.",
        lambda _recipe: {"seeds": {}},
        _seeds,
    ),
    "dropout": _Condition(
        "What does dropout change?",
        "Without dropout, more texture detectors and fewer object detectors.",
        lambda _recipe: {"dropout": {"dropout": 0.5}, "no dropout": {"dropout": 0.0}},
        _dropout,
    ),
    "batchnorm": _Condition(
        "What does batch normalization change?",
        "Batch normalization lowers the number of unique detectors much.",
        lambda _recipe: {"plain": {"batch_norm": False}, "batch norm": {"batch_norm": True}},
        _batch_norm,
    ),
    "width": _Condition(
        "Do more units in the last convolution give more detectors?",
        "More units give more unique detectors, from 256 to 768 units of AlexNet-GAP; wider layers add no more.",
        _widths,
        _growth,
    ),
    "depth": _Condition(
        "Do deeper networks have more detectors?",
        "Deeper architectures have more unique detectors: ResNet, then VGG, GoogLeNet and AlexNet.",
        _depths,
        _growth,
    ),
}
