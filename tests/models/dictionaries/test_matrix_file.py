"""Matrices of other programs."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from netdissect.errors import ShapeError
from netdissect.models.dictionaries.matrix_file import read_matrix


@pytest.mark.parametrize(
    ("matrix", "why"),
    [
        (np.zeros((3, 7), np.float32), "8 units"),
        (np.zeros((0, 8), np.float32), "8 units"),
        (np.full((3, 8), np.nan, np.float32), "NaN"),
        (np.array(["a"]), "cannot be read as a matrix"),
        (np.full((3, 8), 1e300), "infinity"),
        (np.array([object()]), "cannot be read as a matrix"),
    ],
)
def test_a_matrix_that_does_not_fit_is_refused(tmp_path, matrix, why):
    np.save(tmp_path / "bad.npy", matrix)
    with pytest.raises(ShapeError, match=why):
        read_matrix(tmp_path / "bad.npy", "conv5", 8)


def test_a_file_that_holds_no_matrix_is_refused(tmp_path):
    (tmp_path / "none.npy").write_bytes(b"no matrix")
    (tmp_path / "empty.npy").write_bytes(b"")
    np.savez(tmp_path / "two.npz", one=np.eye(8), other=np.eye(8))
    (tmp_path / "two.npz").rename(tmp_path / "two.npy")
    save_file({"one": torch.eye(8), "other": torch.eye(8)}, tmp_path / "two.safetensors")
    for name in ("none.npy", "empty.npy", "two.npy", "two.safetensors"):
        with pytest.raises(ShapeError, match="cannot be read as a matrix"):
            read_matrix(tmp_path / name, "conv5", 8)


def test_a_matrix_of_whole_numbers_is_read(tmp_path):
    np.save(tmp_path / "swap.npy", np.array([[0, 1], [1, 0]]))
    found = read_matrix(str(tmp_path / "swap.npy"), "conv5", 2)
    assert torch.equal(found.encode(torch.tensor([[3.0, 4.0]])), torch.tensor([[4.0, 3.0]]))


def test_a_matrix_of_half_precision_or_of_another_byte_order_is_read(tmp_path):
    matrix = torch.tensor([[0.5, -2.0], [4.0, 0.25], [1.0, 0.0]])
    save_file({"rows": matrix.bfloat16()}, tmp_path / "half.safetensors")
    np.save(tmp_path / "big.npy", matrix.numpy().astype(">f8"))
    for name in ("half.safetensors", "big.npy"):
        assert torch.equal(read_matrix(tmp_path / name, "conv5", 2).matrix, matrix)
