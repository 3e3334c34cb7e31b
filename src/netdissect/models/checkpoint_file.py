"""Read the tensors of a checkpoint file without running code from it.

Files are PyTorch's (zip or the older format) or safetensors, distinguished by their first bytes. Other objects that
training programs save with the weights (NumPy numbers, arguments, paths) are read as empty objects if their type is in
`INERT`; a file with any other type is refused.
"""

import io
import math
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from netdissect.errors import CheckpointError

State = dict[str, Tensor]

DEPTH = 3
"""Up to how many levels of nested dictionaries are read."""


class _Inert:
    """Replaces an object whose type is harmless and whose content is not needed."""

    def __new__(cls, *_arguments: object, **_named: object) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_arguments: object, **_named: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


class _Dtype:
    """Replaces a NumPy dtype: keeps its code, such as "f4"."""

    def __init__(self, code: object = "", *_options: object) -> None:
        self.code = code if isinstance(code, str) else ""
        self.order = "|"

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and isinstance(state[1], str):
            self.order = state[1]


class _Array:
    """Replaces a NumPy array: keeps what is needed to make a tensor."""

    def __init__(self, *_arguments: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def tensor(self) -> Tensor | None:
        """Return its values; None: it holds no numbers."""
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            return None
        _version, shape, dtype, fortran, content = self.state
        torch_dtype = _DTYPES.get(dtype.code) if isinstance(dtype, _Dtype) and dtype.order in "<|=" else None
        sizes = isinstance(shape, tuple) and all(isinstance(size, int) and size >= 0 for size in shape)
        if torch_dtype is None or not sizes or not isinstance(content, bytes):
            return None
        if len(content) != math.prod(shape) * torch_dtype.itemsize:
            return None
        flat = torch.frombuffer(bytearray(content), dtype=torch_dtype) if content else torch.empty(0, dtype=torch_dtype)
        return flat.reshape(shape[::-1]).permute(*range(len(shape))[::-1]) if fortran else flat.reshape(shape)


_DTYPES = {
    "f2": torch.float16, "f4": torch.float32, "f8": torch.float64, "b1": torch.bool, "u1": torch.uint8,
    "i1": torch.int8, "i2": torch.int16, "i4": torch.int32, "i8": torch.int64,
}  # fmt: skip


def _empty(*_arguments: object) -> OrderedDict[object, object]:
    return OrderedDict()


_SETTINGS = (
    "argparse.Namespace", "types.SimpleNamespace", "datetime.datetime", "datetime.date", "datetime.timedelta",
    "datetime.timezone", "decimal.Decimal", "uuid.UUID", "torch.torch_version.TorchVersion", "typing.Any",
    *(f"pathlib{inner}.{name}" for inner in ("", "._local") for name in (
        "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path",
    )),
    *(f"builtins.{name}" for name in ("list", "dict", "tuple", "int", "float", "str", "bool", "slice", "range")),
    "omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig", "omegaconf.base.Metadata",
    "omegaconf.base.ContainerMetadata", "omegaconf.nodes.AnyNode",
)  # fmt: skip
_NUMPY = {"multiarray.scalar": _Inert, "multiarray._reconstruct": _Array}
INERT: Mapping[str, object] = (
    dict.fromkeys(_SETTINGS, _Inert)
    | {f"numpy.{core}.{name}": inert for core in ("core", "_core") for name, inert in _NUMPY.items()}
    | {"numpy.ndarray": _Inert, "numpy.dtype": _Dtype, "collections.defaultdict": _empty}
    # Dictionaries that Lightning keeps hyper-parameters in.
    | dict.fromkeys(
        ("lightning_fabric.utilities.data.AttributeDict", "lightning.fabric.utilities.data.AttributeDict",
         "pytorch_lightning.utilities.parsing.AttributeDict"), OrderedDict)
)  # fmt: skip
"""Type that a pickle names -> what replaces it; the type itself is never called."""


def read_states(path: Path, skip: int = 0) -> dict[str, State]:
    """Return every dictionary of tensors in a file, by the keys that lead to it, joined by points.

    Parameters
    ----------
    path
        The file.
    skip
        Bytes before what PyTorch wrote.

    Raises
    ------
    CheckpointError
        If there is none, or the file cannot be read without running code.
    """
    try:
        with path.open("rb") as file:
            file.seek(skip)
            head = file.read(9)
            rest = io.BytesIO(head + file.read()) if skip else None
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be opened ({error.strerror}). Expected a file of weights (.pth, .pt or "
            ".safetensors); correct the path."
        ) from error
    content = _safetensors(path) if head[8:] == b"{" and rest is None else _pickled(path, head, rest)
    states = {".".join(keys): state for keys, state in _states(content)}
    if not states:
        raise CheckpointError(
            f"The checkpoint {path} holds no dictionary of tensors (it is a {type(content).__name__}). Expected a "
            "state dict, or a dictionary that holds one; save it with torch.save(module.state_dict(), FILE)."
        )
    return states


def _states(content: object, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], State]]:
    if not isinstance(content, Mapping):
        return
    values = {name: value.tensor() if isinstance(value, _Array) else value for name, value in content.items()}
    tensors = {name: value for name, value in values.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        yield keys, tensors
    if len(keys) < DEPTH:
        for name, value in values.items():
            yield from _states(value, (*keys, str(name)))


def _safetensors(path: Path) -> State:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(_damaged(path, "safetensors", error)) from error


def _pickled(path: Path, head: bytes, content: IO[bytes] | None = None) -> object:
    if not head.startswith((b"PK\x03\x04", b"\x80")):
        raise CheckpointError(
            f"The checkpoint {path} {'is empty' if not head else f'starts with {head[:4]!r}'}. Expected a file that "
            "torch.save or safetensors wrote; check what was downloaded or copied."
        )
    _refuse_script(path, content)
    if content is not None:
        content.seek(0)
    replacements: list[Any] = [(inert, name) for name, inert in INERT.items()]
    try:
        with torch.serialization.safe_globals(replacements), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # it refuses what it cannot read
            return torch.load(content or path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)|(?:class|function|global) (\S+\.\S+)", str(error), re.IGNORECASE)
        if named is None and "nsupported" not in str(error):
            raise CheckpointError(_damaged(path, "PyTorch", error)) from error
        what = (named.group(1) or named.group(2)) if named else "an unknown object"
        raise CheckpointError(
            f"The checkpoint {path} holds more than tensors: loading it would run {what}. Such files are refused, "
            "because they can run any code. Expected weights only; if you trust the file, load it yourself "
            "and save the weights with torch.save(module.state_dict(), FILE)."
        ) from error
    except Exception as error:  # a parser may raise anything on foreign bytes
        raise CheckpointError(_damaged(path, "PyTorch", error)) from error


def _refuse_script(path: Path, content: IO[bytes] | None) -> None:
    try:
        with zipfile.ZipFile(content or path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError):
        return  # of the older format, or damaged: torch.load reports it
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        raise CheckpointError(
            f"The checkpoint {path} is a TorchScript archive: a program with its weights. Expected weights only; if "
            "you trust the file, save them with torch.save(torch.jit.load(FILE).state_dict(), OTHER_FILE)."
        )


def _damaged(path: Path, file_format: str, error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0]
    return (
        f"The checkpoint {path} cannot be read as a {file_format} file ({type(error).__name__}: {reason}). Expected a "
        "complete file of weights; it may be truncated, copy or download it again."
    )
