"""Metrics of a unit and one of its leading concepts other than IoU: one entry of `METRICS` each.

    MaskCounts or PairResponses -> Metric.compute -> a column of the table `scores`, of pages and of the documentation

All pixels of the images annotated in the category of the concept count, as in the union of IoU. Areas over pixels are
computed from histograms (`netdissect.scoring.response_histograms`); `auroc_error` bounds their error. Moments are
exact.

Sources: Hanley and McNeil 1982 :cite:p:`hanley1982meaning` (the area under the ROC curve is the probability that a
pixel of the concept has the higher value, ties counting half); Su et al. 2015 :cite:p:`su2015average` (average
precision).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import scipy

from netdissect.scoring.iou import f1

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Data = TypeVar("Data")


@dataclass(frozen=True)
class MaskCounts:
    """Pixels of N pairs of a mask and a concept.

    Attributes
    ----------
    intersection, mask_pixels, concept_pixels
        int64 (N,).
    """

    intersection: Ints
    mask_pixels: Ints
    concept_pixels: Ints


@dataclass(frozen=True)
class PairResponses:
    """Activations of one unit, and the pixels of one concept.

    Attributes
    ----------
    positives, negatives
        unsigned (bins,): pixels with the concept, and without it, by rising activation.
    total
        Sum of the activations of the positives.
    moments
        float64 (2,): sum of all activations, and of their squares.
    maxima
        float32 (N,): of each image.
    holds, annotated
        bool (N,): images with the concept, and those annotated in its category.
    """

    positives: npt.NDArray[Any]
    negatives: npt.NDArray[Any]
    total: float
    moments: Floats
    maxima: npt.NDArray[np.float32]
    holds: Bools
    annotated: Bools


@dataclass(frozen=True)
class Metric(Generic[Data]):
    """A metric, with its description for tables, pages and the documentation.

    Attributes
    ----------
    name
        Column in the table `scores`, float64; null where it is not defined.
    title, short
        Name in a sentence, and at the head of a column.
    source
        Data that it is computed from.
    meaning
        Definition in words.
    compute
        Function that returns its value, float64: (N,) of `MaskCounts`, () of `PairResponses`; NaN where undefined.
    summarized
        Whether the summary of a run gives its median over the detectors.
    """

    name: str
    title: str
    short: str
    source: str
    meaning: str
    compute: Callable[[Data], Any]
    summarized: bool = False


def auroc(positives: npt.NDArray[Any], negatives: npt.NDArray[Any]) -> Floats:
    """Return the area under the ROC curve, float64 (...), of counts by rising value, (..., bins); NaN if it has none.

    >>> auroc(np.array([0, 1, 1]), np.array([2, 2, 0]))
    array(0.875)
    """
    hits, misses = positives.astype(np.float64), negatives.astype(np.float64)
    lower = np.cumsum(misses, axis=-1) - misses
    return _ratio((hits * (lower + misses / 2)).sum(axis=-1), hits.sum(axis=-1) * misses.sum(axis=-1))


def auroc_error(positives: npt.NDArray[Any], negatives: npt.NDArray[Any]) -> Floats:
    """Return the largest error of `auroc` from the unknown order within a bin."""
    hits, misses = positives.astype(np.float64), negatives.astype(np.float64)
    return _ratio((hits * misses).sum(axis=-1) / 2, hits.sum(axis=-1) * misses.sum(axis=-1))


def average_precision(positives: npt.NDArray[Any], negatives: npt.NDArray[Any]) -> Floats:
    """Return average precision, float64 (...), of counts by rising value, (..., bins): values of a bin are ties.

    The sum over falling values of the step in recall times the precision there.
    """
    hits, misses = positives[..., ::-1].astype(np.float64), negatives[..., ::-1].astype(np.float64)
    retrieved_hits = np.cumsum(hits, axis=-1)
    retrieved = retrieved_hits + np.cumsum(misses, axis=-1)
    precision = np.divide(retrieved_hits, retrieved, out=np.zeros_like(retrieved), where=retrieved > 0)
    return _ratio((hits * precision).sum(axis=-1), hits.sum(axis=-1))


def point_biserial(sums: npt.ArrayLike, moments: Floats, pixels: npt.ArrayLike, total: npt.ArrayLike) -> Floats:
    """Return Pearson's correlation of value and label, float64 (...); NaN where either is constant.

    Parameters
    ----------
    sums
        Sum of the values on the concept's pixels.
    moments
        (..., 2): sum of all values, and of their squares.
    pixels, total
        Pixels of the concept, and all.
    """
    share, mean = _ratio(pixels, total), _ratio(moments[..., 0], total)
    variance = _ratio(moments[..., 1], total) - mean**2
    spread = np.sqrt(np.maximum(variance, 0) * share * (1 - share))
    return _ratio(_ratio(sums, total) - mean * share, spread)


def selectivity(maxima: npt.NDArray[np.float32], holds: Bools, annotated: Bools) -> float:
    """Return the area under the ROC curve of the image maximum of a unit as a classifier of images with the concept.

    Parameters
    ----------
    maxima
        float32 (N,).
    holds, annotated
        bool (N,): images with the concept, and those annotated in its category.
    """
    ranks = scipy.stats.rankdata(maxima[annotated])
    hits = holds[annotated]
    count, others = int(hits.sum()), int((~hits).sum())
    if count == 0 or others == 0:
        return float("nan")
    return float((ranks[hits].sum() - count * (count + 1) / 2) / (count * others))


def _ratio(part: Any, total: Any) -> Floats:
    return np.asarray(np.divide(part, total, out=np.full(np.shape(total), np.nan), where=np.asarray(total) > 0))


PIXELS = "the activation at every pixel, without a threshold"
MASK = "the mask, from the counts of the run"

MASK_METRICS: tuple[Metric[MaskCounts], ...] = (
    Metric(
        "precision", "precision", "precision", MASK, "share of the mask with the concept",
        lambda counts: counts.intersection / counts.mask_pixels,
    ),
    Metric(
        "recall", "recall", "recall", MASK, "share of the concept under the mask",
        lambda counts: counts.intersection / counts.concept_pixels,
    ),
    Metric(
        "f1", "F1", "F1", MASK, "harmonic mean of precision and recall, which ranks as IoU does",
        lambda counts: f1(counts.intersection, counts.mask_pixels, counts.concept_pixels),
    ),
)  # fmt: skip
"""Metrics of masks, at each quantile of a run."""

ACTIVATION_METRICS: tuple[Metric[PairResponses], ...] = (
    Metric(
        "auroc", "AUROC", "AUROC", PIXELS,
        "probability that a pixel with the concept has a higher activation than a pixel without it",
        lambda pair: auroc(pair.positives, pair.negatives), summarized=True,
    ),
    Metric(
        "average_precision", "average precision", "AP", PIXELS,
        "precision averaged over recall; compare it with the share of the concept in the pixels",
        lambda pair: average_precision(pair.positives, pair.negatives), summarized=True,
    ),
    Metric(
        "point_biserial", "correlation", "correlation", PIXELS, "Pearson correlation of activation and concept",
        lambda pair: point_biserial(
            pair.total, pair.moments, pair.positives.sum(dtype=np.int64),
            (pair.positives + pair.negatives).sum(dtype=np.int64),
        ),
    ),
    Metric(
        "selectivity", "selectivity", "selectivity", "the largest activation of each image",
        "probability that an image with the concept has a higher maximum than an image without it",
        lambda pair: selectivity(pair.maxima, pair.holds, pair.annotated), summarized=True,
    ),
)  # fmt: skip
"""Metrics of activations. They do not depend on the quantile, which only selects the leading concepts."""

METRICS: tuple[Metric[Any], ...] = (*MASK_METRICS, *ACTIVATION_METRICS)


def measured_metrics(rows: Iterable[Mapping[str, Any]]) -> tuple[Metric[Any], ...]:
    """Return the metrics that at least one row has."""
    names = {name for row in rows for name in row}
    return tuple(metric for metric in METRICS if metric.name in names)
