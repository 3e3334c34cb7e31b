"""Matrices of other programs."""

import numpy as np
import pytest
import torch

from netdissect.errors import ShapeError
from netdissect.models.dictionaries.matrix_file import read_matrix


@pytest.mark.parametrize(
    ("matrix", "why"),
    [
        (np.zeros((3, 7), np.float32), "8 units"),
        (np.zeros((0, 8), np.float32), "8 units"),
        (np.full((3, 8), np.nan, np.float32), "NaN"),
        (np.array(["a"]), "Expected numbers"),
        (np.array([object()]), "cannot be read as a matrix"),
    ],
)
def test_a_matrix_that_does_not_fit_is_refused(tmp_path, matrix, why):
    np.save(tmp_path / "bad.npy", matrix)
    with pytest.raises(ShapeError, match=why):
        read_matrix(tmp_path / "bad.npy", "conv5", 8)
    (tmp_path / "none.npy").write_bytes(b"no matrix")
    with pytest.raises(ShapeError, match="cannot be read as a matrix"):
        read_matrix(tmp_path / "none.npy", "conv5", 8)


def test_a_matrix_of_whole_numbers_is_read(tmp_path):
    np.save(tmp_path / "swap.npy", np.array([[0, 1], [1, 0]]))
    found = read_matrix(str(tmp_path / "swap.npy"), "conv5", 2)
    assert torch.equal(found.encode(torch.tensor([[3.0, 4.0]])), torch.tensor([[4.0, 3.0]]))
