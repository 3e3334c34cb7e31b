"""The file of a trained module: its weights, and JSON of what made it, as one ``.safetensors`` file.

It holds tensors and text alone, so that reading it runs no code.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor, nn

from netdissect.errors import CheckpointError
from netdissect.models.dictionaries.tensor_bytes import tensor_bytes
from netdissect.paths import OTHER_FOLDER, check_regular, writing
from netdissect.result.files import write_whole

FAULTS = (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError, safetensors.SafetensorError)
"""What reading a damaged or foreign file raises, and building a module from what it says."""


def write_weights(path: str | Path, module: nn.Module, facts: Mapping[str, Any]) -> Path:
    """Write the weights of a module and facts about it, each as JSON, whole or not at all; return the path."""
    path = Path(path)
    content = tensor_bytes(module.state_dict(), {key: json.dumps(value) for key, value in facts.items()})
    with writing(path, OTHER_FOLDER):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: file.write(content))
    return path


def fact_names(path: str | Path) -> frozenset[str]:
    """Return the names of the facts in a file; none if it holds weights alone.

    Raises
    ------
    OSError, safetensors.SafetensorError
        If it cannot be read.
    """
    check_regular(Path(path))
    with safetensors.safe_open(path, "pt") as file:
        return frozenset(file.metadata() or {})


def read_weights(path: str | Path, *facts: str) -> tuple[dict[str, Tensor], list[Any]]:
    """Read the weights of a file, and these facts of it; use it within `as_checkpoint_error`."""
    check_regular(Path(path))
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    return weights, [json.loads(metadata[name]) for name in facts]


@contextmanager
def as_checkpoint_error(path: str | Path, expected: str, *, missing: str, damaged: str) -> Iterator[None]:
    """Turn what reading a file and building its module raises into one error.

    Parameters
    ----------
    path
        The file.
    expected
        What it should hold.
    missing, damaged
        What to do if there is no file, or if it holds something else.

    Raises
    ------
    CheckpointError
        If the body raises one of `FAULTS`.
    """
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist. Expected {expected}. {missing}") from None
    except FAULTS as error:
        raise CheckpointError(f"{path} is not {expected} ({type(error).__name__}: {error}). {damaged}") from error
