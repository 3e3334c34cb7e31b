"""Sanity checks of metrics: a score must fall when labels are missing, and when there are too many.

    missing labels    half of the images with the label lose it
    extra labels      as many other images get it
    passes            for at least 90 % of the pairs, both scores are lower by at least 0.001 of the metric's range

Both are done twice: on the units of the run, each with the concept of its highest IoU at image level, and on perfect
units, one for each concept, that are active exactly where the concept is. At the level of pixels the labels of single
pixels are dropped and added: the counts that result are drawn from their exact distribution.

Source: Oikarinen et al. 2025 :cite:p:`oikarinen2025evaluating`, section 4; labels of hidden units: appendix F.1.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.errors import ResultError
from netdissect.evaluation.evaluate_config import EvaluateConfig
from netdissect.evaluation.evaluate_options import EvaluateOptions
from netdissect.evaluation.image_scores import ImageLevel, Pairs
from netdissect.evaluation.label_metrics import IMAGE_SCORES, PASSING, LabelMetric, metrics_at
from netdissect.evaluation.run_counts import (
    PairPixels,
    best_counts,
    concept_counts,
    has_image_means,
    layer_images,
)
from netdissect.evaluation.scores import AnyFloats, active_images
from netdissect.keywords import read_fields, takes_fields
from netdissect.result import Result
from netdissect.result.queries import run_quantile
from netdissect.result.result import check_is_run
from netdissect.scoring.iou import f1, iou

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Random = np.random.Generator

DRAWS = 100
LEAST_FALL = 0.001
LEAST_IMAGES = 2
"""Images that a concept must be in: of one there is no half."""
MOST_PAIRS = 256
"""Units of a layer, and concepts, that are checked; of more, these many are drawn."""

SANITY_CHECKS: Mapping[str, type[pl.DataType]] = {
    "layer": pl.String,
    "level": pl.String,
    "metric": pl.String,
    "pairs": pl.Int64,
    "missing": pl.Float64,  # share of the pairs whose score falls
    "missing_difference": pl.Float64,  # mean, as a part of the metric's range
    "extra": pl.Float64,
    "extra_difference": pl.Float64,
    "perfect_missing": pl.Float64,
    "perfect_extra": pl.Float64,
    "passes": pl.Boolean,
    "published_metric": pl.String,
    "published_missing": pl.Float64,
    "published_extra": pl.Float64,
    "published_perfect_missing": pl.Float64,
    "published_perfect_extra": pl.Float64,
    "published_passes": pl.Boolean,
}


@takes_fields(EvaluateConfig, EvaluateOptions)
def sanity_checks(
    result: Result, *, config: EvaluateConfig | None = None, **options: Unpack[EvaluateOptions]
) -> pl.DataFrame:
    """Check all metrics of labels on a run: whether scores fall when labels are missing, and when there are too many.

    Parameters
    ----------
    result
        A finished run. Without ``moments=True`` only the metrics on pixels are checked.
    config
        Options as an object; single options below override its fields. Mapping and CoSy play no part.

    Returns
    -------
    DataFrame
        The columns `SANITY_CHECKS`: a row for each layer and metric, with the published outcome.

    Raises
    ------
    ResultError
        If the run has no such layer, or no concept in two images or more.
    """
    config = read_fields(sanity_checks, EvaluateConfig, config, options)
    check_is_run(result)
    quantile, seed, rows = run_quantile(result, config.quantile), result.info.config.statistics.stats_seed, []
    for name in config.layers or result.layers:
        layer = result.layer(name).info.name
        for metric in metrics_at("pixels"):
            own = checked_pixels(metric, best_counts(result, layer, quantile), seed)
            rows.append(sanity_row(layer, metric, own, checked_pixels(metric, concept_counts(result), seed)))
        if has_image_means(result):
            rows += _image_rows(layer, layer_images(result, layer, config.active_share), seed)
    return pl.DataFrame(rows, schema=dict(SANITY_CHECKS))


def _image_rows(layer: str, images: ImageLevel, seed: int) -> Iterator[dict[str, object]]:
    """Yield the outcome of each metric at image level; those on held-out images see only these."""
    for held_out in (False, True):
        metrics = [metric for metric in metrics_at("images") if metric.on_held_out == held_out]
        known = images.of_held_out() if held_out else images
        shares = known.shares if held_out else (known.shares > 0).astype(np.float32)
        units, concepts = (_drawn(numbers, seed) for numbers in (np.arange(known.units), checked_concepts(known)))
        own = checked_images(metrics, known.activations, shares, best_pairs(known, units), known.active_share, seed)
        # A perfect unit is active on every image with its label, however many these are.
        perfect = checked_images(metrics, shares, shares, Pairs(concepts, concepts), 1 / len(shares), seed)
        for metric in metrics:
            yield sanity_row(layer, metric, own[metric.name], perfect[metric.name])


@dataclass(frozen=True, eq=False)
class DrawnScores:
    """Scores of P pairs.

    Attributes
    ----------
    original
        float64 (P,).
    missing, extra
        float64 (R, P): in each draw.
    bounds
        Smallest and largest value of the metric.
    """

    original: Floats
    missing: Floats
    extra: Floats
    bounds: tuple[float, float]

    def falls(self, *, averaged: bool) -> tuple[float, float, float, float]:
        """Return the share that falls and the mean difference, for missing and for extra labels.

        Parameters
        ----------
        averaged
            Whether the scores of a pair are averaged over the draws first, as published for units of networks; else
            each draw counts, as published for perfect units.
        """
        found, (low, high) = [], self.bounds
        for drawn in (self.missing, self.extra):
            scores = drawn.mean(axis=0, keepdims=True) if averaged else drawn
            difference = (scores - self.original) / max(high - low, np.finfo(np.float64).tiny)
            found += [float((difference < -LEAST_FALL).mean()), float(difference.mean())]
        return found[0], found[1], found[2], found[3]


def with_missing_labels(shares: AnyFloats, random: Random) -> AnyFloats:
    """Return shares of labels, (N, P), without half of the images that have each label, rounded up."""
    altered = shares.copy()
    for column in altered.T:
        present = np.flatnonzero(column)
        column[random.permutation(present)[: (len(present) + 1) // 2]] = 0
    return altered


def with_extra_labels(shares: AnyFloats, random: Random) -> AnyFloats:
    """Return shares of labels, (N, P), with twice as many images that have each label, or all of them.

    The new ones get the shares of those that have it.
    """
    altered = shares.copy()
    for column in altered.T:
        present, absent = np.flatnonzero(column), np.flatnonzero(column == 0)
        added = random.permutation(absent)[: len(present)]
        column[added] = column[random.permutation(present)[: len(added)]]
    return altered


def checked_images(
    metrics: Sequence[LabelMetric],
    activations: AnyFloats,
    shares: AnyFloats,
    pairs: Pairs,
    active_share: float,
    seed: int,
) -> dict[str, DrawnScores]:
    """Score pairs at image level with their labels, with missing and with extra labels.

    Parameters
    ----------
    metrics
        Metrics at image level.
    activations, shares
        float (N, U) and (N, C): of the units, and of the labels.
    pairs
        Columns of both.
    active_share
        See `netdissect.evaluation.scores.active_images`.
    seed
        Of the draws, which are the same for all metrics.

    Returns
    -------
    dict of DrawnScores
        By the name of the metric.
    """
    of_units, of_labels, random = activations[:, pairs.units], shares[:, pairs.concepts], np.random.default_rng(seed)
    found: dict[str, list[Floats]] = {metric.name: [] for metric in metrics}
    read = {name: IMAGE_SCORES[name].reads(of_units) for name in found}
    for alter in (None, *(with_missing_labels,) * DRAWS, *(with_extra_labels,) * DRAWS):
        altered = of_labels if alter is None else alter(of_labels, random)
        for name, drawn in found.items():
            drawn.append(IMAGE_SCORES[name].of(read[name], altered, active_share))
    scores = {}
    for metric in metrics:
        original, *drawn = found[metric.name]
        bounds = metric.bounds or difference_bounds(of_units, of_labels)
        scores[metric.name] = DrawnScores(original, np.array(drawn[:DRAWS]), np.array(drawn[DRAWS:]), bounds)
    return scores


def difference_bounds(activations: AnyFloats, shares: AnyFloats) -> tuple[float, float]:
    """Return the smallest and largest mean activation difference of any unit, (N, U), and any label, (N, C)."""
    present = np.unique(shares > 0, axis=1).astype(np.float64)
    counts, values = present.sum(axis=0), activations.astype(np.float64)
    sums = values.T @ present
    means = sums / np.maximum(counts, 1)
    others = (values.sum(axis=0)[:, None] - sums) / np.maximum(len(values) - counts, 1)
    return float((means - others).min()), float((means - others).max())


def checked_pixels(metric: LabelMetric, counts: PairPixels, seed: int) -> DrawnScores:
    """Score masks and labels with their pixels, with missing and with extra ones.

    Parameters
    ----------
    metric
        IoU or F1 on pixels.
    counts
        Of the pairs.
    seed
        Of the draws.

    Notes
    -----
    Of half of the pixels of a label, drawn at random, the number in the mask is hypergeometric; that of binomial draws
    of single pixels, as here, differs by its variance only.
    """
    score: Callable[[Ints, Ints, Ints], Floats] = {"iou": iou, "f1": f1}[metric.name]
    both, mask, label, pixels = counts
    random, size = np.random.default_rng(seed), (DRAWS, len(both))
    kept = random.binomial(both, 0.5, size)
    missing = score(kept, mask, kept + random.binomial(label - both, 0.5, size))
    gained = np.clip(label / np.maximum(pixels - label, 1), 0, 1)
    inside = both + random.binomial(mask - both, gained, size)
    outside = random.binomial(np.maximum(pixels - label - (mask - both), 0), gained, size)
    extra = score(inside, mask, label + inside - both + outside)
    return DrawnScores(score(both, mask, label), missing, extra, metric.bounds or (0.0, 1.0))


def checked_concepts(images: ImageLevel) -> Ints:
    """Return the concepts in at least two images, by their columns.

    Raises
    ------
    ResultError
        If there is none.
    """
    concepts = np.flatnonzero((images.shares > 0).sum(axis=0) >= LEAST_IMAGES)
    if not len(concepts):
        raise ResultError(
            f"no concept is in {LEAST_IMAGES} images or more, so that the sanity checks cannot drop half of them. "
            "Repeat the run on more images."
        )
    return concepts


def _drawn(numbers: Ints, seed: int) -> Ints:
    """Return at most `MOST_PAIRS` of some numbers."""
    return np.sort(np.random.default_rng(seed).permutation(numbers)[:MOST_PAIRS])


def best_pairs(images: ImageLevel, units: Ints) -> Pairs:
    """Return units, each with the concept of its highest IoU at image level among `checked_concepts`."""
    concepts = checked_concepts(images)
    active = active_images(images.activations[:, units], images.active_share).astype(np.float64)
    present = (images.shares[:, concepts] > 0).astype(np.float64)
    shared = active.T @ present
    union = active.sum(axis=0)[:, None] + present.sum(axis=0) - shared
    return Pairs(units, concepts[np.argmax(shared / union, axis=1)])


def sanity_row(layer: str, metric: LabelMetric, own: DrawnScores, perfect: DrawnScores) -> dict[str, object]:
    """Return the outcome of one metric, beside the published one: a row of `SANITY_CHECKS`."""
    missing, missing_difference, extra, extra_difference = own.falls(averaged=True)
    perfect_missing, _, perfect_extra, _ = perfect.falls(averaged=False)
    published = metric.published
    row = {
        "layer": layer,
        "level": metric.level,
        "metric": metric.name,
        "pairs": len(own.original),
        "missing": missing,
        "missing_difference": missing_difference,
        "extra": extra,
        "extra_difference": extra_difference,
        "perfect_missing": perfect_missing,
        "perfect_extra": perfect_extra,
        "passes": min(missing, extra, perfect_missing, perfect_extra) >= PASSING,
        "published_metric": published.name,
        "published_passes": published.passes,
    }
    shares = {name: getattr(published, name) / 100 for name in ("missing", "extra", "perfect_missing", "perfect_extra")}
    return row | {f"published_{name}": share for name, share in shares.items()}
