"""Bootstrap over images: how the labels and the number of detectors would vary with other images.

Every image gets a Poisson weight in each replicate, which depends on nothing but the seed and the image's row. Sums
over images therefore add up over shards, and two runs on the same images share their replicates: they are paired.

    blocks of Presence and Overlaps, poisson_weights -> Replicates -> count_replicates -> interval_of_counts

Labels are chosen anew in each replicate, among the leading concepts of a unit: its best in each category and its ten
best overall. Thresholds move with the replicate's images, too, to first order: see `ThresholdShift`.

Sources: Efron and Tibshirani 1993 :cite:p:`efron1993bootstrap`; Poisson weights: Hanley and MacGibbon 2006
:cite:p:`hanley2006bootstrap`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

from netdissect.config import RULES, Rule
from netdissect.jit import compiled
from netdissect.scoring.detectors import passes
from netdissect.scoring.iou import Floats, best_concepts, iou, leading_concepts, top_category
from netdissect.scoring.per_image_counts import ImageIntersections, ImageLabelCounts

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Weights = npt.NDArray[np.uint8]

LEVEL = 0.95
WORD = 2.0**32
# Upper ends of Poisson(1) in units of 2**-32: P(k <= 0), P(k <= 1), ...; beyond 12 lies less than one of them.
POISSON = np.floor(WORD * np.exp(-1.0) * np.cumsum(1.0 / np.cumprod([1.0, *range(1, 12)]))).astype(np.uint32)


def poisson_weights(seed: int, rows: npt.ArrayLike, replicates: int) -> Weights:
    """Draw how often each image counts in each replicate.

    Parameters
    ----------
    seed
        Of the bootstrap.
    rows
        Images, int (n,).
    replicates
        R.

    Returns
    -------
    uint8 (n, R)
        Poisson of mean 1, the same for an image whatever the others are, and for a replicate however many there are.
    """
    words = (replicates + 1) // 2
    drawn = [np.random.Philox(key=np.array([seed, row], np.uint64)).random_raw(words) for row in np.asarray(rows)]
    uniform = np.array(drawn, np.uint64).reshape(-1, words).view(np.uint32)[:, :replicates]
    return np.searchsorted(POISSON, uniform, side="right").astype(np.uint8)


@dataclass(frozen=True)
class CandidateConcepts:
    """The concepts among which each unit's label is chosen anew: P pairs, by unit, then by label number.

    Attributes
    ----------
    units, label_ids, categories
        int64 (P,).
    pair_index
        int64 (U, C): index of a pair, -1 where the concept does not lead.
    num_categories
        How many categories there are.
    """

    units: Ints
    label_ids: Ints
    categories: Ints
    pair_index: Ints
    num_categories: int

    @classmethod
    def of(cls, scores: Floats, category_of: Ints, categories: int) -> "CandidateConcepts":
        """Take each unit's best concept in each category, and its ten best; scores by label number, (U, C)."""
        numbers = np.flatnonzero(category_of >= 0)
        best = best_concepts(scores[:, numbers], category_of[numbers], categories)
        chosen = np.zeros(scores.shape, np.bool_)
        unit, category = (best >= 0).nonzero()
        chosen[unit, numbers[best[unit, category]]] = True
        chosen[np.arange(len(scores))[:, None], leading_concepts(scores)] = True
        chosen &= scores > 0
        of_unit, number = chosen.nonzero()
        pair_of = np.full(scores.shape, -1)
        pair_of[of_unit, number] = np.arange(len(number))
        return cls(of_unit, number, category_of[number], pair_of, categories)

    def pairs(self, unit: int) -> slice:
        """Return the pairs of a unit."""
        start, stop = np.searchsorted(self.units, [unit, unit + 1])
        return slice(int(start), int(stop))


