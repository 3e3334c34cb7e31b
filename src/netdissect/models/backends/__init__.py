"""Backends of the forward pass: ways of running a network up to its layers.

    eager          PyTorch as it is; the reference
    compiled       torch.compile
    onnxruntime    ONNX Runtime on the CPU, with `onnx_export`

`backend` says what a backend is; `open_backend` makes one. Intermediate layers are outputs of the graph, in one pass.
"""

from importlib.metadata import version

from netdissect.models.backends.backend import EAGER, Backend, BackendSettings, Modules
from netdissect.models.backends.compiled import CompiledBackend
from netdissect.models.backends.eager import EagerBackend
from netdissect.models.backends.onnxruntime import OnnxRuntimeBackend
from netdissect.models.network import Network

__all__ = ["EAGER", "Backend", "BackendSettings", "library_version", "open_backend"]


def library_version(backend: str) -> str:
    """Return the library of a backend with its version, such as ``onnxruntime 1.32.0``."""
    library = "onnxruntime" if backend == "onnxruntime" else "torch"
    return f"{library} {version(library)}"


def open_backend(network: Network, modules: Modules, settings: BackendSettings) -> Backend:
    """Return the backend of some settings for the modules of a network.

    Raises
    ------
    MissingExtraError
        If the package that it needs is not installed.
    """
    if settings.name == "compile":
        return CompiledBackend(network, modules, settings)
    if settings.name == "onnxruntime":
        return OnnxRuntimeBackend(network, modules, settings)
    return EagerBackend(network, modules)
