"""The list of metrics of labels: a new one is one entry, and one test.

Metrics are at a level: ``pixels`` (counts of masks and concepts, in every run), ``images`` and ``cells`` (runs with
``--moments``), ``cosy`` (images made for each label). Metrics at image level are functions of
`netdissect.evaluation.scores`.

Published outcomes of the sanity checks: Oikarinen et al. 2025 :cite:p:`oikarinen2025evaluating`, table 2.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from netdissect.evaluation import scores

Floats = npt.NDArray[np.floating[Any]]
Level = Literal["pixels", "images", "cells", "cosy"]
PASSING = 0.90
"""Share of the pairs whose score must fall in each check, as in the published table."""


@dataclass(frozen=True)
class PublishedOutcome:
    """Shares of pairs, in percent, whose score falls in the checks, as published.

    Attributes
    ----------
    name
        Of the metric in the source.
    missing, extra
        On units of networks, with labels missing and with extra labels.
    perfect_missing, perfect_extra
        On simulated units that are active exactly where the concept is.
    """

    name: str
    missing: float
    perfect_missing: float
    extra: float
    perfect_extra: float

    @property
    def passes(self) -> bool:
        """Whether the metric passes both checks."""
        shares = (self.missing, self.perfect_missing, self.extra, self.perfect_extra)
        return min(shares) >= 100 * PASSING


@dataclass(frozen=True)
class LabelMetric:
    """A metric of a label of a unit.

    Attributes
    ----------
    level, name
        Which identify it.
    title
        In tables.
    meaning
        Definition in words.
    published
        Outcome of its sanity checks.
    bounds
        Its smallest and largest value, by whose distance the sanity checks divide; None: those that occur.
    """

    level: Level
    name: str
    title: str
    meaning: str
    published: PublishedOutcome
    bounds: tuple[float, float] | None = (0.0, 1.0)

    @property
    def on_held_out(self) -> bool:
        """Whether it is measured on held-out images alone, from the label's share of the pixels."""
        return self.name == "simulation_correlation"

    @property
    def column(self) -> str:
        """Its column in the table of units."""
        return f"{self.level}_{self.name}"

    @property
    def fails(self) -> bool:
        """Whether it is published that it fails the sanity checks."""
        return not self.published.passes


_IOU = PublishedOutcome("IoU", 93.62, 100.0, 99.81, 100.0)
_F1 = PublishedOutcome("F1-score", 93.68, 100.0, 99.82, 100.0)
_CORRELATION = PublishedOutcome("Correlation", 99.41, 100.0, 99.92, 100.0)

METRICS_OF_LABELS: tuple[LabelMetric, ...] = (
    LabelMetric("pixels", "iou", "IoU", "IoU of the unit's mask and the label's pixels, as in the run", _IOU),
    LabelMetric("pixels", "f1", "F1", "F1 score of the unit's mask and the label's pixels", _F1),
    LabelMetric("images", "iou", "IoU", "IoU of the unit's active images and the images with the label", _IOU),
    LabelMetric("images", "f1", "F1", "F1 score of the unit's active images and the images with the label", _F1),
    LabelMetric(
        "images",
        "average_precision",
        "average precision",
        "average precision with which the presence of the label finds the unit's active images",
        PublishedOutcome("AUPRC", 95.61, 100.0, 99.46, 100.0),
    ),
    LabelMetric(
        "images",
        "correlation",
        "correlation",
        "Pearson correlation of the unit's mean activation and the presence of the label",
        _CORRELATION,
        (-1.0, 1.0),
    ),
    LabelMetric(
        "images",
        "cosine",
        "cosine",
        "cosine similarity of the unit's mean activation and the presence of the label",
        PublishedOutcome("Cosine", 99.45, 100.0, 99.26, 100.0),
        (-1.0, 1.0),
    ),
    LabelMetric(
        "images",
        "simulation_correlation",
        "simulation correlation",
        "Pearson correlation of the unit's mean activation and the label's share of the pixels, on held-out images",
        _CORRELATION,
        (-1.0, 1.0),
    ),
    LabelMetric(
        "cells",
        "simulation_correlation",
        "simulation correlation",
        "Pearson correlation of the unit's activation and the label's share of the pixels over the cells of held-out "
        "images",
        _CORRELATION,
        (-1.0, 1.0),
    ),
    LabelMetric(
        "images",
        "auroc",
        "AUROC",
        "probability that an image with the label has the larger mean activation",
        PublishedOutcome("Inverse AUC", 52.81, 60.0, 99.99, 100.0),
    ),
    LabelMetric(
        "images",
        "mad",
        "MAD",
        "mean activation on images with the label less that on images without it, in the unit of the activations",
        PublishedOutcome("MAD", 59.81, 60.0, 99.34, 100.0),
        None,
    ),
    LabelMetric(
        "cosy", "auroc", "AUROC", "probability that an image made for the label has a larger mean activation than an "
        "image of the run", PublishedOutcome("Inverse AUC", 52.81, 60.0, 99.99, 100.0),
    ),
    LabelMetric(
        "cosy", "mad", "MAD", "mean activation on images made for the label less that on the run's images, in standard "
        "deviations of the latter", PublishedOutcome("MAD", 59.81, 60.0, 99.34, 100.0), None,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class ImageScore:
    """How a metric at image level is computed.

    Attributes
    ----------
    of
        Function of what it reads of the activations (N, P), presence or share of the pixels (N, P), and the active
        share.
    reads
        What it reads of activations (N, P); it is the same for all labels of a unit.
    """

    of: Callable[[Floats, Floats, float], npt.NDArray[np.float64]]
    reads: Callable[[Floats], Floats] = lambda activations: activations


IMAGE_SCORES: Mapping[str, ImageScore] = {
    "iou": ImageScore(scores.iou),
    "f1": ImageScore(scores.f1),
    "average_precision": ImageScore(scores.average_precision),
    "correlation": ImageScore(lambda activations, presence, _: scores.correlation(activations, presence)),
    "cosine": ImageScore(lambda activations, presence, _: scores.cosine(activations, presence)),
    "simulation_correlation": ImageScore(lambda activations, shares, _: scores.correlation(activations, shares)),
    "auroc": ImageScore(lambda ranks, presence, _: scores.auroc_of_ranks(ranks, presence), scores.activation_ranks),
    "mad": ImageScore(lambda activations, presence, _: scores.mean_activation_difference(activations, presence)),
}
"""By the name of the metric."""


def metrics_at(level: Level) -> tuple[LabelMetric, ...]:
    """Return the metrics of a level."""
    return tuple(metric for metric in METRICS_OF_LABELS if metric.level == level)
