"""Words of planted units are found and established, those of noise are not, and each statistic is what it says."""

import numpy as np
import polars as pl
import pytest

from netdissect.errors import ConfigError, ShapeError
from netdissect.evaluation.open_vocabulary.similarity import FUNCTIONS, ImageSample, WordSpace, rank_images, word_scores
from netdissect.evaluation.open_vocabulary.word_statistics import WordTest, fit_p_values, word_labels
from netdissect.scoring.statistics.bootstrap import poisson_weights
from netdissect.scoring.statistics.holdout import is_held_out

N, W, D = 700, 12, 8
WORDS = tuple(f"word {index}" for index in range(W))
PLANTED, NOISE = 6, 30


def planted():
    """Return activations, of which the first follow a word each, then noise, then a constant; and embeddings."""
    rng = np.random.default_rng(0)
    images, words = rng.normal(size=(N, D)), rng.normal(size=(W, D))
    space = WordSpace(*(part / np.linalg.norm(part, axis=1, keepdims=True) for part in (images, words)))
    follows = space.cosines(slice(0, PLANTED)) + 0.05 * rng.normal(size=(N, PLANTED))
    return np.concatenate([follows, rng.normal(size=(N, NOISE)), np.zeros((N, 1))], axis=1), space


@pytest.fixture(scope="module")
def labeled():
    activations, space = planted()
    return {
        name: word_labels(activations, space, WORDS, WordTest(function, bootstrap=40, permutations=60))
        for name, function in FUNCTIONS.items()
    }


@pytest.mark.parametrize("name", ["soft-wpmi", "wpmi", "cos-cubed"])
def test_units_that_follow_a_word_have_it_with_high_stability_and_low_q(labeled, name):
    found = labeled[name].head(PLANTED)
    assert found["label"].to_list() == list(WORDS[:PLANTED])
    assert found["stability"].min() >= 0.9
    assert found["q_value"].max() < 0.01
    assert found["heldout_rank"].to_list() == [1] * PLANTED
    assert found["selection_label"].to_list() == list(WORDS[:PLANTED])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_few_units_of_noise_have_an_established_word(labeled, name):
    noise = labeled[name].slice(PLANTED)
    assert len(noise) == NOISE  # and no row for the unit that is the same on all images
    assert (noise["p_value"] < 0.05).sum() <= 5
    if FUNCTIONS[name].prior == 0:  # otherwise words that the planted units fit are last for all others in both parts
        assert noise["heldout_rank"].mean() == pytest.approx((W + 1) / 2, abs=2.5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_scores_p_values_ranks_and_stability_are_those_of_direct_repetitions(labeled, name):
    activations, space = planted()
    function, index = FUNCTIONS[name], np.arange(N)
    units = activations[:, :-1]

    def fits(of_images, chosen=index):
        part = WordSpace(space.images[of_images], space.words)
        values, plain = units[chosen], np.arange(len(chosen))
        sample = ImageSample(values, rank_images(values), np.ones_like(plain), plain)
        return function.fits(sample, function.table(part, slice(None)))

    def scores(of_images, chosen=index):
        return word_scores(function, fits(of_images, chosen))

    table, everything = labeled[name], scores(index)
    np.testing.assert_allclose(table["score"], everything.max(axis=1), rtol=1e-9)
    best = everything.argmax(axis=1)
    assert table["label"].to_list() == [WORDS[index] for index in best]
    permuted = np.array([fits(np.random.default_rng((0, number)).permutation(N)) for number in range(70)])
    usable = np.isfinite(permuted[60:]).all(axis=(0, 1))
    with np.errstate(invalid="ignore"):
        mean, deviation = permuted[60:].mean(axis=(0, 1)), permuted[60:].std(axis=(0, 1))
        standard = [np.where(usable, (each - mean) / deviation, -np.inf) for each in (fits(index), *permuted[:60])]
    null = np.array([each.max(axis=1) for each in standard[1:]])
    observed = np.take_along_axis(standard[0], best[:, None], 1)[:, 0]
    np.testing.assert_allclose(table["p_value"], fit_p_values(observed, null), rtol=1e-6)
    held = is_held_out(0, index, 0.5)
    selected = scores(index[~held], index[~held]).argmax(axis=1)
    other = scores(index[held], index[held])
    ranks = [1 + sum(row > row[word]) for row, word in zip(other, selected, strict=True)]
    assert table["heldout_rank"].to_list() == ranks
    same = np.zeros(len(best))
    for weights in poisson_weights(0, index, 40).T:
        drawn = np.repeat(index, weights)
        same += scores(drawn, drawn).argmax(axis=1) == best
    np.testing.assert_allclose(table["stability"], same / 40, atol=1e-12)


def test_statistics_that_are_not_asked_for_are_null():
    activations, space = planted()
    plain = word_labels(activations, space, WORDS, WordTest(holdout=None, bootstrap=0, permutations=0))
    lacking = ("stability", "p_value", "q_value", "selection_label", "heldout_score", "heldout_rank")
    assert plain.select(pl.col(lacking).null_count()).row(0) == (len(plain),) * 6


def test_a_word_that_can_be_no_label_is_no_second_and_no_selected_word():
    """Both words have a positive mean similarity on all images, but not on the selection half; the third has never."""
    rng, held = np.random.default_rng(0), is_held_out(0, np.arange(400), 0.5)
    images = np.where(held[:, None], [1.0, 0.0], [-0.1, 0.995])
    test = WordTest(FUNCTIONS["rank-reorder"], bootstrap=0, permutations=0)
    for words, second in (([[1, 0], [0.9, -0.2]], 0), ([[1, 0], [-0.8, -0.6]], 5)):
        found = word_labels(rng.random((400, 5)), WordSpace(images, np.array(words)), ("one", "two"), test)
        assert found["score"].is_finite().all()
        assert found["next_label"].null_count() == found["next_score"].null_count() == second
        for name in ("selection_label", "heldout_score", "heldout_rank"):
            assert found[name].null_count() == len(found) == 5


def test_a_p_value_is_a_rank_where_ten_permutations_reach_the_score_and_fitted_beyond():
    null = np.random.default_rng(0).gumbel(-900.0, 3.0, size=(200, 3))
    observed = np.array([np.sort(null[:, 0])[100], -900 + 3 * 10.0, np.inf])
    found = fit_p_values(observed, null)
    assert found[0] == pytest.approx(101 / 201)
    assert found[1] == pytest.approx(np.exp(-10.0), rel=1)  # the tail of the distribution that was drawn from
    assert found[2] < 1e-300


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda a, s: (a[:99], WordSpace(s.images[:99], s.words)), ConfigError, "99 images, and .* takes 100"),
        (lambda a, s: (a[:150], WordSpace(s.images[:150], s.words)), ConfigError, "half has .* or no hold-out"),
        (lambda a, s: (a[:200], s), ShapeError, r"activations are \(200, 37\) .* Expected one row"),
        (lambda a, s: (np.where(a > 2, np.nan, a), s), ShapeError, "activations hold NaN"),
    ],
)  # fmt: skip
def test_too_few_images_and_arrays_that_do_not_belong_together_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        word_labels(*change(*planted()), WORDS, WordTest(bootstrap=0, permutations=0))
