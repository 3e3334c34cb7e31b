"""Run a user's module in evaluation mode on any device and in any memory format, and restore it afterwards.

with evaluation_mode(module), without_compiling():     around each forward pass
with restoring_tensors(module): module.to(device)      around a run; afterwards every tensor is the original object
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from netdissect.errors import NetworkError

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
AGREEMENT = 1e-3
"""Largest difference between two layouts in memory, as a part of an output's largest magnitude."""
OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
"""What torch says where it raises a RuntimeError alone: MPS and the allocators of CPUs."""


def check_module(name: str, module: object) -> None:
    """Refuse an object that is no module, and modules whose parts cannot have hooks.

    Raises
    ------
    NetworkError
        If it is neither a torch.nn.Module, nor one whose parts can have hooks.
    """
    given = f"Network {name!r} was given a {type(module).__name__} as its module"
    if isinstance(module, torch.jit.ScriptModule):
        raise NetworkError(
            f"{given}: its parts run inside TorchScript, where nothing can be recorded. Expected the Python module "
            "from which it was scripted or traced; its weights can be loaded into that with "
            "module.load_state_dict(scripted.state_dict())."
        )
    exported = any(base.__module__.startswith("torch.export._unlift") for base in type(module).__mro__)
    if exported or type(module).__module__.startswith("torch.export.exported_program"):
        raise NetworkError(
            f"{given}: an exported program runs as one list of operations, without modules. Expected the module that "
            "was exported, or torch.export.unflatten(program) of a program whose batch dimension was exported as "
            "dynamic (dynamic_shapes)."
        )
    if not isinstance(module, nn.Module):
        raise NetworkError(f"{given}. Expected a torch.nn.Module; wrap functions in one.")


def check_has_data(name: str, module: nn.Module) -> None:
    """Refuse a module whose weights have shapes only.

    Raises
    ------
    NetworkError
        If one of them is on the meta device.
    """
    empty = next((key for key, tensor in _tensors(module) if tensor.is_meta), None)
    if empty is not None:
        raise NetworkError(
            f"Network {name!r} has a tensor {empty!r} on the meta device, which holds a shape and no numbers. Expected "
            "a network with weights: module.to_empty(device='cpu') and module.load_state_dict(...)."
        )


def hookable_modules(module: nn.Module, *, every_name: bool = False) -> Iterator[tuple[str, nn.Module]]:
    """Yield modules that can have hooks, by their first or by every name: all but those inside TorchScript."""
    for name, part in module.named_modules(remove_duplicate=not every_name):
        if not isinstance(part, torch.jit.ScriptModule):
            yield name, part


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside DataParallel and similar wrappers, which would run replicas elsewhere."""
    while isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        module = module.module
    return module


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode and freeze its parameters; afterwards each part is as before.

    Where parameters require gradients torch multiplies matrices of another shape, even if no gradient is computed: last
    bits would depend on it.
    """
    modes = [(part, part.training) for part in module.modules()]
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad and parameter.is_leaf]
    try:
        if any(training for _, training in modes):
            module.eval()
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        for part, training in modes:  # outer ones first, whose train() decides over their parts
            if part.training != training:
                part.train(training)


@contextmanager
def without_compiling() -> Iterator[None]:
    """Run modules that torch.compile compiled without compiling: hooks that came after it would not run."""
    # Nothing is compiled where its compiler was never imported, which takes as long as torch itself.
    with torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext():
        yield


@contextmanager
def restoring_tensors(module: nn.Module) -> Iterator[None]:
    """Allow moving a module and changing its memory format; afterwards its parameters and buffers are the originals."""
    parameters = [
        (part, key, parameter, parameter.data)
        for part in module.modules()
        for key, parameter in part._parameters.items()
        if parameter is not None
    ]
    buffers = [(part, key, value) for part in module.modules() for key, value in part._buffers.items()]
    try:
        yield
    finally:
        for part, key, parameter, data in parameters:
            if key not in part._parameters or part._parameters[key] is not parameter:
                part._parameters[key] = parameter
            if parameter.data is not data:
                parameter.data = data
        for part, key, value in buffers:
            if key in part._buffers:
                part._buffers[key] = value


def set_memory_format(module: nn.Module, layout: torch.memory_format) -> None:
    """Change the memory format of a module's tensors of rank 4; unlike Module.to, leave those of another rank."""
    for part in module.modules():
        for parameter in part._parameters.values():
            if parameter is not None and parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=layout)
        for key, value in part._buffers.items():
            if value is not None and value.ndim == 4:
                part._buffers[key] = value.contiguous(memory_format=layout)


def input_dtypes(module: nn.Module) -> list[torch.dtype]:
    """Return the floating-point types that the input of a module may have: those of its parameters, in order."""
    dtypes = dict.fromkeys(tensor.dtype for tensor in module.parameters() if tensor.dtype in FLOATS)
    return list(dtypes) or [torch.float32]


def outputs_agree(one: Any, other: Any) -> bool:
    """Tell whether the tensors of two outputs are the same up to rounding."""
    pairs = zip(tree_leaves(one), tree_leaves(other), strict=False)
    return all(_close(left, right) for left, right in pairs if isinstance(left, Tensor) and isinstance(right, Tensor))


def _close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    if not one.is_floating_point() or one.numel() == 0:
        return True
    if not torch.equal(one.isnan(), other.isnan()):  # a head without weights gives NaN
        return False
    one, other = one.nan_to_num(), other.nan_to_num()
    return bool((one - other).abs().max() <= AGREEMENT * one.abs().max())


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether an error, or one that led to it, says that memory ran out."""
    while error is not None:
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
            return True
        if isinstance(error, RuntimeError) and any(text in str(error).lower() for text in OUT_OF_MEMORY):
            return True
        error = error.__cause__
    return False
