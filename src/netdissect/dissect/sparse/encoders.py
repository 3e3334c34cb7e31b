"""Sparse layers of a forward pass: their source layers are recorded, and only the active codes of cells are kept."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self, cast

import numpy as np
import torch
from torch import Tensor

from netdissect.activations.sparse.sparse_maps import SparseMaps
from netdissect.models import Layer, Network
from netdissect.models.dictionaries.basis import Basis


class SparseBasis(Basis, Protocol):
    """A basis whose codes are mostly zero and never negative, and that returns the others alone."""

    def encode_sparse(self, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return cell, unit (both int64) and value (float32) of the codes above 0 of cells, float32 (N, U)."""


@dataclass(frozen=True)
class SparseEncoders:
    """The sparse layers of a pass.

    Attributes
    ----------
    recorded
        The layers that the network has to record: all others, and those that the sparse ones are computed from.
    names
        Names of all layers of the pass, in their order.
    bases
        Basis of each sparse layer, by its name.
    """

    recorded: tuple[Layer, ...]
    names: tuple[str, ...]
    bases: Mapping[str, SparseBasis]

    @classmethod
    def of(cls, network: Network, layers: Sequence[Layer], sparse: Collection[str]) -> Self:
        """Choose the layers to record."""
        bases = {layer.name: cast(SparseBasis, network.bases[layer.name]) for layer in layers if layer.name in sparse}
        recorded = {layer.name: layer for layer in layers if layer.name not in bases}
        for layer in layers:
            if layer.name in bases:
                basis = bases[layer.name]
                source = replace(layer, name=basis.source, units=basis.inputs, sparse=False, most_active=None)
                recorded.setdefault(basis.source, source)
        return cls(tuple(recorded.values()), tuple(layer.name for layer in layers), bases)

    def __call__(self, recorded: Mapping[str, Tensor]) -> dict[str, Tensor | SparseMaps]:
        """Return the maps of all layers from those that were recorded."""
        return {
            name: encode_sparse_maps(self.bases[name], recorded[self.bases[name].source])
            if name in self.bases
            else recorded[name]
            for name in self.names
        }


def encode_sparse_maps(basis: SparseBasis, maps: Tensor) -> SparseMaps:
    """Return the active codes of the cells of maps.

    Parameters
    ----------
    basis
        The basis.
    maps : float32 (B, U, h, w)
        Activations of its layer. A cell that is not finite gets a code of NaN, which `FiniteCheck` refuses.
    """
    cells = maps.float().flatten(2).transpose(1, 2).flatten(0, 1)
    with torch.inference_mode(), torch.autocast(maps.device.type, enabled=False):  # as in `encode_maps`
        cell, unit, value = (part.cpu().numpy() for part in basis.encode_sparse(cells))
    if not cells.sum().isfinite():
        bad = np.flatnonzero((~cells.isfinite().all(dim=1)).cpu().numpy())
        kept = ~np.isin(cell, bad)
        cell, unit = np.append(cell[kept], bad), np.append(unit[kept], np.zeros_like(bad))
        value = np.append(value[kept], np.full(len(bad), np.nan, np.float32))
    return SparseMaps.of_codes((len(maps), basis.units, maps.shape[2], maps.shape[3]), cell, unit, value)
