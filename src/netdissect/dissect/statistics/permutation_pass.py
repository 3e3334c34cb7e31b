"""What chance would give in this run: masks of all layers, kept, and met with other images' labels.

    activations that can matter -> MaskFile of each layer -> Shuffles, a few repetitions at a time -> Chance

Source: `netdissect.scoring.statistics.permutation`, which says what is shuffled, and
`netdissect.scoring.statistics.multiple_testing`, what follows.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.activations.array_log import AppendOnlyArrayFile
from netdissect.config import RULES, Rule
from netdissect.dissect.layer_state import AnyCollector, ThresholdResult
from netdissect.dissect.passes import CountResult, TwoPass
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
BLOCK = 500  # images that are shuffled among themselves: with their label maps some 50 MB
# Repetitions of --permutations auto: as many as take the time in which a small network sees the images.
NANOSECONDS_A_LOOKUP = 6
NANOSECONDS_AN_IMAGE = 20_000_000
FEWEST, MOST = 100, 1000


@dataclass(frozen=True)
class PermutationNull:
    """What chance gives in one layer.

    Attributes
    ----------
    quantiles
        Of the protocol, Q.
    categories
        Names of the data set's categories.
    observed
        float64 (Q, U): the best IoU of each unit.
    maxima
        float64 (R, Q, U): the same in each repetition.
    repeats
        The best concepts of each repetition, of Q times U masks.
    """

    quantiles: tuple[float, ...]
    categories: tuple[str, ...]
    observed: Floats
    maxima: Floats
    repeats: Sequence[BestConcepts]

    def counts(self, quantile: int, rule: Rule, min_iou: float) -> list[DetectorCount]:
        """Count the detectors of each repetition."""
        units = self.observed.shape[1]
        chosen = slice(quantile * units, (quantile + 1) * units)
        best = [BestConcepts(repeat.label_ids[chosen], repeat.scores[chosen]) for repeat in self.repeats]
        return null_detector_counts(best, self.categories, rule, min_iou)


def units_by_chance(chance: PermutationNull) -> pl.DataFrame:
    """Return p-values, and the IoU that chance exceeds in one of twenty repetitions: columns of the table ``units``."""
    frames = []
    for index, quantile in enumerate(chance.quantiles):
        observed, maxima = chance.observed[index], chance.maxima[:, index]
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


def counts_by_chance(chance: PermutationNull, min_iou: float) -> pl.DataFrame:
    """Return how many detectors chance gives on average: columns of the table ``counts``."""
    rows = []
    for index, quantile in enumerate(chance.quantiles):
        for rule in RULES:
            counted = chance.counts(index, rule, min_iou)
            for category in ("total", *chance.categories):
                detectors = np.mean([count.detectors[category] for count in counted])
                unique = np.mean([count.unique_detectors[category] for count in counted])
                rows.append((quantile, rule, category, float(detectors), float(unique)))
    names = ["quantile", "rule", "category", "null_detectors", "null_unique_detectors"]
    return pl.DataFrame(rows, schema=names, orient="row")


class MaskFile(AppendOnlyArrayFile):
    """The masks of one layer, image by image: two bytes for each pixel that is on."""

    disk_full_remedy = ", or leave --permutations out"

    def read(self, number: int) -> MaskPixels:
        """Return the masks of image `number`."""
        return MaskPixels(*(array.astype(np.uint32) for array in super().read(number)))


@dataclass(frozen=True)
class KeptMasks:
    """The masks of every layer on disk, and which images are annotated alike.

    Attributes
    ----------
    files
        By layer.
    lookups
        By layer: labels under the pixels of all masks, in all label maps of an image.
    strata
        Of each image, by index row: its categories and the size of its label maps.
    whole
        bool (C,): concepts that label some image as a whole.
    """

    files: Mapping[str, MaskFile]
    lookups: Mapping[str, int]
    strata: Sequence[tuple[object, ...]]
    whole: npt.NDArray[np.bool_]

    def repeats(self) -> int:
        """Return how many repetitions take the time in which a small network sees the images."""
        lookups = max(sum(self.lookups.values()), 1)
        fitting = NANOSECONDS_AN_IMAGE * len(self.strata) // (NANOSECONDS_A_LOOKUP * lookups)
        return min(max(fitting, FEWEST), MOST)


def keep_masks(
    looks: TwoPass, collectors: Mapping[str, AnyCollector], found: Mapping[str, ThresholdResult]
) -> KeptMasks:
    """Write every layer's masks at the protocol's quantiles, from what the first look kept or from one more pass."""
    quantiles = len(looks.source.config.protocol.quantiles)
    plans = {plan.layer.name: plan for plan in looks.plan.layers}
    files = {name: MaskFile(looks.work.file(name, "masks")) for name in plans}
    lookups = dict.fromkeys(plans, 0)
    strata: list[tuple[object, ...]] = []
    whole = np.zeros(len(looks.source.data.category_of), np.bool_)
    labels = looks.labels(range(len(looks.source.data)))
    for batch in looks.again("masks", collectors):
        of_layers = {name: maps.cpu().numpy() for name, maps in batch.maps.items()}
        for index, image in zip(range(len(batch.rows)), labels, strict=False):
            strata.append((*image.categories.tolist(), image.size))
            whole[image.image_level] = True
            for name, file in files.items():
                grid = plans[name].grid_to(image.size)
                masks = list_mask_pixels(of_layers[name][index], found[name].thresholds[:quantiles], grid)
                lookups[name] += len(masks.pixel_index) * image.label_sets.label_ids.shape[1]
                file.append(masks)
    return KeptMasks(files, lookups, strata, whole)


def permutation_nulls_of(looks: TwoPass, masks: KeptMasks, counted: CountResult) -> dict[str, PermutationNull]:
    """Repeat chance for every layer, as many repetitions at a time as memory allows.

    Parameters
    ----------
    looks
        The run.
    masks
        Of all its layers.
    counted
        What the run itself counted.
    """
    quantiles = len(looks.source.config.protocol.quantiles)
    return {
        name: _chance_of(looks, masks, name, tally.first(quantiles), counted.truth)
        for name, tally in counted.tallies.items()
    }


def _chance_of(looks: TwoPass, masks: KeptMasks, layer: str, tally: IoUCounts, truth: ConceptTotals) -> PermutationNull:
    source, evidence, wanted = looks.source, looks.source.config.statistics, looks.source.config.permutations
    data, protocol = source.data, source.config.protocol
    quantiles, units, numbers = tally.intersection.shape
    repeats = masks.repeats() if wanted == "auto" else wanted
    seconds = NANOSECONDS_A_LOOKUP * 1e-9 * repeats * masks.lookups[layer]
    logger.info("chance in %s: %d repetitions, about %.0f s of computing", layer, repeats, seconds)
    at_once = max(1, source.execution.memory_mb * MEGABYTE // (4 * tally.intersection.size))
    chosen = np.ones(numbers, np.bool_) if evidence.null == "images" else ~masks.whole
    best: list[BestConcepts] = []
    for first in range(0, repeats, at_once):
        some = range(first, min(first + at_once, repeats))
        counts = PermutationCounts.zeros(
            some,
            quantiles * units,
            data,
            seed=evidence.stats_seed,
            null=evidence.null,
            restriction=protocol.restriction,
        )
        with ThreadPoolExecutor(source.execution.workers) as pool:
            for rows in annotation_strata(masks.strata, BLOCK, evidence.stats_seed):
                block = AnnotationStratum.of(
                    [masks.files[layer].read(row) for row in rows], list(looks.labels(rows.tolist()))
                )
                counts.update(block, int(rows[0]), data.category_of, pool)
        best += counts.best_concepts(data, truth, tally, chosen)
        if looks.progress:
            looks.progress(f"chance, {layer}", some.stop, repeats)
    of_run = find_best_concepts(data, truth.pixels, tally.intersection, tally.activation, chosen)
    observed = of_run.scores.max(axis=1, initial=0)
    maxima = np.stack([one.scores.max(axis=1, initial=0) for one in best])
    shape = (quantiles, units)
    return PermutationNull(
        protocol.quantiles, data.categories, observed.reshape(shape), maxima.reshape(len(best), *shape), best
    )  # fmt: skip


def fdr_limit(parts: Sequence[PermutationNull]) -> float:
    """Return the IoU from which on at most one in twenty detectors of some layers is expected by chance.

    Over all their units. One limit for all quantiles, so that their counts compare: the largest of theirs.
    """
    limits = []
    for index in range(len(parts[0].quantiles)):
        observed = np.concatenate([part.observed[index] for part in parts])
        limits.append(fdr_threshold(observed, np.concatenate([part.maxima[:, index] for part in parts], axis=1)))
    return max(limits)
