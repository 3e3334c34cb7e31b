"""Queries of the tables of a run: detectors, detected concepts, best concepts of a unit, maxima of images.

Detectors are those of the rule ``top-label``, so that lists agree with `Result.detectors`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.config import Rule, one_or_more
from netdissect.counted import counted
from netdissect.errors import ResultError
from netdissect.result.result import LayerResult, Result, check_is_run
from netdissect.result.statistics_schema import MOMENTS
from netdissect.scoring.cell_moments import CellSums
from netdissect.scoring.detectors import check_limit, limit_in_words, limit_number, passes

WITH_MOMENTS = (
    "Repeat it with them: netdissect run --config RUN --moments --out NEW (in Python dissect(..., moments=True))."
)


def run_quantile(result: Result, quantile: float | None = None) -> float:
    """Return `quantile` if the run has it; None: the run's first.

    Raises
    ------
    ResultError
        If the run has no such quantile.
    """
    check_is_run(result)
    known = result.info.config.protocol.quantiles
    if quantile is None:
        return known[0]
    if quantile not in known:
        raise ResultError(
            f"the run has no quantile {quantile}; it has {', '.join(map(str, known))}. Name one of these, or repeat "
            "the run with this one among its quantiles."
        )
    return quantile


def run_min_iou(result: Result, layer: str, min_iou: float | None = None) -> float:
    """Return `min_iou`; None: the run's own in that layer.

    Raises
    ------
    ConfigError
        If it is no IoU.
    """
    if min_iou is not None:
        check_limit(min_iou)
    return result.info.min_iou(layer) if min_iou is None else min_iou


def limits(levels: Mapping[str, float]) -> str:
    """Format the IoU limits of detectors of some layers.

    >>> limits({"conv4": 0.04, "conv5": 0.04}), limits({"conv4": 0.10154, "conv5": 0.2})
    ('0.04', '0.10154 in conv4, 0.2 in conv5')
    """
    values = set(levels.values())
    if len(values) == 1:
        return limit_number(values.pop())
    return ", ".join(f"{limit_number(level)} in {name}" for name, level in levels.items())


def limits_under(rule: Rule, levels: Mapping[str, float]) -> str:
    """Describe the IoU limits of detectors of some layers under a rule.

    >>> limits_under("per-category", {"conv4": 0.04}), limits_under("top-label", {"conv4": 0.1, "conv5": 0.2})
    ('above 0.04', 'of at least 0.1 in conv4, of at least 0.2 in conv5')
    """
    values = set(levels.values())
    if len(values) == 1:
        return limit_in_words(rule, values.pop())
    return ", ".join(f"{limit_in_words(rule, level)} in {name}" for name, level in levels.items())


def run_names(results: Sequence[Result], names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the names of runs; None: the names of their networks.

    Raises
    ------
    ResultError
        If the numbers of names and runs differ.
    """
    given = tuple(result.info.network.name for result in results) if names is None else one_or_more(names)
    if len(given) != len(results):
        raise ResultError(
            f"{len(given)} names ({', '.join(map(str, given))}) were given for "
            f"{counted(len(results), 'runs')}. Expected one for each."
        )
    return given


def only_layer(result: Result, layer: str | None) -> str:
    """Return the name of a layer; None: the only one of the run.

    Raises
    ------
    ResultError
        If the run has no such layer, or several and none is named.
    """
    check_is_run(result)
    if layer is not None:
        return result.layer(layer).info.name
    if len(result.layers) != 1:
        raise ResultError(
            f"the run has {len(result.layers)} layers and one is drawn. Name it: {', '.join(result.layers)}."
        )
    return next(iter(result.layers))


def bar_end(result: Result, layer: str, quantile: float, min_iou: float) -> float:
    """Return the IoU at which the bars of a layer's units end.

    Returns
    -------
    float
        The first multiple of 0.05 beyond the limit of a detector and the IoU and interval of every unit; 0.1 to 1.
    """
    tables = result.layer(layer)
    frames = [(tables.units.lazy(), "iou")]
    if "units" in tables.statistics:
        frames.append((tables.statistics["units"], "iou_ci_high"))
    ends = [
        frame.filter(pl.col("quantile") == quantile).select(pl.col(name).max()).collect().item()
        for frame, name in frames
        if name in frame.collect_schema().names()
    ]
    largest = max(min_iou, *(end or 0.0 for end in ends))
    return min(max(0.05 * (math.floor(largest / 0.05) + 1), 0.1), 1.0)


def layer_units(result: Result, layer: str, quantile: float, min_iou: float) -> pl.DataFrame:
    """Return the units of one layer at one quantile, by number, with a column ``detector``."""
    passing = passes(pl.col("iou"), "top-label", min_iou) & pl.col("label").is_not_null()
    units = result.layer(layer).units.filter(pl.col("quantile") == quantile)
    return units.sort("unit").with_columns(passing.alias("detector"))


