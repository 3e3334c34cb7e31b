"""ONNX Runtime on the CPU: graphs fused and laid out for its kernels, in float32."""

from typing import Any

from netdissect.config import BackendName, Precision
from netdissect.extras import need
from netdissect.models.backends.backend import BackendSettings
from netdissect.models.backends.graph_backend import RunGraph, Threads
from netdissect.models.onnx_files.runtime import open_session


class OnnxRuntime:
    """Opens graphs in ONNX Runtime; see `GraphRuntime`."""

    name: BackendName = "onnxruntime"
    extra = "onnx"
    precisions: tuple[Precision, ...] = ("float32",)

    def __init__(self) -> None:
        self._library: Any = need("onnxruntime", self.extra, "The backend onnxruntime")
        self.title = f"ONNX Runtime {self._library.__version__}"

    def open(self, graph: bytes, settings: BackendSettings, threads: Threads) -> RunGraph:  # noqa: ARG002
        """Open a graph; see `GraphRuntime`."""
        session = open_session(self._library, graph, threads.of_each)
        (taken,) = session.get_inputs()
        return lambda images: session.run(None, {taken.name: images})
