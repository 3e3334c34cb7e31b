"""The counts of one layer after both passes, and at one of its quantiles: the input of all its statistics."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from netdissect.activations.sparse.unit_maps import UnitMaps
from netdissect.concepts import ConceptData, Size
from netdissect.config import DissectConfig, StatisticsConfig, nearby_quantiles
from netdissect.dissect.layer_state import ThresholdResult
from netdissect.dissect.statistics.extra_metrics import ExtraMetrics
from netdissect.dissect.statistics.layer_moments import LayerMoments
from netdissect.dissect.statistics.permutation_pass import NullTables
from netdissect.dissect.work_dir.mask_files import LayerMasks
from netdissect.dissect.work_dir.per_image_files import LayerImages
from netdissect.result.tables import BLOCK_SCORES, best_of_categories
from netdissect.scoring import ConceptTotals, ImageIntersections, ImageLabelCounts, IoUCounts, UnitLabels
from netdissect.scoring.iou import Floats
from netdissect.scoring.iqr.level_histograms import LevelHistograms
from netdissect.scoring.per_image_counts import check_counts
from netdissect.scoring.sparse.count_rows import CountRows
from netdissect.scoring.statistics.bootstrap import (
    Bools,
    CandidateConcepts,
    Ints,
    ThresholdShift,
    counted_masks,
)
from netdissect.scoring.statistics.holdout import CountSubset, HoldoutScores, best_label_ids, is_held_out

BLOCK = 1024  # images: their weights of a thousand replicates stay in the second-level cache
HALF_COUNTS = 2**23
"""Units and label ids of which the counts and IoUs of both halves are in memory at a time: a third of a gigabyte."""


@dataclass(frozen=True)
class LayerCounts:
    """The counts of one layer after both passes.

    Attributes
    ----------
    config
        Configuration of the run.
    data
        The data set.
    threshold_result
        Thresholds, top images and images over the range of each unit.
    counts
        Counts at `DissectConfig.quantiles`, which begin with those of the protocol.
    concept_totals
        Pixels and images of each label.
    per_image
        Labels and masks per image, at the quantiles of the protocol; no files unless `StatisticsConfig.needs_images`.
    masks
        Its masks, if the run keeps them or its permutation test needed them.
    range_maps
        Maps of the images over the range of each unit, float32 (U, S, h, w).
    min_iou
        IoU from which on a unit is a detector.
    null_tables
        Tables of the permutation test; None: not requested.
    extra_metrics
        Statistics of activations for the extra metrics; None: not requested.
    between_levels
        Pixels between the thresholds at which the information quality is computed; None: not requested.
    moments
        Moments over the whole range of activation; None: not requested.
    scratch
        Folder for large tables until they are copied into the run.
    """

    config: DissectConfig
    data: ConceptData
    threshold_result: ThresholdResult
    counts: IoUCounts
    concept_totals: ConceptTotals
    per_image: LayerImages
    masks: LayerMasks
    range_maps: npt.NDArray[np.float32] | UnitMaps
    min_iou: float
    null_tables: NullTables | None
    extra_metrics: ExtraMetrics | None
    between_levels: LevelHistograms | None
    moments: LayerMoments | None
    scratch: Path

    @property
    def statistics(self) -> StatisticsConfig:
        """Which statistics are requested."""
        return self.config.statistics

    @property
    def quantiles(self) -> tuple[float, ...]:
        """Quantiles of the protocol."""
        return self.config.protocol.quantiles

    @cached_property
    def image_pixels(self) -> Ints:
        """Pixels of the label maps of each image, int64 (N,)."""
        side = self.config.protocol.segmentation_size
        sizes = (row.size if side is None else Size(side, side) for row in self.data.rows)
        return np.array([size.height * size.width for size in sizes], np.int64)


class UnitScores(NamedTuple):
    """What is used of the IoUs of all units and concepts at one quantile: all of them may not fit into memory.

    Attributes
    ----------
    candidates
        The concepts among which each replicate chooses its label.
    candidate_iou
        float64 (P,): IoU of each of these pairs.
    label_ids
        int64 (U,): label of each unit, 0 for none.
    label_iou
        float64 (U,): its IoU, 0 for none.
    best
        The best concept of each unit in each category.
    """

    candidates: CandidateConcepts
    candidate_iou: Floats
    label_ids: Ints
    label_iou: Floats
    best: UnitLabels

    @classmethod
    def of(cls, scores: Floats, data: ConceptData) -> Self:
        """Select from the IoUs of some units by label id, float64 (U, C)."""
        categories = len(data.categories)
        candidates = CandidateConcepts.of(scores, data.category_of, categories)
        label_ids = best_label_ids(scores, data.category_of, categories)
        label_iou = np.where(label_ids > 0, scores[np.arange(len(scores)), label_ids], 0.0)
        pairs = candidates.units, candidates.label_ids
        return cls(candidates, scores[pairs], label_ids, label_iou, best_of_categories(data, scores))

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Join those of neighboring units."""
        candidates, candidate_iou, label_ids, label_iou, best = zip(*parts, strict=True)
        names, scores = (np.concatenate([getattr(each, name) for each in best]) for name in ("names", "scores"))
        return cls(
            CandidateConcepts.join(candidates),
            np.concatenate(candidate_iou),
            np.concatenate(label_ids),
            np.concatenate(label_iou),
            UnitLabels(best[0].categories, names, scores),
        )


