"""Load the weights of a checkpoint file into a network.

Training programs wrap the weights in dictionaries, prefix their names, and save several sets of them in one file
(student and teacher, weights and their moving average). A set must fit the network entirely. Where several different
sets fit, the caller chooses one by its keys or its prefix; there is no default.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from netdissect.errors import CheckpointError
from netdissect.models.checkpoint_file import State, read_states

logger = logging.getLogger(__name__)

PREFIXES = 32
"""How many prefixes of one dictionary are tried, the most frequent first."""
WRAPPERS = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
"""What torch.compile, FSDP, activation checkpointing and Lightning Fabric insert into names."""
TOP = "."
"""Name of a set without keys and prefix."""


@dataclass(frozen=True)
class WeightsMatch:
    """How one set of weights compares with a network.

    Attributes
    ----------
    key
        Its keys and prefix in the file, joined by points.
    state
        Its tensors by the network's names.
    matching
        Number of the network's tensors whose name, shape and type of numbers agree.
    missing, unexpected, misshapen, integers
        Names of tensors that the set lacks, that the network lacks, that have another shape, or that are integers or
        8-bit numbers where the network's are floating-point.
    """

    key: str
    state: State
    matching: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]
    integers: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every name, shape and type agrees."""
        return not (self.missing or self.unexpected or self.misshapen or self.integers)

    @property
    def lacks_weights_only(self) -> bool:
        """Whether less than half of the network's tensors are missing, and nothing else disagrees."""
        return len(self.missing) < self.matching and not (self.unexpected or self.misshapen or self.integers)


def load_checkpoint(module: torch.nn.Module, path: Path | str, state_dict: str | None = None) -> None:
    """Load the weights of a file into a module.

    Parameters
    ----------
    module
        Changed in place, only if the file fits.
    path
        `.pth`, `.pt`, `.safetensors` or a file with another ending.
    state_dict
        Which set of weights: keys of dictionaries in the file and a prefix of names, joined by points, or a part of
        these, such as ``teacher`` or ``state_dict.module.encoder_q``; ``.`` is the set without keys and prefix. None:
        the only one that fits. The choice is logged.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, foreign or holds code, if a weight is not finite, if several different sets
        fit and none was chosen, or if names, shapes or types of numbers differ from the module's. BatchNorm's
        ``num_batches_tracked`` may be missing.

    Notes
    -----
    A checkpoint without a head is loaded, which is logged: less than half of the tensors may be missing. These become
    NaN, so that no layer that needs them can be dissected by mistake; see `missing_weights`.
    """
    load_weights(module, Path(path), read_states(Path(path)), state_dict)


def load_weights(module: torch.nn.Module, path: Path, states: Mapping[str, State], state_dict: str | None) -> None:
    """Load one of the sets of weights of a file; see `load_checkpoint`."""
    fits = _fits(module, states, state_dict)
    if not fits:
        keys = [repr(fit.key) for fit in sorted(_fits(module, states), key=lambda fit: -fit.matching)]
        raise CheckpointError(
            f"The checkpoint {path} holds no weights {state_dict!r}; it has {_few(keys, 8)}. Expected keys or a "
            "prefix of these, or a part of them between points."
        )
    complete = [fit for fit in fits if fit.complete] or [fit for fit in fits if fit.lacks_weights_only]
    different = [fit for i, fit in enumerate(complete) if not any(_equal(fit, other) for other in complete[:i])]
    if len(different) > 1:
        keys = [fit.key for fit in different]
        raise CheckpointError(
            f"The checkpoint {path} holds {len(keys)} sets of weights that fit {type(module).__name__}, and they "
            f"differ: {', '.join(map(repr, keys))}. Expected one; choose with --state-dict {keys[0]} (in Python "
            f"state_dict={keys[0]!r}), or a part of it between points that no other has."
        )
    if not complete:
        raise CheckpointError(_mismatch(path, module, max(fits, key=lambda fit: fit.matching)))
    fit = complete[0]
    _check_finite(path, fit.state)
    module.load_state_dict(fit.state, strict=False)
    _mark_missing(module, fit.missing, path)
    if fit.key != TOP or len(states) > 1:
        others = [repr(key or TOP) for key in states if not f"{fit.key}.".startswith(f"{key}.")]
        of = f"; the file also holds {_few(others)}" if others else ""
        logger.info("weights of %s: took %r%s", path, fit.key, of)


def missing_weights(module: torch.nn.Module) -> tuple[str, ...]:
    """Return the names of the tensors that the checkpoint of a module lacked."""
    return tuple(
        name
        for name, tensor in module.state_dict().items()
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.numel() and bool(tensor.isnan().all())
    )


def refuse_missing_weights(name: str, module: torch.nn.Module) -> None:
    """Refuse a network whose output cannot be computed.

    Raises
    ------
    CheckpointError
        If its checkpoint lacked weights.
    """
    missing = missing_weights(module)
    if missing:
        raise CheckpointError(
            f"Network {name!r} has no weights {_few(missing)}: its checkpoint lacks them. Expected all, because "
            "the scores of classes are computed; name a checkpoint with the classifier."
        )


def _mark_missing(module: torch.nn.Module, missing: Sequence[str], path: Path) -> None:
    """Make tensors that a checkpoint lacks NaN, and log their names."""
    if not missing:
        return
    own = module.state_dict()
    with torch.no_grad():
        for name in missing:
            own[name].fill_(torch.nan)
    logger.warning(
        "%s has no weights for %s: layers that need them cannot be dissected; all others can", path, _few(missing)
    )


