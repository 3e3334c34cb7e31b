"""OpenVINO on the CPU: graphs fused and laid out for its kernels, in float32 or bfloat16."""

import io
from queue import SimpleQueue
from typing import Any

from netdissect.config import BackendName, Precision
from netdissect.errors import BackendError
from netdissect.extras import need
from netdissect.models.backends.backend import BackendSettings
from netdissect.models.backends.graph_backend import Array, RunGraph, Threads

TELEMETRY = ("openvino_telemetry",)
"""Installed with OpenVINO: where it is found, the import writes an identifier below the home folder and reports it."""


class OpenVino:
    """Opens graphs in OpenVINO; see `GraphRuntime`."""

    name: BackendName = "openvino"
    extra = "openvino"
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")

    def __init__(self) -> None:
        self._library: Any = need("openvino", self.extra, "The backend openvino", without=TELEMETRY)
        self.title = f"OpenVINO {self._library.__version__.partition('-')[0]}"

    def open(self, graph: bytes, settings: BackendSettings, threads: Threads) -> RunGraph:
        """Open a graph; see `GraphRuntime`."""
        core = self._library.Core()
        types = {"float32": self._library.Type.f32, "bfloat16": self._library.Type.bf16}
        # Both are stated: by default it computes in bfloat16 wherever the processor has it, and pins its threads.
        options = {
            "INFERENCE_PRECISION_HINT": types[settings.precision],
            "INFERENCE_NUM_THREADS": threads.calls * threads.of_each,
            "NUM_STREAMS": threads.calls,
            "ENABLE_CPU_PINNING": False,
        }
        compiled = core.compile_model(core.read_model(io.BytesIO(graph)), "CPU", options)
        if compiled.get_property("INFERENCE_PRECISION_HINT") != types[settings.precision]:
            raise BackendError(
                f"{self.title} does not compute {settings.precision} on this processor. Expected AVX512_BF16 or AMX "
                "for bfloat16; use --precision float32, or leave out --backend openvino to run it in PyTorch."
            )
        requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(threads.calls):
            requests.put(compiled.create_infer_request())

        def run(images: Array) -> tuple[Array, ...]:
            request = requests.get()
            try:
                outputs: tuple[Array, ...] = request.infer([images], share_inputs=True).to_tuple()
                return outputs
            finally:
                requests.put(request)

        return run
