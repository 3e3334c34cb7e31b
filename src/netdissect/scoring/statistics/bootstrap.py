"""Bootstrap over images: confidence intervals of detector counts, and stability of labels.

Each image has a Poisson weight in each replicate, which depends only on the seed and the image index. Sums over images
therefore add up over shards, and two runs on the same images have paired replicates.

    ImageLabelCounts, ImageIntersections, poisson_weights -> Replicates of some units at a time -> count_replicates
    -> interval_of_counts

Labels are chosen again in each replicate, among the candidates of a unit: its best concept in each category and its ten
best overall. Thresholds move with the images of the replicate, to first order: see `ThresholdShift`.

Sources: Efron and Tibshirani 1993 :cite:p:`efron1993bootstrap`; Poisson weights: Hanley and MacGibbon 2006
:cite:p:`hanley2006bootstrap`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

from netdissect.config import RULES, Rule
from netdissect.jit import compiled_in_place
from netdissect.scoring.detectors import passes
from netdissect.scoring.iou import Floats, best_concepts, iou, leading_concepts, top_category
from netdissect.scoring.per_image_counts import ImageIntersections, ImageLabelCounts

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Weights = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.integer[Any]]

CONFIDENCE_LEVEL = 0.95
WORD_VALUES = 2.0**32
# Cumulative Poisson(1) in units of 2**-32: P(k <= 0), P(k <= 1), ...; the tail beyond 12 is below one unit.
POISSON = np.floor(WORD_VALUES * np.exp(-1.0) * np.cumsum(1.0 / np.cumprod([1.0, *range(1, 12)]))).astype(np.uint32)


def poisson_weights(seed: int, image_index: npt.ArrayLike, replicates: int) -> Weights:
    """Draw the weight of each image in each replicate.

    Parameters
    ----------
    seed
        Seed of the bootstrap.
    image_index
        int (n,).
    replicates
        Number of replicates, R.

    Returns
    -------
    uint8 (n, R)
        Poisson of mean 1. A weight does not depend on the other images or on the number of replicates.
    """
    indices, words = np.asarray(image_index), (replicates + 1) // 2
    weights = np.empty((len(indices), replicates), np.uint8)
    for weights_of_image, index in zip(weights, indices, strict=True):
        raw = np.random.Philox(key=np.array([seed, index], np.uint64)).random_raw(words)
        weights_of_image[:] = np.searchsorted(POISSON, raw.view(np.uint32)[:replicates], side="right")
    return weights


@dataclass(frozen=True)
class CandidateConcepts:
    """The concepts among which labels are chosen in replicates: P pairs, by unit, then by label id.

    Attributes
    ----------
    units, label_ids, categories
        int64 (P,).
    num_units, num_labels, num_categories
        U, C and K.
    """

    units: Ints
    label_ids: Ints
    categories: Ints
    num_units: int
    num_labels: int
    num_categories: int

    @classmethod
    def of(cls, scores: Floats, category_of: Ints, categories: int) -> "CandidateConcepts":
        """Take the best concept of each unit in each category, and its ten best; scores by label id, (U, C)."""
        label_ids = np.flatnonzero(category_of >= 0)
        best = best_concepts(scores[:, label_ids], category_of[label_ids], categories)
        chosen = np.zeros(scores.shape, np.bool_)
        unit, category = (best >= 0).nonzero()
        chosen[unit, label_ids[best[unit, category]]] = True
        chosen[np.arange(len(scores))[:, None], leading_concepts(scores)] = True
        chosen &= scores > 0
        units, chosen_ids = chosen.nonzero()
        return cls(units, chosen_ids, category_of[chosen_ids], len(scores), scores.shape[1], categories)

    @classmethod
    def join(cls, parts: Sequence["CandidateConcepts"]) -> "CandidateConcepts":
        """Join the pairs of neighboring units, those of each part being numbered from 0."""
        firsts = np.cumsum([0, *(part.num_units for part in parts)])
        units = np.concatenate([part.units + first for part, first in zip(parts, firsts[:-1], strict=True)])
        label_ids = np.concatenate([part.label_ids for part in parts])
        categories = np.concatenate([part.categories for part in parts])
        return cls(units, label_ids, categories, int(firsts[-1]), parts[0].num_labels, parts[0].num_categories)

    @cached_property
    def starts(self) -> Ints:
        """First pair of each unit, and the end of the last, int64 (U + 1,)."""
        return np.searchsorted(self.units, np.arange(self.num_units + 1))

    def index_of(self, units: Ints, label_ids: Ints) -> Ints:
        """Return the index of each of some pairs, int64 (n,); -1 where the concept is no candidate of the unit."""
        index = np.full(len(units), -1)
        _find_pairs(self.starts, self.label_ids, units, label_ids, index)
        return index

    def pairs(self, first: int, last: int) -> slice:
        """Return the pairs of the units from `first` on, before `last`."""
        return slice(int(self.starts[first]), int(self.starts[last]))

    def of_units(self, first: int, last: int) -> "CandidateConcepts":
        """Return the pairs of these units alone, which are numbered from 0."""
        pairs = self.pairs(first, last)
        return CandidateConcepts(
            self.units[pairs] - first,
            self.label_ids[pairs],
            self.categories[pairs],
            last - first,
            self.num_labels,
            self.num_categories,
        )


@dataclass(frozen=True)
class ThresholdShift:
    """Loss of intersection and activation for each mask pixel that a higher threshold removes, at one quantile.

    Attributes
    ----------
    intersection, activation
        float64 (P,): pixels of each pair of `CandidateConcepts`; the activation is that of its category.
    mask_pixels
        int64 (U,): mask pixels of each unit in all images.
    images
        Number of images.

    Notes
    -----
    A threshold leaves a fixed share of all activations above it, so a sample in which a unit is more active than on
    average has a higher threshold. The loss for each excess pixel is a central difference: the pixels between a
    smaller and a larger quantile nearby.
    """

    intersection: Floats
    activation: Floats
    mask_pixels: Ints
    images: int

    @classmethod
    def between(
        cls, lost: tuple[Ints, Ints], mask_pixels: Ints, images: int, candidates: CandidateConcepts, share: float
    ) -> "ThresholdShift":
        """Make the shift from the pixels between two quantiles.

        Parameters
        ----------
        lost
            int64 (P,) each: intersection and activation of the larger quantile less those of the smaller.
        mask_pixels, images
            See `ThresholdShift`.
        candidates
            The pairs.
        share
            Distance of the two quantiles, as a share of the quantile between them.
        """
        removed = np.maximum(share * mask_pixels[candidates.units], 1)
        return cls(lost[0] / removed, lost[1] / removed, mask_pixels, images)

    def of_units(self, first: int, last: int, candidates: CandidateConcepts) -> "ThresholdShift":
        """Return the shift of the units from `first` on, before `last`, out of all `candidates`."""
        pairs = candidates.pairs(first, last)
        return ThresholdShift(
            self.intersection[pairs], self.activation[pairs], self.mask_pixels[first:last], self.images
        )


@dataclass(frozen=True)
class Replicates:
    """Pixels in each replicate; adds up over images.

    Attributes
    ----------
    intersection
        int64 (P, R), for each pair of `CandidateConcepts`.
    activation
        int64 (U, K, R).
    concept_pixels
        int64 (C, R).
    mask_pixels
        int64 (U, R): mask pixels in all images.
    images
        int64 (R,).
    """

    intersection: Ints
    activation: Ints
    concept_pixels: Ints
    mask_pixels: Ints
    images: Ints

    @classmethod
    def zeros(cls, candidates: CandidateConcepts, replicates: int) -> "Replicates":
        """Return the replicates of no images."""
        units, num_labels = candidates.num_units, candidates.num_labels
        shapes = ((len(candidates.units),), (units, candidates.num_categories), (num_labels,), (units,), ())
        return cls(*(np.zeros((*shape, replicates), np.int64) for shape in shapes))

    def __add__(self, other: "Replicates") -> "Replicates":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Replicates(*(left + right for left, right in pairs))

    def update(
        self,
        labels: ImageLabelCounts,
        masks: ImageIntersections,
        counted: Bools,
        candidates: CandidateConcepts,
        seed: int,
    ) -> None:
        """Add some images.

        Parameters
        ----------
        labels, masks
            Labels and masks of these images at one quantile; see `netdissect.scoring.per_image_counts.check_counts`.
        counted
            bool (M, K): whether a mask counts in each category; see `counted_masks`.
        candidates
            The pairs.
        seed
            Seed of the weights.
        """
        weights = poisson_weights(seed, labels.images, self.concept_pixels.shape[1])
        positions = np.searchsorted(labels.images, masks.image_index)
        label_positions = np.searchsorted(labels.images, labels.image_index)
        self.images[:] += weights.sum(axis=0, dtype=np.int64)
        _add(labels.label_ids, label_positions, labels.pixels, weights, self.concept_pixels)
        _add(masks.units, positions, masks.mask_pixels, weights, self.mask_pixels)
        mask, category = counted.nonzero()
        cells = masks.units[mask] * candidates.num_categories + category
        activation = self.activation.reshape(-1, self.activation.shape[2])
        _add(cells, positions[mask], masks.mask_pixels[mask], weights, activation)
        mask_index = masks.mask_index
        pairs = candidates.index_of(masks.units[mask_index], masks.label_ids)
        known = pairs >= 0
        _add(pairs[known], positions[mask_index[known]], masks.intersections[known], weights, self.intersection)

    def iou(self, candidates: CandidateConcepts, shift: ThresholdShift, unit: int) -> Floats:
        """Return the IoU of the candidates of a unit, float64 (pairs, R)."""
        pairs = candidates.pairs(unit, unit + 1)
        concept_pixels = self.concept_pixels[candidates.label_ids[pairs]]
        excess = self.mask_pixels[unit] - shift.mask_pixels[unit] / shift.images * self.images
        masks = self.activation[unit, candidates.categories[pairs]]
        intersection = np.clip(self.intersection[pairs] - shift.intersection[pairs, None] * excess, 0, concept_pixels)
        # However large the excess, pixels on the concept are removed last.
        least = np.minimum(intersection, masks)
        return iou(intersection, np.maximum(masks - shift.activation[pairs, None] * excess, least), concept_pixels)


def counted_masks(
    labels: ImageLabelCounts, masks: ImageIntersections, category_of: Ints, categories: int, restriction: str
) -> Bools:
    """Tell in which categories each mask counts, bool (M, K); see `netdissect.config.Protocol`."""
    if restriction == "none":
        return np.ones((len(masks.image_index), categories), np.bool_)
    counted: Bools = np.zeros((len(masks.image_index), categories), np.bool_)
    if restriction == "overlap":
        counted[masks.mask_index, category_of[masks.label_ids]] = True
        return counted
    annotated = np.zeros((len(labels.images), categories), np.bool_)
    annotated[np.searchsorted(labels.images, labels.image_index), category_of[labels.label_ids]] = True
    counted[:] = annotated[np.searchsorted(labels.images, masks.image_index)]
    return counted


@compiled_in_place
def _find_pairs(starts: Ints, pair_labels: Ints, units: Ints, label_ids: Ints, index: Ints) -> None:
    """Write the index of the pairs of units and labels (n,); a unit has about ten."""
    for row in range(len(units)):
        for pair in range(starts[units[row]], starts[units[row] + 1]):
            if pair_labels[pair] == label_ids[row]:
                index[row] = pair


def _add(targets: Ints, positions: Ints, values: Ints, weights: Weights, sums: Ints) -> None:
    # In the order of the targets, one row of sums stays in the cache.
    order = np.argsort(targets, kind="stable")
    add_weighted(targets[order], positions[order], values[order], weights, sums)


@compiled_in_place
def add_weighted(targets: Ints, positions: Ints, values: Ints, weights: Weights, sums: Ints) -> None:
    """Add values (N,), each weighted by the weights (n, R) of its image, to one of several sums (m, R)."""
    for entry in range(len(targets)):
        value, image_weights, target = values[entry], weights[positions[entry]], sums[targets[entry]]
        for replicate in range(len(image_weights)):
            target[replicate] += value * image_weights[replicate]


class CountReplicates(NamedTuple):
    """Detectors and labels in each replicate.

    Attributes
    ----------
    detectors, unique_detectors
        int64 (K + 1, R) by rule: by category, then in all.
    labels
        Unsigned integers (U, R), as small as they can be: label id of each unit; 0 where it has none.
    """

    detectors: dict[Rule, Ints]
    unique_detectors: dict[Rule, Ints]
    labels: Labels


class UnitReplicates(NamedTuple):
    """The replicates of some neighboring units of a layer: those of all units may not fit into memory.

    Attributes
    ----------
    first
        The first of these units.
    candidates, shift, sums
        Of these units alone, which are numbered from 0.
    """

    first: int
    candidates: CandidateConcepts
    shift: ThresholdShift
    sums: Replicates

    @classmethod
    def zeros(
        cls, units: tuple[int, int], candidates: CandidateConcepts, shift: ThresholdShift, replicates: int
    ) -> "UnitReplicates":
        """Return those of no images, of the units from the first number on, before the second, out of all."""
        own = candidates.of_units(*units)
        return cls(units[0], own, shift.of_units(*units, candidates), Replicates.zeros(own, replicates))

    def update(self, labels: ImageLabelCounts, masks: ImageIntersections, counted: Bools, seed: int) -> None:
        """Add some images, with the masks of all units; see `Replicates.update`."""
        last = self.first + self.candidates.num_units
        own = counted[(masks.units >= self.first) & (masks.units < last)]
        self.sums.update(labels, masks.of_units(self.first, last), own, self.candidates, seed)


def count_replicates(
    blocks: Iterable[UnitReplicates], candidates: CandidateConcepts, replicates: int, min_iou: float
) -> CountReplicates:
    """Choose labels and count detectors in each replicate, as `netdissect.scoring.count_detectors` does.

    Parameters
    ----------
    blocks
        All units, some at a time.
    candidates
        Of all units.
    replicates
        Number of replicates, R.
    min_iou
        IoU from which on a unit is a detector.
    """
    num_labels, num_categories = candidates.num_labels, candidates.num_categories
    labels = np.zeros((candidates.num_units, replicates), np.min_scalar_type(num_labels))
    detectors = {rule: np.zeros((num_categories + 1, replicates), np.int64) for rule in RULES}
    seen = {rule: np.zeros((num_labels, replicates), np.bool_) for rule in RULES}
    each = np.arange(replicates)
    for unit, (best, scores) in (found for block in blocks for found in _best(block)):
        top = top_category(scores)
        labels[unit] = np.where(top >= 0, best[each, top], 0)
        for rule in RULES:
            passing = passes(scores, rule, min_iou)
            if rule == "top-label":
                passing &= top[:, None] == np.arange(num_categories)
            replicate, category = passing.nonzero()
            np.add.at(detectors[rule], (category, replicate), 1)
            detectors[rule][num_categories] += passing.any(axis=1)
            seen[rule][best[replicate, category], replicate] = True
    return CountReplicates(detectors, {rule: _by_category(seen[rule], candidates) for rule in RULES}, labels)


def _best(block: UnitReplicates) -> Iterator[tuple[int, tuple[Ints, Floats]]]:
    """Yield the best concept of each unit and its IoU in each replicate and category, (R, K)."""
    first, candidates, shift, sums = block
    for unit in np.unique(candidates.units):
        pairs = candidates.pairs(unit, unit + 1)
        scores, label_ids = sums.iou(candidates, shift, unit).T, candidates.label_ids[pairs]
        best = best_concepts(scores, candidates.categories[pairs], candidates.num_categories)
        has_label = best >= 0
        best_scores = np.where(has_label, np.take_along_axis(scores, np.maximum(best, 0), 1), 0.0)
        yield first + int(unit), (np.where(has_label, label_ids[best], 0), best_scores)


def _by_category(seen: Bools, candidates: CandidateConcepts) -> Ints:
    category_of = np.full(len(seen), -1)
    category_of[candidates.label_ids] = candidates.categories
    counts = [seen[category_of == category].sum(axis=0) for category in range(candidates.num_categories)]
    return np.array([*counts, seen.sum(axis=0)], np.int64).reshape(candidates.num_categories + 1, -1)


def interval_of_counts(
    value: npt.ArrayLike, replicates: npt.ArrayLike, least: npt.ArrayLike, most: npt.ArrayLike
) -> tuple[Floats, Floats]:
    """Return the 95 % interval of counts, or of differences of counts, rounded outward, from their replicates.

    Parameters
    ----------
    value
        The counts in the data, (n,).
    replicates
        (n, R).
    least, most
        Bounds of a count, or of a difference, (n,) or one number for all: the interval is clipped to them.

    Returns
    -------
    low, high
        float64 (n,), whole numbers.

    Notes
    -----
    Most IoUs are below the limit, so noise lifts more of them over it than it pushes below. A count is therefore too
    large in a sample, and larger still in a resample: percentiles of replicates would mostly miss the true count. The
    bias of the resample estimates that of the sample, ``bias = mean(replicates) - value`` (Efron and Tibshirani 1993,
    section 10.3). The correction adds noise: on real images the corrected count varies 1.5 to 1.8 times as much as
    replicates do. The interval is ``value - bias +- 1.96 sqrt(2 variance + bias**2)``; it also contains `value`.
    """
    drawn, counts = np.asarray(replicates, np.float64), np.asarray(value, np.float64)
    bias = drawn.mean(axis=1) - counts
    reach = scipy.special.ndtri((1 + CONFIDENCE_LEVEL) / 2) * np.sqrt(2 * drawn.var(axis=1) + bias**2)
    low, high = np.floor(counts - bias - reach), np.ceil(counts - bias + reach)
    return np.clip(low, least, most), np.clip(high, least, most)


def percentile_interval(replicates: Floats) -> tuple[float, float]:
    """Return the 95 % percentile interval of a number from its replicates, float64 (R,)."""
    tail = (1 - CONFIDENCE_LEVEL) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def stability(labels: Ints, replicates: Labels) -> Floats:
    """Return the share of replicates (U, R) in which each unit keeps its label (U,); NaN where it has none."""
    kept = (replicates == labels[:, None]).mean(axis=1)
    return np.where(labels > 0, kept, np.nan)