def checkpoint_classes(
    module: torch.nn.Module, states: Mapping[str, State], state_dict: str | None = None
) -> int | None:
    """Return for how many classes a checkpoint was trained, if it differs from the module in nothing else.

    An example is a Places365 checkpoint of an ImageNet architecture.
    """
    fit = max(_fits(module, states, state_dict), key=lambda fit: fit.matching, default=None)
    if fit is None or not fit.misshapen or fit.missing or fit.unexpected or fit.integers:
        return None
    own = module.state_dict()
    changes = {(own[name].shape[:1], fit.state[name].shape[:1]) for name in fit.misshapen}
    inner = all(own[name].shape[1:] == fit.state[name].shape[1:] for name in fit.misshapen)
    return int(fit.state[fit.misshapen[0]].shape[0]) if inner and len(changes) == 1 else None


def _fits(module: torch.nn.Module, states: Mapping[str, State], chosen: str | None = None) -> list[WeightsMatch]:
    """Compare every set of weights in a file, or those that were chosen, with a module."""
    own = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    found: list[WeightsMatch] = []
    for rename in RENAMES:
        fits = [fit for key, state in states.items() for fit in _of_dictionary(own, key, _renamed(state, rename))]
        exact = [fit for fit in fits if fit.key == chosen and fit.complete]
        fits = exact or [fit for fit in fits if chosen in (None, fit.key) or f".{chosen}." in f".{fit.key}."]
        found += fits
        if any(fit.complete for fit in fits):
            break
    return found


def _of_dictionary(own: State, key: str, state: State) -> Iterator[WeightsMatch]:
    """Compare a dictionary with the network's tensors, under each prefix that its names may have."""
    names = dict(zip(_renamed(own, _unchanged), own, strict=True))
    votes = Counter({"": 0})
    for name in state:
        parts = name.split(".")
        votes.update(name.removesuffix(short) for i in range(len(parts)) if (short := ".".join(parts[i:])) in names)
    for prefix, _ in votes.most_common(PREFIXES):
        under = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        taken = {names.get(short, short): tensor for short, tensor in under.items()}
        yield _fit(own, ".".join(part for part in (key, prefix.rstrip(".")) if part) or TOP, taken)


def _fit(own: State, key: str, state: State) -> WeightsMatch:
    shared = [name for name in own if name in state]
    misshapen = tuple(name for name in shared if own[name].shape != state[name].shape)
    integers = tuple(name for name in shared if not _is_counter(name) and _is_real(own[name]) != _is_real(state[name]))
    return WeightsMatch(
        key,
        state,
        matching=len(set(shared) - set(misshapen) - set(integers)),
        missing=tuple(name for name in own if name not in state and not _is_counter(name)),
        unexpected=tuple(name for name in state if name not in own),
        misshapen=misshapen,
        integers=integers,
    )


def _is_counter(name: str) -> bool:
    """Tell whether a tensor counts the batches of a batch norm: it has an effect in training only."""
    return name.endswith("num_batches_tracked")


def _is_real(tensor: Tensor) -> bool:
    """Tell whether a tensor holds floating-point weights; 8-bit numbers have separate scales."""
    return tensor.is_floating_point() and tensor.element_size() > 1


def _equal(one: WeightsMatch, other: WeightsMatch) -> bool:
    return all(name in other.state and torch.equal(one.state[name], other.state[name]) for name in one.state)


def _renamed(state: State, rename: Callable[[str], str]) -> State:
    """Remove the names of wrappers from the names of a dictionary and rename them; unchanged if two names clash."""
    renamed = {rename(WRAPPERS.sub("", name)): tensor for name, tensor in state.items()}
    return renamed if len(renamed) == len(state) else state


def _unchanged(name: str) -> str:
    return name


def _without_inner_module(name: str) -> str:
    """Undo DataParallel around a part of a network: features.module.0 -> features.0."""
    return name.replace(".module.", ".")


def _joined_number(name: str) -> str:
    """Undo the numbering of torchvision's first DenseNets: denselayer1.norm.1 -> denselayer1.norm1."""
    return re.sub(r"\.(norm|relu|conv)\.(\d+)\.", r".\1\2.", name)


RENAMES = (_unchanged, _without_inner_module, _joined_number)


def _mismatch(path: Path, module: torch.nn.Module, fit: WeightsMatch) -> str:
    own = module.state_dict()
    shapes = [f"{n} {tuple(fit.state[n].shape)} instead of {tuple(own[n].shape)}" for n in fit.misshapen]
    types = [f"{n} ({fit.state[n].dtype} instead of {own[n].dtype})" for n in fit.integers]
    parts = [
        f"missing {_few(fit.missing)}",
        f"unexpected {_few(fit.unexpected)}",
        f"of other shape {_few(shapes)}",
        f"of another type of number {_few(types)}",
    ]
    if fit.integers:
        hint = "Quantized weights mean nothing without their scales; save the weights as floating-point numbers."
    elif 2 * fit.matching < len(own):
        hint = "These look like the weights of another architecture; name the network that they belong to."
    else:
        hint = "Name the network that they belong to, or make the network with a 'python:module:factory'."
    where = "" if fit.key == TOP else f" under {fit.key!r}"
    return (
        f"The checkpoint {path} does not fit {type(module).__name__}: {fit.matching} of {len(own)} weights{where} "
        f"match; {'; '.join(part for part in parts if not part.endswith(' none'))}. Expected all to match. {hint}"
    )


def _few(names: Sequence[str], count: int = 3) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return f"{', '.join(names[:count])}{more}"


def _check_finite(path: Path, state: State) -> None:
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"The checkpoint {path} holds NaN or infinity in {name!r}. Expected finite weights; the training "
                "may have diverged, take an earlier checkpoint."
            )
