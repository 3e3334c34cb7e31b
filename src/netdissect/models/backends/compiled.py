"""torch.compile: the pass up to the layers as one compiled function.

Sums are taken in another order: activations differ in their last bits.
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from netdissect.errors import BackendError
from netdissect.models.backends.backend import BackendSettings, Modules
from netdissect.models.backends.recorded_module import RecordedModule
from netdissect.models.network import Network
from netdissect.models.run_module import evaluation_mode, is_out_of_memory


class CompiledBackend:
    """Compile the network for batches of one size, on the first batch."""

    calls_at_once = 1

    def __init__(self, network: Network, modules: Modules, settings: BackendSettings) -> None:
        self.batch_size = settings.batch_size
        self._network = network
        self._module = RecordedModule(network, modules)
        self._attached = ExitStack()

    def __enter__(self) -> Self:
        self._attached.enter_context(self._module.attached())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._attached.close()
        # The compiler counts all recorders as one function, and gives up on it when it has met eight.
        torch.compiler.reset()

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Run one batch; see `Backend`."""
        try:
            with torch.inference_mode(), evaluation_mode(self._network.module):
                # In the same memory format: for another type of tensor all is compiled again.
                return self._compiled(self._network.as_input(images))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            reason = next(iter(str(error).strip().splitlines()), "no reason given")
            raise BackendError(
                f"Network {self._network.name!r} cannot be compiled, or fails when it is: {type(error).__name__}: "
                f"{reason}. Expected a network that torch.compile takes, and a C++ "
                "compiler (such as g++) for a CPU; leave out --backend compile to run it without compiling."
            ) from error

    @cached_property
    def _compiled(self) -> Callable[..., dict[str, Tensor]]:
        # Weights do not change: norms are folded into convolutions, whose weights are laid out once.
        return torch.compile(self._module, dynamic=False, options={"freezing": True})
