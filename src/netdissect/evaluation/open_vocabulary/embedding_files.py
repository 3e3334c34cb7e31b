"""Embeddings that were computed elsewhere: arrays in .npy or .safetensors files.

images.npy,words.npy      float (N, D), see `embedding_rows`, and float (W, D) in the order of the words
both.safetensors          the same as tensors named images and words
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors

from netdissect.concepts.array_file import read_array
from netdissect.errors import ConfigError, ShapeError
from netdissect.paths import check_regular

Floats = npt.NDArray[np.floating[Any]]


def read_embeddings(paths: tuple[Path, ...]) -> tuple[Floats, Floats]:
    """Read the embeddings of images and of words.

    Parameters
    ----------
    paths
        A file for images and one for words, or one ``.safetensors`` file for both.

    Returns
    -------
    images, words
        As they are in the files.

    Raises
    ------
    ConfigError
        If a file is missing, damaged, or holds no such array.
    """
    if len(paths) == 1:
        return _tensor(paths[0], "images"), _tensor(paths[0], "words")
    images, words = paths
    return _array(images, "images"), _array(words, "words")


def read_image_embeddings(path: Path) -> Floats:
    """Read the embeddings of images alone, from a ``.npy`` or ``.safetensors`` file.

    Raises
    ------
    ConfigError
        If it is missing, damaged, or holds no such array.
    """
    return _array(path, "images")


def unit_vectors(values: npt.ArrayLike, count: int, what: str, name: str) -> Floats:
    """Return embeddings divided by their lengths, float32 or float64 (count, D).

    Parameters
    ----------
    values
        (count, D).
    count
        How many there must be.
    what
        Names them in messages.
    name
        Of what each is an embedding, such as ``image``.

    Raises
    ------
    ShapeError
        If they are no such array, of another count, or hold NaN, infinity or zero vectors.
    """
    array = np.asarray(values)
    if array.ndim != 2 or array.dtype.kind != "f" or 0 in array.shape:
        raise ShapeError(
            f"{what} are {array.dtype} {array.shape}. Expected floating-point numbers ({count}, D): one row of D "
            f"numbers for each {name}."
        )
    if len(array) != count:
        raise ShapeError(
            f"{what} have {len(array):,} rows for {count:,} {name}s. Expected one row for each {name}, in the same "
            "order."
        )
    plain = array.astype(np.float64 if array.dtype == np.float64 else np.float32)
    wrong = np.flatnonzero(~np.isfinite(plain).all(axis=1))
    if len(wrong):
        raise ShapeError(
            f"{what} hold NaN or infinity: {len(wrong)} of {count:,} rows, the first is row {wrong[0]}, counted from "
            "0. Expected finite numbers; compute them again."
        )
    largest = np.abs(plain).max(axis=1, keepdims=True)
    zero = np.flatnonzero(largest[:, 0] == 0)
    if len(zero):
        raise ShapeError(
            f"{what} hold {len(zero)} rows of zeros, the first is row {zero[0]}, counted from 0: a vector of zeros has "
            f"no direction. Expected an embedding for each {name}; leave out what has none."
        )
    scaled = plain / largest
    return np.asarray(scaled / np.sqrt((scaled**2).sum(axis=1, keepdims=True)))


def _array(path: Path, name: str) -> Floats:
    if path.suffix == ".safetensors":
        return _tensor(path, name)
    try:
        return read_array(path)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(_unreadable(path, "NumPy's .npy file of one array", error)) from error


def _tensor(path: Path, name: str) -> Floats:
    try:
        check_regular(path)
        with safetensors.safe_open(path, "np") as file:
            known = list(file.keys())
            chosen = name if name in known else known[0] if len(known) == 1 else None
            if chosen is None:
                raise ConfigError(
                    f"{path} holds the tensors {', '.join(known[:5]) or 'of no name'}. Expected one named {name!r}, or "
                    "a single one."
                )
            tensor: Floats = file.get_tensor(chosen)
            return tensor
    except (OSError, ValueError, TypeError, safetensors.SafetensorError) as error:
        raise ConfigError(_unreadable(path, "a .safetensors file with a tensor of embeddings", error)) from error


def _unreadable(path: Path, expected: str, reason: object) -> str:
    text = str(getattr(reason, "strerror", None) or reason).strip().partition("\n")[0]
    return f"the embeddings {path} cannot be read ({text}). Expected {expected}."