@dataclass(frozen=True)
class ThresholdShift:
    """What a rising threshold takes from the masks, for each pixel that is to go; all of it at one quantile.

    Attributes
    ----------
    intersection, activation
        float64 (P,): pixels of each pair of `CandidateConcepts`, the activation being that of its category.
    mask_pixels
        int64 (U,): pixels on which each unit is on, in all images.
    images
        How many these are.

    Notes
    -----
    A threshold leaves the same share of all activations above it, so a sample in which a unit is active more than on
    average has a higher one. How much a pixel in excess costs is read off what lies between a smaller and a larger
    quantile nearby: a central difference in place of the derivative.
    """

    intersection: Floats
    activation: Floats
    mask_pixels: Ints
    images: int

    @classmethod
    def between(
        cls, gone: tuple[Ints, Ints], on: Ints, images: int, leading: CandidateConcepts, share: float
    ) -> "ThresholdShift":
        """Make the margin of pixels that lie between two quantiles.

        Parameters
        ----------
        gone
            int64 (P,) each: pixels of intersection and activation that only the larger quantile has.
        on, images
            See `ThresholdShift`.
        leading
            The pairs.
        share
            How far the two lie apart, as a share of the quantile between them.
        """
        fewer = np.maximum(share * on[leading.units], 1)
        return cls(gone[0] / fewer, gone[1] / fewer, on, images)


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
        int64 (U, R): pixels on, in whatever image.
    images
        int64 (R,).
    """

    intersection: Ints
    activation: Ints
    concept_pixels: Ints
    mask_pixels: Ints
    images: Ints

    @classmethod
    def zeros(cls, leading: CandidateConcepts, replicates: int) -> "Replicates":
        """Return the replicates of no images."""
        units, numbers = leading.pair_index.shape
        shapes = ((len(leading.units),), (units, leading.num_categories), (numbers,), (units,), ())
        return cls(*(np.zeros((*shape, replicates), np.int64) for shape in shapes))

    def __add__(self, other: "Replicates") -> "Replicates":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Replicates(*(mine + theirs for mine, theirs in pairs))

    def update(
        self,
        presence: ImageLabelCounts,
        masks: ImageIntersections,
        counted: Bools,
        leading: CandidateConcepts,
        seed: int,
    ) -> None:
        """Add some images.

        Parameters
        ----------
        presence, masks
            Their labels and their masks at one quantile; see `netdissect.scoring.per_image_counts.check_counts`.
        counted
            bool (M, K): whether a mask counts in each category; see `counted_masks`.
        leading
            The pairs.
        seed
            Of the weights.
        """
        weights = poisson_weights(seed, presence.images, self.concept_pixels.shape[1])
        places, here = (np.searchsorted(presence.images, rows) for rows in (masks.image_index, presence.image_index))
        self.images[:] += weights.sum(axis=0, dtype=np.int64)
        _add(presence.label_ids, here, presence.pixels, weights, self.concept_pixels)
        _add(masks.units, places, masks.mask_pixels, weights, self.mask_pixels)
        mask, category = counted.nonzero()
        cells = masks.units[mask] * leading.num_categories + category
        activation = self.activation.reshape(-1, self.activation.shape[2])
        _add(cells, places[mask], masks.mask_pixels[mask], weights, activation)
        of = masks.mask_index
        pairs = leading.pair_index[masks.units[of], masks.label_ids]
        led = pairs >= 0
        _add(pairs[led], places[of[led]], masks.intersections[led], weights, self.intersection)

    def iou(self, leading: CandidateConcepts, margin: ThresholdShift, unit: int) -> Floats:
        """Return the IoU of a unit's leading concepts, float64 (pairs, R)."""
        pairs = leading.pairs(unit)
        truth = self.concept_pixels[leading.label_ids[pairs]]
        excess = self.mask_pixels[unit] - margin.mask_pixels[unit] / margin.images * self.images
        masks = self.activation[unit, leading.categories[pairs]]
        intersection = np.clip(self.intersection[pairs] - margin.intersection[pairs, None] * excess, 0, truth)
        # However large the excess, pixels on the concept are the last to go.
        least = np.minimum(intersection, masks)
        return iou(intersection, np.maximum(masks - margin.activation[pairs, None] * excess, least), truth)


def counted_masks(
    presence: ImageLabelCounts, masks: ImageIntersections, category_of: Ints, categories: int, restriction: str
) -> Bools:
    """Say in which categories each mask counts, bool (M, K); see `netdissect.config.Protocol`."""
    if restriction == "none":
        return np.ones((len(masks.image_index), categories), np.bool_)
    counted: Bools = np.zeros((len(masks.image_index), categories), np.bool_)
    if restriction == "overlap":
        counted[masks.mask_index, category_of[masks.label_ids]] = True
        return counted
    annotated = np.zeros((len(presence.images), categories), np.bool_)
    annotated[np.searchsorted(presence.images, presence.image_index), category_of[presence.label_ids]] = True
    counted[:] = annotated[np.searchsorted(presence.images, masks.image_index)]
    return counted


def _add(targets: Ints, rows: Ints, values: Ints, weights: Weights, sums: Ints) -> None:
    # In order of the target, its row of sums stays in the fastest memory.
    order = np.argsort(targets, kind="stable")
    _add_weighted(targets[order], rows[order], values[order], weights, sums)


