"""The permutation test of a run: stored masks of all layers are paired with the labels of other images.

    MaskFiles of the counting pass -> PermutationCounts, as many as fit into memory -> PermutationNull

Source: `netdissect.scoring.statistics.permutation` for the null hypothesis, and
`netdissect.scoring.statistics.multiple_testing` for p-values and limits.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.concepts import Size
from netdissect.config import RULES, DissectConfig, Execution, Progress, Rule
from netdissect.dissect.label_reader import LabelReader
from netdissect.dissect.passes import CountResult, TwoPass
from netdissect.dissect.work_dir.mask_files import MaskFiles
from netdissect.progress import show_line
from netdissect.result.statistics_schema import NULL_COUNTS
from netdissect.scoring import BatchLabels, ConceptTotals, ImageLabels, IoUCounts
from netdissect.scoring.detectors import DetectorCount
from netdissect.scoring.mask_runs import check_runs
from netdissect.scoring.statistics.multiple_testing import adjust_pvalues, fdr_threshold, null_detector_counts, p_values
from netdissect.scoring.statistics.permutation import (
    BestConcepts,
    PermutationCounts,
    StratumMasks,
    annotation_strata,
    find_best_concepts,
)

Floats = npt.NDArray[np.float64]

MEGABYTE = 2**20
BLOCK = 500  # images permuted among each other: about 50 MB with their label maps


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
    def of(cls, two_pass: TwoPass, counted: CountResult) -> Self:
        """Return the test of a run after its counting pass."""
        source = two_pass.source
        quantiles = len(source.config.protocol.quantiles)
        counts = {name: of_layer.first(quantiles) for name, of_layer in counted.counts.items()}
        return cls(
            source.config, source.execution, two_pass.label_reader, two_pass.progress, counted.masks, counts,
            counted.concept_totals,
        )  # fmt: skip

    @property
    def permutations(self) -> range:
        """All permutations."""
        asked = self.config.permutations
        return range(self.masks.cost.auto_permutations if asked == "auto" else asked)

    def announcement(self, permutations: int) -> str:
        """Return a line that says how many permutations follow, and their time."""
        return f"permutation test: {self.masks.cost.text(permutations)}"

    def run(self) -> dict[str, PermutationNull]:
        """Return the null distribution of every layer."""
        show_line(self.progress, self.announcement(len(self.permutations)))
        return {name: self.null_of(name, best) for name, best in self.best_concepts(self.permutations).items()}

    def best_concepts(self, permutations: range) -> dict[str, list[BestConcepts]]:
        """Return the best concepts of the masks of every layer in some permutations."""
        best: dict[str, list[BestConcepts]] = {name: [] for name in self.counts}
        steps = self._steps(permutations)
        for step, (layers, some) in enumerate(steps):
            for name, of_step in self._best_of_step(layers, some, partial(self._show, permutations, len(steps), step)):
                best[name] += of_step
        return best

    def _best_of_step(
        self, layers: Sequence[str], permutations: range, show: Callable[[int], None]
    ) -> list[tuple[str, list[BestConcepts]]]:
        """Return the best concepts of some layers; the counts that were in memory for them are no longer."""
        permuted = {name: self._zeros(name, permutations) for name in layers}
        for images in self._count(permuted):
            show(images)
        data, totals, candidates = self.labels.data, self.concept_totals, self._candidates
        return [
            (name, list(counted.best_concepts(data, totals, self.counts[name], candidates)))
            for name, counted in permuted.items()
        ]

    def _show(self, permutations: range, steps: int, step: int, images: int) -> None:
        """Show how many of the permutations are done after so many images of a step."""
        finished = len(permutations) * (step * len(self.masks.strata) + images) // (steps * len(self.masks.strata))
        if self.progress:
            self.progress("permutations", permutations.start + finished, len(self.permutations))

    def _steps(self, permutations: range) -> list[tuple[tuple[str, ...], range]]:
        """Divide the work into layers and permutations whose counts fit into memory; each step reads all labels."""
        available = self.execution.memory_mb * MEGABYTE // 4
        sizes = {name: counts.intersection.size for name, counts in self.counts.items()}
        if len(permutations) * sum(sizes.values()) <= available:
            return [(tuple(sizes), permutations)]
        steps: list[tuple[tuple[str, ...], range]] = []
        for name, size in sizes.items():
            at_once = max(1, available // size)
            steps += [
                ((name,), permutations[first : first + at_once]) for first in range(0, len(permutations), at_once)
            ]
        return steps

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

    def _zeros(self, layer: str, permutations: range) -> PermutationCounts:
        """Return the counts of one layer before the first image."""
        statistics, (quantiles, units, _) = self.config.statistics, self.counts[layer].intersection.shape
        return PermutationCounts.zeros(
            permutations, quantiles * units, self.labels.data, seed=statistics.stats_seed, null=statistics.null,
            restriction=self.config.protocol.restriction,
        )  # fmt: skip

    def _count(self, permuted: Mapping[str, PermutationCounts]) -> Iterator[int]:
        """Count the masks of some layers against permuted labels; yield the number of images after each stratum."""
        category_of = self.labels.data.category_of
        seed = self.config.statistics.stats_seed
        strata = list(annotation_strata([tuple(stratum) for stratum in self.masks.strata.tolist()], BLOCK, seed))
        images = map(_with_small_map, self.labels.read(np.concatenate(strata).tolist()))
        done = 0
        for stratum in strata:
            labels = BatchLabels.of(list(islice(images, len(stratum)))).arrays
            size = Size(*labels.index_map.shape[1:])
            for name, counts in permuted.items():
                of_layer = self.masks.of_layer(name)
                masks = [of_layer.read(image) for image in stratum]
                for of_image in masks:
                    check_runs(of_image, counts.intersection.shape[1], size)
                counts.update(StratumMasks.of(masks), labels, int(stratum[0]), category_of, self.execution.workers)
            del labels  # before those of the next stratum are read
            done += len(stratum)
            yield done


def _with_small_map(image: ImageLabels) -> ImageLabels:
    """Return the labels of an image in less memory: hundreds of images are held together."""
    label_sets = image.label_sets
    if len(label_sets.set_sizes) > np.iinfo(np.uint16).max:
        return image
    return replace(image, label_sets=replace(label_sets, index_map=label_sets.index_map.astype(np.uint16)))


def fdr_limit(layers: Sequence[PermutationNull]) -> float:
    """Return the IoU at which the false discovery rate over all units of some layers is at most 5 %.

    One limit for all quantiles, so that their counts compare: the largest of the limits at each quantile.
    """
    limits = []
    for index in range(len(layers[0].quantiles)):
        observed = np.concatenate([layer.observed[index] for layer in layers])
        limits.append(fdr_threshold(observed, np.concatenate([layer.maxima[:, index] for layer in layers], axis=1)))
    return max(limits)