def detected_concepts(
    result: Result, layer: str, quantile: float, min_iou: float, rule: Rule = "top-label"
) -> pl.DataFrame:
    """List the concepts that have a detector in one layer under a rule.

    Returns
    -------
    DataFrame
        concept, category, units (list, best first), best (IoU); by category in the order of the data set, then by
        descending number of units, then by name.
    """
    units = _detectors(result, layer, quantile, min_iou, rule).sort("iou", "unit", descending=[True, False])
    order = {name: index for index, name in enumerate(result.info.data.categories)}
    by_concept = units.group_by("category", "label", maintain_order=True).agg("unit", pl.col("iou").max().alias("best"))
    return (
        by_concept.with_columns(
            pl.col("category").replace_strict(order, return_dtype=pl.Int64).alias("order"),
            pl.col("unit").list.len().alias("count"),
        )
        .sort("order", "count", "label", descending=[False, True, False])
        .select(pl.col("label").alias("concept"), "category", pl.col("unit").alias("units"), "best")
    )


def _detectors(result: Result, layer: str, quantile: float, min_iou: float, rule: Rule) -> pl.DataFrame:
    """List the detectors of a layer: unit, label, category, iou; under per-category one row for each category."""
    units = layer_units(result, layer, quantile, min_iou)
    if rule == "top-label":
        return units.filter("detector").select("unit", "label", "category", "iou")
    parts = [
        units.select(
            "unit",
            pl.col(f"{name}-label").alias("label"),
            pl.lit(name).alias("category"),
            pl.col(f"{name}-iou").alias("iou"),
        )
        for name in result.info.data.categories
    ]
    passing = passes(pl.col("iou"), rule, min_iou) & pl.col("label").is_not_null()
    return pl.concat(part.cast({"label": pl.String}) for part in parts).filter(passing)


def best_scores(
    result: Result, layer: str, quantile: float, limit: int, units: Sequence[int] | None = None
) -> pl.DataFrame:
    """Return the `limit` best concepts of each unit of one layer, or of some `units`, best first.

    Returns
    -------
    DataFrame
        unit, concept, category, iou, max_attainable_iou, mask_attainable_iou, intersection, mask_pixels,
        concept_pixels; only concepts that intersect the mask of the unit.
    """
    scores = result.layer(layer).lazy_scores.filter(pl.col("quantile") == quantile, pl.col("iou") > 0)
    if units is not None:
        scores = scores.filter(pl.col("unit").is_in(units))
    return (
        scores.select(
            "unit",
            pl.col("concept").cast(pl.String),
            pl.col("category").cast(pl.String),
            "iou",
            "max_attainable_iou",
            "mask_attainable_iou",
            "intersection",
            "mask_pixels",
            "concept_pixels",
        )
        .sort("unit", "iou", descending=[False, True], maintain_order=True)
        .group_by("unit", maintain_order=True)
        .head(limit)
        .collect()
    )


def best_units(result: Result, layer: str, quantile: float, limit: int) -> pl.DataFrame:
    """Return the `limit` best units of one layer for each concept: concept, unit, iou (tie: the lowest unit)."""
    scores = result.layer(layer).lazy_scores.filter(pl.col("quantile") == quantile, pl.col("iou") > 0)
    matching = scores.select("concept", "unit", "iou")
    # Few rows are sorted: of 65,536 units and 24 concepts one in 330.
    least = matching.group_by("concept").agg(pl.col("iou").top_k(limit).min().alias("least"))
    return (
        matching.join(least, on="concept")
        .filter(pl.col("iou") >= pl.col("least"))
        .select(pl.col("concept").cast(pl.String), "unit", "iou")
        .sort("iou", "unit", descending=[True, False])
        .group_by("concept", maintain_order=True)
        .head(limit)
        .collect()
    )


def active_top_images(layer: LayerResult) -> pl.LazyFrame:
    """Return the rows of the table of top images on which their unit is active, by unit and rank.

    Where masks begin at 0 or above, an image without an activation above 0 is no top image, though the table lists it:
    a latent that is active on three images has no more.
    """
    lowest = layer.thresholds.lazy().group_by("unit").agg(pl.col("threshold").min().alias("lowest"))
    top = layer.top.lazy().join(lowest, on="unit", how="left", maintain_order="left")
    active = (pl.col("max_activation") > 0) | (pl.col("lowest") < 0)
    return top.filter(active).drop("lowest").sort("unit", "rank")


class SampledMaxima(NamedTuple):
    """The largest activation of each unit of a layer in some images.

    Attributes
    ----------
    image_index
        The images, rising, int64 (n,).
    maxima
        float32 (U, n).
    """

    image_index: npt.NDArray[np.int64]
    maxima: npt.NDArray[np.float32]

    def of_images(self, image_index: npt.NDArray[np.int64]) -> "SampledMaxima":
        """Return those of the images that are among others, too."""
        shared = np.isin(self.image_index, image_index)
        return self if shared.all() else SampledMaxima(self.image_index[shared], self.maxima[:, shared])


