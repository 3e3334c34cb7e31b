"""Bases of a layer: principal and independent components, a permutation, or a matrix from a file.

Components are estimated on a sample of cells. Their signs are arbitrary, but a mask is where a unit is largest: the
sign of each component is the one in which its values have the longer tail.
"""

import logging
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import safetensors
import torch
from safetensors.numpy import load_file
from scipy import stats
from torch import Tensor

from netdissect.errors import ShapeError
from netdissect.extras import need

logger = logging.getLogger(__name__)

BasisType = Literal["pca", "ica", "permutation"]
Cells = npt.NDArray[np.float32]
# Directions in which a layer's values hardly vary, such as dead units, have no component.
RELATIVE_VARIANCE = 1e-7


def permutation_basis(units: int, seed: int) -> Tensor:
    """Return a random order of units as a matrix, float32 (U, U)."""
    order = np.random.default_rng(seed).permutation(units)
    return torch.eye(units)[torch.from_numpy(order)]


def component_basis(basis: BasisType, cells: Cells, *, iterations: int, seed: int) -> Tensor:
    """Estimate principal or independent components.

    Parameters
    ----------
    basis
        ``pca`` or ``ica``.
    cells : float32 (N, U)
        Activations of a sample of cells.
    iterations, seed
        Of FastICA at most, and of its start.

    Returns
    -------
    float32 (K, U)
        K is below U if there are directions without variance.
    """
    values = cells.astype(np.float64)
    principal = sklearn_module("decomposition").PCA().fit(values)
    varying = int((principal.explained_variance_ > RELATIVE_VARIANCE * principal.explained_variance_[0]).sum())
    directions = principal.components_[:varying]
    if basis == "ica":
        directions = _independent(values, varying, iterations, seed)
    skewed = stats.skew((values - values.mean(axis=0)) @ directions.T, axis=0)
    signed = np.asarray(directions * np.where(skewed < 0, -1, 1)[:, None])
    return torch.from_numpy(signed.astype(np.float32))


def sklearn_module(module: str) -> Any:
    """Import a module of scikit-learn, an optional dependency."""
    return need(f"sklearn.{module}", "experiments", "A basis of principal or independent components")


def _independent(values: npt.NDArray[np.float64], count: int, iterations: int, seed: int) -> npt.NDArray[np.float64]:
    warning = sklearn_module("exceptions").ConvergenceWarning
    independent = sklearn_module("decomposition").FastICA
    model = independent(count, whiten="unit-variance", max_iter=iterations, tol=1e-3, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", warning)
        try:
            model.fit(values)
        except warning:
            warnings.simplefilter("ignore", warning)
            model.fit(values)
            logger.info("FastICA has not converged after %d iterations: its basis is approximate", iterations)
    return np.asarray(model.components_)


def read_basis(path: str | Path, units: int) -> Tensor:
    """Read a basis from a file.

    Parameters
    ----------
    path
        ``.npy``, or ``.safetensors`` with one tensor: (K, U), a row for each new unit.
    units
        U of the layer.

    Returns
    -------
    float32 (K, U)

    Raises
    ------
    ShapeError
        If the file holds no such matrix.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            matrix = next(iter(load_file(path).values()))
        else:
            matrix = np.load(path, allow_pickle=False)
    except (OSError, ValueError, StopIteration, safetensors.SafetensorError) as error:
        raise ShapeError(
            f"{path} cannot be read as a matrix ({error}). Expected a .npy file, or a .safetensors file of one tensor."
        ) from error
    if matrix.ndim != 2 or matrix.shape[1] != units or matrix.dtype.kind not in "fiu":
        raise ShapeError(
            f"{path} holds {matrix.dtype} {matrix.shape}. Expected numbers of shape (new units, {units}): a row for "
            f"each new unit, a column for each of the layer's {units} units."
        )
    if not np.isfinite(matrix).all():
        raise ShapeError(f"{path} holds NaN or infinity. Expected finite numbers in every row.")
    return torch.from_numpy(np.ascontiguousarray(matrix, np.float32))
