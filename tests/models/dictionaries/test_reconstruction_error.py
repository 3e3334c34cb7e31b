"""The error of reconstructed cells against plain NumPy and scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics

from netdissect.models.dictionaries.reconstruction_error import normalized_error


def test_the_error_is_one_less_the_explained_variance():
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(50, 4)).astype(np.float32)
    other = (cells + 0.3 * rng.normal(size=cells.shape)).astype(np.float32)
    found = normalized_error(cells, [other[:20], other[20:]])
    # R2 over all numbers of cells that have the same variance in each unit is taken by hand.
    expected = ((cells - other) ** 2).sum() / ((cells - cells.mean(axis=0)) ** 2).sum()
    assert found == pytest.approx(expected, rel=1e-5)
    one = cells[:, :1]
    assert normalized_error(one, [other[:, :1]]) == pytest.approx(
        1 - sklearn.metrics.r2_score(one, other[:, :1]), rel=1e-5
    )
    assert np.isnan(normalized_error(np.ones((3, 2), np.float32), [np.ones((3, 2), np.float32)]))
