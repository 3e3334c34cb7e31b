"""Activity and choices of units against plain NumPy."""

import numpy as np
import scipy.sparse

from netdissect.evaluation.dictionaries.code_matrix import active_cells, keep_largest, leading_units


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
