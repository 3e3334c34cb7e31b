"""A basis of a layer: K units computed from the U units of a cell, and its file.

class Basis                   what every basis can do
class LinearBasis             matrix (x - mean): components, rotations, permutations, matrices from files
encode_maps(basis, maps)      the units of a basis on the maps of its layer
basis_bytes, load_basis       its file: its tensors, as safetensors
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import ClassVar, Protocol, Self

import safetensors
import torch
from torch import Tensor

from netdissect.errors import ShapeError
from netdissect.models.dictionaries.tensor_bytes import tensor_bytes

KINDS: Mapping[str, str] = {
    "linear": "netdissect.models.dictionaries.basis:LinearBasis",
    "nmf": "netdissect.models.dictionaries.nmf_basis:NmfBasis",
    "kmeans": "netdissect.models.dictionaries.kmeans_basis:KMeansBasis",
    "sae": "netdissect.models.dictionaries.sparse_dictionary:SparseDictionary",
}
"""The class of each kind of basis; its `from_state(source, state)` makes one of the tensors of a file."""
_EXPECTED = "Expected a file that netdissect wrote for this layer; remove it, and it is made again."


class Basis(Protocol):
    """Units computed from those of a layer, cell by cell: no cell depends on another one."""

    @property
    def kind(self) -> str:
        """Which of `KINDS` it is."""

    @property
    def source(self) -> str:
        """Name of the layer whose cells it reads."""

    @property
    def inputs(self) -> int:
        """Units of that layer, U."""

    @property
    def units(self) -> int:
        """Units of the basis, K."""

    @property
    def sparse(self) -> bool:
        """Whether its codes are mostly zero and never negative."""

    @property
    def most_active(self) -> int | None:
        """The most units that are active on a cell, where it is sparse and bounds them."""

    def encode(self, cells: Tensor) -> Tensor:
        """Return the units of cells, row by row: float32 (N, U) -> float32 (N, K)."""

    def decode(self, codes: Tensor) -> Tensor | None:
        """Return the cells that codes stand for, float32 (N, K) -> float32 (N, U); None: it has no inverse."""

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that its file holds, and of which its digest is made."""


