"""Compare two runs by concept: concepts that gained or lost their detectors.

    compare_results(left, right) -> Comparison of each pair of layers and quantile

Units of two networks do not correspond to each other, so runs are compared by concept. Console, report, figures and
explorer all use this comparison.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from netdissect.config import Rule
from netdissect.errors import ResultError
from netdissect.result.result import LayerCount, Result
from netdissect.scoring import count_detectors, passes


@dataclass(frozen=True)
class Comparison:
    """One layer of each run at one quantile, under one rule.

    Attributes
    ----------
    rule, min_iou, quantile
        Which units are detectors.
    left, right
        The layers and their detectors.
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
    concepts: pl.DataFrame
    same_data: bool

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


def layer_pairs(left: Result, right: Result, layers: Sequence[tuple[str, str]] | None = None) -> list[tuple[str, str]]:
    """Return the layers that are compared.

    Parameters
    ----------
    left, right
        Finished runs.
    layers
        Pairs of a layer on the left and one on the right. None: those of one name, or the only ones.

    Raises
    ------
    ResultError
        If no layers correspond, or `layers` are not pairs.
    """
    if layers is not None:
        pairs: list[Any] = list(layers)
        if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
            raise ResultError(
                f"layers are {layers!r}. Expected pairs of a layer on the left and one on the right, such as "
                "[('layer4', 'layer4')]."
            )
        return pairs
    same = [(name, name) for name in left.layers if name in right.layers]
    if same:
        return same
    if len(left.layers) == len(right.layers) == 1:
        return [(next(iter(left.layers)), next(iter(right.layers)))]
    raise ResultError(
        f"the runs have no layer in common: {', '.join(left.layers)} on the left, {', '.join(right.layers)} on the "
        "right. Name a pair with --layer LEFT=RIGHT."
    )


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
    left_layer, right_layer = on_each_side
    return Comparison(rule, level, quantile, left_layer, right_layer, concepts.sort("category", "concept"), same)


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
