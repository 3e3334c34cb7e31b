"""Error, activity and choices of units against plain NumPy and scikit-learn."""

import numpy as np
import pytest
import scipy.sparse
import sklearn.metrics

from netdissect.evaluation.dictionaries.code_matrix import active_cells, keep_largest, leading_units
from netdissect.evaluation.dictionaries.reconstruction import normalized_error


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


def test_each_cell_keeps_its_largest_absolute_codes_and_of_equal_ones_the_first():
    rng = np.random.default_rng(1)
    codes = np.asfortranarray(np.round(2 * rng.normal(size=(40, 7))).astype(np.float32))
    kept = keep_largest(codes, 3).toarray()
    for cell, of_cell in zip(codes, kept, strict=True):
        chosen = sorted(range(7), key=lambda unit: (-abs(cell[unit]), unit))[:3]
        expected = np.where(np.isin(np.arange(7), chosen), cell, 0)
        assert of_cell.tolist() == expected.tolist()
    assert keep_largest(codes, 9).toarray().tolist() == codes.tolist()


def test_units_lead_by_variance_or_by_how_often_they_are_active():
    codes = np.asfortranarray(np.array([[0, 1, 9, 1], [0, 1, 0, 1], [5, 1, 0, -1]], np.float32))
    assert active_cells(codes).tolist() == active_cells(scipy.sparse.csc_array(codes)).tolist() == [1, 3, 1, 3]
    assert leading_units(codes, 2, sparse=False).tolist() == [0, 2]
    assert leading_units(codes, 2, sparse=True).tolist() == [1, 3]
    assert leading_units(scipy.sparse.csc_array(codes), 3, sparse=True).tolist() == [0, 1, 3]
