"""A sparse autoencoder as a file holds it, and what its encoder expects of cells, found by what it rebuilds."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor

from netdissect.errors import CheckpointError, ShapeError
from netdissect.models.dictionaries.reconstruction_error import normalized_error
from netdissect.models.dictionaries.sparse_dictionary import (
    NORMALIZATIONS,
    DictionaryWeights,
    Normalization,
    SparseDictionary,
)

logger = logging.getLogger(__name__)

NO_K = (
    "The file holds neither k nor threshold, so every value above zero was taken for active: if the encoder was "
    "trained with TopK or BatchTopK, save it with one more tensor: torch.save({**sae.state_dict(), 'k': "
    "torch.tensor(32)}, FILE), or 'threshold'."
)
LARGEST_ERROR = 1.0
"""Normalized error above which a dictionary is refused: the mean of the cells is closer to them."""
CHECKED_CELLS = 4096


class Convention(NamedTuple):
    """How a program prepares cells for an encoder, and the rows of a decoder.

    Attributes
    ----------
    subtracted
        Whether the decoder's bias is subtracted from a cell before it is encoded.
    normalization
        See `SparseDictionary`.
    unit_rows
        Whether the rows of the decoder are divided by their lengths.
    """

    subtracted: bool = False
    normalization: Normalization = "none"
    unit_rows: bool = False

    def __str__(self) -> str:
        parts = [
            "the decoder's bias subtracted" if self.subtracted else "",
            {"none": "", "length": "cells of one length", "layer": "normalized cells"}[self.normalization],
            "rows of unit length" if self.unit_rows else "",
        ]
        return ", ".join(filter(None, parts)) or "cells as they are"


class Orientation(NamedTuple):
    """Whether each matrix has a row for each unit of the layer; otherwise it has one for each latent."""

    encoder_by_unit: bool
    decoder_by_unit: bool


def conventions(subtracted: bool | None, normalization: Normalization | None) -> tuple[Convention, ...]:
    """Return every convention that agrees with what a file says; None: it does not say."""
    biases = (False, True) if subtracted is None else (subtracted,)
    scales = NORMALIZATIONS if normalization is None else (normalization,)
    return tuple(Convention(bias, scale) for scale, bias in product(scales, biases))


@dataclass(frozen=True, eq=False)
class StoredDictionary:
    """What a file of a sparse autoencoder holds.

    Attributes
    ----------
    path
        The file.
    weights
        As stored, with a row for each latent in both matrices.
    k
        Latents that are kept on each cell; None: all that are active.
    conventions
        Those that agree with what the file says; the likeliest first.
    hint
        What the file does not say, for the message that refuses it.
    trained_on
        The layer that the file names; empty: it names none.
    """

    path: Path
    weights: DictionaryWeights
    k: int | None
    conventions: tuple[Convention, ...]
    hint: str = ""
    trained_on: str = ""

    def checked(self) -> Self:
        """Return itself, if its numbers can be.

        Raises
        ------
        CheckpointError
            If a weight is NaN or infinite, or `k` is not between 1 and the number of latents.
        """
        latents = len(self.weights.encoder)
        named = self.weights._asdict().items()
        bad = [name for name, part in named if part is not None and not part.isfinite().all()]
        if bad:
            raise CheckpointError(
                f"{self.path} holds NaN or infinity in {', '.join(bad)}. Expected finite weights; its training may "
                "have diverged."
            )
        threshold = self.weights.threshold
        if self.k is not None and not 1 <= self.k <= latents:
            raise CheckpointError(
                f"{self.path} has {latents} latents and k = {self.k}. Expected k from 1 to {latents}."
            )
        if threshold is not None and len(threshold) not in (1, latents):
            raise CheckpointError(
                f"{self.path} has {latents} latents and a threshold of {len(threshold)} numbers. Expected one for "
                "all latents, or one for each."
            )
        return self

    def under(self, convention: Convention, source: str) -> SparseDictionary:
        """Return the dictionary of layer `source` under a convention."""
        encoder, bias, decoder, decoder_bias, threshold = self.weights
        if convention.unit_rows:
            decoder = decoder / decoder.norm(dim=1, keepdim=True).clamp(min=1e-8)
        if convention.subtracted:
            bias = (bias.double() - encoder.double() @ decoder_bias.double()).float()
        weights = DictionaryWeights(encoder, bias, decoder, decoder_bias, threshold)
        return SparseDictionary(source, weights, self.k, convention.normalization)

    def settle(self, source: str, cells: Tensor | None) -> SparseDictionary:
        """Return the dictionary under the convention that rebuilds cells best; see `read_dictionary`."""
        if cells is not None:
            cells = cells[:: -(-len(cells) // CHECKED_CELLS)]
        if cells is None or torch.equal(cells, cells[:1].expand_as(cells)):
            return self.under(self.conventions[0], source)
        errors = {one: rebuilt_error(self.under(one, source), cells) for one in self.conventions}
        best = min(errors, key=lambda one: errors[one])
        if not errors[best] <= LARGEST_ERROR:
            raise CheckpointError(self._refusal(source, cells, errors))
        trained_on = f"; it was trained on {self.trained_on}" if self.trained_on not in ("", source) else ""
        logger.info(
            "%s rebuilds %s cells of %s with NMSE %.3f (%s)%s",
            self.path, f"{len(cells):,}", source, errors[best], best, trained_on,
        )  # fmt: skip
        return self.under(best, source)

    def _refusal(self, source: str, cells: Tensor, errors: dict[Convention, float]) -> str:
        said = "The file says what its encoder expects, and nothing else was tried" if len(errors) == 1 else "Tried"
        tried = "; ".join(f"{convention}: {error:.2f}" for convention, error in errors.items())
        return (
            f"{self.path} does not rebuild the cells of layer {source!r}: the error on {len(cells):,} cells of the "
            f"first images is {min(errors.values()):.2f} of their variance, and that of their mean is 1. {said} "
            f"({tried}). Expected a sparse autoencoder of this layer of this network, trained on cells as they are "
            f"recorded here.{self.hint and ' ' + self.hint}"
        )


def check_shapes(path: Path, shapes: Sequence[tuple[int, ...]], units: int) -> None:
    """Refuse shapes of encoder, its bias, decoder, its bias that are no dictionary of a layer of so many units.

    Raises
    ------
    ShapeError
        If they are not.
    """
    encoder, encoder_bias, decoder, decoder_bias = shapes
    found = ", ".join(map(str, shapes))
    if len(decoder_bias) == 1 and decoder_bias[0] != units:
        raise ShapeError(
            f"{path} is a dictionary of cells of {decoder_bias[0]} units (encoder, its bias, decoder, its bias: "
            f"{found}), but the layer has {units}. Expected one that was trained on this layer."
        )
    latents = encoder_bias[0] if len(encoder_bias) == 1 else 0
    matrices = {(latents, units), (units, latents)}
    if not latents or len(decoder_bias) != 1 or encoder not in matrices or decoder not in matrices:
        raise ShapeError(
            f"{path} has tensors of the shapes {found} (encoder, its bias, decoder, its bias). Expected (K, {units}) "
            f"or ({units}, K), (K,), the same again, and ({units},), for K latents of a layer of {units} units."
        )


def oriented_weights(
    path: Path, tensors: Sequence[Tensor], units: int, orientation: Orientation | None
) -> DictionaryWeights:
    """Return weights with a row for each latent, float32.

    Parameters
    ----------
    path
        Their file.
    tensors
        Encoder, its bias, decoder, its bias.
    units
        Of the layer.
    orientation
        None: it is found by the shapes of the matrices.

    Raises
    ------
    ShapeError
        If the shapes are of another layer, or leave the orientation open.
    CheckpointError
        If the tensors hold no numbers with a fraction.
    """
    check_shapes(path, [tuple(tensor.shape) for tensor in tensors], units)
    integers = sorted({str(tensor.dtype) for tensor in tensors if not tensor.is_floating_point()})
    if integers:
        raise CheckpointError(f"{path} holds weights of {', '.join(integers)}. Expected floating-point numbers.")
    encoder, encoder_bias, decoder, decoder_bias = (tensor.detach().float() for tensor in tensors)
    if orientation is None:
        if len(encoder_bias) == units:
            raise ShapeError(
                f"{path} has as many latents as the layer has units, {units}, so its matrices may be read in two ways. "
                "Expected a file that says which: metadata 'orientation' as train-sae writes it, or another number of "
                "latents."
            )
        orientation = Orientation(len(encoder) == units, len(decoder) == units)
    by_latent = [
        (matrix.T if by_unit else matrix).contiguous()
        for matrix, by_unit in zip((encoder, decoder), orientation, strict=True)
    ]
    if any(len(matrix) != len(encoder_bias) for matrix in by_latent):
        raise ShapeError(
            f"{path} has matrices of the shapes {tuple(encoder.shape)} and {tuple(decoder.shape)}, which is not how "
            f"its form has them for {len(encoder_bias)} latents. Expected a file as its program wrote it."
        )
    return DictionaryWeights(by_latent[0], encoder_bias.contiguous(), by_latent[1], decoder_bias.contiguous())


def number_of(path: Path, tensor: Tensor | None, text: str | None = None) -> int | None:
    """Return k of a file, a tensor or text; None: it has none.

    Raises
    ------
    CheckpointError
        If it is no whole number.
    """
    if tensor is not None:
        text = str(tensor.item()) if tensor.numel() == 1 else f"of shape {tuple(tensor.shape)}"
    if text is not None and not text.isdecimal():
        raise CheckpointError(f"{path}: k is {text}. Expected the whole number of latents that are kept on a cell.")
    return None if text is None else int(text)


def rebuilt_error(dictionary: SparseDictionary, cells: Tensor) -> float:
    """Return the normalized error of a dictionary on cells, float32 (N, U); infinity if it rebuilds no numbers."""
    parts = torch.split(cells, 256)  # codes of all latents are dense here
    error = normalized_error(cells.numpy(), (dictionary.rebuild(part).numpy() for part in parts))
    return error if math.isfinite(error) else math.inf
