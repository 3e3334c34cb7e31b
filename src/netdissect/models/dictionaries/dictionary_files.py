"""Files of sparse autoencoders: those of `train-sae`, and those that other programs write.

    read_dictionary(path, units, source, cells) -> SparseDictionary;  dictionary_paths(path): the files that it reads
    dictionary_bytes(dictionary, facts)         the content of a file;  read_facts(path): its metadata

Four forms are read: ``.safetensors`` with W_enc, b_enc, W_dec, b_dec and a threshold or k; a folder of SAELens
(`saelens_folders`); a state dict of overcomplete; a checkpoint of saev (`foreign_dictionaries`). None runs code.
"""

from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from netdissect.errors import CheckpointError
from netdissect.models.checkpoint_file import State, read_states
from netdissect.models.dictionaries.foreign_dictionaries import DICTIONARY, read_overcomplete, read_saev
from netdissect.models.dictionaries.saelens_folders import read_saelens, saelens_files
from netdissect.models.dictionaries.sparse_dictionary import NORMALIZATIONS, SparseDictionary
from netdissect.models.dictionaries.stored_dictionary import (
    NO_K,
    Convention,
    Orientation,
    StoredDictionary,
    check_shapes,
    conventions,
    number_of,
    oriented_weights,
)
from netdissect.models.dictionaries.tensor_bytes import tensor_bytes
from netdissect.paths import check_regular

PLAIN = ("W_enc", "b_enc", "W_dec", "b_dec")
ORIENTATION = "x @ W_enc + b_enc, codes @ W_dec + b_dec"
"""Which dimension of a matrix is which, as files of `dictionary_bytes` say it."""
FORMS = (
    "Expected a .safetensors file of W_enc, b_enc, W_dec, b_dec (and threshold or k), a folder of SAELens, a state "
    "dict of an SAE of overcomplete with a linear encoder, or a checkpoint of saev"
)


def read_dictionary(path: str | Path, units: int, source: str = "", cells: Tensor | None = None) -> SparseDictionary:
    """Read a sparse autoencoder of a layer.

    Parameters
    ----------
    path
        The file or folder; see the module.
    units
        U of the layer.
    source
        Name of the layer.
    cells : float32 (N, U)
        Of the first images. What the encoder expects is taken from the file where it says so; of what is left open,
        that is taken which rebuilds these cells best. None: what is usual for the form of the file, without a check.

    Raises
    ------
    ShapeError
        If the dictionary is of another width, or its tensors do not fit together.
    CheckpointError
        If the file is missing, foreign, damaged or would run code, holds NaN, or does not rebuild `cells`.
    """
    return _stored(Path(path), units).settle(source, cells)


def dictionary_bytes(dictionary: SparseDictionary, facts: Mapping[str, str]) -> bytes:
    """Return a ``.safetensors`` file of W_enc (U, K), b_enc, W_dec (K, U), b_dec, and k or threshold.

    Parameters
    ----------
    dictionary
        What it holds.
    facts
        Further metadata, such as what it was trained on.
    """
    encoder, encoder_bias, decoder, decoder_bias, threshold = dictionary.weights
    tensors = {"W_enc": encoder.T, "b_enc": encoder_bias, "W_dec": decoder, "b_dec": decoder_bias}
    if threshold is not None:
        tensors["threshold"] = threshold
    if dictionary.k is not None:
        tensors["k"] = torch.tensor(dictionary.k)
    said = {
        "orientation": ORIENTATION,
        "subtract_decoder_bias": "false",
        "input_normalization": dictionary.normalization,
    }
    return tensor_bytes(tensors, {**facts, **said})


def read_facts(path: str | Path) -> dict[str, str]:
    """Return the metadata of a ``.safetensors`` file; empty if it is no such file."""
    try:
        check_regular(Path(path))
        with safetensors.safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, safetensors.SafetensorError):
        return {}


def dictionary_paths(path: Path) -> tuple[Path, ...]:
    """Return the files of which a dictionary is read."""
    return saelens_files(path) or (path,)


def _stored(path: Path, units: int) -> StoredDictionary:
    folder = saelens_files(path)
    if folder is not None:
        return read_saelens(*folder, units)
    try:
        check_regular(path)
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be opened ({error.strerror}). {FORMS}; correct the path.") from error
    if head[8:] == b"{" and head[7] == 0:  # eight bytes are the length of the header
        return _plain(path, _safetensors(path, units), read_facts(path), units)
    if head.startswith(b"{"):
        return read_saev(path, units)
    states = read_states(path)
    for state in states.values():
        if DICTIONARY in state:
            return read_overcomplete(path, state, units)
        if {*PLAIN} <= {*state}:
            return _plain(path, state, {}, units)
    raise CheckpointError(_foreign(path, next(iter(states.values()))))


def _safetensors(path: Path, units: int) -> State:
    """Read the tensors of a plain file, whose shapes are checked before memory is taken."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            if DICTIONARY in shapes or not {*PLAIN} <= {*shapes}:
                raise CheckpointError(_foreign(path, shapes))
            check_shapes(path, [shapes[name] for name in PLAIN], units)
            return {name: file.get_tensor(name) for name in (*PLAIN, "threshold", "k") if name in shapes}
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a safetensors file ({error}). {FORMS}; it may be truncated, copy it again."
        ) from error


def _plain(path: Path, state: State, facts: Mapping[str, str], units: int) -> StoredDictionary:
    said = facts.get("orientation") == ORIENTATION
    known = Orientation(encoder_by_unit=True, decoder_by_unit=False) if said else None
    weights = oriented_weights(path, [state[name] for name in PLAIN], units, known)
    threshold = state.get("threshold")
    if threshold is not None:
        weights = weights._replace(threshold=threshold.float().reshape(-1))
    k = number_of(path, state.get("k"), facts.get("k"))
    hint = "" if k or threshold is not None else NO_K
    return StoredDictionary(path, weights, k, _said(path, facts), hint, facts.get("layer", "")).checked()


def _said(path: Path, facts: Mapping[str, str]) -> tuple[Convention, ...]:
    biases, name = {None: None, "true": True, "false": False}, "subtract_decoder_bias"
    normalization = facts.get("input_normalization")
    if facts.get(name) not in biases or normalization not in (None, *NORMALIZATIONS):
        raise CheckpointError(
            f"{path} says subtract_decoder_bias = {facts.get(name)} and input_normalization = {normalization}. "
            f"Expected true or false, and {', '.join(NORMALIZATIONS)}."
        )
    return conventions(biases[facts.get(name)], normalization)


def _foreign(path: Path, names: Mapping[str, object]) -> str:
    listed = ", ".join([*names][:6])
    return f"{path} holds no sparse autoencoder that can be read: its tensors are {listed or 'none'}. {FORMS}."
