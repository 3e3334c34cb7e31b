"""Read stored activations: a folder of .npy arrays, or of shards of saev, with a list of images.

    DIR/images.txt             one name of an image a line, as in index.csv of the data set
    DIR/NAME.npy               float (N, C, H, W), (N, T, C) or (N, U): layer NAME
    DIR/metadata.json, ...     shards of saev, protocol 2.1: float32 (N, layers, tokens, d_model)

Nothing is unpickled, and arrays are mapped into memory, not read: their size is that of the file, or they are refused.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import file_digest, sha256
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from netdissect.concepts.array_file import read_array
from netdissect.errors import NetworkError
from netdissect.paths import check_regular, contained

LIST_FILE = "images.txt"
METADATA, SHARDS = "metadata.json", "shards.json"
PROTOCOL = "2.1"
LARGEST_TEXT = 2**28
"""Bytes of a list of images, or of a description of shards."""
FLOATS = (np.float16, np.float32, np.float64)
Parts = tuple[npt.NDArray[Any], ...]


@dataclass(frozen=True)
class LayerFiles:
    """The files of one layer, or of several that share them."""

    paths: tuple[Path, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of their content, which is read once for all layers."""
        digest = sha256()
        for path in self.paths:
            with path.open("rb") as file:
                digest.update(file_digest(file, "sha256").digest())
        return digest.hexdigest()


@dataclass(frozen=True)
class StoredLayer:
    """The activations of one layer on all images.

    Attributes
    ----------
    name
        Of the layer.
    parts
        Arrays that follow one another, each of some images, mapped into memory.
    files
        Where they are.
    prefix
        Tokens before those of the grid, such as a class token.
    """

    name: str
    parts: Parts
    files: LayerFiles
    prefix: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all images together."""
        return (sum(map(len, self.parts)), *self.parts[0].shape[1:])

    def read(self, rows: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return the activations of some images, float32."""
        values = np.empty((len(rows), *self.shape[1:]), np.float32)
        for index, row in enumerate(rows):
            part, own = self._part(row)
            values[index] = self.parts[part][own]
        return values

    def where(self, row: int) -> tuple[Path, int]:
        """Return the file that holds an image, and its row there."""
        part, own = self._part(row)
        return self.files.paths[part], own

    def _part(self, row: int) -> tuple[int, int]:
        part = int(np.searchsorted(self._ends, row, side="right"))
        return part, row - self._ends[part] + len(self.parts[part])

    @cached_property
    def _ends(self) -> list[int]:
        """Images of all parts up to each."""
        return list(accumulate(map(len, self.parts)))

    @property
    def digest(self) -> str:
        """SHA-256 of what it is in its files, and of their content."""
        return sha256(repr((self.name, self.shape, self.prefix, self.files.digest)).encode()).hexdigest()


@dataclass(frozen=True)
class StoredFiles:
    """A folder of activations: layers by name, and the position of each image by its name."""

    layers: Mapping[str, StoredLayer]
    rows: Mapping[str, int]


def read_folder(folder: Path) -> StoredFiles:
    """Open a folder of activations.

    Raises
    ------
    NetworkError
        If it holds none, they are damaged or not those of the list of images.
    """
    if not folder.is_dir():
        raise NetworkError(f"There is no folder {folder}. Expected activations:DIR, a folder of stored activations.")
    layers = _shards(folder) if (folder / METADATA).exists() else _arrays(folder)
    rows = _image_rows(folder)
    for layer in layers:
        if layer.shape[0] != len(rows):
            raise NetworkError(
                f"Layer {layer.name!r} of {folder} has activations of {layer.shape[0]:,} images, and {LIST_FILE} names "
                f"{len(rows):,}. Expected one line for each image, in the order of the activations."
            )
    return StoredFiles({layer.name: layer for layer in layers}, rows)


def _image_rows(folder: Path) -> dict[str, int]:
    path = folder / LIST_FILE
    names = [line.strip() for line in _text(path, f"{path} with the name of one image a line").splitlines()]
    rows = {name: row for row, name in enumerate(names)}
    if len(rows) != len(names) or "" in rows:
        again = next((name for row, name in enumerate(names) if not name or rows[name] != row), "")
        raise NetworkError(
            f"{path} names {again!r} twice, or has an empty line. Expected the name of each image once, as in "
            "index.csv of the data set."
        )
    return rows


