"""A sparse autoencoder as a basis: its latents are units, few of which are active on a cell."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Self, get_args

import torch
from torch import Tensor

from netdissect.errors import ShapeError

Activation = Literal["relu", "jumprelu", "topk"]
Normalization = Literal["none", "length", "layer"]
NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)
PART_VALUES = 1 << 24
"""Values of all latents that are computed at a time: 64 MB."""
EPSILON = 1e-5  # added to the deviation of a cell


class DictionaryWeights(NamedTuple):
    """The tensors of a sparse autoencoder, float32; a row of both matrices belongs to a latent.

    Attributes
    ----------
    encoder, encoder_bias
        (K, U) and (K,).
    decoder, decoder_bias
        (K, U) and (U,).
    threshold
        (K,) or (1,): a latent is active above it; None: above zero.
    """

    encoder: Tensor
    encoder_bias: Tensor
    decoder: Tensor
    decoder_bias: Tensor
    threshold: Tensor | None = None


class SparseCodes(NamedTuple):
    """The latents that are active on cells, by rising cell and, on each cell, by rising latent.

    Attributes
    ----------
    cell, latent
        int64 (nnz,).
    value
        float32 (nnz,), above zero.
    """

    cell: Tensor
    latent: Tensor
    value: Tensor


@dataclass(frozen=True, eq=False)
class SparseDictionary:
    """The latents of a sparse autoencoder, ``act(encoder x + encoder_bias)``, and the cells that they stand for.

    Attributes
    ----------
    source
        Name of the layer.
    weights
        What the encoder subtracts from a cell is part of its bias.
    k
        Latents that are kept on each cell, those of the largest values; None: all that are active.
    normalization
        What is done to a cell before: ``none``; ``length``: scaled to the length sqrt(U); ``layer``: the mean of its
        units is subtracted, and they are divided by their deviation.

    Raises
    ------
    ShapeError
        If the tensors do not belong together, or `k` is not between 1 and K.

    Notes
    -----
    A latent is active on a cell where its value is above zero, above its threshold, and among the `k` largest. With
    thresholds this is JumpReLU; BatchTopK outside of its training is JumpReLU with one threshold for all latents
    (Bussmann et al. 2024). Where fewer than `k` values are above zero, the others are not kept.

    Examples
    --------
    >>> eye = torch.eye(3)
    >>> dictionary = SparseDictionary("conv5", DictionaryWeights(eye, torch.zeros(3), eye, torch.zeros(3)), k=1)
    >>> dictionary.encode(torch.tensor([[1.0, 3.0, -5.0]]))
    tensor([[0., 3., 0.]])
    """

    kind: ClassVar[str] = "sae"
    sparse: ClassVar[bool] = True

    source: str
    weights: DictionaryWeights
    k: int | None = None
    normalization: Normalization = "none"

    def __post_init__(self) -> None:
        encoder, encoder_bias, decoder, decoder_bias, threshold = self.weights
        latents, inputs = encoder.shape
        expected = [(latents,), (latents, inputs), (inputs,)]
        if [tuple(part.shape) for part in (encoder_bias, decoder, decoder_bias)] != expected or (
            threshold is not None and tuple(threshold.shape) not in ((latents,), (1,))
        ):
            raise ShapeError(
                f"The tensors of a sparse dictionary of {self.source!r} have the shapes "
                f"{', '.join(str(tuple(part.shape)) for part in self.weights if part is not None)}. Expected encoder "
                "(K, U), its bias (K,), decoder (K, U), its bias (U,), and a threshold (K,) or (1,) if there is one."
            )
        if self.k is not None and not 1 <= self.k <= latents:
            raise ShapeError(
                f"A sparse dictionary of {self.source!r} keeps k = {self.k} of its {latents} latents. Expected k from "
                f"1 to {latents}."
            )

    @classmethod
    def from_state(cls, source: str, state: Mapping[str, Tensor]) -> Self:
        """Make a dictionary of the tensors of `state`."""
        weights = DictionaryWeights(
            state["encoder"], state["encoder_bias"], state["decoder"], state["decoder_bias"], state.get("threshold")
        )
        normalization = NORMALIZATIONS[int(state["normalization"])]
        return cls(source, weights, int(state["k"]) if "k" in state else None, normalization)

    @property
    def inputs(self) -> int:
        """Units of the layer."""
        return self.weights.encoder.shape[1]

    @property
    def units(self) -> int:
        """Latents."""
        return len(self.weights.encoder)

    @property
    def most_active(self) -> int | None:
        """The most latents that are active on a cell."""
        return self.k

    @property
    def activation(self) -> Activation:
        """The function that makes codes of values."""
        if self.k is not None:
            return "topk"
        return "relu" if self.weights.threshold is None else "jumprelu"

    def state(self) -> dict[str, Tensor]:
        """Return the weights, `k` if it is set, and the index of the normalization."""
        named = {name: part for name, part in self.weights._asdict().items() if part is not None}
        named["normalization"] = torch.tensor(NORMALIZATIONS.index(self.normalization))
        return named | ({} if self.k is None else {"k": torch.tensor(self.k)})

    def encode(self, cells: Tensor) -> Tensor:
        """Return the codes of cells, zero where a latent is not active: float32 (N, U) -> float32 (N, K)."""
        cell, latent, value = self.encode_sparse(cells)
        codes = torch.zeros(len(cells), self.units, device=cells.device)
        codes[cell, latent] = value
        return codes

    def encode_sparse(self, cells: Tensor) -> SparseCodes:
        """Return the latents that are active on cells, float32 (N, U)."""
        found = [*self._encoded_parts(cells)]
        if not found:
            none = torch.empty(0, dtype=torch.int64, device=cells.device)
            return SparseCodes(none, none, torch.empty(0, device=cells.device))
        return SparseCodes(*map(torch.cat, zip(*found, strict=True)))

    def decode(self, codes: Tensor) -> Tensor | None:
        """Return the cells that codes stand for, float32 (N, U); None where cells are normalized before."""
        return self._decoded(codes) if self.normalization == "none" else None

    def rebuild(self, cells: Tensor) -> Tensor:
        """Return what is left of cells after encoding and decoding them, float32 (N, U), on their own scale."""
        _, scale, shift = self._normalized(cells)
        return self._decoded(self.encode(cells)) * scale + shift

    def _decoded(self, codes: Tensor) -> Tensor:
        return torch.addmm(self.weights.decoder_bias.to(codes.device), codes, self.weights.decoder.to(codes.device))

    def _encoded_parts(self, cells: Tensor) -> Iterator[SparseCodes]:
        """Yield the codes of so many cells at a time that the values of all latents fit into the memory."""
        encoder, bias = self.weights.encoder.to(cells.device), self.weights.encoder_bias.to(cells.device)
        size = max(1, PART_VALUES // self.units)
        for start in range(0, len(cells), size):
            values = torch.addmm(bias, self._normalized(cells[start : start + size])[0], encoder.T)
            cell, latent, value = self._active(values)
            yield SparseCodes(cell + start, latent, value)

    def _active(self, values: Tensor) -> SparseCodes:
        """Return what is active of the values of all latents, float32 (n, K)."""
        limit = torch.zeros(1, device=values.device)
        if self.weights.threshold is not None:
            limit = self.weights.threshold.to(values.device).clamp(min=0)
        if self.k is None:
            cell, latent = (values > limit).nonzero(as_tuple=True)
            return SparseCodes(cell, latent, values[cell, latent])
        latents = values.topk(self.k, dim=1, sorted=False).indices.sort(dim=1).values
        kept = values.gather(1, latents)
        cell, column = (kept > (limit if len(limit) == 1 else limit[latents])).nonzero(as_tuple=True)
        return SparseCodes(cell, latents[cell, column], kept[cell, column])

    def _normalized(self, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return normalized cells, and by what they are multiplied and what is added to undo it, (N, 1)."""
        shift = torch.zeros(len(cells), 1, device=cells.device)
        if self.normalization == "none":
            return cells, shift + 1, shift
        if self.normalization == "layer":
            shift = cells.mean(dim=1, keepdim=True)
            scale = cells.std(dim=1, keepdim=True) + EPSILON
        else:
            scale = cells.norm(dim=1, keepdim=True).clamp(min=EPSILON) / self.inputs**0.5
        return (cells - shift) / scale, scale, shift
