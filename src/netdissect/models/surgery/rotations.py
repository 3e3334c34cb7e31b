"""Random rotations of the units of a layer, and their fractional powers.

    random_rotation(units, seed) -> Q in SO(units)
    rotation_powers(Q, alphas) -> Q^alpha
    with_rotations(network, layer, seeds, alphas) -> the network with rotated copies of the layer
    with_recorded_rotations(network, names of layers) -> the same, as a run names them

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 3.2.
"""

import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import scipy
import torch
from torch import Tensor

from netdissect.errors import ShapeError
from netdissect.models.dictionaries.basis import LinearBasis
from netdissect.models.layer_patterns import resolve_layers
from netdissect.models.network import Network

Matrix = npt.NDArray[np.float64]

_ROTATED = re.compile(r"(.+)@rotation-(\d+)(?:\^([0-9.e+-]+))?")

# An orthogonal matrix from float32 numbers: how far Q Q' may be from the identity.
ORTHOGONAL = 1e-4


def random_rotation(units: int, seed: int) -> Tensor:
    """Draw a rotation uniformly from SO(units).

    Parameters
    ----------
    units
        Dimension U.
    seed
        Equal seeds draw equal rotations.

    Returns
    -------
    float32 (U, U)
        Orthogonal, with determinant 1.

    Notes
    -----
    The orthogonal factor of a Gaussian matrix, with the signs of the triangular factor's diagonal moved into it, is
    uniform over the orthogonal group :cite:p:`mezzadri2007generate`; negating a row where the determinant is -1
    leaves SO(U).

    Examples
    --------
    >>> q = random_rotation(5, seed=0).double()
    >>> torch.allclose(q @ q.T, torch.eye(5).double(), atol=1e-6)
    True
    """
    return torch.from_numpy(_rotation(units, seed).astype(np.float32))


def _rotation(units: int, seed: int) -> Matrix:
    gaussian = np.random.default_rng(seed).standard_normal((units, units))
    q, r = np.linalg.qr(gaussian)
    q *= np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[0] *= -1
    return np.asarray(q)


def rotation_powers(rotation: Matrix, alphas: Iterable[float]) -> list[Matrix]:
    """Return fractional powers of a rotation: each rotated plane is rotated by a fraction of its angle.

    Parameters
    ----------
    rotation : float64 (U, U)
        Orthogonal, with determinant 1.
    alphas
        Exponents: 0 gives the identity, 1 the rotation.

    Returns
    -------
    list of float64 (U, U)
        One for each exponent; each is a rotation, and ``Q^a Q^b = Q^(a + b)``.

    Raises
    ------
    ShapeError
        If the matrix is no rotation.

    Notes
    -----
    The real Schur form of an orthogonal matrix is ``Q = Z T Z'``, T holding turns of planes, each with its angle in
    (-pi, pi), and 1 or -1 on the diagonal. Eigenvalues -1 come in pairs where the determinant is 1: a pair is a
    plane turned by pi. Which two make a plane is a choice, as is the sense of a half turn; the powers depend on it.
    Turns keep their signs, so that nearby planes move as Q moves them and Q is reached at 1 without a jump.
    """
    _check_rotation(rotation)
    triangular, basis = scipy.linalg.schur(rotation, output="real")
    planes = _planes(triangular)
    powers = []
    for alpha in alphas:
        turned = np.eye(len(rotation))
        for first, second, angle in planes:
            cosine, sine = np.cos(alpha * angle), np.sin(alpha * angle)
            turned[np.ix_([first, second], [first, second])] = [[cosine, -sine], [sine, cosine]]
        powers.append(basis @ turned @ basis.T)
    return powers


def _check_rotation(matrix: Matrix) -> None:
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    if not square or not np.allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=ORTHOGONAL):
        raise ShapeError(
            f"A matrix {matrix.shape} is no rotation: its rows are not orthonormal. Expected a square orthogonal "
            "matrix of determinant 1; take the factor q of numpy.linalg.qr."
        )
    if np.linalg.det(matrix) < 0:
        raise ShapeError(
            "The orthogonal matrix has determinant -1: it is a reflection and has no fractional powers. Expected a "
            "rotation; negate one of its rows."
        )


def _planes(triangular: Matrix) -> list[tuple[int, int, float]]:
    """List the planes of a real Schur form with their angles; what stays where it is has none."""
    planes: list[tuple[int, int, float]] = []
    halves: list[int] = []
    index = 0
    while index < len(triangular):
        if index + 1 < len(triangular) and triangular[index + 1, index] != 0:
            angle = np.arctan2(triangular[index + 1, index], triangular[index, index])
            planes.append((index, index + 1, float(angle)))
            index += 2
        else:
            if triangular[index, index] < 0:
                halves.append(index)
            index += 1
    planes += [(first, second, np.pi) for first, second in zip(halves[::2], halves[1::2], strict=True)]
    return planes


def with_rotations(network: Network, layer: str, seeds: Iterable[int], alphas: Iterable[float] = (1.0,)) -> Network:
    """Return the network with randomly rotated copies of one layer, recorded in the same forward pass.

    Parameters
    ----------
    network
        The network.
    layer
        Name of a layer.
    seeds
        One rotation for each; the copies are called as `rotated_name` says.
    alphas
        Fractions of each rotation.

    Raises
    ------
    LayerError
        If the network has no such layer.
    """
    units, fractions = resolve_layers(network, [layer])[0].units, list(alphas)
    bases = dict(network.bases)
    for seed in seeds:
        for alpha, matrix in zip(fractions, rotation_powers(_rotation(units, seed), fractions), strict=True):
            # At 1 the rotation itself, and not what comes back from its Schur form.
            turned = random_rotation(units, seed) if alpha == 1 else torch.from_numpy(matrix.astype(np.float32))
            bases[rotated_name(layer, seed, alpha)] = LinearBasis(layer, turned)
    return replace(network, bases=bases)


def with_recorded_rotations(network: Network, layers: Iterable[str]) -> Network:
    """Return the network with the rotated layers among these names; those that it has are not made again."""
    for name in layers:
        match = _ROTATED.fullmatch(name)
        if match and name not in network.bases:
            layer, seed, alpha = match.groups()
            network = with_rotations(network, layer, [int(seed)], [1.0 if alpha is None else float(alpha)])
    return network


def is_rotated_name(name: str) -> bool:
    """Tell whether a layer is called as `rotated_name` says."""
    return _ROTATED.fullmatch(name) is not None


def rotated_name(layer: str, seed: int, alpha: float = 1.0) -> str:
    """Return what the rotated copy of a layer is called: ``conv5@rotation-0``, ``conv5@rotation-0^0.2``."""
    return f"{layer}@rotation-{seed}" + ("" if alpha == 1 else f"^{alpha:g}")
