"""What chance would give in this run: masks of all layers, kept, and met with other images' labels.

    activations that can matter -> MaskFile of each layer -> Shuffles, a few repetitions at a time -> Chance

Source: `netdissect.score.chance`, which says what is shuffled, and `netdissect.score.significance`, what follows.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.config import RULES, Rule
from netdissect.dissect.collect import AnyCollector, Found
from netdissect.dissect.looks import Counted, Looks
from netdissect.score import Tally, Truth
from netdissect.score.chance import Best, Block, Shuffles, best_of, blocks_of
from netdissect.score.labels import Count
from netdissect.score.pixels import MaskPixels, mask_pixels
from netdissect.score.significance import by_chance, chance_level, corrected, p_values
from netdissect.sweep.array_log import AppendOnlyArrayFile

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]

MEGABYTE = 2**20
BLOCK = 500  # images that are shuffled among themselves: with their label maps some 50 MB
# Repetitions of --permutations auto: as many as take the time in which a small network sees the pictures.
NANOSECONDS_A_LOOKUP = 6
NANOSECONDS_AN_IMAGE = 20_000_000
FEWEST, MOST = 100, 1000


@dataclass(frozen=True)
class Chance:
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
    repeats: Sequence[Best]

    def counts(self, quantile: int, rule: Rule, min_iou: float) -> list[Count]:
        """Count the detectors of each repetition."""
        units = self.observed.shape[1]
        chosen = slice(quantile * units, (quantile + 1) * units)
        best = [Best(repeat.numbers[chosen], repeat.scores[chosen]) for repeat in self.repeats]
        return by_chance(best, self.categories, rule, min_iou)


def units_by_chance(chance: Chance) -> pl.DataFrame:
    """Return p-values, and the IoU that chance exceeds in one of twenty repetitions: columns of the table ``units``."""
    frames = []
    for index, quantile in enumerate(chance.quantiles):
        observed, maxima = chance.observed[index], chance.maxima[:, index]
        values = p_values(observed, maxima)
        hochberg, yekutieli = corrected(values)
        columns = {
            "p_value": values,
            "q_value_bh": hochberg,
            "q_value_by": yekutieli,
            "chance_iou": np.quantile(maxima, 0.95, axis=0),
        }
        keys = {"quantile": np.full(len(values), quantile), "unit": np.arange(len(values), dtype=np.int32)}
        frames.append(pl.DataFrame(keys | columns))
    return pl.concat(frames)


def counts_by_chance(chance: Chance, min_iou: float) -> pl.DataFrame:
    """Return how many detectors chance gives on average: columns of the table ``counts``."""
    rows = []
    for index, quantile in enumerate(chance.quantiles):
        for rule in RULES:
            counted = chance.counts(index, rule, min_iou)
            for category in ("total", *chance.categories):
                detectors = np.mean([count.detectors[category] for count in counted])
                unique = np.mean([count.unique[category] for count in counted])
                rows.append((quantile, rule, category, float(detectors), float(unique)))
    names = ["quantile", "rule", "category", "detectors_by_chance", "unique_by_chance"]
    return pl.DataFrame(rows, schema=names, orient="row")


class MaskFile(AppendOnlyArrayFile):
    """The masks of one layer, image by image: two bytes for each pixel that is on."""

    spare = ", or leave --permutations out"

    def read(self, number: int) -> MaskPixels:
        """Return the masks of image `number`."""
        return MaskPixels(*(array.astype(np.uint32) for array in super().read(number)))


@dataclass(frozen=True)
class Masks:
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
        """Return how many repetitions take the time in which a small network sees the pictures."""
        lookups = max(sum(self.lookups.values()), 1)
        fitting = NANOSECONDS_AN_IMAGE * len(self.strata) // (NANOSECONDS_A_LOOKUP * lookups)
        return min(max(fitting, FEWEST), MOST)


def keep_masks(looks: Looks, collectors: Mapping[str, AnyCollector], found: Mapping[str, Found]) -> Masks:
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
            whole[image.whole] = True
            for name, file in files.items():
                grid = plans[name].grid_to(image.size)
                masks = mask_pixels(of_layers[name][index], found[name].thresholds[:quantiles], grid)
                lookups[name] += len(masks.places) * image.kinds.numbers.shape[1]
                file.append(masks)
    return Masks(files, lookups, strata, whole)


def chances_of(looks: Looks, masks: Masks, counted: Counted) -> dict[str, Chance]:
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


def _chance_of(looks: Looks, masks: Masks, layer: str, tally: Tally, truth: Truth) -> Chance:
    source, evidence, wanted = looks.source, looks.source.config.statistics, looks.source.config.permutations
    data, protocol = source.data, source.config.protocol
    quantiles, units, numbers = tally.intersection.shape
    repeats = masks.repeats() if wanted == "auto" else wanted
    seconds = NANOSECONDS_A_LOOKUP * 1e-9 * repeats * masks.lookups[layer]
    logger.info("chance in %s: %d repetitions, about %.0f s of computing", layer, repeats, seconds)
    at_once = max(1, source.execution.memory_mb * MEGABYTE // (4 * tally.intersection.size))
    chosen = np.ones(numbers, np.bool_) if evidence.null == "images" else ~masks.whole
    best: list[Best] = []
    for first in range(0, repeats, at_once):
        some = range(first, min(first + at_once, repeats))
        counts = Shuffles.zeros(
            some, quantiles * units, data, seed=evidence.stats_seed, of=evidence.null, restriction=protocol.restriction
        )
        with ThreadPoolExecutor(source.execution.workers) as pool:
            for rows in blocks_of(masks.strata, BLOCK, evidence.stats_seed):
                block = Block.of([masks.files[layer].read(row) for row in rows], list(looks.labels(rows.tolist())))
                counts.update(block, int(rows[0]), data.category_of, pool)
        best += counts.best(data, truth, tally, chosen)
        if looks.progress:
            looks.progress(f"chance, {layer}", some.stop, repeats)
    observed = best_of(data, truth.pixels, tally.intersection, tally.activation, chosen).scores.max(axis=1, initial=0)
    maxima = np.stack([one.scores.max(axis=1, initial=0) for one in best])
    shape = (quantiles, units)
    return Chance(
        protocol.quantiles, data.categories, observed.reshape(shape), maxima.reshape(len(best), *shape), best
    )  # fmt: skip


def limit_of(parts: Sequence[Chance]) -> float:
    """Return the IoU from which on at most one in twenty detectors of some layers is expected by chance.

    Over all their units. One limit for all quantiles, so that their counts compare: the largest of theirs.
    """
    limits = []
    for index in range(len(parts[0].quantiles)):
        observed = np.concatenate([part.observed[index] for part in parts])
        limits.append(chance_level(observed, np.concatenate([part.maxima[:, index] for part in parts], axis=1)))
    return max(limits)
