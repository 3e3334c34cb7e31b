"""Compare two runs by concept: concepts that gained or lost their detectors.

    compare_results(left, right) -> Comparison of each pair of layers and quantile

Units of two networks do not correspond to each other, so runs are compared by concept. Console, report, figures and
explorer all use this comparison.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from netdissect.config import Rule
from netdissect.errors import ResultError
from netdissect.result.result import LayerCount, Result, check_is_run
from netdissect.result.run_differences import PairedDifference, count_difference, layer_pairs
from netdissect.result.summary import MeasuredCount, count_sentence, difference_sentence, measured_count
from netdissect.scoring import count_detectors, passes

OTHER_LIMIT = "intervals and permutation null were measured at another IoU limit"


@dataclass(frozen=True, repr=False)
class Comparison:
    """One layer of each run at one quantile, under one rule.

    Attributes
    ----------
    rule, min_iou, quantile
        Which units are detectors.
    left, right
        The layers and their detectors.
    left_measured, right_measured
        Their unique detectors with interval and permutation null, as far as the runs measured them at this limit.
    difference
        Of these unique detectors, right minus left, with its interval and null.
    concepts
        One row for each concept of either run: category, concept, change (``gained``: detectors on the right
        only, ``lost``: on the left only, ``kept``: on both sides, ``absent``: on neither), then for each side
        ``left_detectors`` (units), ``left_unit`` (the one of highest IoU, a detector or not) and ``left_iou``; null
        if the run does not have the concept, or no unit intersects it. By category, then name.
    same_data
        Whether both runs used the same images and labels; otherwise their IoUs are not comparable.
    """

    rule: Rule
    min_iou: float
    quantile: float
    left: LayerCount
    right: LayerCount
    left_measured: MeasuredCount
    right_measured: MeasuredCount
    difference: PairedDifference
    concepts: pl.DataFrame
    same_data: bool

    @property
    def title(self) -> str:
        """The layer, or both, and the quantile."""
        left, right = self.left.layer, self.right.layer
        return f"{left if left == right else f'{left} → {right}'} at quantile {self.quantile:g}"

    @property
    def sentences(self) -> tuple[str, ...]:
        """The unique detectors of both sides and their difference, each with interval and permutation null."""
        difference = f"right minus left: {difference_sentence(self.difference)}"
        if self.difference.no_null == OTHER_LIMIT:
            return (difference,)
        left, right = count_sentence(self.left_measured), count_sentence(self.right_measured)
        return (f"left: {left}", f"right: {right}", difference)

    def __repr__(self) -> str:
        """Return both counts and their difference, each with its null."""
        return "\n".join((self.title, *self.sentences))

    def changed(self, change: str) -> pl.DataFrame:
        """Return the concepts of one kind of change, the highest IoU of either side first."""
        best = pl.max_horizontal("left_iou", "right_iou")
        return self.concepts.filter(pl.col("change") == change).sort(best, descending=True)


def compare_results(
    left: Result,
    right: Result,
    *,
    layers: Sequence[tuple[str, str]] | None = None,
    rule: Rule = "top-label",
    min_iou: float | None = None,
) -> tuple[Comparison, ...]:
    """Compare two runs, concept by concept.

    Parameters
    ----------
    left, right
        Finished runs.
    layers
        Pairs of a layer on the left and one on the right. None: those of one name, or the only layers.
    rule
        See `netdissect.scoring.DetectorCount`.
    min_iou
        None: each layer's own, if those of a pair agree.

    Returns
    -------
    tuple of Comparison
        For each pair of layers, at each quantile that both runs have.

    Raises
    ------
    ResultError
        If no layers or no quantiles correspond, a named layer does not exist, or the runs' limits differ.
    """
    check_is_run(left, right)
    quantiles = [q for q in left.info.config.protocol.quantiles if q in right.info.config.protocol.quantiles]
    if not quantiles:
        raise ResultError(
            f"the runs have no quantile in common: {_listed(left.info.config.protocol.quantiles)} on the left, "
            f"{_listed(right.info.config.protocol.quantiles)} on the right. Repeat one of them with --quantile."
        )
    pairs = layer_pairs(left, right, layers)
    levels = [_level(left, right, pair) if min_iou is None else min_iou for pair in pairs]
    return tuple(
        _compare(left, right, pair, quantile, (rule, level))
        for pair, level in zip(pairs, levels, strict=True)
        for quantile in quantiles
    )


def _level(left: Result, right: Result, pair: tuple[str, str]) -> float:
    left_limit, right_limit = (run.info.min_iou(layer) for run, layer in zip((left, right), pair, strict=True))
    if left_limit != right_limit:
        raise ResultError(
            f"a detector has an IoU of {left_limit:g} on the left and of {right_limit:g} on the right. Set one "
            "limit for both with --min-iou."
        )
    return left_limit


def _compare(
    left: Result, right: Result, pair: tuple[str, str], quantile: float, criteria: tuple[Rule, float]
) -> Comparison:
    rule, level = criteria
    sides = [_side(run, layer, quantile, rule, level) for run, layer in zip((left, right), pair, strict=True)]
    renamed = [
        frame.rename({name: f"{side}_{name}" for name in ("detectors", "unit", "iou")})
        for side, frame in zip(("left", "right"), sides, strict=True)
    ]
    joined = renamed[0].join(renamed[1], on=["category", "concept"], how="full", coalesce=True)
    on_left, on_right = (pl.col(f"{side}_detectors").fill_null(0) > 0 for side in ("left", "right"))
    change = (
        pl.when(on_left & on_right)
        .then(pl.lit("kept"))
        .when(on_right)
        .then(pl.lit("gained"))
        .when(on_left)
        .then(pl.lit("lost"))
        .otherwise(pl.lit("absent"))
    )
    on_each_side = [
        LayerCount(layer, quantile, count_detectors(run.unit_labels(layer, quantile), rule, level))
        for run, layer in zip((left, right), pair, strict=True)
    ]
    concepts = joined.select("category", "concept", change.alias("change"), pl.selectors.contains("_"))
    same = left.info.data.digest == right.info.data.digest
    left_measured, right_measured, difference = _measured(left, right, pair, quantile, criteria)
    left_layer, right_layer = on_each_side
    return Comparison(
        rule, level, quantile, left_layer, right_layer, left_measured, right_measured, difference,
        concepts.sort("category", "concept"), same,
    )  # fmt: skip


def _measured(
    left: Result, right: Result, pair: tuple[str, str], quantile: float, criteria: tuple[Rule, float]
) -> tuple[MeasuredCount, MeasuredCount, PairedDifference]:
    """Return the unique detectors of both sides and their difference, with what was measured at this limit."""
    rule, level = criteria
    sides = list(zip((left, right), pair, strict=True))
    if all(run.info.min_iou(layer) == level for run, layer in sides):
        before, after = (measured_count(run, layer, quantile, rule) for run, layer in sides)
        return before, after, count_difference(left, right, pair, quantile=quantile, rule=rule)
    counts = [count_detectors(run.unit_labels(layer, quantile), rule, level) for run, layer in sides]
    before, after = (MeasuredCount(count.unique_detectors["total"]) for count in counts)
    return before, after, PairedDifference(after.count - before.count, no_null=OTHER_LIMIT)


def _side(run: Result, layer: str, quantile: float, rule: Rule, level: float) -> pl.DataFrame:
    """List every concept of a run with its detectors (units), and its best unit and IoU in one layer."""
    concepts = run.concepts.select("category", "concept").cast(pl.String)
    scores = run.layer(layer).lazy_scores.filter(pl.col("quantile") == quantile, pl.col("iou") > 0)
    best = (
        scores.select(pl.col("category", "concept").cast(pl.String), "unit", "iou")
        .sort("iou", "unit", descending=[True, False])
        .unique(["category", "concept"], keep="first", maintain_order=True)
        .collect()
    )
    passing = detectors_of(run, layer, quantile, rule, level).group_by("category", "concept").agg(
        pl.len().cast(pl.Int64).alias("detectors")
    )  # fmt: skip
    on = ["category", "concept"]
    return (
        concepts.join(passing, on=on, how="left")
        .join(best, on=on, how="left")
        .with_columns(pl.col("detectors").fill_null(0))
    )


def detectors_of(run: Result, layer: str, quantile: float, rule: Rule, min_iou: float) -> pl.DataFrame:
    """List the detectors of one layer under a rule: unit, category, concept, iou; see `DetectorCount`."""
    units = run.layer(layer).units.filter(pl.col("quantile") == quantile)
    if rule == "top-label":
        passing = units.filter(passes(pl.col("iou"), rule, min_iou), pl.col("label").is_not_null())
        return passing.select("unit", pl.col("category").cast(pl.String), pl.col("label").alias("concept"), "iou")
    parts = [
        units.filter(passes(pl.col(f"{category}-iou"), rule, min_iou)).select(
            "unit",
            pl.lit(category).alias("category"),
            pl.col(f"{category}-label").alias("concept"),
            pl.col(f"{category}-iou").alias("iou"),
        )
        for category in run.info.data.categories
    ]
    return pl.concat(parts)


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
