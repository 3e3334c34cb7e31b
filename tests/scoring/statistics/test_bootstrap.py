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
    """Counts of images, dense: intersection (N, U, C), pixels on (N, U), truth (N, C)."""

    def __init__(self, seed: int, images: int = 12, units: int = 3) -> None:
        rng = np.random.default_rng(seed)
        self.truth = rng.integers(1, 40, (images, 6)) * (rng.random((images, 6)) < 0.5)
        self.truth[:, 0] = 0
        bare = (
            np.random.default_rng((seed, 1)).random(4) < 0.5
        )  # some images bear no label: the first and the last, too
        self.truth[np.array([0, 4, 5, images - 1])[bare]] = 0
        self.on = rng.integers(1, 60, (images, units)) * (rng.random((images, units)) < 0.6)
        part = rng.random((images, units, 6)) * rng.integers(0, 2, (images, units, 6))
        self.intersection = (np.minimum(self.on[:, :, None], self.truth[:, None, :]) * part).astype(np.int64)
        self.annotated = np.stack([self.truth[:, k == CATEGORY_OF].any(axis=1) for k in range(CATEGORIES)], axis=1)

    def sparse(self, rows: list[int] | None = None) -> tuple[ImageLabelCounts, ImageIntersections]:
        """The same, as the second look writes them."""
        chosen = range(len(self.truth)) if rows is None else rows
        numbers = np.arange(6)
        masks = ImageIntersections.join(
            [ImageIntersections.of(row, 0, self.on[row], self.intersection[row], numbers) for row in chosen]
        )
        at = np.array([(row, number) for row in chosen for number in np.flatnonzero(self.truth[row])], np.int64)
        at = at.reshape(-1, 2)
        return ImageLabelCounts(np.array(chosen), at[:, 0], at[:, 1], self.truth[at[:, 0], at[:, 1]]), masks

    def counted(
        self, rows: list[int] | None = None
    ) -> tuple[ImageLabelCounts, ImageIntersections, npt.NDArray[np.bool_]]:
        """And in which categories each mask counts."""
        presence, masks = self.sparse(rows)
        return presence, masks, counted_masks(presence, masks, CATEGORY_OF, CATEGORIES, "annotated")

    def iou(self, weights: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """IoU by label number under weights (N,), by the definition."""
        weights = np.asarray(weights, np.int64)
        intersection = np.einsum("n,nuc->uc", weights, self.intersection)
        activation = np.einsum("n,nu,nk->uk", weights, self.on, self.annotated.astype(np.int64))
        union = activation[:, np.maximum(CATEGORY_OF, 0)] + weights @ self.truth - intersection
        scores = np.divide(intersection, union, out=np.zeros(union.shape), where=union > 0)
        scores[:, 0] = 0
        return scores

    def margin(self, seed: int | None = None) -> ThresholdShift:
        """Of thresholds that stay (None), or of any that move."""
        pairs = len(self.leading.units)
        lost = np.zeros((2, pairs)) if seed is None else np.random.default_rng(seed).random((2, pairs))
        return ThresholdShift(lost[0], lost[0] + lost[1], self.on.sum(axis=0), len(self.on))

    @property
    def leading(self) -> CandidateConcepts:
        """With so few concepts, all that intersect."""
        return CandidateConcepts.of(self.iou(np.ones(len(self.truth))), CATEGORY_OF, CATEGORIES)


def labels_of(scores: npt.NDArray[np.float64]) -> UnitLabels:
    """The best concept of each unit in each category, by plain loops."""
    names, best = np.full((len(scores), CATEGORIES), "", object), np.zeros((len(scores), CATEGORIES))
    for unit, row in enumerate(scores):
        for number in range(1, 6):
            if row[number] > best[unit, CATEGORY_OF[number]]:
                names[unit, CATEGORY_OF[number]] = str(number)
                best[unit, CATEGORY_OF[number]] = row[number]
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
    # Neither neighboring images nor neighboring replicates know of one another.
    assert abs(np.corrcoef(weights[:-1].ravel(), weights[1:].ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(weights[:, :-1].ravel(), weights[:, 1:].ravel())[0, 1]) < 0.01


@given(st.integers(0, 2**32 - 1), st.sampled_from(["annotated", "none", "overlap"]))
def test_masks_count_where_the_protocol_says(seed: int, restriction: str) -> None:
    images = Images(seed)
    presence, masks = images.sparse()
    found = counted_masks(presence, masks, CATEGORY_OF, CATEGORIES, restriction)
    for index, (row, unit) in enumerate(zip(masks.image_index, masks.units, strict=True)):
        below = images.intersection[row, unit] > 0
        expected = {
            "none": [True, True],
            "annotated": images.annotated[row].tolist(),
            "overlap": [bool(below[category == CATEGORY_OF].any()) for category in range(CATEGORIES)],
        }[restriction]
        assert found[index].tolist() == expected


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.5))
def test_replicates_are_the_ious_counts_and_labels_of_weighted_images(seed: int, min_iou: float) -> None:
    images, replicates = Images(seed), 5
    leading = images.leading
    sums = Replicates.zeros(leading, replicates)
    sums.update(*images.counted(), leading, seed=seed)
    weights = poisson_weights(seed, np.arange(len(images.truth)), replicates)
    counted = count_replicates(sums, leading, images.margin(), min_iou)
    for replicate in range(replicates):
        scores = images.iou(weights[:, replicate])
        for unit in np.unique(leading.units):
            numbers = leading.label_ids[leading.pairs(unit)]
            np.testing.assert_array_equal(sums.iou(leading, images.margin(), unit)[:, replicate], scores[unit, numbers])
        led = np.where(leading.pair_index >= 0, scores, 0)
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
    leading = images.leading
    edges = [0, *sorted(cuts), len(images.truth)]
    parts = []
    for start, stop in itertools.pairwise(edges):
        part = Replicates.zeros(leading, 9)
        part.update(*images.counted(list(range(start, stop))), leading, seed=1)
        parts.append(part)
    whole = Replicates.zeros(leading, 9)
    whole.update(*images.counted(), leading, seed=1)
    merged = functools.reduce(operator.add, parts)
    for name, array in vars(whole).items():
        np.testing.assert_array_equal(getattr(merged, name), array)


