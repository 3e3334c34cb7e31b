"""The similarity of units and words agrees with loops over its formulas, on drawn activations and embeddings."""

import math

import numpy as np
import pytest

from netdissect.evaluation.open_vocabulary import similarity
from netdissect.evaluation.open_vocabulary.similarity import FUNCTIONS, ImageSample, WordSpace, rank_images, word_scores

N, U, W, D = 130, 5, 11, 6


def drawn(seed=0, images=N, units=U):
    """Return activations with ties and embeddings whose cosines are mostly positive."""
    rng = np.random.default_rng(seed)
    activations = np.round(rng.normal(size=(images, units)), 1)
    of_images, of_words = (np.abs(rng.normal(size=(count, D))) + 0.1 for count in (images, W))
    unit = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (of_images, of_words)]
    return activations, WordSpace(*unit)


def sample_of(activations, weights=None, rows=None):
    index = np.arange(len(activations))
    return ImageSample(
        activations,
        rank_images(activations),
        np.ones_like(index) if weights is None else weights,
        index if rows is None else rows,
    )


def scored(name, activations, space, **parts):
    function = FUNCTIONS[name]
    return word_scores(function, function.fits(sample_of(activations, **parts), function.table(space, slice(None))))


def cosines(space):
    return [[math.fsum(a * b for a, b in zip(i, w, strict=True)) for w in space.words] for i in space.images]


def softmax(row, factor):
    powers = [math.exp(factor * value) for value in row]
    return [power / math.fsum(powers) for power in powers]


def most_active(column, count):
    return sorted(range(len(column)), key=lambda i: (-column[i], i))[:count]


def pointwise(activations, space, log_fit, prior):
    """Return log P(D|t) less the prior times log P(D), by loops; `log_fit` gives log P(D|t) of leading images."""
    units, words = range(activations.shape[1]), range(len(space.words))
    fits = [[log_fit(activations[:, unit], word) for word in words] for unit in units]
    means = [math.log(math.fsum(math.exp(fits[unit][word]) for unit in units) / len(units)) for word in words]
    return [[fits[unit][word] - prior * means[word] for word in words] for unit in units]


def soft_wpmi_by_loops(activations, space):
    chances = [softmax(row, 10) for row in cosines(space)]

    def log_fit(column, word):
        total = 0.0
        for rank, image in enumerate(most_active(column, 100)):
            member = 0.998 - rank / 100 * (0.998 - 0.97)
            total += math.log(1 + member * (chances[image][word] - 1) + 1e-7)
        return total

    return pointwise(activations, space, log_fit, 1.0)


def wpmi_by_loops(activations, space):
    chances = [softmax(row, 2) for row in cosines(space)]
    return pointwise(
        activations,
        space,
        lambda column, word: sum(math.log(chances[image][word] + 1e-7) for image in most_active(column, 28)),
        0.6,
    )


def rank_reorder_by_loops(activations, space):
    found = []
    for unit in range(activations.shape[1]):
        column, row = activations[:, unit], []
        leading = most_active(column, int(0.05 * len(column)))
        falling = [column[i] for i in leading]
        random_error = np.mean([abs(a - b) ** 3 for a in falling for b in falling])
        for word in range(len(space.words)):
            values = [cosines_of(space, image, word) for image in leading]
            by_word = sorted(range(len(leading)), key=lambda i: values[i])
            reordered = dict(zip(by_word, sorted(falling), strict=True))
            error = np.mean([abs(falling[i] - reordered[i]) ** 3 for i in range(len(leading))])
            row.append(-error / random_error / math.sqrt(np.mean(values)))
        found.append(row)
    return found


def cosines_of(space, image, word):
    return float(space.images[image] @ space.words[word])


def cos_cubed_by_loops(activations, space):
    table = np.array(cosines(space))

    def cubed(column):
        cubes = [(value - math.fsum(column) / len(column)) ** 3 for value in column]
        norm = max(math.sqrt(math.fsum(cube**2 for cube in cubes)), 1e-3)
        return [cube / norm for cube in cubes]

    units, words = ([cubed(list(column)) for column in part.T] for part in (activations, table))
    return [[math.fsum(a * b for a, b in zip(unit, word, strict=True)) for word in words] for unit in units]


BY_LOOPS = {
    "soft-wpmi": soft_wpmi_by_loops,
    "wpmi": wpmi_by_loops,
    "rank-reorder": rank_reorder_by_loops,
    "cos-cubed": cos_cubed_by_loops,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_agrees_with_loops_over_its_formula(name):
    activations, space = drawn()
    np.testing.assert_allclose(
        scored(name, activations, space), BY_LOOPS[name](activations, space), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_image_that_counts_three_times_is_the_same_as_three_equal_images(name):
    activations, space = drawn(seed=1)
    weights = np.random.default_rng(2).integers(0, 4, N)
    repeated = np.repeat(np.arange(N), weights)
    many = WordSpace(space.images[repeated], space.words)
    np.testing.assert_allclose(
        scored(name, activations, space, weights=weights), scored(name, activations[repeated], many), rtol=1e-9
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_permuted_rows_give_images_the_embeddings_of_other_images(name):
    activations, space = drawn(seed=3)
    rows = np.random.default_rng(4).permutation(N)
    other = WordSpace(space.images[rows], space.words)
    np.testing.assert_allclose(
        scored(name, activations, space, rows=rows), scored(name, activations, other), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_blocks_of_words_and_of_units_change_no_score(name, monkeypatch):
    activations, space = drawn(seed=5)
    whole = scored(name, activations, space)
    monkeypatch.setattr(similarity, "TABLE_BYTES", 3 * N * 8)
    monkeypatch.setattr(similarity, "GATHERED", 1)
    parts, function = WordSpace(space.images, space.words), FUNCTIONS[name]
    blocks = list(parts.blocks())
    assert len(blocks) == 4
    scores = [
        word_scores(function, function.fits(sample_of(activations), function.table(parts, block))) for block in blocks
    ]
    np.testing.assert_allclose(np.concatenate(scores, axis=1), whole, rtol=1e-12)


def test_soft_wpmi_of_a_unit_depends_on_the_other_units_and_cos_cubed_does_not():
    activations, space = drawn(seed=6)
    for name, depends in (("soft-wpmi", True), ("wpmi", True), ("rank-reorder", False), ("cos-cubed", False)):
        alone, among = scored(name, activations[:, :2], space), scored(name, activations, space)[:2]
        assert np.allclose(alone, among) is not depends


def test_no_soft_wpmi_exceeds_the_logarithm_of_the_number_of_units_which_a_unit_reaches_that_fits_a_word_alone():
    fits = np.array([[-3.0, -500.0, -10.0], [-3.0, -500.0, -900.0]])
    scores = word_scores(FUNCTIONS["soft-wpmi"], fits)
    np.testing.assert_allclose(scores, [[0, 0, np.log(2)], [0, 0, np.log(2) - 890]], atol=1e-12)


def test_a_word_of_negative_mean_similarity_has_no_rank_reorder_score():
    activations, space = drawn(seed=7)
    opposite = WordSpace(space.images, np.concatenate([space.words, -space.words[:1]]))
    scores = scored("rank-reorder", activations, opposite)
    assert np.isneginf(scores[:, -1]).all()
    assert np.isfinite(scores[:, :-1]).all()