@dataclass(frozen=True, eq=False)
class LinearBasis:
    """A matrix times the units of a cell, from which a mean may be subtracted before.

    Attributes
    ----------
    source
        Name of the layer.
    matrix : float32 (K, U)
        A row for each unit.
    mean : float32 (U,)
        None: nothing is subtracted.

    Raises
    ------
    ShapeError
        If the tensors have other shapes or types.

    Examples
    --------
    >>> swapped = LinearBasis("conv5", torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    >>> swapped.encode(torch.tensor([[3.0, 4.0]]))
    tensor([[4., 3.]])
    """

    kind: ClassVar[str] = "linear"
    sparse: ClassVar[bool] = False
    most_active: ClassVar[int | None] = None

    source: str
    matrix: Tensor
    mean: Tensor | None = None

    def __post_init__(self) -> None:
        matrix, mean = self.matrix, self.mean
        if matrix.ndim != 2 or matrix.dtype != torch.float32 or not matrix.numel():
            raise ShapeError(
                f"The matrix of a basis of {self.source!r} is {matrix.dtype} {tuple(matrix.shape)}. Expected a "
                "tensor of PyTorch, torch.float32 (new units, units of the layer)."
            )
        if mean is not None and (mean.shape != matrix.shape[1:] or mean.dtype != torch.float32):
            raise ShapeError(
                f"The mean of a basis of {self.source!r} is {mean.dtype} {tuple(mean.shape)}. Expected float32 "
                f"({matrix.shape[1]},), a number for each unit of the layer."
            )

    @classmethod
    def from_state(cls, source: str, state: Mapping[str, Tensor]) -> Self:
        """Make a basis of the tensors of `state`."""
        return cls(source, state["matrix"], state.get("mean"))

    @property
    def inputs(self) -> int:
        """Units of the layer."""
        return self.matrix.shape[1]

    @property
    def units(self) -> int:
        """Units of the basis."""
        return len(self.matrix)

    def state(self) -> dict[str, Tensor]:
        """Return the matrix, and the mean if there is one."""
        return {"matrix": self.matrix} | ({} if self.mean is None else {"mean": self.mean})

    def encode(self, cells: Tensor) -> Tensor:
        """Return the units of cells, float32 (N, K)."""
        return self.encode_columns(cells.T).T

    def encode_columns(self, columns: Tensor) -> Tensor:
        """Return the units of cells that stand in columns: float32 (..., U, N) -> float32 (..., K, N)."""
        codes = self.matrix.to(columns.device) @ columns
        return codes if self._offset is None else codes - self._offset.to(columns.device)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the cells of least squares, float32 (N, U)."""
        cells: Tensor = codes @ self._inverse.to(codes.device).T
        return cells if self.mean is None else cells + self.mean.to(codes.device)

    @cached_property
    def _offset(self) -> Tensor | None:
        return None if self.mean is None else (self.matrix.double() @ self.mean.double()).float()[:, None]

    @cached_property
    def _inverse(self) -> Tensor:
        inverse: Tensor = torch.linalg.pinv(self.matrix.double())
        return inverse.float()


def encode_maps(basis: Basis, maps: Tensor) -> Tensor:
    """Return the units of a basis on the maps of its layer.

    Parameters
    ----------
    basis
        The basis.
    maps : float (B, U, h, w)
        Activations of its layer, in any format.

    Returns
    -------
    float32 (B, K, h, w)
        Computed in float32, also where the network runs in bfloat16.
    """
    columns = maps.flatten(2).float()
    with torch.autocast(maps.device.type, enabled=False):
        if isinstance(basis, LinearBasis):  # without a copy of the maps in another order
            codes = basis.encode_columns(columns)
        else:
            codes = basis.encode(columns.transpose(1, 2).flatten(0, 1))
            codes = codes.view(len(maps), columns.shape[2], -1).transpose(1, 2)
    return codes.reshape(len(maps), -1, *maps.shape[2:])


def basis_digest(basis: Basis) -> str:
    """Return the SHA-256 of a basis: its kind, its layer and its tensors."""
    digest = hashlib.sha256(repr((basis.kind, basis.source)).encode())
    for name, tensor in sorted(basis.state().items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(repr((name, str(plain.dtype), tuple(plain.shape))).encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def basis_bytes(basis: Basis, notes: Mapping[str, str] | None = None) -> bytes:
    """Return the file of a basis: its tensors as safetensors, its kind, layer, digest and notes in the metadata."""
    own = {"kind": basis.kind, "source": basis.source, "digest": basis_digest(basis)}
    return tensor_bytes(basis.state(), {**(notes or {}), **own})


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata of the file of a basis, as `basis_bytes` wrote them.

    Raises
    ------
    ShapeError
        If it cannot be read.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise ShapeError(f"{path} cannot be read as a basis ({error}). {_EXPECTED}") from error


def load_basis(path: str | Path, source: str) -> Basis:
    """Read a basis whose file `basis_bytes` gave.

    Parameters
    ----------
    path
        The file.
    source
        Name of the layer of which it is a basis.

    Raises
    ------
    ShapeError
        If the file is no such basis, that of another layer, or damaged.
    """
    metadata = read_metadata(path)
    kind = metadata.get("kind", "none")
    if kind not in KINDS:
        raise ShapeError(f"{path} holds no basis: its kind is {kind!r}. {_EXPECTED}")
    if metadata.get("source") != source:
        raise ShapeError(f"{path} holds a basis of layer {metadata.get('source')!r}, not of {source!r}. {_EXPECTED}")
    module, _, name = KINDS[kind].partition(":")
    with safetensors.safe_open(path, "pt") as file:
        # In memory of their own: products of matrices that begin elsewhere in it round otherwise.
        state = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 - it is no mapping
    try:
        basis: Basis = getattr(import_module(module), name).from_state(source, state)
    except KeyError as error:
        raise ShapeError(f"{path} holds no tensor {error} of a basis of kind {kind}. {_EXPECTED}") from error
    if basis_digest(basis) != metadata.get("digest"):
        raise ShapeError(f"{path} is damaged: its tensors are not those that were written. {_EXPECTED}")
    return basis
