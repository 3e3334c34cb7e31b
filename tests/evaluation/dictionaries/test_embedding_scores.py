"""Monosemanticity, clarity and redundancy against loops over all pairs of images."""

from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import cosine

from netdissect.evaluation.dictionaries.embedding_scores import EmbeddingSums, TopImageList, clarity, redundancy


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    embeddings = rng.normal([2, 0, 0, 0, 0, 0], size=(23, 6))
    values = rng.normal(size=(23, 5)).astype(np.float32)
    values[:, 1] = 4.0
    values[:, 2] = np.arange(23) == 7
    values[:, 3] += 500
    return values, embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def sums_of(values, embeddings):
    sums = EmbeddingSums.zeros(values.shape[1], embeddings.shape[1])
    sums.update(values, embeddings)
    return sums


def test_monosemanticity_is_the_weighted_mean_cosine_of_all_pairs(drawn):
    values, embeddings = drawn
    found = sums_of(values, embeddings).monosemanticity()
    for unit in (0, 3, 4):
        scaled = values[:, unit].astype(float) - values[:, unit].min()
        scaled /= scaled.max()
        weights, similar = zip(
            *(
                (scaled[one] * scaled[other], 1 - cosine(embeddings[one], embeddings[other]))
                for one, other in combinations(range(23), 2)
            ),
            strict=True,
        )
        assert found[unit] == pytest.approx(np.dot(weights, similar) / sum(weights), rel=1e-8)


def test_a_constant_unit_and_one_that_is_active_on_one_image_have_no_monosemanticity(drawn):
    assert np.isnan(sums_of(*drawn).monosemanticity()).tolist() == [False, True, True, False, False]


def test_any_split_of_the_images_has_the_same_monosemanticity(drawn):
    values, embeddings = drawn
    joined = sums_of(values[:9], embeddings[:9]) + EmbeddingSums.zeros(5, 6) + sums_of(values[9:], embeddings[9:])
    np.testing.assert_allclose(joined.monosemanticity(), sums_of(*drawn).monosemanticity(), rtol=1e-9)


def test_top_images_are_those_of_the_highest_values_and_of_equal_ones_the_first(drawn):
    values, _ = drawn
    listed = TopImageList.empty(5)
    listed.keep = 4
    for start in (0, 10, 20):
        listed.update(values[start : start + 10], np.arange(start, min(start + 10, 23)) + 100)
    for unit in range(5):
        expected = sorted(range(23), key=lambda image: (-values[image, unit], image))[:4]
        assert listed.images[unit].tolist() == [100 + image for image in expected]


def test_clarity_is_the_mean_cosine_of_two_top_images(drawn):
    _, embeddings = drawn
    images = np.array([[0, 3, 5, 9], [2, 4, 8, 16]])
    expected = [
        np.mean([1 - cosine(embeddings[one], embeddings[other]) for one, other in combinations(rows, 2)])
        for rows in images
    ]
    np.testing.assert_allclose(clarity(embeddings, images), expected, rtol=1e-9)
    assert np.isnan(clarity(embeddings, images[:, :1])).all()


def test_redundancy_is_the_cosine_with_the_most_similar_other_unit(drawn):
    _, embeddings = drawn
    images = np.array([[0, 3], [2, 4], [0, 5]])
    means = embeddings[images].mean(axis=1)
    expected = [max(1 - cosine(means[one], means[other]) for other in range(3) if other != one) for one in range(3)]
    np.testing.assert_allclose(redundancy(embeddings, images), expected, rtol=1e-9)
    assert np.isnan(redundancy(embeddings, images[:1])).all()
