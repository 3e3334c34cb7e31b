"""Fit a basis to a sample of cells: principal and independent components, non-negative parts, clusters.

Signs of components are arbitrary, but a mask is where a unit is largest: the sign of each component is the one in which
its values have the longer tail.
"""

import logging
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when they are used: most runs fit nothing
import torch
from torch import Tensor

from netdissect.errors import ActivationError, ConfigError
from netdissect.extras import need
from netdissect.models.dictionaries.basis import Basis, LinearBasis
from netdissect.models.dictionaries.basis_spec import FittedKind
from netdissect.models.dictionaries.kmeans_basis import KMeansBasis, nearest_centers
from netdissect.models.dictionaries.nmf_basis import NmfBasis

logger = logging.getLogger(__name__)

Cells = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]
# Directions in which a layer's values hardly vary, such as dead units, have no component.
RELATIVE_VARIANCE = 1e-7


@dataclass(frozen=True)
class FitOptions:
    """How a basis is fitted.

    Attributes
    ----------
    units
        Number of its units; None: as many as the layer has or, of components, as there are directions that vary.
    iterations
        At most, of FastICA, NMF and k-means.
    seed
        Of the start of FastICA, NMF and k-means.
    """

    units: int | None
    iterations: int
    seed: int


def fit_basis(kind: FittedKind, source: str, cells: Cells, options: FitOptions) -> Basis:
    """Fit a basis of a layer.

    Parameters
    ----------
    kind
        ``pca``, ``ica``, ``nmf`` or ``kmeans``.
    source
        Name of the layer.
    cells : float32 (N, U)
        Activations of a sample of its cells.
    options
        How.

    Raises
    ------
    ActivationError
        If the layer has negative activations, of which there is no non-negative factorization, or the same ones in
        all cells.
    ConfigError
        If the sample has fewer cells, or the layer fewer directions, than units are asked for.
    MissingExtraError
        If scikit-learn is not installed.
    """
    if not (cells != cells[0]).any():
        raise ActivationError(
            f"layer {source!r} is the same in all {len(cells):,} sampled cells. Expected one that differs: {kind} of a "
            "dead layer finds nothing; dissect other layers, or its neurons alone."
        )
    if kind == "nmf":
        return _parts(source, cells, options)
    if kind == "kmeans":
        return _clusters(source, cells, options)
    return _components(kind, source, cells, options)


def check_sklearn() -> None:
    """Refuse to begin without scikit-learn, an optional dependency."""
    _sklearn("decomposition")


def _sklearn(module: str) -> Any:
    return need(f"sklearn.{module}", "experiments", "A basis that is fitted to a layer")


def _components(kind: FittedKind, source: str, cells: Cells, options: FitOptions) -> LinearBasis:
    values = cells.astype(np.float64)
    principal = _sklearn("decomposition").PCA().fit(values)
    varying = int((principal.explained_variance_ > RELATIVE_VARIANCE * principal.explained_variance_[0]).sum())
    count = options.units or varying
    if count > varying:
        raise ConfigError(
            f"{kind}:{count} was asked for of layer {source!r}, whose {len(cells):,} sampled cells vary in {varying} "
            f"directions. Expected at most {varying} units, or {kind} alone for as many as there are."
        )
    directions = principal.components_[:count]
    if kind == "ica":
        directions = _independent(values, count, options)
    mean = values.mean(axis=0)
    skewed = scipy.stats.skew((values - mean) @ directions.T, axis=0)
    return LinearBasis(source, _tensor(directions * np.where(skewed < 0, -1, 1)[:, None]), _tensor(mean))


def _independent(values: Values, count: int, options: FitOptions) -> Values:
    independent = _sklearn("decomposition").FastICA
    model = independent(count, whiten="unit-variance", max_iter=options.iterations, tol=1e-3, random_state=options.seed)
    return np.asarray(_fitted(model, values, "FastICA", options).components_)


def _parts(source: str, cells: Cells, options: FitOptions) -> NmfBasis:
    least = float(cells.min())
    if least < 0:
        raise ActivationError(
            f"layer {source!r} has activations below 0 (the least of the sample is {least:.3g}), of which there is no "
            "non-negative factorization. Expected a layer behind a ReLU, or another basis than nmf."
        )
    count = _count("nmf", source, cells, options)
    model = _sklearn("decomposition").NMF(count, max_iter=options.iterations, tol=1e-3, random_state=options.seed)
    parts = np.asarray(_fitted(model, cells, "NMF", options).components_, np.float64)
    lengths = np.linalg.norm(parts, axis=1, keepdims=True)
    return NmfBasis(source, _tensor(parts / np.where(lengths == 0, 1, lengths)))


def _clusters(source: str, cells: Cells, options: FitOptions) -> KMeansBasis:
    count = _count("kmeans", source, cells, options)
    clusters = _sklearn("cluster").MiniBatchKMeans
    with need("threadpoolctl", "experiments", "A basis of clusters").threadpool_limits(1):  # threads add in any order
        model = clusters(count, batch_size=4096, n_init=1, max_iter=options.iterations, random_state=options.seed).fit(
            cells
        )
    centers, sample = _tensor(model.cluster_centers_), torch.from_numpy(cells)
    nearest, distances = nearest_centers(sample, centers)
    return KMeansBasis(source, centers, torch.zeros(count).scatter_reduce(0, nearest, distances, "amax"))


def _count(kind: FittedKind, source: str, cells: Cells, options: FitOptions) -> int:
    count = options.units or cells.shape[1]
    if count > len(cells):
        raise ConfigError(
            f"{kind} of {count} units was asked for of layer {source!r}, of which {len(cells):,} cells were sampled. "
            f"Expected at most as many units as cells: {kind}:N for fewer, or more --basis-images."
        )
    return count


def _fitted(model: Any, values: npt.NDArray[Any], name: str, options: FitOptions) -> Any:
    warning = _sklearn("exceptions").ConvergenceWarning
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", warning)
        model.fit(values)
    if any(issubclass(each.category, warning) for each in caught):
        logger.info("%s has not converged after %d iterations: its basis is approximate", name, options.iterations)
    return model


def _tensor(values: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32)).clone(memory_format=torch.contiguous_format)
