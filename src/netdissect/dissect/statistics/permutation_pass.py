"""The permutation test of a run: stored masks of all layers are paired with the labels of other images.

    stored activations -> MaskFile of each layer -> PermutationCounts, a few permutations at a time -> PermutationNull

Source: `netdissect.scoring.statistics.permutation` for the null hypothesis, and
`netdissect.scoring.statistics.multiple_testing` for p-values and limits.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.activations.array_log import AppendOnlyArrayFile
from netdissect.config import RULES, DissectConfig, Execution, Progress, Rule
from netdissect.dissect.label_reader import LabelReader
from netdissect.dissect.layer_state import AnyCollector, ThresholdResult
from netdissect.dissect.passes import CountResult, TwoPass
from netdissect.result.statistics_schema import NULL_COUNTS
from netdissect.scoring import ConceptTotals, IoUCounts
from netdissect.scoring.detectors import DetectorCount
from netdissect.scoring.mask_pixels import MaskPixels, list_mask_pixels
from netdissect.scoring.statistics.multiple_testing import adjust_pvalues, fdr_threshold, null_detector_counts, p_values
from netdissect.scoring.statistics.permutation import (
    AnnotationStratum,
    BestConcepts,
    PermutationCounts,
    annotation_strata,
    find_best_concepts,
)

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]

MEGABYTE = 2**20
BLOCK = 500  # images permuted among each other: about 50 MB with their label maps
# --permutations auto: as many as take the time of the forward passes of a small network.
NANOSECONDS_PER_LOOKUP = 6
NANOSECONDS_PER_IMAGE = 20_000_000
MIN_PERMUTATIONS, MAX_PERMUTATIONS = 100, 1000


@dataclass(frozen=True)
class PermutationNull:
    """The null distribution of one layer.

    Attributes
    ----------
    quantiles
        The Q quantiles of the protocol.
    categories
        Names of the data set's categories.
    observed
        float64 (Q, U): the best IoU of each unit in the run.
    maxima
        float64 (R, Q, U): the best IoU of each unit in each permutation.
    permutations
        The best concepts of the Q times U masks in each permutation.
    """

    quantiles: tuple[float, ...]
    categories: tuple[str, ...]
    observed: Floats
    maxima: Floats
    permutations: Sequence[BestConcepts]

    def counts(self, quantile: int, rule: Rule, min_iou: float) -> list[DetectorCount]:
        """Count the detectors of each permutation."""
        units = self.observed.shape[1]
        chosen = slice(quantile * units, (quantile + 1) * units)
        best = [BestConcepts(permuted.label_ids[chosen], permuted.scores[chosen]) for permuted in self.permutations]
        return null_detector_counts(best, self.categories, rule, min_iou)


def null_unit_columns(null: PermutationNull) -> pl.DataFrame:
    """Return p-values, q-values and the 95th percentile of the null IoU: columns of the table ``units``."""
    frames = []
    for index, quantile in enumerate(null.quantiles):
        observed, maxima = null.observed[index], null.maxima[:, index]
        values = p_values(observed, maxima)
        hochberg, yekutieli = adjust_pvalues(values)
        columns = {
            "p_value": values,
            "q_value_bh": hochberg,
            "q_value_by": yekutieli,
            "null_iou_p95": np.quantile(maxima, 0.95, axis=0),
        }
        keys = {"quantile": np.full(len(values), quantile), "unit": np.arange(len(values), dtype=np.int32)}
        frames.append(pl.DataFrame(keys | columns))
    return pl.concat(frames)


def null_counts_frame(null: PermutationNull, min_iou: float) -> pl.DataFrame:
    """Return detectors and unique detectors in each permutation: the table ``null_counts``."""
    rows = [
        (quantile, rule, category, permutation, count.detectors[category], count.unique_detectors[category])
        for index, quantile in enumerate(null.quantiles)
        for rule in RULES
        for permutation, count in enumerate(null.counts(index, rule, min_iou))
        for category in ("total", *null.categories)
    ]
    return pl.DataFrame(rows, schema=dict(NULL_COUNTS), orient="row")


def null_count_columns(null_counts: pl.DataFrame) -> pl.DataFrame:
    """Return the mean counts under the null and their standard errors: columns of the table ``counts``.

    The standard error of a mean over R permutations is their standard deviation over the square root of R; it is null
    for one permutation.
    """
    columns = []
    for name in ("detectors", "unique_detectors"):
        columns += [
            pl.col(name).mean().alias(f"null_{name}"),
            (pl.col(name).std() / pl.len().sqrt()).alias(f"null_{name}_se"),
        ]
    return null_counts.group_by("quantile", "rule", "category", maintain_order=True).agg(columns)


class MaskFile(AppendOnlyArrayFile):
    """The masks of one layer per image: two bytes for each active pixel."""

    disk_full_remedy = ", or leave --permutations out"

    def read(self, image_index: int) -> MaskPixels:
        """Return the masks of one image."""
        return MaskPixels(*(array.astype(np.uint32) for array in super().read(image_index)))


@dataclass(frozen=True)
class MaskFiles:
    """The masks of every layer on disk, and the annotation stratum of each image.

    Attributes
    ----------
    files
        By layer: the file of each shard, by ascending image index.
    lookups
        By layer: number of labels below all mask pixels, in all label maps.
    strata
        int64 (N, 2 + K): height and width of the label maps of each image, and whether each category is annotated.
    image_level
        bool (C,): concepts that are image-level labels of some image.
    """

    files: Mapping[str, Sequence[MaskFile]]
    lookups: Mapping[str, int]
    strata: npt.NDArray[np.int64]
    image_level: npt.NDArray[np.bool_]

    def read(self, layer: str, image_index: int) -> MaskPixels:
        """Return the masks of one image."""
        for file in self.files[layer]:
            if image_index < file.records:
                return file.read(image_index)
            image_index -= file.records
        raise IndexError(image_index)

    def auto_permutations(self) -> int:
        """Return the number of permutations that takes the time of the forward passes of a small network."""
        lookups = max(sum(self.lookups.values()), 1)
        fitting = NANOSECONDS_PER_IMAGE * len(self.strata) // (NANOSECONDS_PER_LOOKUP * lookups)
        return min(max(fitting, MIN_PERMUTATIONS), MAX_PERMUTATIONS)


def write_masks(
    two_pass: TwoPass, collectors: Mapping[str, AnyCollector], threshold_results: Mapping[str, ThresholdResult]
) -> MaskFiles:
    """Write the masks of every layer at the quantiles of the protocol, from stored activations or another pass."""
    source, rows = two_pass.source, two_pass.rows
    quantiles = len(source.config.protocol.quantiles)
    plans = {plan.layer.name: plan for plan in two_pass.plan.layers}
    files = {name: MaskFile(two_pass.work.file(name, "masks")) for name in plans}
    lookups = dict.fromkeys(plans, 0)
    strata = np.zeros((len(rows), 2 + len(source.data.categories)), np.int64)
    image_level = np.zeros(len(source.data.category_of), np.bool_)
    labels = two_pass.label_reader.read(rows)
    for batch in two_pass.replay("masks", collectors):
        of_layers = {name: maps.cpu().numpy() for name, maps in batch.maps.items()}
        for index, image in zip(range(len(batch.rows)), labels, strict=False):
            stratum = strata[batch.start + index - rows.start]
            stratum[:2], stratum[2 + image.categories] = image.size, 1
            image_level[image.image_level] = True
            for name, file in files.items():
                grid = plans[name].grid_to(image.size)
                masks = list_mask_pixels(of_layers[name][index], threshold_results[name].thresholds[:quantiles], grid)
                lookups[name] += len(masks.pixel_index) * image.label_sets.label_ids.shape[1]
                file.append(masks)
    return MaskFiles({name: (file,) for name, file in files.items()}, lookups, strata, image_level)


@dataclass(frozen=True)
class PermutationTest:
    """The permutation test of all layers.

    Attributes
    ----------
    config, execution
        Of the run.
    labels
        Reads the labels of any images.
    progress
        Called with the stage and the number of permutations done and in all.
    masks
        Masks of all layers.
    counts
        By layer: counts of the run at the quantiles of the protocol.
    concept_totals
        Pixels of each label.
    """

    config: DissectConfig
    execution: Execution
    labels: LabelReader
    progress: Progress | None
    masks: MaskFiles
    counts: Mapping[str, IoUCounts]
    concept_totals: ConceptTotals

    @classmethod
    def of(cls, two_pass: TwoPass, masks: MaskFiles, counted: CountResult) -> Self:
        """Return the test of a run after its counting pass."""
        source = two_pass.source
        quantiles = len(source.config.protocol.quantiles)
        counts = {name: of_layer.first(quantiles) for name, of_layer in counted.counts.items()}
        return cls(
            source.config, source.execution, two_pass.label_reader, two_pass.progress, masks, counts,
            counted.concept_totals,
        )  # fmt: skip

    @property
    def permutations(self) -> range:
        """All permutations."""
        asked = self.config.permutations
        return range(self.masks.auto_permutations() if asked == "auto" else asked)

    def at_once(self, layer: str) -> int:
        """Return the number of permutations whose counts of one layer fit into memory together."""
        return max(1, self.execution.memory_mb * MEGABYTE // (4 * self.counts[layer].intersection.size))

    def run(self) -> dict[str, PermutationNull]:
        """Return the null distribution of every layer."""
        return {name: self.null_of(name, self.best_concepts(name, self.permutations)) for name in self.counts}

    def best_concepts(self, layer: str, permutations: range) -> list[BestConcepts]:
        """Return the best concepts of the masks of one layer in some permutations."""
        seconds = NANOSECONDS_PER_LOOKUP * 1e-9 * len(permutations) * self.masks.lookups[layer]
        logger.info(
            "permutation test of %s: %d permutations, about %.0f s of computing", layer, len(permutations), seconds
        )
        best: list[BestConcepts] = []
        for first in permutations[:: self.at_once(layer)]:
            some = range(first, min(first + self.at_once(layer), permutations.stop))
            permuted = self._counted(layer, some)
            best += permuted.best_concepts(self.labels.data, self.concept_totals, self.counts[layer], self._candidates)
            if self.progress:
                self.progress(f"permutations, {layer}", some.stop, len(self.permutations))
        return best

    def null_of(self, layer: str, best: Sequence[BestConcepts]) -> PermutationNull:
        """Return the null distribution of one layer from the best concepts of all permutations."""
        data, counts = self.labels.data, self.counts[layer]
        quantiles, units, _ = counts.intersection.shape
        of_run = find_best_concepts(
            data, self.concept_totals.pixels, counts.intersection, counts.activation, self._candidates
        )
        observed = of_run.scores.max(axis=1, initial=0).reshape(quantiles, units)
        maxima = np.stack([each.scores.max(axis=1, initial=0) for each in best]).reshape(len(best), quantiles, units)
        return PermutationNull(self.config.protocol.quantiles, data.categories, observed, maxima, best)

    @property
    def _candidates(self) -> npt.NDArray[np.bool_]:
        """Concepts that take part, bool (C,)."""
        image_level = self.masks.image_level
        return np.ones(len(image_level), np.bool_) if self.config.statistics.null == "images" else ~image_level

    def _counted(self, layer: str, permutations: range) -> PermutationCounts:
        """Count the masks of one layer against permuted labels."""
        statistics, (quantiles, units, _) = self.config.statistics, self.counts[layer].intersection.shape
        counts = PermutationCounts.zeros(
            permutations, quantiles * units, self.labels.data, seed=statistics.stats_seed, null=statistics.null,
            restriction=self.config.protocol.restriction,
        )  # fmt: skip
        strata = [tuple(stratum) for stratum in self.masks.strata.tolist()]
        with ThreadPoolExecutor(self.execution.workers) as pool:
            for images in annotation_strata(strata, BLOCK, statistics.stats_seed):
                mask_pixels_of = [self.masks.read(layer, image) for image in images]
                block = AnnotationStratum.of(mask_pixels_of, list(self.labels.read(images.tolist())))
                counts.update(block, int(images[0]), self.labels.data.category_of, pool)
        return counts


def fdr_limit(layers: Sequence[PermutationNull]) -> float:
    """Return the IoU at which the false discovery rate over all units of some layers is at most 5 %.

    One limit for all quantiles, so that their counts compare: the largest of the limits at each quantile.
    """
    limits = []
    for index in range(len(layers[0].quantiles)):
        observed = np.concatenate([layer.observed[index] for layer in layers])
        limits.append(fdr_threshold(observed, np.concatenate([layer.maxima[:, index] for layer in layers], axis=1)))
    return max(limits)