def _text(path: Path, expected: str) -> str:
    try:
        check_regular(path)
        size = path.stat().st_size
        if size > LARGEST_TEXT:
            raise NetworkError(f"{path} has {size:,} bytes. Expected {expected}, of at most {LARGEST_TEXT:,}.")
        return path.read_text(encoding="utf-8-sig")  # of some editors it begins with a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NetworkError(f"{path} cannot be read ({reason}). Expected {expected}.") from error


def _arrays(folder: Path) -> list[StoredLayer]:
    paths = sorted(folder.glob("*.npy"))
    if not paths:
        raise NetworkError(
            f"The folder {folder} holds no activations. Expected NAME.npy for each layer, float (images, channels, "
            f"height, width) or (images, tokens, channels), or shards of saev with {METADATA}."
        )
    return [StoredLayer(path.stem, (_mapped(path),), LayerFiles((path,))) for path in paths]


def _mapped(path: Path) -> npt.NDArray[Any]:
    try:
        array = read_array(path)
    except (OSError, ValueError, EOFError) as error:
        raise NetworkError(
            f"{path} cannot be used ({error}). Expected a whole array of numbers, as numpy.save writes it."
        ) from error
    if array.dtype not in FLOATS or array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise NetworkError(
            f"{path} is {array.dtype} {array.shape}. Expected floating-point activations (images, channels, height, "
            "width), (images, tokens, channels) or (images, units)."
        )
    return array


class _SaevMetadata(BaseModel):
    """What is read of ``metadata.json``; its field ``data``, a pickle in base64, is not."""

    protocol: str
    layers: tuple[int, ...] = Field(min_length=1)
    content_tokens_per_example: int = Field(gt=0)
    cls_token: bool
    d_model: int = Field(gt=0)
    n_examples: int = Field(gt=0)
    dtype: str


class _SaevFile(BaseModel):
    name: str
    n_examples: int = Field(ge=0)


def _shards(folder: Path) -> list[StoredLayer]:
    expected = f"{METADATA} and {SHARDS} as saev writes them"
    try:
        described = _SaevMetadata.model_validate_json(_text(folder / METADATA, expected))
        shards = TypeAdapter(list[_SaevFile]).validate_json(_text(folder / SHARDS, expected))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise NetworkError(
            f"The shards of {folder} cannot be used ({where}: {first['msg']}). Expected {expected}, protocol "
            f"{PROTOCOL}."
        ) from error
    if described.protocol != PROTOCOL or described.dtype != "float32":
        raise NetworkError(
            f"The shards of {folder} are {described.dtype} of protocol {described.protocol}. Expected float32 of "
            f"protocol {PROTOCOL}; write them again with a newer saev."
        )
    if sum(shard.n_examples for shard in shards) != described.n_examples:
        raise NetworkError(
            f"{SHARDS} of {folder} names {sum(shard.n_examples for shard in shards):,} examples, and {METADATA} "
            f"{described.n_examples:,}. Expected all shards; complete the folder."
        )
    if sorted({*described.layers}) != [*described.layers]:
        raise NetworkError(
            f"{METADATA} of {folder} names the layers {', '.join(map(str, described.layers))}, but saev writes layers "
            "in the order in which they run, whatever was asked for: which is which is not certain. Expected rising "
            "numbers; write the shards again with the layers in this order."
        )
    shards = [shard for shard in shards if shard.n_examples]  # after a full file saev begins one more
    files = LayerFiles(tuple(contained(folder, shard.name, folder / SHARDS, NetworkError) for shard in shards))
    tokens = described.content_tokens_per_example + described.cls_token
    shape = (len(described.layers), tokens, described.d_model)
    maps = [_mapped_shard(path, (shard.n_examples, *shape)) for path, shard in zip(files.paths, shards, strict=True)]
    return [
        StoredLayer(f"layer{number}", tuple(part[:, index] for part in maps), files, int(described.cls_token))
        for index, number in enumerate(described.layers)
    ]


def _mapped_shard(path: Path, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    expected = math.prod(shape) * np.dtype(np.float32).itemsize
    try:
        check_regular(path)
        size = path.stat().st_size
    except OSError as error:
        raise NetworkError(
            f"The shard {path} cannot be read ({error.strerror}). Expected all shards; complete the folder."
        ) from error
    # The last file of saev may have room for more examples than it holds.
    if size < expected:
        raise NetworkError(
            f"The shard {path} has {size:,} bytes, and {shape} in float32 takes {expected:,}. Expected a whole file; "
            "copy it again."
        )
    return np.memmap(path, np.float32, "r", shape=shape)
