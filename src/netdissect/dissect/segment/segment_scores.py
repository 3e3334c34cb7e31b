"""Mean IoU of composed segments with labels, their baselines, and intervals by the bootstrap over images."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.concepts import ConceptData
from netdissect.result.segmentation.composed_segmentation import CONCEPTS, MeanIoU
from netdissect.scoring import ImageIntersections, ImageLabelCounts
from netdissect.scoring.segmentation.concept_pixels import ConceptPixels, mean_iou
from netdissect.scoring.segmentation.most_active import constant_segments
from netdissect.scoring.statistics.bootstrap import CONFIDENCE_LEVEL, poisson_weights
from netdissect.segment_config import SegmentConfig

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SHUFFLES = 20
TAILS = ((1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2)


@dataclass(frozen=True)
class SegmentScores:
    """The scores of the segments of all images of a data set.

    Attributes
    ----------
    data
        The data set.
    labels, segments
        Pixels of single images: labels, and the segments of units.
    pixels
        int64 (n,): pixels of each image.
    label_of
        int64 (U,): label id in the data set of each unit; 0: it is no detector, or the data set lacks its concept.
    config
        Replicates and seed.
    """

    data: ConceptData
    labels: ImageLabelCounts
    segments: ImageIntersections
    pixels: Ints
    label_of: Ints
    config: SegmentConfig

    @cached_property
    def weights(self) -> npt.NDArray[np.uint8]:
        """Weights of the images, uint8 (n, 1 + R): the first is the data set itself, the others are replicates."""
        drawn = poisson_weights(self.config.stats_seed, self.labels.images, self.config.bootstrap)
        return np.concatenate([np.ones((len(drawn), 1), np.uint8), drawn], axis=1)

    @cached_property
    def labeled(self) -> Ints:
        """Label ids with a labeled pixel."""
        return np.unique(self.labels.label_ids)

    @cached_property
    def detected(self) -> Ints:
        """Label ids with a labeled pixel and a detector."""
        return np.intersect1d(self.labeled, self.label_of)

    def _sums(self, segments: ImageIntersections, label_of: Ints) -> tuple[Ints, Ints, Ints]:
        return ConceptPixels.of(self.labels, segments, label_of, self.data.category_of).sums(self.weights)

    @cached_property
    def _own(self) -> tuple[Ints, Ints, Ints]:
        return self._sums(self.segments, self.label_of)

    def mean_ious(self) -> tuple[MeanIoU, ...]:
        """Return the mean IoU of the detectors and of the two baselines, over detected and over all concepts."""
        if not len(self.detected):
            return ()
        rows = []
        kinds: tuple[tuple[Literal["detected", "all"], Ints], ...] = (
            ("detected", self.detected),
            ("all", self.labeled),
        )
        constant, shuffled = self._constant(), list(self._shuffled())
        for concepts, label_ids in kinds:
            own = mean_iou(self._own, label_ids)[1]
            frequent = mean_iou(constant, label_ids)[1]
            mixed = np.mean([mean_iou(sums, label_ids)[1] for sums in shuffled], axis=0)
            about: Mapping[str, Any] = {"concepts": concepts, "number": len(label_ids)}
            rows.append(MeanIoU(segments="detectors", **about, **_interval("", own)))
            rows.append(_baseline("most frequent concept", about, own, frequent))
            rows.append(_baseline("shuffled labels", about, own, mixed))
        return tuple(rows)

    def _constant(self) -> tuple[Ints, Ints, Ints]:
        """Return the sums where each pixel has the detected concept with the most labeled pixels."""
        totals = np.bincount(self.labels.label_ids, self.labels.pixels, len(self.data.category_of))
        frequent = int(self.detected[np.argmax(totals[self.detected])])
        segments = constant_segments(self.labels, self.pixels, frequent)
        return self._sums(segments, np.array([frequent]))

    def _shuffled(self) -> list[tuple[Ints, Ints, Ints]]:
        """Return the sums where labels are shuffled among the detectors."""
        units, sums = np.flatnonzero(self.label_of), []
        for index in range(SHUFFLES):
            shuffled = self.label_of.copy()
            shuffled[units] = np.random.default_rng((self.config.stats_seed, index)).permutation(self.label_of[units])
            sums.append(self._sums(self.segments, shuffled))
        return sums

    def concepts(self) -> pl.DataFrame:
        """Return the IoU of each concept that is labeled or detected, by label id of the data set."""
        ids = np.union1d(self.labeled, self.label_of[self.label_of > 0])
        by_concept, _ = mean_iou(self._own, ids)
        intersection, segments, labels = (sums[ids, 0] for sums in self._own)
        low, high = _ends(by_concept[ids])
        known = [self.data.by_label_id[int(label_id)] for label_id in ids]
        return pl.DataFrame(
            {
                "label_id": ids,
                "concept": [concept.name for concept in known],
                "category": [concept.category for concept in known],
                "detectors": np.bincount(self.label_of, minlength=len(self.data.category_of))[ids],
                "intersection": intersection,
                "segment_pixels": segments,
                "label_pixels": labels,
                "iou": by_concept[ids, 0],
                "iou_ci_low": low,
                "iou_ci_high": high,
            },
            schema=CONCEPTS,
        )


def _ends(replicates: Floats) -> tuple[list[float | None], list[float | None]]:
    """Return the ends of 95 % intervals of (n, 1 + R) numbers, the first of which is the value itself."""
    if replicates.shape[1] == 1:
        none: list[float | None] = [None] * len(replicates)
        return none, none
    low, high = np.nanquantile(replicates[:, 1:], TAILS, axis=1)
    return low.tolist(), high.tolist()


def _interval(prefix: str, replicates: Floats) -> dict[str, float | None]:
    """Return fields of `MeanIoU`: a value with its interval, and no difference."""
    (low,), (high,) = _ends(replicates[None])
    name = prefix or "miou"
    none = {} if prefix else dict.fromkeys(("difference", "difference_ci_low", "difference_ci_high"))
    before = f"{prefix}_" if prefix else ""
    return {name: float(replicates[0]), f"{before}ci_low": low, f"{before}ci_high": high, **none}


def _baseline(
    name: Literal["most frequent concept", "shuffled labels"], about: Mapping[str, Any], own: Floats, other: Floats
) -> MeanIoU:
    """Return a baseline, and the difference of the detectors from it in the same replicates."""
    return MeanIoU(segments=name, **about, **(_interval("", other) | _interval("difference", own - other)))
