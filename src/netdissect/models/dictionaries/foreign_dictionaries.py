"""Sparse autoencoders in the files of overcomplete and saev."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from netdissect.errors import CheckpointError
from netdissect.models.checkpoint_file import State, read_states
from netdissect.models.dictionaries.sparse_dictionary import NORMALIZATIONS
from netdissect.models.dictionaries.stored_dictionary import (
    NO_K,
    Convention,
    Orientation,
    StoredDictionary,
    conventions,
    number_of,
    oriented_weights,
)

DICTIONARY = "dictionary._weights"
LINEAR = "encoder.final_block.0."
BATCH_NORM = "encoder.final_block.1."
BATCH_NORM_EPSILON = 1e-5  # PyTorch's default, which no state dict holds
HEADER_BYTES = 1 << 20
"""Longest line of JSON before a state dict."""


def read_overcomplete(path: Path, state: State, units: int) -> StoredDictionary:
    """Read the state dict of an SAE of overcomplete: a linear encoder, with or without batch norm, or a tied one.

    The state dict says neither which activation function follows nor how the dictionary is normalized: as the program
    does by default, its rows are divided by their lengths, unless the cells say otherwise.
    """
    decoder = state[DICTIONARY]
    weight, bias = _linear_encoder(path, state)
    usual = tuple(Convention(False, scale, unit_rows) for scale in NORMALIZATIONS for unit_rows in (True, False))
    if weight is None:  # tied to the normalized dictionary
        decoder = weight = decoder.float() / decoder.float().norm(dim=-1, keepdim=True).clamp(min=1e-8)
        usual = tuple(Convention(False, scale) for scale in NORMALIZATIONS)
    biases = [torch.zeros(len(decoder)) if bias is None else bias, torch.zeros(decoder.shape[-1])]
    tensors = (weight, biases[0], decoder, biases[1])
    weights = oriented_weights(path, tensors, units, Orientation(encoder_by_unit=False, decoder_by_unit=False))
    multiplier = float(state.get("dictionary.multiplier", torch.zeros(())))
    if multiplier:
        raise CheckpointError(
            f"{path} scales its dictionary by exp({multiplier:.3g}). Expected no multiplier: save the encoder's weight "
            "and bias, get_dictionary() and a zero bias as W_enc, b_enc, W_dec and b_dec in a .safetensors file."
        )
    threshold, k = _kept(path, state)
    hint = "" if k or threshold is not None else NO_K
    return StoredDictionary(path, weights._replace(threshold=threshold), k, usual, hint).checked()


def read_saev(path: Path, units: int) -> StoredDictionary:
    """Read a checkpoint of saev: a line of JSON, then a state dict. Its code subtracts no bias, its paper does.

    Raises
    ------
    CheckpointError
        If it is none.
    """
    with path.open("rb") as file:
        line = file.readline(HEADER_BYTES)
    try:
        header = json.loads(line)
        kind, k = _saev_activation(header)
        state = next(state for state in read_states(path, skip=len(line)).values() if "W_enc" in state)
        tensors = [state[name] for name in ("W_enc", "b_enc", "W_dec", "b_dec")]
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise CheckpointError(
            f"{path} begins with a brace, but is no checkpoint of saev ({type(error).__name__}: {error}). Expected a "
            "line of JSON with its configuration, then a state dict of W_enc, b_enc, W_dec and b_dec."
        ) from error
    weights = oriented_weights(path, tensors, units, Orientation(encoder_by_unit=True, decoder_by_unit=False))
    threshold = state.get("activation.threshold") if kind == "BatchTopK" else None
    if threshold is not None:  # of older versions there is none, and k latents of each cell are kept
        weights, k = weights._replace(threshold=threshold.float().reshape(-1)), None
    return StoredDictionary(path, weights, k, conventions(None, None)).checked()


def _linear_encoder(path: Path, state: State) -> tuple[Tensor | None, Tensor | None]:
    """Return weight and bias of an encoder, batch norm included; a weight of None: it is tied to the dictionary."""
    own = {name for name in state if name.startswith("encoder.")}
    if own <= {"encoder.bias"}:
        return None, state.get("encoder.bias")
    before = "encoder." if "encoder.weight" in own else LINEAR
    norm = {BATCH_NORM + name for name in ("weight", "bias", "running_mean", "running_var")}
    known = {before + "weight", before + "bias"} | (norm if norm <= own else set())
    if before + "weight" not in own or own - known - {BATCH_NORM + "num_batches_tracked"}:
        raise CheckpointError(
            f"{path} has an encoder of {', '.join(sorted(own - known)[:4]) or 'other tensors'}. Expected one linear "
            "map, with or without batch norm: other encoders make a unit of more than a direction."
        )
    weight, bias = state[before + "weight"].float(), state.get(before + "bias")
    if norm <= own:
        scale, shift, mean, variance = (state[BATCH_NORM + name].float() for name in (
            "weight", "bias", "running_mean", "running_var",
        ))  # fmt: skip
        scale = scale / (variance + BATCH_NORM_EPSILON).sqrt()
        bias = shift - mean * scale if bias is None else shift + (bias.float() - mean) * scale
        weight = weight * scale[:, None]
    return weight, bias


def _kept(path: Path, state: State) -> tuple[Tensor | None, int | None]:
    """Return threshold and k, which are there where a user added them; JumpReLU stores logarithms of thresholds."""
    if "thresholds" in state:
        return state["thresholds"].float().exp(), None
    threshold = state.get("threshold")
    return None if threshold is None else threshold.float().reshape(-1), number_of(path, state.get("k"))


def _saev_activation(header: Any) -> tuple[str, int | None]:
    """Return the name of the activation function and k, from the header of any version."""
    if "schema" not in header:
        return "Relu", None
    config = header["cfg"]
    named = config.get("activation")
    kind = named["cls"] if named else header.get("cls", "Relu")
    k = named["params"].get("top_k", 32) if named else config.get("top_k", 32)
    if kind not in ("Relu", "TopK", "BatchTopK"):
        raise ValueError(f"unknown activation function {kind}")
    return kind, None if kind == "Relu" else int(k)