def image_maxima(result: Result, layer: str) -> SampledMaxima:
    """Return the largest activations that a run kept of a layer.

    Raises
    ------
    ResultError
        If the run has no such layer, or kept none of it.
    """
    of_layer = result.layer(layer)
    if "image_maxima" not in of_layer.statistics:
        raise ResultError(f"the run kept no maximum activations of single images of the layer {layer!r}. Repeat it.")
    frame = of_layer.statistics["image_maxima"].sort("unit", "image_index").collect()
    images = frame["image_index"].unique().sort().to_numpy().astype(np.int64)
    units = of_layer.info.units
    complete = len(frame) == units * len(images) and frame["unit"].n_unique() == units
    if not complete or not frame["max_activation"].is_finite().all():
        raise ResultError(
            f"the table image_maxima of the layer {layer!r} does not hold a finite number for each unit and image. "
            "Restore the file or repeat the run."
        )
    return SampledMaxima(images, frame["max_activation"].to_numpy().reshape(units, len(images)))


def image_means(result: Result, layer: str) -> npt.NDArray[np.float32]:
    """Return the mean activation of each unit of a layer on each image, float32 (N, U), in the order of the index.

    Raises
    ------
    ResultError
        If the run has no such layer, or kept no means.
    """
    of_layer = result.layer(layer)
    if "image_means" not in of_layer.statistics:
        raise ResultError(f"the run kept no mean activations of single images. {WITH_MOMENTS}")
    frame = of_layer.statistics["image_means"].sort("unit").collect()
    images, units = result.info.data.images, of_layer.info.units
    complete = frame["unit"].to_list() == list(range(units)) and (frame["mean_activation"].list.len() == images).all()
    values = frame["mean_activation"].explode()
    if not complete or values.null_count() or not values.is_finite().all():
        raise ResultError(
            f"the table image_means of the layer {layer!r} does not hold a finite number for each unit and image. "
            "Restore the file or repeat the run."
        )
    return values.to_numpy().reshape(units, images).T


def cell_correlations(result: Result, layer: str, half: Literal["selection", "heldout"]) -> npt.NDArray[np.float64]:
    """Return the Pearson correlation over cells of each unit of a layer and each concept, float64 (U, C).

    The activation of a cell is correlated with the share of its pixels that have the concept, over the cells of one
    half of the images that are annotated in the category of the concept. Columns are those of ``result.concepts``.

    Returns
    -------
    ndarray
        NaN where unit or share is constant, and for concepts without masks.

    Raises
    ------
    ResultError
        If the run has no such layer, or no moments.
    """
    of_layer = result.layer(layer)
    if "moments" not in of_layer.statistics:
        raise ResultError(f"the run has no moments. {WITH_MOMENTS}")
    frame = of_layer.statistics["moments"].filter(pl.col("half") == half).collect()
    sums = CellSums(*(frame[name].to_numpy() for name in MOMENTS if name == "cells" or name.startswith("sum_")))
    found = frame.select("unit", "label_id").with_columns(correlation=sums.correlations())
    column = pl.DataFrame({"label_id": result.concepts["label_id"]}).with_row_index("column")
    found = found.join(column.cast({"label_id": pl.Int32}), on="label_id", how="inner")
    correlations = np.full((of_layer.info.units, len(column)), np.nan)
    correlations[found["unit"], found["column"]] = found["correlation"]
    return correlations


def concept_shares(result: Result, layer: str) -> npt.NDArray[np.float32]:
    """Return the share of the label-map pixels of each image that have each concept, float32 (N, C).

    Columns are those of ``result.concepts``. A concept of the whole image has share 1; an image that is not annotated
    in a category has share 0 of its concepts. All layers give the same shares.

    Raises
    ------
    ResultError
        If the run has no such layer, or kept no labels of single images.
    """
    of_layer = result.layer(layer)
    if "labels" not in of_layer.statistics:
        raise ResultError(
            "the run kept no labels of single images. Repeat it with --moments, --bootstrap or --holdout."
        )
    label_ids = result.concepts["label_id"].cast(pl.UInt32)
    columns = pl.DataFrame({"label_id": label_ids, "column": np.arange(len(label_ids))})
    frame = of_layer.statistics["labels"].collect().join(columns, on="label_id", how="left")
    shares = np.zeros((result.info.data.images, len(label_ids)), np.float32)
    if frame["column"].null_count() or (frame["image_index"] >= len(shares)).any():
        raise ResultError(
            f"the table labels of the layer {layer!r} names images or labels that the run does not have. Restore the "
            "file or repeat the run."
        )
    shares[frame["image_index"], frame["column"]] = frame["pixels"] / frame["image_pixels"]
    return shares


def live_unit_maxima(result: Result, layer: str) -> SampledMaxima:
    """Return `image_maxima` with 0 for units that are dead at the run's first quantile: no unit co-activates with them.

    Raises
    ------
    ResultError
        As `image_maxima`.
    """
    kept = image_maxima(result, layer)
    at_quantile = result.layer(layer).thresholds.filter(pl.col("quantile") == run_quantile(result))
    dead = at_quantile.sort("unit")["dead"].to_numpy()
    return SampledMaxima(kept.image_index, np.where(dead[:, None], np.float32(0), kept.maxima))
