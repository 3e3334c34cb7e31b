"""Principal and independent components of a layer, and a random order of its units.

Components are estimated on a sample of cells. Their signs are arbitrary, but a mask is where a unit is largest: the
sign of each component is the one in which its values have the longer tail.
"""

import logging
import warnings
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from netdissect.extras import need
from netdissect.models.dictionaries.basis import LinearBasis

logger = logging.getLogger(__name__)

BasisType = Literal["pca", "ica", "permutation"]
Cells = npt.NDArray[np.float32]
# Directions in which a layer's values hardly vary, such as dead units, have no component.
RELATIVE_VARIANCE = 1e-7


def permutation_basis(source: str, units: int, seed: int) -> LinearBasis:
    """Return a random order of the units of a layer, as a basis of it."""
    order = np.random.default_rng(seed).permutation(units)
    return LinearBasis(source, torch.eye(units)[torch.from_numpy(order)])


def component_basis(source: str, basis: BasisType, cells: Cells, *, iterations: int, seed: int) -> LinearBasis:
    """Estimate principal or independent components.

    Parameters
    ----------
    source
        Name of the layer.
    basis
        ``pca`` or ``ica``.
    cells : float32 (N, U)
        Activations of a sample of cells.
    iterations, seed
        Of FastICA at most, and of its start.

    Returns
    -------
    LinearBasis
        The mean of the sample is subtracted. It has fewer than U units if there are directions without variance.
    """
    values = cells.astype(np.float64)
    principal = sklearn_module("decomposition").PCA().fit(values)
    varying = int((principal.explained_variance_ > RELATIVE_VARIANCE * principal.explained_variance_[0]).sum())
    directions = principal.components_[:varying]
    if basis == "ica":
        directions = _independent(values, varying, iterations, seed)
    mean = values.mean(axis=0)
    skewed = stats.skew((values - mean) @ directions.T, axis=0)
    signed = np.asarray(directions * np.where(skewed < 0, -1, 1)[:, None])
    return LinearBasis(source, torch.from_numpy(signed.astype(np.float32)), torch.from_numpy(mean.astype(np.float32)))


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
