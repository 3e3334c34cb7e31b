"""The permutation test of a run: stored masks of all layers are paired with the labels of other images.

    MaskFiles of the counting pass -> PermutationCounts, of as many masks as fit into memory -> PermutationNull
    -> NullTables

Source: `netdissect.scoring.statistics.permutation` for the null hypothesis, and
`netdissect.scoring.statistics.multiple_testing` for p-values and limits.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.concepts import Size
from netdissect.config import RULES, DissectConfig, Execution, Progress, Rule
from netdissect.dissect.label_reader import LabelReader
from netdissect.dissect.passes import CountResult, TwoPass
from netdissect.dissect.statistics.permutation_cost import MEGABYTE, PermutationCost
from netdissect.dissect.statistics.permutation_strata import MaskBlocks, MaskSlice, StrataLabels
from netdissect.dissect.work_dir.mask_files import MaskFiles
from netdissect.progress import show_line
from netdissect.result.statistics_schema import NULL_COUNTS
from netdissect.scoring import ConceptTotals, IoUCounts
from netdissect.scoring.detectors import DetectorCount
from netdissect.scoring.mask_runs import MaskRuns, check_runs
from netdissect.scoring.statistics.multiple_testing import adjust_pvalues, fdr_threshold, null_detector_counts, p_values
from netdissect.scoring.statistics.permutation import (
    BestConcepts,
    PermutationCounts,
    StratumMasks,
    annotation_strata,
    find_best_concepts,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LABEL_BYTES, HELD_SHARE = 2, 4  # of a pixel of a label map; largest share of the memory of counts that these may take
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
class NullTables:
    """What the tables of a layer hold of its null distribution.

    The best concepts of all permutations are not kept with them: those of 65,536 units in six categories and 100
    permutations take 0.5 GB.

    Attributes
    ----------
    units
        Columns of the table ``units``; see `null_unit_columns`.
    null_counts
        The table ``null_counts``.
    """

    units: pl.DataFrame
    null_counts: pl.DataFrame

    @classmethod
    def of(cls, null: PermutationNull, min_iou: float) -> Self:
        """Make them at the IoU from which on a unit of the layer is a detector."""
        return cls(null_unit_columns(null), null_counts_frame(null, min_iou))


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
        return range(self.cost.auto_permutations if asked == "auto" else asked)

    @property
    def cost(self) -> PermutationCost:
        """What the test of all layers costs."""
        masks, concepts = [len(self._masks(name)) for name in self.counts], len(self.labels.data.category_of)
        return PermutationCost(int(self.masks.num_runs.sum()), tuple(masks), concepts, len(self.masks.strata))

    @property
    def _memory_bytes(self) -> int:
        """Most bytes of counts at a time."""
        return self.execution.memory_mb * MEGABYTE

    def announcement(self, permutations: int) -> str:
        """Return a line that says how many permutations follow, and their time."""
        return f"permutation test: {self.cost.text(permutations, self._memory_bytes)}"

    def run(self) -> dict[str, PermutationNull]:
        """Return the null distribution of every layer."""
        show_line(self.progress, self.announcement(len(self.permutations)))
        return {name: self.null_of(name, best) for name, best in self.best_concepts(self.permutations).items()}

    def best_concepts(self, permutations: range) -> dict[str, list[BestConcepts]]:
        """Return the best concepts of the masks of every layer in some permutations."""
        best, strata = self._no_concepts(len(permutations)), self._strata()
        steps = self.cost.steps(len(permutations), self._memory_bytes)
        map_bytes = LABEL_BYTES * int(self.masks.strata[:, :2].prod(axis=1).sum())
        held = steps > 1 and map_bytes <= self._memory_bytes // HELD_SHARE
        labels = StrataLabels(self.labels, strata, list(map(self._size, strata)), hold=held)
        for step, slices in enumerate(self._slices(len(permutations), strata)):
            show = partial(self._show, permutations, steps, step)
            for some, found in self._best_of_step(slices, permutations, labels, show):
                chosen, (label_ids, scores) = slice(some.masks.start, some.masks.stop), best[some.layer]
                for index, of_permutation in enumerate(found):
                    label_ids[index, chosen], scores[index, chosen] = of_permutation
        return {name: list(map(BestConcepts, *arrays)) for name, arrays in best.items()}

    def _no_concepts(self, permutations: int) -> dict[str, BestConcepts]:
        """Return arrays for the best concepts of every layer, with the permutations as first axis."""
        shapes = {
            name: (permutations, counts.intersection[..., 0].size, len(self.labels.data.categories))
            for name, counts in self.counts.items()
        }
        return {name: BestConcepts(np.zeros(shape, np.int32), np.zeros(shape)) for name, shape in shapes.items()}

    def _strata(self) -> list[Ints]:
        """Return the images of each stratum."""
        annotated = [tuple(stratum) for stratum in self.masks.strata.tolist()]
        return list(annotation_strata(annotated, BLOCK, self.config.statistics.stats_seed))

    def _size(self, images: Ints) -> Size:
        """Return the size of the label maps of the images of a stratum."""
        return Size(*self.masks.strata[images[0], :2].tolist())

    def _best_of_step(
        self, slices: Sequence[MaskSlice], permutations: range, labels: StrataLabels, show: Callable[[int], None]
    ) -> list[tuple[MaskSlice, list[BestConcepts]]]:
        """Return the best concepts of some masks; the counts that were in memory for them are no longer."""
        permuted = [(some, self._zeros(len(some.masks), permutations)) for some in slices]
        for images in self._count(permuted, labels):
            show(images)
        found = []
        for some, counted in permuted:
            activation = self.counts[some.layer].activation
            of_slice = activation.reshape(-1, activation.shape[-1])[some.masks.start : some.masks.stop]
            best = counted.best_concepts(
                self.labels.data, self.concept_totals, of_slice, self._candidates, self.execution.threads
            )
            found.append((some, list(best)))
        return found

    def _show(self, permutations: range, steps: int, step: int, images: int) -> None:
        """Show how many of the permutations are done after so many images of a step."""
        finished = len(permutations) * (step * len(self.masks.strata) + images) // (steps * len(self.masks.strata))
        if self.progress:
            self.progress("permutations", permutations.start + finished, len(self.permutations))

    def _slices(self, permutations: int, strata: Sequence[Ints]) -> Iterator[list[MaskSlice]]:
        """Divide the masks into those whose counts fit into memory: all of all layers, or some of one layer."""
        if self.cost.steps(permutations, self._memory_bytes) == 1:
            yield [
                MaskSlice(name, self._masks(name), partial(self._stratum_masks, name, strata)) for name in self.counts
            ]
            return
        at_once = self.cost.masks_at_once(permutations, self._memory_bytes)
        for name in self.counts:
            # They are divided once, on disk; otherwise each step would read all of them.
            with TemporaryDirectory(dir=self.masks.of_layer(name).folder) as folder:
                blocks = MaskBlocks(Path(folder) / "masks", len(self._masks(name)), at_once)
                for images in strata:
                    blocks.append_stratum(self._read_masks(name, images))
                for index, masks in enumerate(blocks.ranges):
                    yield [MaskSlice(name, masks, partial(blocks.read, index))]

    def _masks(self, layer: str) -> range:
        """Return the indices of all masks of a layer."""
        return range(self.counts[layer].intersection[..., 0].size)

    def _stratum_masks(self, layer: str, strata: Sequence[Ints], stratum: int) -> StratumMasks:
        """Return the masks of a layer on the images of a stratum."""
        return StratumMasks.of(list(self._read_masks(layer, strata[stratum])))

    def _read_masks(self, layer: str, images: Ints) -> Iterator[MaskRuns]:
        """Yield the masks of a layer on each image of a stratum."""
        of_layer, size = self.masks.of_layer(layer), self._size(images)
        for image in images.tolist():
            masks = of_layer.read(image)
            check_runs(masks, len(self._masks(layer)), size)
            yield masks

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

    def _zeros(self, masks: int, permutations: range) -> PermutationCounts:
        """Return the counts of so many masks before the first image."""
        statistics = self.config.statistics
        return PermutationCounts.zeros(
            permutations, masks, self.labels.data, seed=statistics.stats_seed, null=statistics.null,
            restriction=self.config.protocol.restriction,
        )  # fmt: skip

    def _count(self, permuted: Sequence[tuple[MaskSlice, PermutationCounts]], labels: StrataLabels) -> Iterator[int]:
        """Count some masks against permuted labels; yield the number of images after each stratum."""
        category_of, done = self.labels.data.category_of, 0
        for stratum, of_stratum in enumerate(labels):
            images = labels.strata[stratum]
            for some, counts in permuted:
                counts.update(some.read(stratum), of_stratum, int(images[0]), category_of, self.execution.threads)
            del of_stratum  # before those of the next stratum are read
            done += len(images)
            yield done


def fdr_limit(layers: Sequence[PermutationNull]) -> float:
    """Return the IoU at which the false discovery rate over all units of some layers is at most 5 %.

    One limit for all quantiles, so that their counts compare: the largest of the limits at each quantile.
    """
    limits = []
    for index in range(len(layers[0].quantiles)):
        observed = np.concatenate([layer.observed[index] for layer in layers])
        limits.append(fdr_threshold(observed, np.concatenate([layer.maxima[:, index] for layer in layers], axis=1)))
    return max(limits)