@given(st.integers(0, 2**32 - 1))
def test_masks_of_a_replicate_shrink_by_what_the_margin_takes_for_each_pixel_in_excess(seed: int) -> None:
    images, replicates = Images(seed), 5
    leading, margin = images.leading, images.margin(seed)
    sums = Replicates.zeros(leading, replicates)
    sums.update(*images.counted(), leading, seed=seed)
    weights = poisson_weights(seed, np.arange(len(images.truth)), replicates).T.astype(np.int64)
    for unit in np.unique(leading.units):
        found, excess = sums.iou(leading, margin, unit), weights @ (images.on[:, unit] - images.on[:, unit].mean())
        for row, pair in enumerate(range(len(leading.units))[leading.pairs(unit)]):
            number = leading.label_ids[pair]
            masks = weights @ (images.on[:, unit] * images.annotated[:, CATEGORY_OF[number]])
            truth = weights @ images.truth[:, number]
            hits = weights @ images.intersection[:, unit, number] - margin.intersection[pair] * excess
            hits = np.minimum(np.maximum(hits, 0), truth)
            union = np.maximum(masks - margin.activation[pair] * excess, np.minimum(hits, masks)) + truth - hits
            expected = np.divide(hits, union, out=np.zeros(replicates), where=union > 0)
            np.testing.assert_allclose(found[row], expected, rtol=1e-9, atol=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_intervals_are_those_of_the_images_influences_one_by_one(seed: int) -> None:
    images = Images(seed)
    leading, scores, margin = images.leading, images.iou(np.ones(12)), images.margin(seed)
    moments, pairs = InfluenceMoments.zeros(leading), scores[leading.units, leading.label_ids]
    moments.update(*images.counted([0, 1, 2, 3, 4]), leading, pairs, margin)
    moments.update(*images.counted([5, 6, 7, 8, 9, 10, 11]), leading, pairs, margin)
    unions = np.zeros(len(pairs))
    for pair, (unit, number) in enumerate(zip(leading.units, leading.label_ids, strict=True)):
        hits = images.intersection[:, unit, number]
        activation = images.on[:, unit] * images.annotated[:, CATEGORY_OF[number]]
        union = activation + images.truth[:, number] - hits
        unions[pair] = union.sum()
        lost = margin.intersection[pair] - pairs[pair] * (margin.activation[pair] - margin.intersection[pair])
        moved = hits - pairs[pair] * union - lost * (images.on[:, unit] - images.on[:, unit].mean())
        assert moments.second[pair] == pytest.approx((moved**2).sum(), rel=1e-9, abs=1e-6)
        assert moments.fourth[pair] == pytest.approx((moved**4).sum(), rel=1e-9, abs=1e-3)
    low, high = iou_interval(pairs, unions, moments)
    assert (low <= pairs).all()
    assert (pairs <= high).all()
    assert ((low >= 0) & (high <= 1)).all()


def test_an_interval_is_that_of_scipy_s_bootstrap_where_images_are_many() -> None:
    images = Images(5, images=600, units=1)
    leading, scores = images.leading, images.iou(np.ones(600))
    pairs = scores[leading.units, leading.label_ids]
    moments = InfluenceMoments.zeros(leading)
    moments.update(*images.counted(), leading, pairs, images.margin())
    sums = Replicates.zeros(leading, 4000)
    sums.update(*images.counted(), leading, seed=0)
    for pair, number in enumerate(leading.label_ids):
        hits = images.intersection[:, 0, number]
        union = images.on[:, 0] * images.annotated[:, CATEGORY_OF[number]] + images.truth[:, number] - hits

        def ratio(part: Ints, whole: Ints, axis: int = -1) -> npt.NDArray[np.float64]:
            return np.asarray(part.sum(axis=axis) / whole.sum(axis=axis))

        known = stats.bootstrap(
            (hits, union), ratio, paired=True, n_resamples=4000, method="BCa", rng=np.random.default_rng(number)
        )
        low, high = iou_interval(pairs, [union.sum()] * len(pairs), moments)
        wide = known.confidence_interval.high - known.confidence_interval.low
        assert low[pair] == pytest.approx(known.confidence_interval.low, abs=0.08 * wide)
        assert high[pair] == pytest.approx(known.confidence_interval.high, abs=0.08 * wide)
        drawn = sums.iou(leading, images.margin(), 0)[pair]
        assert drawn.std() == pytest.approx(known.standard_error, rel=0.06)
        plain = np.quantile(known.bootstrap_distribution, [0.025, 0.975])
        np.testing.assert_allclose(np.quantile(drawn, [0.025, 0.975]), plain, atol=0.05 * wide)


def test_an_iou_of_nothing_or_of_everything_has_no_width() -> None:
    moments = InfluenceMoments(np.zeros(2), np.zeros(2), np.array([9]))
    low, high = iou_interval(np.array([0.0, 1.0]), [10, 10], moments)
    assert low.tolist() == high.tolist() == [0.0, 1.0]


def test_an_interval_that_says_nothing_reaches_from_zero_to_one() -> None:
    moments = InfluenceMoments(np.array([1e12]), np.array([1e24]), np.array([2]))
    low, high = iou_interval(np.array([0.3]), [1], moments)
    assert 0 <= low[0] < 1e-300
    assert high[0] == 1


def test_counts_that_noise_lifts_are_set_right_by_what_replicates_add() -> None:
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
            presence, masks, counted = images.counted(part)
            half.update(presence, masks, counted, rows[chosen])
        np.testing.assert_allclose(half.iou(CATEGORY_OF), images.iou(chosen))
        halves.append(half)
    whole = halves[0] + halves[1]
    np.testing.assert_allclose(whole.iou(CATEGORY_OF), images.iou(np.ones(12)))
    np.testing.assert_allclose((whole - halves[0]).iou(CATEGORY_OF), images.iou(~out))


def test_halves_have_the_share_of_images_that_was_asked_for_and_do_not_follow_the_weights() -> None:
    out = is_held_out(0, np.arange(4000), 0.3)
    assert out.mean() == pytest.approx(0.3, abs=0.03)
    weights = poisson_weights(0, np.arange(4000), 3)
    assert abs(np.corrcoef(out, weights[:, 0])[0, 1]) < 0.06
