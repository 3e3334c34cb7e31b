"""Bases that are fitted to a sample of cells, against scikit-learn, SciPy and direct computation."""

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from scipy.stats import skew
from sklearn.decomposition import PCA

from netdissect.errors import ActivationError, ConfigError
from netdissect.models.dictionaries.basis import basis_bytes, basis_digest, load_basis
from netdissect.models.dictionaries.fit_basis import FitOptions, fit_basis
from netdissect.models.dictionaries.kmeans_basis import LEAST
from netdissect.models.dictionaries.nmf_basis import NmfBasis

RNG = np.random.default_rng(0)
PARTS = RNG.gamma(0.5, size=(3, 8))
CELLS = np.asarray(RNG.gamma(0.4, size=(400, 3)) @ PARTS + 0.02 * RNG.random((400, 8)), np.float32)
LATER = torch.from_numpy(np.asarray(RNG.gamma(0.4, size=(50, 3)) @ PARTS, np.float32))


def fitted(kind, units=None, cells=CELLS):
    return fit_basis(kind, "conv5", cells, FitOptions(units, iterations=200, seed=0))


def test_principal_components_are_those_of_scikit_learn_with_their_long_tail_upwards():
    basis, oracle = fitted("pca"), PCA().fit(CELLS.astype(np.float64))
    codes = basis.encode(LATER).numpy()
    expected = oracle.transform(LATER.numpy().astype(np.float64))
    np.testing.assert_allclose(np.abs(codes), np.abs(expected), atol=1e-4)
    assert (skew(basis.encode(torch.from_numpy(CELLS)), axis=0) >= 0).all()
    np.testing.assert_allclose(basis.matrix @ basis.matrix.T, np.eye(8), atol=1e-5)
    assert torch.equal(fitted("pca", 2).matrix, basis.matrix[:2])


def test_independent_components_are_uncorrelated_with_variance_one_and_their_long_tail_upwards():
    codes = fitted("ica").encode(torch.from_numpy(CELLS)).numpy()
    np.testing.assert_allclose(np.cov(codes.T), np.eye(8), atol=0.02)
    assert (skew(codes, axis=0) >= 0).all()
    assert fitted("ica", 3).units == 3


@pytest.mark.parametrize("kind", ["pca", "ica"])
def test_directions_that_do_not_vary_have_no_component(kind):
    cells = CELLS.copy()
    cells[:, 5] = 0
    assert fitted(kind, cells=cells).units == 7
    with pytest.raises(ConfigError, match=f"{kind}:8 was asked for of layer 'conv5', whose 400 .* in 7 directions"):
        fitted(kind, 8, cells)


def test_weights_of_parts_are_the_non_negative_least_squares_solution():
    basis = fitted("nmf", 5)
    assert (basis.parts >= 0).all()
    np.testing.assert_allclose(basis.parts.norm(dim=1), 1, rtol=1e-5)
    for parts in (basis.parts, torch.rand(12, 8)):
        codes = NmfBasis("conv5", parts).encode(LATER)
        assert (codes >= 0).all()
        errors = (LATER - codes @ parts).norm(dim=1).square().numpy()
        least = [nnls(parts.T.numpy().astype(np.float64), cell)[1] ** 2 for cell in LATER.numpy().astype(np.float64)]
        assert errors.sum() <= sum(least) * 1.001 + 1e-5 * float(LATER.square().sum())
    relative = float((LATER - basis.decode(basis.encode(LATER))).square().sum() / LATER.square().sum())
    assert relative < 0.01  # three parts made the cells


def test_a_layer_with_negative_activations_has_no_parts():
    with pytest.raises(ActivationError, match=r"below 0 \(the least of the sample is -0\.5\).*another basis than nmf"):
        fitted("nmf", cells=np.append(CELLS, np.full((1, 8), -0.5, np.float32), axis=0))


@pytest.mark.parametrize("kind", ["pca", "ica", "nmf", "kmeans"])
def test_a_dead_layer_has_no_basis(kind):
    with pytest.raises(ActivationError, match=rf"the same in all 9 sampled cells.*{kind} of a dead layer"):
        fitted(kind, cells=np.zeros((9, 8), np.float32))


def test_a_cell_activates_the_unit_of_its_nearest_center_the_more_the_nearer_it_is():
    basis = fitted("kmeans", 6)
    centers, codes = basis.centers.numpy(), basis.encode(torch.from_numpy(CELLS)).numpy()
    distances = np.linalg.norm(CELLS[:, None].astype(np.float64) - centers, axis=2)
    nearest = distances.argmin(axis=1)
    assert ((codes != 0) == (np.arange(6) == nearest[:, None])).all()
    for unit in range(6):
        inside = nearest == unit
        radius = distances[inside, unit].max()
        np.testing.assert_allclose(codes[inside, unit], np.maximum(radius - distances[inside, unit], LEAST), atol=1e-5)
    far = torch.full((1, 8), 100.0)
    assert (basis.encode(far).sum(), basis.encode(far).count_nonzero()) == (torch.tensor(LEAST), 1)
    np.testing.assert_array_equal(basis.decode(basis.encode(torch.from_numpy(CELLS))), centers[nearest])
    left_out = torch.from_numpy(codes * (np.arange(6) > 2))  # as at an equal number of units
    np.testing.assert_array_equal(basis.decode(left_out), centers[nearest] * (nearest > 2)[:, None])


@pytest.mark.parametrize("kind", ["nmf", "kmeans"])
def test_more_units_than_sampled_cells_are_refused(kind):
    with pytest.raises(ConfigError, match=rf"{kind} of 8 units .* 5 cells were sampled.*{kind}:N for fewer"):
        fitted(kind, cells=CELLS[:5])


@pytest.mark.parametrize("kind", ["pca", "ica", "nmf", "kmeans"])
def test_equal_seeds_fit_equal_bases_and_files_hold_them(kind, tmp_path):
    basis = fitted(kind, 4)
    assert basis_digest(fitted(kind, 4)) == basis_digest(basis)
    assert (basis.inputs, basis.units) == (8, 4)
    (tmp_path / "basis.safetensors").write_bytes(basis_bytes(basis))
    assert torch.equal(load_basis(tmp_path / "basis.safetensors", "conv5").encode(LATER), basis.encode(LATER))
