"""Replicates, intervals and halves against plain NumPy and scipy."""

import functools
import itertools
import operator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from netdissect.config import RULES
from netdissect.scoring import ImageIntersections, ImageLabelCounts, UnitLabels, count_detectors
from netdissect.scoring.statistics.bootstrap import (
    CandidateConcepts,
    Replicates,
    ThresholdShift,
    UnitReplicates,
    count_replicates,
    counted_masks,
    interval_of_counts,
    poisson_weights,
    stability,
)
from netdissect.scoring.statistics.holdout import CountSubset, best_label_ids, is_held_out
from netdissect.scoring.statistics.jackknife import InfluenceMoments, iou_interval

Ints = npt.NDArray[np.int64]
CATEGORY_OF = np.array([-1, 0, 0, 1, 1, 1])
CATEGORIES = 2


class Images:
    """Dense counts of images: intersection (N, U, C), mask pixels (N, U), concept pixels (N, C)."""

    def __init__(self, seed: int, images: int = 12, units: int = 3) -> None:
        rng = np.random.default_rng(seed)
        self.concept_pixels = rng.integers(1, 40, (images, 6)) * (rng.random((images, 6)) < 0.5)
        self.concept_pixels[:, 0] = 0
        bare = (
            np.random.default_rng((seed, 1)).random(4) < 0.5
        )  # some images have no label, the first and the last among them
        self.concept_pixels[np.array([0, 4, 5, images - 1])[bare]] = 0
        self.mask_pixels = rng.integers(1, 60, (images, units)) * (rng.random((images, units)) < 0.6)
        part = rng.random((images, units, 6)) * rng.integers(0, 2, (images, units, 6))
        self.intersection = (np.minimum(self.mask_pixels[:, :, None], self.concept_pixels[:, None, :]) * part).astype(
            np.int64
        )
        self.annotated = np.stack(
            [self.concept_pixels[:, k == CATEGORY_OF].any(axis=1) for k in range(CATEGORIES)], axis=1
        )

    def sparse(self, rows: list[int] | None = None) -> tuple[ImageLabelCounts, ImageIntersections]:
        """The same counts, as the counting pass writes them."""
        chosen = range(len(self.concept_pixels)) if rows is None else rows
        label_ids = np.arange(6)
        masks = ImageIntersections.join(
            [ImageIntersections.of(row, 0, self.mask_pixels[row], self.intersection[row], label_ids) for row in chosen]
        )
        at = np.array(
            [(row, label_id) for row in chosen for label_id in np.flatnonzero(self.concept_pixels[row])], np.int64
        )
        at = at.reshape(-1, 2)
        return ImageLabelCounts(np.array(chosen), at[:, 0], at[:, 1], self.concept_pixels[at[:, 0], at[:, 1]]), masks

    def counted(
        self, rows: list[int] | None = None
    ) -> tuple[ImageLabelCounts, ImageIntersections, npt.NDArray[np.bool_]]:
        """And in which categories each mask counts."""
        labels, masks = self.sparse(rows)
        return labels, masks, counted_masks(labels, masks, CATEGORY_OF, CATEGORIES, "annotated")

    def iou(self, weights: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """IoU by label id under weights (N,), by the definition."""
        weights = np.asarray(weights, np.int64)
        intersection = np.einsum("n,nuc->uc", weights, self.intersection)
        activation = np.einsum("n,nu,nk->uk", weights, self.mask_pixels, self.annotated.astype(np.int64))
        union = activation[:, np.maximum(CATEGORY_OF, 0)] + weights @ self.concept_pixels - intersection
        scores = np.divide(intersection, union, out=np.zeros(union.shape), where=union > 0)
        scores[:, 0] = 0
        return scores

    def shift(self, seed: int | None = None) -> ThresholdShift:
        """The shift of fixed thresholds (None), or a random shift."""
        pairs = len(self.candidates.units)
        lost = np.zeros((2, pairs)) if seed is None else np.random.default_rng(seed).random((2, pairs))
        return ThresholdShift(lost[0], lost[0] + lost[1], self.mask_pixels.sum(axis=0), len(self.mask_pixels))

    @property
    def candidates(self) -> CandidateConcepts:
        """All concepts that intersect, since there are fewer than ten."""
        return CandidateConcepts.of(self.iou(np.ones(len(self.concept_pixels))), CATEGORY_OF, CATEGORIES)


def labels_of(scores: npt.NDArray[np.float64]) -> UnitLabels:
    """The best concept of each unit in each category, by plain loops."""
    names, best = np.full((len(scores), CATEGORIES), "", object), np.zeros((len(scores), CATEGORIES))
    for unit, row in enumerate(scores):
        for label_id in range(1, 6):
            if row[label_id] > best[unit, CATEGORY_OF[label_id]]:
                names[unit, CATEGORY_OF[label_id]] = str(label_id)
                best[unit, CATEGORY_OF[label_id]] = row[label_id]
    return UnitLabels(("a", "b"), names, best)


def test_weights_are_poisson_and_depend_on_the_seed_the_image_and_the_replicate_alone() -> None:
    weights = poisson_weights(3, np.arange(400), 501)
    np.testing.assert_array_equal(poisson_weights(3, [7, 250], 200), weights[[7, 250], :200])
    assert (poisson_weights(4, np.arange(400), 501) != weights).mean() > 0.5
    found = np.bincount(weights.ravel(), minlength=8)
    expected = stats.poisson(1).pmf(np.arange(len(found))) * weights.size
    some = expected > 5
    assert stats.chisquare(np.append(found[some], found[~some].sum()),
                           np.append(expected[some], weights.size - expected[some].sum())).pvalue > 1e-3  # fmt: skip
    # Neighboring images, and neighboring replicates, are independent.
    assert abs(np.corrcoef(weights[:-1].ravel(), weights[1:].ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(weights[:, :-1].ravel(), weights[:, 1:].ravel())[0, 1]) < 0.01


@given(st.integers(0, 2**32 - 1), st.sampled_from(["annotated", "none", "overlap"]))
def test_masks_count_where_the_protocol_says(seed: int, restriction: str) -> None:
    images = Images(seed)
    labels, masks = images.sparse()
    found = counted_masks(labels, masks, CATEGORY_OF, CATEGORIES, restriction)
    for index, (row, unit) in enumerate(zip(masks.image_index, masks.units, strict=True)):
        below = images.intersection[row, unit] > 0
        expected = {
            "none": [True, True],
            "annotated": images.annotated[row].tolist(),
            "overlap": [bool(below[category == CATEGORY_OF].any()) for category in range(CATEGORIES)],
        }[restriction]
        assert found[index].tolist() == expected


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.5), st.integers(1, 4))
def test_replicates_are_the_ious_counts_and_labels_of_weighted_images(seed: int, min_iou: float, step: int) -> None:
    images, replicates = Images(seed), 5
    candidates = images.candidates
    sums = Replicates.zeros(candidates, replicates)
    sums.update(*images.counted(), candidates, seed=seed)
    weights = poisson_weights(seed, np.arange(len(images.concept_pixels)), replicates)
    units = candidates.num_units
    blocks = [
        UnitReplicates.zeros((first, min(first + step, units)), candidates, images.shift(), replicates)
        for first in range(0, units, step)
    ]
    for block in blocks:
        block.update(*images.counted(), seed)
    counted = count_replicates(blocks, candidates, replicates, min_iou)
    for replicate in range(replicates):
        scores = images.iou(weights[:, replicate])
        for unit in np.unique(candidates.units):
            label_ids = candidates.label_ids[candidates.pairs(unit, unit + 1)]
            np.testing.assert_array_equal(
                sums.iou(candidates, images.shift(), unit)[:, replicate], scores[unit, label_ids]
            )
        led, pairs = np.zeros_like(scores), (candidates.units, candidates.label_ids)
        led[pairs] = scores[pairs]
        labels = labels_of(led)
        for rule in RULES:
            count = count_detectors(labels, rule, min_iou)
            for index, category in enumerate(("a", "b", "total")):
                assert counted.detectors[rule][index, replicate] == count.detectors[category]
                assert counted.unique_detectors[rule][index, replicate] == count.unique_detectors[category]
        chosen = [int(labels.names[unit, top]) if top >= 0 else 0 for unit, top in enumerate(labels.top)]
        assert counted.labels[:, replicate].tolist() == chosen
        assert best_label_ids(led, CATEGORY_OF, CATEGORIES).tolist() == chosen


