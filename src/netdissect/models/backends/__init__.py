"""Backends of the forward pass: ways of running a network up to its layers.

    eager          PyTorch as it is; the reference
    compiled       torch.compile
    graph_backend  other libraries on the CPU, which run the graph of `onnx_export`: `onnxruntime`, `openvino`

`backend` says what a backend is; `open_backend` makes one. Intermediate layers are outputs of the graph, in one pass.
"""

from collections.abc import Mapping
from importlib.metadata import version

from netdissect.config import BackendName
from netdissect.errors import BackendError
from netdissect.models.backends.backend import EAGER, Backend, BackendSettings, Modules
from netdissect.models.backends.compiled import CompiledBackend
from netdissect.models.backends.eager import EagerBackend
from netdissect.models.backends.graph_backend import GraphBackend
from netdissect.models.backends.onnxruntime import OnnxRuntime
from netdissect.models.backends.openvino import OpenVino
from netdissect.models.network import Network

__all__ = ["EAGER", "RUNTIMES", "Backend", "BackendSettings", "library_version", "open_backend"]

RUNTIMES: Mapping[BackendName, type[OnnxRuntime] | type[OpenVino]] = {"onnxruntime": OnnxRuntime, "openvino": OpenVino}
"""What opens exported graphs, by the name of the backend, which is also that of the package."""


def library_version(backend: str) -> str:
    """Return the library of a backend with its version, such as ``onnxruntime 1.32.0``."""
    library = backend if backend in RUNTIMES else "torch"
    return f"{library} {version(library)}"


def open_backend(network: Network, modules: Modules, settings: BackendSettings) -> Backend:
    """Return the backend of some settings for the modules of a network.

    Raises
    ------
    BackendError
        If the network takes no images, and the backend is another one than PyTorch.
    MissingExtraError
        If the package that it needs is not installed.
    """
    if not network.takes_images and settings.name != "eager":
        raise BackendError(
            f"The backend {settings.name} runs networks that take images, and {network.name!r} takes "
            f"{'latents' if network.draws else 'positions of stored activations'}. Leave out --backend {settings.name}."
        )
    if settings.name == "compile":
        return CompiledBackend(network, modules, settings)
    if settings.name in RUNTIMES:
        return GraphBackend(network, modules, settings, RUNTIMES[settings.name]())
    return EagerBackend(network, modules)