@compiled
def _add_weighted(targets: Ints, rows: Ints, values: Ints, weights: Weights, sums: Ints) -> None:
    for entry in range(len(targets)):
        value, drawn, into = values[entry], weights[rows[entry]], sums[targets[entry]]
        for replicate in range(len(drawn)):
            into[replicate] += value * drawn[replicate]


class CountReplicates(NamedTuple):
    """Detectors and labels in each replicate.

    Attributes
    ----------
    detectors, unique
        int64 (K + 1, R) by rule: by category, then in all.
    labels
        int64 (U, R): label number of each unit; 0 where it has none.
    """

    detectors: dict[Rule, Ints]
    unique_detectors: dict[Rule, Ints]
    labels: Ints


def count_replicates(
    sums: Replicates, leading: CandidateConcepts, margin: ThresholdShift, min_iou: float
) -> CountReplicates:
    """Choose labels and count detectors in each replicate, as `netdissect.scoring.count_detectors` does in the data."""
    units, numbers = leading.pair_index.shape
    count, replicates = leading.num_categories, sums.concept_pixels.shape[1]
    labels = np.zeros((units, replicates), np.int64)
    detectors = {rule: np.zeros((count + 1, replicates), np.int64) for rule in RULES}
    seen = {rule: np.zeros((numbers, replicates), np.bool_) for rule in RULES}
    each = np.arange(replicates)
    for unit, (best, scores) in _best(sums, leading, margin):
        top = top_category(scores)
        labels[unit] = np.where(top >= 0, best[each, top], 0)
        for rule in RULES:
            passing = passes(scores, rule, min_iou)
            if rule == "top-label":
                passing &= top[:, None] == np.arange(count)
            replicate, category = passing.nonzero()
            np.add.at(detectors[rule], (category, replicate), 1)
            detectors[rule][count] += passing.any(axis=1)
            seen[rule][best[replicate, category], replicate] = True
    return CountReplicates(detectors, {rule: _by_category(seen[rule], leading) for rule in RULES}, labels)


def _best(
    sums: Replicates, leading: CandidateConcepts, margin: ThresholdShift
) -> Iterator[tuple[int, tuple[Ints, Floats]]]:
    """Yield each unit's best concept and its IoU in each replicate and category, (R, K)."""
    for unit in np.unique(leading.units):
        pairs = leading.pairs(unit)
        scores, numbers = sums.iou(leading, margin, unit).T, leading.label_ids[pairs]
        best = best_concepts(scores, leading.categories[pairs], leading.num_categories)
        found = best >= 0
        reached = np.where(found, np.take_along_axis(scores, np.maximum(best, 0), 1), 0.0)
        yield int(unit), (np.where(found, numbers[best], 0), reached)


def _by_category(seen: Bools, leading: CandidateConcepts) -> Ints:
    category_of = np.full(len(seen), -1)
    category_of[leading.label_ids] = leading.categories
    rows = [seen[category_of == category].sum(axis=0) for category in range(leading.num_categories)]
    return np.array([*rows, seen.sum(axis=0)], np.int64).reshape(leading.num_categories + 1, -1)


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
        What a count, or a difference, cannot go below and above, (n,) or one number for all: the interval ends there.

    Returns
    -------
    low, high
        float64 (n,), whole numbers.

    Notes
    -----
    Noise lifts IoUs over a threshold more often than it pushes them below, since most lie below. A count is
    therefore too large in a sample, and larger still in samples of the sample: percentiles of replicates would mostly
    not hold the truth. The second step measures the first, ``bias = mean(replicates) - value`` (Efron and Tibshirani
    1993, section 10.3). Setting it right adds noise of its own: on real images the corrected count varies 1.5 to 1.8
    times as much as replicates do. The interval is ``value - bias +- 1.96 sqrt(2 variance + bias**2)``; it holds
    `value`, too.
    """
    drawn, counts = np.asarray(replicates, np.float64), np.asarray(value, np.float64)
    bias = drawn.mean(axis=1) - counts
    reach = scipy.special.ndtri((1 + LEVEL) / 2) * np.sqrt(2 * drawn.var(axis=1) + bias**2)
    low, high = np.floor(counts - bias - reach), np.ceil(counts - bias + reach)
    return np.clip(low, least, most), np.clip(high, least, most)


def stability(labels: Ints, replicates: Ints) -> Floats:
    """Return the share of replicates (U, R) in which each unit keeps its label (U,); NaN where it has none."""
    kept = (replicates == labels[:, None]).mean(axis=1)
    return np.where(labels > 0, kept, np.nan)
