"""Put the weights of a checkpoint file into a network, without ever running code from the file.

Files are PyTorch's (zip or the older format) or safetensors, told apart by their first bytes. Training
programs wrap the weights in dictionaries and prefix their names; of all readings of a file, the one that
fits the network best is taken, and it must fit entirely.
"""

import pickle
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from netdissect.errors import CheckpointError

State = dict[str, Tensor]

# Names without the prefix are left out (a projection head beside the backbone): the rest must still fit entirely.
PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.", "backbone.", "encoder.", "trunk.")
# Where both are there, what was trained comes before its moving average.
NESTS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module")
DEPTH = 3


@dataclass(frozen=True)
class Fit:
    """How one reading of a file compares with a network."""

    state: State
    matching: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether every name and shape agrees."""
        return not (self.missing or self.unexpected or self.misshapen)


def load_checkpoint(module: torch.nn.Module, path: Path | str) -> None:
    """Load the weights of a file into a module.

    Parameters
    ----------
    module
        Changed in place, only if the file fits.
    path
        `.pth`, `.pt`, `.safetensors`, or however it is called.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, foreign or holds code, if a weight is not finite, or if names or shapes
        differ from the module's. BatchNorm's ``num_batches_tracked`` may be missing.
    """
    path = Path(path)
    fit = best_fit(module, read_states(path))
    if not fit.whole:
        raise CheckpointError(_mismatch(path, module, fit))
    _check_finite(path, fit.state)
    module.load_state_dict(fit.state, strict=False)


def read_states(path: Path) -> list[State]:
    """Read a file and return every dictionary of tensors in it, the likeliest first.

    Raises
    ------
    CheckpointError
        If there is none, or the file cannot be read without running code from it.
    """
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be opened ({error.strerror}). Expected a file of weights (.pth, .pt or "
            ".safetensors); correct the path."
        ) from error
    content = _safetensors(path) if head[8:] == b"{" else _pickled(path, head)
    states = list(_states(content))
    if not states:
        raise CheckpointError(
            f"The checkpoint {path} holds no dictionary of tensors (it is a {type(content).__name__}). Expected a "
            "state dict, or a dictionary that holds one; save it with torch.save(module.state_dict(), FILE)."
        )
    return states


def best_fit(module: torch.nn.Module, states: Iterable[State]) -> Fit:
    """Return the reading of a file that agrees with most of a module's names and shapes; on a tie, the first."""
    best: Fit | None = None
    for state in states:
        for reading in _readings(state):
            fit = _fit(module, reading)
            if fit.whole:
                return fit
            if best is None or fit.matching > best.matching:
                best = fit
    return best or _fit(module, {})


def other_classes(module: torch.nn.Module, path: Path | str) -> int | None:
    """Return how many classes a checkpoint was trained for, if that is all in which it differs from the module.

    Places365 checkpoints of an ImageNet architecture are such.
    """
    fit = best_fit(module, read_states(Path(path)))
    if not fit.misshapen or fit.missing or fit.unexpected:
        return None
    own = module.state_dict()
    changes = {(own[name].shape[:1], fit.state[name].shape[:1]) for name in fit.misshapen}
    inner = all(own[name].shape[1:] == fit.state[name].shape[1:] for name in fit.misshapen)
    return int(fit.state[fit.misshapen[0]].shape[0]) if inner and len(changes) == 1 else None


def _safetensors(path: Path) -> State:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(_damaged(path, "safetensors", error)) from error


def _pickled(path: Path, head: bytes) -> object:
    if not head.startswith((b"PK\x03\x04", b"\x80")):
        raise CheckpointError(
            f"The checkpoint {path} {'is empty' if not head else f'starts with {head[:4]!r}'}. Expected a file that "
            "torch.save or safetensors wrote; check what was downloaded or copied."
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
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
    except Exception as error:  # what a parser raises on bytes that anyone may have written is not foreseeable
        raise CheckpointError(_damaged(path, "PyTorch", error)) from error


def _damaged(path: Path, kind: str, error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0]
    return (
        f"The checkpoint {path} cannot be read as a {kind} file ({type(error).__name__}: {reason}). Expected a whole "
        "file of weights; it may be truncated, copy or download it again."
    )


def _states(content: object, depth: int = DEPTH) -> Iterator[State]:
    if not isinstance(content, Mapping):
        return
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        yield tensors
    if depth:
        known = [name for name in NESTS if name in content]
        for name in [*known, *(name for name in content if name not in known)]:
            yield from _states(content[name], depth - 1)


def _readings(state: State) -> Iterator[State]:
    """Yield a state under its own names, then under the names it may have had before it was wrapped."""
    level, seen = [state], {frozenset(state)}
    yield state
    for _ in range(DEPTH):
        found = []
        for reading, rename in ((reading, rename) for reading in level for rename in RENAMES):
            renamed = {new: tensor for old, tensor in reading.items() if (new := rename(old)) is not None}
            if renamed and frozenset(renamed) not in seen:
                seen.add(frozenset(renamed))
                found.append(renamed)
                yield renamed
        level = found


def _without_prefix(name: str, prefix: str) -> str | None:
    return name.removeprefix(prefix) if name.startswith(prefix) else None


def _without_inner_module(name: str) -> str:
    """Undo DataParallel around a part of a network: features.module.0 -> features.0."""
    return name.replace(".module.", ".")


def _joined_number(name: str) -> str:
    """Undo the numbering of torchvision's first DenseNets: denselayer1.norm.1 -> denselayer1.norm1."""
    return re.sub(r"\.(norm|relu|conv)\.(\d+)\.", r".\1\2.", name)


RENAMES: tuple[Callable[[str], str | None], ...] = (
    *(partial(_without_prefix, prefix=prefix) for prefix in PREFIXES),
    _without_inner_module,
    _joined_number,
)


def _fit(module: torch.nn.Module, state: State) -> Fit:
    own = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    misshapen = tuple(name for name in own if name in state and own[name].shape != state[name].shape)
    return Fit(
        state,
        matching=sum(name in state for name in own) - len(misshapen),
        missing=tuple(name for name in own if name not in state and not name.endswith("num_batches_tracked")),
        unexpected=tuple(name for name in state if name not in own),
        misshapen=misshapen,
    )


def _mismatch(path: Path, module: torch.nn.Module, fit: Fit) -> str:
    own = module.state_dict()
    parts = [f"missing {_few(fit.missing)}", f"unexpected {_few(fit.unexpected)}"]
    shapes = [f"{n} {tuple(fit.state[n].shape)} instead of {tuple(own[n].shape)}" for n in fit.misshapen]
    parts.append(f"of other shape {_few(shapes)}")
    half = 2 * fit.matching < len(own)
    hint = (
        "These look like the weights of another architecture; name the network that they belong to."
        if half
        else "Name the network that they belong to, or make it with a 'python:module:factory'."
    )
    return (
        f"The checkpoint {path} does not fit {type(module).__name__}: {fit.matching} of {len(own)} weights match; "
        f"{'; '.join(part for part in parts if not part.endswith(' none'))}. Expected all to match. {hint}"
    )


def _few(names: Sequence[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _check_finite(path: Path, state: State) -> None:
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"The checkpoint {path} holds NaN or infinity in {name!r}. Expected finite weights; the training "
                "may have diverged, take an earlier checkpoint."
            )
