"""A network as one function from images to the outputs of its layers, from which graphs are made."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from netdissect.models.backends.backend import Modules, kept
from netdissect.models.network import Network
from netdissect.models.run_module import unwrapped


class RecordedModule(nn.Module):
    """Runs a network to its end and returns the outputs of its layers; what no layer needs is for a graph to remove."""

    def __init__(self, network: Network, modules: Modules) -> None:
        super().__init__()
        self.network = unwrapped(network.module)
        self._modules_by_name = modules
        self._outputs: dict[str, Tensor] = {}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the outputs of the layers that ran, by name, float32."""
        self._outputs = {}
        self.network(images)
        return self._outputs

    def _keep(self, name: str, output: object) -> None:
        tensor = kept(output)
        if tensor is not None:
            self._outputs[name] = tensor

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Have hooks on the modules in this block."""
        hooks = [
            module.register_forward_hook(lambda _module, _inputs, output, name=name: self._keep(name, output))
            for name, module in self._modules_by_name.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