@given(st.integers(0, 2**32 - 1), st.sets(st.integers(1, 11)))
def test_any_split_of_the_images_adds_up_to_the_replicates_of_the_whole(seed: int, cuts: set[int]) -> None:
    images = Images(seed)
    candidates = images.candidates
    edges = [0, *sorted(cuts), len(images.concept_pixels)]
    parts = []
    for start, stop in itertools.pairwise(edges):
        part = Replicates.zeros(candidates, 9)
        part.update(*images.counted(list(range(start, stop))), candidates, seed=1)
        parts.append(part)
    whole = Replicates.zeros(candidates, 9)
    whole.update(*images.counted(), candidates, seed=1)
    merged = functools.reduce(operator.add, parts)
    for name, array in vars(whole).items():
        np.testing.assert_array_equal(getattr(merged, name), array)


@given(st.integers(0, 2**32 - 1))
def test_masks_of_a_replicate_shrink_by_the_threshold_shift_of_each_excess_pixel(seed: int) -> None:
    images, replicates = Images(seed), 5
    candidates, shift = images.candidates, images.shift(seed)
    sums = Replicates.zeros(candidates, replicates)
    sums.update(*images.counted(), candidates, seed=seed)
    weights = poisson_weights(seed, np.arange(len(images.concept_pixels)), replicates).T.astype(np.int64)
    for unit in np.unique(candidates.units):
        found, excess = (
            sums.iou(candidates, shift, unit),
            weights @ (images.mask_pixels[:, unit] - images.mask_pixels[:, unit].mean()),
        )
        for row, pair in enumerate(range(len(candidates.units))[candidates.pairs(unit, unit + 1)]):
            label_id = candidates.label_ids[pair]
            masks = weights @ (images.mask_pixels[:, unit] * images.annotated[:, CATEGORY_OF[label_id]])
            concept_pixels = weights @ images.concept_pixels[:, label_id]
            hits = weights @ images.intersection[:, unit, label_id] - shift.intersection[pair] * excess
            hits = np.minimum(np.maximum(hits, 0), concept_pixels)
            union = np.maximum(masks - shift.activation[pair] * excess, np.minimum(hits, masks)) + concept_pixels - hits
            expected = np.divide(hits, union, out=np.zeros(replicates), where=union > 0)
            np.testing.assert_allclose(found[row], expected, rtol=1e-9, atol=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_intervals_are_those_of_the_images_influences_one_by_one(seed: int) -> None:
    images = Images(seed)
    candidates, scores, shift = images.candidates, images.iou(np.ones(12)), images.shift(seed)
    moments, pairs = InfluenceMoments.zeros(candidates), scores[candidates.units, candidates.label_ids]
    moments.update(*images.counted([0, 1, 2, 3, 4]), candidates, pairs, shift)
    moments.update(*images.counted([5, 6, 7, 8, 9, 10, 11]), candidates, pairs, shift)
    unions = np.zeros(len(pairs))
    for pair, (unit, label_id) in enumerate(zip(candidates.units, candidates.label_ids, strict=True)):
        hits = images.intersection[:, unit, label_id]
        activation = images.mask_pixels[:, unit] * images.annotated[:, CATEGORY_OF[label_id]]
        union = activation + images.concept_pixels[:, label_id] - hits
        unions[pair] = union.sum()
        lost = shift.intersection[pair] - pairs[pair] * (shift.activation[pair] - shift.intersection[pair])
        moved = hits - pairs[pair] * union - lost * (images.mask_pixels[:, unit] - images.mask_pixels[:, unit].mean())
        assert moments.second[pair] == pytest.approx((moved**2).sum(), rel=1e-9, abs=1e-6)
        assert moments.fourth[pair] == pytest.approx((moved**4).sum(), rel=1e-9, abs=1e-3)
    low, high = iou_interval(pairs, unions, moments)
    assert (low <= pairs).all()
    assert (pairs <= high).all()
    assert ((low >= 0) & (high <= 1)).all()


def test_an_interval_is_that_of_scipy_s_bootstrap_where_images_are_many() -> None:
    images = Images(5, images=600, units=1)
    candidates, scores = images.candidates, images.iou(np.ones(600))
    pairs = scores[candidates.units, candidates.label_ids]
    moments = InfluenceMoments.zeros(candidates)
    moments.update(*images.counted(), candidates, pairs, images.shift())
    sums = Replicates.zeros(candidates, 4000)
    sums.update(*images.counted(), candidates, seed=0)
    for pair, label_id in enumerate(candidates.label_ids):
        hits = images.intersection[:, 0, label_id]
        union = (
            images.mask_pixels[:, 0] * images.annotated[:, CATEGORY_OF[label_id]]
            + images.concept_pixels[:, label_id]
            - hits
        )

        def ratio(part: Ints, whole: Ints, axis: int = -1) -> npt.NDArray[np.float64]:
            return np.asarray(part.sum(axis=axis) / whole.sum(axis=axis))

        known = stats.bootstrap(
            (hits, union), ratio, paired=True, n_resamples=4000, method="BCa", rng=np.random.default_rng(label_id)
        )
        low, high = iou_interval(pairs, [union.sum()] * len(pairs), moments)
        wide = known.confidence_interval.high - known.confidence_interval.low
        assert low[pair] == pytest.approx(known.confidence_interval.low, abs=0.08 * wide)
        assert high[pair] == pytest.approx(known.confidence_interval.high, abs=0.08 * wide)
        drawn = sums.iou(candidates, images.shift(), 0)[pair]
        assert drawn.std() == pytest.approx(known.standard_error, rel=0.06)
        plain = np.quantile(known.bootstrap_distribution, [0.025, 0.975])
        np.testing.assert_allclose(np.quantile(drawn, [0.025, 0.975]), plain, atol=0.05 * wide)


def test_an_iou_of_nothing_or_of_everything_has_no_width() -> None:
    moments = InfluenceMoments(np.zeros(2), np.zeros(2), np.array([9]))
    low, high = iou_interval(np.array([0.0, 1.0]), [10, 10], moments)
    assert low.tolist() == high.tolist() == [0.0, 1.0]


def test_an_interval_of_unknown_variance_is_from_zero_to_one() -> None:
    moments = InfluenceMoments(np.array([1e12]), np.array([1e24]), np.array([2]))
    low, high = iou_interval(np.array([0.3]), [1], moments)
    assert 0 <= low[0] < 1e-300
    assert high[0] == 1


def test_the_bias_of_counts_is_corrected_by_that_of_their_replicates() -> None:
    drawn = np.array([[12.0, 12.0, 14.0, 14.0], [5.0, 5.0, 5.0, 5.0]])
    low, high = interval_of_counts([10, 5], drawn, 0, 20)
    reach = 1.959964 * np.sqrt(2 * 1 + 3**2)
    assert (low[0], high[0]) == (np.floor(7 - reach), np.ceil(7 + reach))
    assert (low[1], high[1]) == (5, 5)


def test_an_interval_of_counts_ends_where_counts_do() -> None:
    drawn = np.array([[12.0, 12.0, 14.0, 14.0], [0.0, 9.0, 0.0, 9.0]])
    assert [ends.tolist() for ends in interval_of_counts([10, 5], drawn, [3, 0], [11, 10])] == [[3, 0], [11, 10]]
    assert [ends.tolist() for ends in interval_of_counts([-1, 0], drawn - 10, -4, 3)] == [[-4, -4], [3, 3]]


def test_stability_is_the_share_of_replicates_that_keep_the_label() -> None:
    kept = stability(np.array([3, 0, 2]), np.array([[3, 3, 1, 0], [0, 0, 0, 0], [2, 2, 2, 2]]))
    np.testing.assert_array_equal(kept, [0.5, np.nan, 1.0])


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.2, 0.5, 0.8]))
def test_two_halves_are_counted_apart_and_add_up_to_the_whole(seed: int, share: float) -> None:
    images, rows = Images(seed), np.arange(12)
    out = is_held_out(seed, rows, share)
    assert is_held_out(seed, rows[5:], share).tolist() == out[5:].tolist()
    halves = []
    for chosen in (out, ~out):
        half = CountSubset.zeros(3, 6, CATEGORIES)
        for part in (list(range(7)), list(range(7, 12))):
            labels, masks, counted = images.counted(part)
            half.update(labels, masks, counted, rows[chosen])
        np.testing.assert_allclose(half.iou(CATEGORY_OF), images.iou(chosen))
        halves.append(half)
    whole = halves[0] + halves[1]
    np.testing.assert_allclose(whole.iou(CATEGORY_OF), images.iou(np.ones(12)))
    np.testing.assert_allclose((whole - halves[0]).iou(CATEGORY_OF), images.iou(~out))


def test_halves_have_the_given_share_of_images_and_are_independent_of_the_weights() -> None:
    out = is_held_out(0, np.arange(4000), 0.3)
    assert out.mean() == pytest.approx(0.3, abs=0.03)
    weights = poisson_weights(0, np.arange(4000), 3)
    assert abs(np.corrcoef(out, weights[:, 0])[0, 1]) < 0.06
