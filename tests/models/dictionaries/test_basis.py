"""Bases: what they compute from cells, and the files that hold them."""

from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch

from netdissect.errors import ShapeError
from netdissect.models.dictionaries.basis import (
    LinearBasis,
    basis_bytes,
    basis_digest,
    encode_maps,
    load_basis,
)

MATRIX = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
MEAN = torch.tensor([1.0, -2.0, 0.5, 3.0])


@pytest.mark.parametrize("mean", [None, MEAN])
def test_units_of_a_linear_basis_are_the_matrix_times_each_cell_less_the_mean(mean):
    maps = torch.randn(2, 4, 3, 6)
    basis = LinearBasis("conv5", MATRIX, mean)
    expected = np.einsum(
        "ku,buhw->bkhw", MATRIX.numpy(), (maps if mean is None else maps - mean[:, None, None]).numpy()
    )
    np.testing.assert_allclose(encode_maps(basis, maps), expected, atol=1e-5)
    cells = maps.permute(0, 2, 3, 1).reshape(-1, 4)
    np.testing.assert_allclose(basis.encode(cells), expected.transpose(0, 2, 3, 1).reshape(-1, 5), atol=1e-5)


def test_maps_of_any_basis_are_those_of_its_cells():
    def encode(cells):
        assert cells.shape == (2 * 3 * 6, 4)
        return torch.stack([cells.sum(1), cells.amax(1)], 1)

    maps = torch.randn(2, 4, 3, 6)
    found = encode_maps(SimpleNamespace(encode=encode), maps)
    assert torch.equal(found[:, 1], maps.amax(1))
    torch.testing.assert_close(found[:, 0], maps.sum(1))


def test_codes_of_at_least_as_many_units_decode_to_their_cells():
    cells = torch.randn(7, 4)
    for basis in (LinearBasis("conv5", MATRIX, MEAN), LinearBasis("conv5", torch.linalg.qr(torch.randn(4, 4)).Q)):
        torch.testing.assert_close(basis.decode(basis.encode(cells)), cells, atol=1e-4, rtol=1e-4)
    fewer = LinearBasis("conv5", MATRIX[:2], MEAN)
    expected = np.linalg.lstsq(MATRIX[:2].numpy(), fewer.encode(cells).T.numpy(), rcond=None)[0].T + MEAN.numpy()
    np.testing.assert_allclose(fewer.decode(fewer.encode(cells)), expected, atol=1e-5)


def test_a_basis_is_the_same_after_it_was_written_and_read(tmp_path):
    for basis in (LinearBasis("block.1", MATRIX, MEAN), LinearBasis("block.1", MATRIX)):
        (tmp_path / "basis.safetensors").write_bytes(basis_bytes(basis))
        found = load_basis(tmp_path / "basis.safetensors", "block.1")
        assert basis_digest(found) == basis_digest(basis)
        assert (found.source, found.inputs, found.units) == ("block.1", 4, 5)
        assert torch.equal(found.matrix, MATRIX)
    assert len({basis_digest(LinearBasis(name, m)) for name in "ab" for m in (MATRIX, MATRIX.T.contiguous())}) == 4


def test_a_file_that_is_no_basis_of_the_layer_is_refused(tmp_path):
    path = tmp_path / "basis.safetensors"
    with pytest.raises(ShapeError, match="cannot be read as a basis"):
        load_basis(path, "block.1")
    safetensors.torch.save_file({"matrix": MATRIX}, path)
    with pytest.raises(ShapeError, match="its kind is 'none'"):
        load_basis(path, "block.1")
    path.write_bytes(basis_bytes(LinearBasis("block.1", MATRIX)))
    with pytest.raises(ShapeError, match=r"layer 'block\.1', not of 'block\.2'"):
        load_basis(path, "block.2")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ShapeError, match="damaged"):
        load_basis(path, "block.1")
    safetensors.torch.save_file({"other": MATRIX}, path, {"kind": "linear", "source": "block.1"})
    with pytest.raises(ShapeError, match="no tensor 'matrix' of a basis of kind linear"):
        load_basis(path, "block.1")


@pytest.mark.parametrize(
    ("matrix", "mean", "why"),
    [
        (torch.eye(4).double(), None, r"torch\.float64 \(4, 4\)"),
        (torch.ones(4), None, r"\(4,\)"),
        (torch.eye(4), torch.ones(5), "a number for each unit of the layer"),
    ],
)
def test_tensors_that_make_no_linear_basis_are_refused(matrix, mean, why):
    with pytest.raises(ShapeError, match=why):
        LinearBasis("conv5", matrix, mean)