@dataclass(frozen=True)
class QuantileCounts:
    """The counts of one layer at one quantile."""

    layer: LayerCounts
    index: int

    @property
    def quantile(self) -> float:
        """The quantile."""
        return self.layer.quantiles[self.index]

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories, and ``total``."""
        return (*self.data.categories, "total")

    @property
    def data(self) -> ConceptData:
        """The data set."""
        return self.layer.data

    @cached_property
    def counts(self) -> CountSubset:
        """Counts of all images."""
        of_layer, totals = self.layer.counts, self.layer.concept_totals
        return CountSubset(of_layer.intersection[self.index], of_layer.activation[self.index], totals.pixels)

    @cached_property
    def units(self) -> UnitScores:
        """What is used of the IoUs of all units and concepts."""
        units, label_ids = self.counts.intersection.shape
        step, parts = max(1, BLOCK_SCORES // label_ids), []
        for first in range(0, units, step):
            of_block = self.counts.of_units(first, first + step)
            parts.append(UnitScores.of(of_block.iou(self.data.category_of), self.data))
        return UnitScores.join(parts)

    @property
    def candidates(self) -> CandidateConcepts:
        """The concepts among which each replicate chooses its label."""
        return self.units.candidates

    @property
    def labels(self) -> Ints:
        """Label id of each unit, 0 for none."""
        return self.units.label_ids

    @cached_property
    def holdout(self) -> HoldoutScores:
        """Labels that are chosen without the held-out images."""
        units, label_ids = self.counts.intersection.shape
        step, parts = max(1, HALF_COUNTS // label_ids), []
        for first in range(0, units, step):
            last = min(first + step, units)
            heldout = self._heldout_counts(first, last)
            selection = self.counts.of_units(first, last) - heldout
            parts.append(HoldoutScores.of(selection, heldout, self.data.category_of, len(self.data.categories)))
        return HoldoutScores(*map(np.concatenate, zip(*parts, strict=True)))

    def _heldout_counts(self, first: int, last: int) -> CountSubset:
        """Return the counts of some units on the held-out images."""
        statistics, counts = self.layer.statistics, self.counts
        heldout = CountSubset.zeros(last - first, counts.intersection.shape[1], counts.activation.shape[1])
        for presence, masks, counted in self.blocks():
            rows = presence.images[is_held_out(statistics.stats_seed, presence.images, statistics.holdout_share)]
            own = (masks.units >= first) & (masks.units < last)
            heldout.update(presence, masks.of_units(first, last), counted[own], rows)
        return heldout

    @cached_property
    def threshold_shift(self) -> ThresholdShift:
        """Change of the counts of the candidate concepts between two nearby quantiles."""
        candidates, counts = self.candidates, self.layer.counts
        nearby = nearby_quantiles(self.quantile)
        smaller, larger = map(self.layer.config.quantiles.index, nearby)
        rows = CountRows.of(self.layer.threshold_result.thresholds, len(counts.intersection))
        pairs = candidates.units, candidates.label_ids, candidates.categories
        of_smaller, of_larger = (counts.at(quantile, rows, pairs) for quantile in (smaller, larger))
        change = of_larger[0] - of_smaller[0], of_larger[1] - of_smaller[1]
        mask_pixels, images = np.zeros(candidates.num_units, np.int64), 0
        for presence, masks, _ in self.blocks():
            mask_pixels += np.bincount(masks.units, masks.mask_pixels, minlength=len(mask_pixels)).astype(np.int64)
            images += len(presence.images)
        width = (nearby[1] - nearby[0]) / self.quantile
        return ThresholdShift.between(change, mask_pixels, images, candidates, width)

    def blocks(self) -> Iterator[tuple[ImageLabelCounts, ImageIntersections, Bools]]:
        """Yield labels, masks and the categories in which masks count, some images at a time."""
        restriction = self.layer.config.protocol.restriction
        data, (units, label_ids) = self.data, self.layer.counts.intersection.shape[1:]
        for presence, masks in self.layer.per_image.blocks(BLOCK):
            check_counts(presence, masks, units, label_ids)
            at_quantile = masks.at(self.index)
            counted = counted_masks(presence, at_quantile, data.category_of, len(data.categories), restriction)
            yield presence, at_quantile, counted
