"""PyTorch as it is: the network's own code, one operation after the other.

On a CPU some operations run with less copying, if they give the same numbers: the first pass finds them, the second is
run both ways. Later backends of a run take over what was found: the threshold pass what the layout check found.
"""

from collections import Counter
from types import TracebackType
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from netdissect.models.backends.backend import Modules, kept
from netdissect.models.backends.overwriting import WatchedPass
from netdissect.models.backends.shortcuts import Shortcuts, shortened, zero_paddings
from netdissect.models.network import Network


class _PassFacts(NamedTuple):
    """What is known of the passes that record some modules.

    Attributes
    ----------
    images
        How many were run both ways. Of larger batches nothing is known: a network may treat one image otherwise.
    runs
        How often each recorded module runs in a pass.
    shortcuts
        Those that give the same numbers.
    """

    images: int
    runs: Counter[str] | None
    shortcuts: Shortcuts


class EagerBackend:
    """Run the module, and end the pass as soon as the last of its recorded modules has run.

    Notes
    -----
    The first forward pass runs to its end, to count how often each module runs.
    """

    batch_size = None
    calls_at_once = 1

    def __init__(self, network: Network, modules: Modules) -> None:
        self._network, self._modules = network, modules
        self._hooks: list[RemovableHandle] = []
        self._outputs: dict[str, Tensor] = {}
        self._runs: Counter[str] = Counter()
        self._expected: Counter[str] | None = None
        self._found: Shortcuts | None = None
        self._shortened: Shortcuts | None = None

    def __enter__(self) -> Self:
        for name, module in self._modules.items():
            self._hooks.append(
                module.register_forward_hook(
                    lambda module, _inputs, output, name=name: self._keep(name, module, output)
                )
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Run one batch; see `Backend`."""
        if images.device.type != "cpu":
            return self._pass(images)
        if self._found is None and self._shortened is None and not self._take_over(images):
            return self._watched_pass(images)
        if self._shortened is None:
            return self._compared_pass(images, self._found or Shortcuts())
        with shortened(self._shortened):
            return self._pass(images)

    def _take_over(self, images: Tensor) -> bool:
        """Take over what an earlier backend found, if there was one of these modules, and batches of this size."""
        known: _PassFacts | None = (self._network.passes or {}).get(self._recorded())
        if known is None or known.images < len(images):
            return False
        self._expected, self._shortened = known.runs, known.shortcuts
        return True

    def _recorded(self) -> tuple[object, ...]:
        """Return what is recorded, in which number format, and the hooks of others: they may read what lies between."""
        own = {hook.id for hook in self._hooks}
        parts = self._network.module.modules()
        hooks = (hook for part in parts for hook in (*part._forward_pre_hooks, *part._forward_hooks) if hook not in own)
        return *self._modules, torch.is_autocast_enabled("cpu"), *hooks

    def _watched_pass(self, images: Tensor) -> dict[str, Tensor]:
        """Run the first batch, and find what others may do without; recorders of one batch never do."""
        module = self._network.module
        with WatchedPass(module) as watched:
            outputs = self._pass(images)
        self._found = Shortcuts(watched.overwritable() + zero_paddings(module), watched.padded_activations())
        return outputs

    def _compared_pass(self, images: Tensor, found: Shortcuts) -> dict[str, Tensor]:
        """Run the second batch both ways.

        What reads memory without an operation of torch, as NumPy does, is seen by its effect alone.
        """
        outputs = self._pass(images)
        with torch.random.fork_rng([]), shortened(found):
            same = _same(outputs, self._pass(images))
        self._shortened = found if same else Shortcuts()
        if self._network.passes is not None:
            self._network.passes[self._recorded()] = _PassFacts(len(images), self._expected, self._shortened)
        return outputs

    def _pass(self, images: Tensor) -> dict[str, Tensor]:
        self._outputs, self._runs = {}, Counter()
        try:
            # Not in inference mode: its owner could not train with tensors that the module keeps for its next pass.
            with torch.no_grad():
                self._network.forward(images)
        except _AllRecordedError:
            pass
        else:
            self._expected = self._runs
        outputs, self._outputs = self._outputs, {}
        return outputs

    def _keep(self, name: str, module: nn.Module, output: object) -> None:
        if not self._hooks or module is not self._modules[name]:
            return  # a copy of the module has the hook, too, and keeps it after this backend is closed
        self._runs[name] += 1
        last = self._expected is not None and self._runs == self._expected
        tensor = kept(output, copy=not last)
        if tensor is not None:
            self._outputs[name] = tensor
        if last:
            raise _AllRecordedError


class _AllRecordedError(BaseException):
    """Ends a forward pass early; not an Exception, so that a network's own handlers do not catch it."""


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(maps, other[name]) for name, maps in one.items())
