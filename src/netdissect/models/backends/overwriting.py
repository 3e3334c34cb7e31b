"""Find the modules of a network that may write less memory, since nothing reads afterwards what they do without.

with WatchedPass(module) as watched: ...       one ordinary pass
watched.overwritable()                         normalizations and activations that may overwrite their input
watched.padded_activations()                   activations that may write straight into a padded map
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Mish,
)  # fmt: skip
CLAMPS = (nn.ReLU, nn.ReLU6, nn.Hardtanh)
"""Activations that can write into a part of a larger map."""


@dataclass(eq=False)
class _Memory:
    """Memory that an operation of the pass made; `used` is the number of the last operation that met it."""

    used: int


class _Call(NamedTuple):
    """One run of a module that could work in place: its input, and the number of its last operation."""

    memory: _Memory
    storage: Any
    end: int


class _Run(NamedTuple):
    """One run of an activation or a padding: the numbers of the operations around it, what it reads, and its output.

    Attributes
    ----------
    module
        The activation or padding.
    run
        Number of its earlier runs.
    begin, end
        Number of the last operation before it, and of its own last one.
    given
        Address of its input.
    output
        Memory of its output; None: not made in this pass.
    address, storage
        Of its output.
    """

    module: nn.Module
    run: int
    begin: int
    end: int
    given: int
    output: _Memory | None
    address: int
    storage: Any


class PaddedActivation(NamedTuple):
    """A run of an activation whose output only a zero padding reads, next; `run`: how many runs of it are before."""

    activation: nn.Module
    run: int


class WatchedPass(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follow which operations of one forward pass on a CPU meet which memory.

    Parameters
    ----------
    module
        In evaluation mode.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._operations = 0
        self._memories: dict[int, _Memory] = {}
        self._calls: dict[nn.Module, list[_Call | None]] = {
            part: [] for part in module.modules() if _can_work_in_place(part)
        }
        self._runs: list[_Run] = []
        self._begins: dict[nn.Module, int] = {}
        self._clamps_and_pads = [part for part in module.modules() if _is(part, (*CLAMPS, nn.ZeroPad2d))]
        self._hooks: list[RemovableHandle] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and to answer yes torch would import its compiler, as large as itself

    def __enter__(self) -> Self:
        self._hooks = [part.register_forward_hook(self._called) for part in self._calls]
        for part in self._clamps_and_pads:
            self._hooks += [part.register_forward_pre_hook(self._begun), part.register_forward_hook(self._ran)]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        self._operations += 1
        met = {_address(tensor) for tensor in _tensors((args, kwargs))}
        for address in met & self._memories.keys():
            self._memories[address].used = self._operations
        for address in {_address(tensor) for tensor in _tensors(output)} - met:
            self._memories[address] = _Memory(self._operations)  # of an address that was used before, if it was freed
        return output

    def _called(self, module: nn.Module, inputs: Sequence[Any], output: object) -> None:
        self._calls[module].append(self._call(inputs, output))

    def _begun(self, module: nn.Module, _inputs: Sequence[Any]) -> None:
        self._begins[module] = self._operations

    def _ran(self, module: nn.Module, inputs: Sequence[Any], output: object) -> None:
        if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or not isinstance(output, Tensor):
            return
        runs, address = sum(run.module is module for run in self._runs), _address(output)
        storage = StorageWeakRef(output.untyped_storage())  # type: ignore[no-untyped-call]
        memory = self._memories.get(address)
        given = _address(inputs[0])
        self._runs.append(_Run(module, runs, self._begins[module], self._operations, given, memory, address, storage))

    def _call(self, inputs: Sequence[Any], output: object) -> _Call | None:
        """Describe the run of a module; None: it could not work in place."""
        if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or not isinstance(output, Tensor):
            return None
        given = inputs[0]
        memory = self._memories.get(_address(given))
        if memory is None or _address(output) == _address(given) or not _fills_its_memory(given):
            return None
        if (given.shape, given.stride(), given.dtype) != (output.shape, output.stride(), output.dtype):
            return None
        storage = StorageWeakRef(given.untyped_storage())  # type: ignore[no-untyped-call]
        return _Call(memory, storage, self._operations)

    def overwritable(self) -> list[nn.Module]:
        """Return the modules whose input no later operation met, and nothing keeps, once the pass has ended."""
        return [
            module
            for module, calls in self._calls.items()
            if calls
            and all(call is not None and call.memory.used <= call.end and call.storage.expired() for call in calls)
        ]

    def padded_activations(self) -> dict[nn.Module, PaddedActivation]:
        """Return the activation whose output a zero padding alone reads, by padding, once the pass has ended."""
        return {
            padding.module: PaddedActivation(run.module, run.run)
            for run, padding in pairwise(self._runs)
            if _is(run.module, CLAMPS)
            and _is(padding.module, (nn.ZeroPad2d,))
            and sum(other.module is padding.module for other in self._runs) == 1
            and run.end == run.begin + 1 == padding.begin
            and run.address == padding.given != run.given
            and run.output is not None
            and run.output.used <= padding.end
            and run.storage.expired()
        }


def _is(module: nn.Module, types: tuple[type[nn.Module], ...]) -> bool:
    """Tell whether a module is of one of these types, and nobody gave it another forward pass."""
    return type(module) in types and "forward" not in vars(module)


def _can_work_in_place(module: nn.Module) -> bool:
    if "forward" in vars(module):
        return False
    if type(module) in ACTIVATIONS:
        return not getattr(module, "inplace", True)
    return type(module) in NORMS and not module.training and module.running_mean is not None


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors(values: object) -> Iterator[Tensor]:
    """Return the tensors that lie in the memory of a CPU as ordinary numbers do."""
    for value in tree_leaves(values):
        if isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu":
            yield value


def _fills_its_memory(tensor: Tensor) -> bool:
    """Tell whether a tensor lies on a CPU, and each number in its memory is one of it."""
    dense = tensor.is_contiguous() or (tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last))
    return (
        tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and dense
        and tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    )
