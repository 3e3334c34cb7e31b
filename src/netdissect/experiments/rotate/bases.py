"""Other bases of a layer: principal and independent components, a permutation, any matrix from a file.

Components are estimated on a sample of cells. Their signs are arbitrary, but a mask is where a unit is largest: the
sign of each component is the one in which its values have the longer tail.
"""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import safetensors
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.numpy import load_file
from scipy import stats
from torch import Tensor

from netdissect.activations import batch_starts
from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Execution
from netdissect.dissect.forward import DissectionInputs, forward
from netdissect.errors import ShapeError
from netdissect.extras import need
from netdissect.models import Network, resolve_layers

logger = logging.getLogger(__name__)

BasisType = Literal["pca", "ica", "permutation"]
Cells = npt.NDArray[np.float32]
# Directions in which a layer's values hardly vary, such as dead units, have no component.
RELATIVE_VARIANCE = 1e-7


class CellSample(BaseModel):
    """Cells from which principal and independent components are estimated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int = Field(500, gt=0, description="Images at most, spread evenly over the data set.")
    cells: int = Field(20_000, gt=0, description="Cells at most, in all, drawn at random.")
    iterations: int = Field(400, gt=0, description="Of FastICA at most.")
    seed: int = Field(0, ge=0, description="Of the cells, of FastICA's start and of the permutation.")


def learned_bases(
    network: Network,
    data: ConceptData,
    layer: str,
    types: Sequence[BasisType],
    sample: CellSample,
    config: DissectConfig,
) -> dict[str, Tensor]:
    """Estimate bases of a layer.

    Parameters
    ----------
    network, data, layer
        The layer and the images.
    types
        Which bases.
    sample
        The cells.
    config
        Of the forward pass.

    Returns
    -------
    dict of str to float32 (K, U)
        By type; K is below U if the layer has directions without variance.
    """
    units = resolve_layers(network, [layer], config.assumed)[0].units
    bases: dict[str, Tensor] = {}
    cells = None
    if {"pca", "ica"} & set(types):
        _sklearn("decomposition")  # before the pass over the images
        cells = sample_cells(network, data, layer, sample, config)
    for basis in types:
        if basis == "permutation" or cells is None:
            order = np.random.default_rng(sample.seed).permutation(units)
            bases[basis] = torch.eye(units)[torch.from_numpy(order)]
        else:
            bases[basis] = torch.from_numpy(_components(basis, cells, sample).astype(np.float32))
    return bases


def sample_cells(network: Network, data: ConceptData, layer: str, sample: CellSample, config: DissectConfig) -> Cells:
    """Return activations of random cells, float32 (N, U), from one pass over a part of the images."""
    layers = resolve_layers(network, [layer], config.assumed)
    every = max(1, len(data) // sample.images)
    part = replace(data, rows=data.rows[::every][: sample.images])
    rng = np.random.default_rng(sample.seed)
    share = max(1, sample.cells // len(part))
    rows: list[Cells] = []
    starts = batch_starts(len(part), config.batch_size)
    for batch in forward(DissectionInputs(network, part, layers, config, Execution()), starts):
        maps = batch.maps[layer].flatten(2).transpose(1, 2).cpu().numpy()
        rows += [image[rng.permutation(len(image))[:share]] for image in maps]
    return np.concatenate(rows)


def _sklearn(module: str) -> Any:
    return need(f"sklearn.{module}", "experiments", "A basis of principal or independent components")


def _components(basis: BasisType, cells: Cells, sample: CellSample) -> npt.NDArray[np.float64]:
    values = cells.astype(np.float64)
    principal = _sklearn("decomposition").PCA().fit(values)
    varying = int((principal.explained_variance_ > RELATIVE_VARIANCE * principal.explained_variance_[0]).sum())
    directions = principal.components_[:varying]
    if basis == "ica":
        directions = _independent(values, varying, sample)
    skewed = stats.skew((values - values.mean(axis=0)) @ directions.T, axis=0)
    return np.asarray(directions * np.where(skewed < 0, -1, 1)[:, None])


def _independent(values: npt.NDArray[np.float64], count: int, sample: CellSample) -> npt.NDArray[np.float64]:
    warning = _sklearn("exceptions").ConvergenceWarning
    independent = _sklearn("decomposition").FastICA
    model = independent(count, whiten="unit-variance", max_iter=sample.iterations, tol=1e-3, random_state=sample.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", warning)
        try:
            model.fit(values)
        except warning:
            warnings.simplefilter("ignore", warning)
            model.fit(values)
            logger.info("FastICA has not converged after %d iterations: its basis is approximate", sample.iterations)
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
