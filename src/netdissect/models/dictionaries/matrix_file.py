"""Read a linear basis from a file of another program."""

from pathlib import Path

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from netdissect.concepts.array_file import read_array
from netdissect.errors import ShapeError
from netdissect.models.dictionaries.basis import LinearBasis
from netdissect.paths import check_regular


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
        matrix = _only_tensor(path) if path.suffix == ".safetensors" else _array(path)
    except (OSError, ValueError, TypeError, EOFError, safetensors.SafetensorError) as error:
        raise ShapeError(
            f"{path} cannot be read as a matrix ({error}). Expected a .npy file, or a .safetensors file of one tensor."
        ) from error
    numbers = not (matrix.is_complex() or matrix.dtype == torch.bool)
    if matrix.ndim != 2 or matrix.shape[1] != units or not numbers or not len(matrix):
        raise ShapeError(
            f"{path} holds {str(matrix.dtype).removeprefix('torch.')} {tuple(matrix.shape)}. Expected numbers of shape "
            f"(new units, {units}): a row for each new unit, a column for each of the layer's {units} units."
        )
    matrix = matrix.float().clone(memory_format=torch.contiguous_format)
    if not matrix.isfinite().all():
        raise ShapeError(f"{path} holds NaN or infinity. Expected finite numbers in every row.")
    return LinearBasis(source, matrix)


def _only_tensor(path: Path) -> Tensor:
    check_regular(path)
    tensors = load_file(path)
    if len(tensors) != 1:
        raise ValueError(f"it holds {len(tensors)} tensors")
    return next(iter(tensors.values()))


def _array(path: Path) -> Tensor:
    array = read_array(path)
    return torch.from_numpy(np.array(array, array.dtype.newbyteorder("=")))
