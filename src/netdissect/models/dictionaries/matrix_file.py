"""Read a linear basis from a file of another program."""

from pathlib import Path

import numpy as np
import safetensors
import torch
from safetensors.numpy import load_file

from netdissect.errors import ShapeError
from netdissect.models.dictionaries.basis import LinearBasis


def read_matrix(path: str | Path, source: str, units: int) -> LinearBasis:
    """Read the matrix of a basis.

    Parameters
    ----------
    path
        ``.npy``, or ``.safetensors`` with one tensor: (K, U), a row for each new unit.
    source
        Name of the layer.
    units
        U of the layer.

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
    if matrix.ndim != 2 or matrix.shape[1] != units or matrix.dtype.kind not in "fiu" or not len(matrix):
        raise ShapeError(
            f"{path} holds {matrix.dtype} {matrix.shape}. Expected numbers of shape (new units, {units}): a row for "
            f"each new unit, a column for each of the layer's {units} units."
        )
    if not np.isfinite(matrix).all():
        raise ShapeError(f"{path} holds NaN or infinity. Expected finite numbers in every row.")
    return LinearBasis(source, torch.from_numpy(np.ascontiguousarray(matrix, np.float32)).clone())
