"""ONNX Runtime on the CPU: the exported graph of the pass up to the layers, fused and laid out for its kernels.

Sums are taken in another order, and norms are folded into convolutions: activations differ in their last bits.
"""

from types import TracebackType
from typing import Any, Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from netdissect.errors import BackendError
from netdissect.extras import need
from netdissect.models.backends.backend import BackendSettings, Modules
from netdissect.models.backends.onnx_export import INPUT, graph_inputs, load_or_export
from netdissect.models.network import Network

_SESSIONS: "WeakKeyDictionary[Network, tuple[tuple[tuple[object, ...], int], Any]]" = WeakKeyDictionary()
"""The last session of each network: the layout check and the passes of one run use the same."""


class OnnxRuntimeBackend:
    """Run the exported graph, with as many threads as torch has."""

    def __init__(self, network: Network, modules: Modules, settings: BackendSettings) -> None:
        self.batch_size = settings.batch_size
        self._network, self._modules, self._settings = network, modules, settings
        self._runtime = need("onnxruntime", "onnx", "The backend onnxruntime")
        self._session: Any = None

    def __enter__(self) -> Self:
        _check(self._network, self._settings)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Run one batch; see `Backend`."""
        images = images.contiguous()
        if self._session is None:
            self._session = self._open(images)
        try:
            outputs = self._session.run(None, {INPUT: images.numpy()})
        except Exception as error:  # onnxruntime has a class for each of its status codes
            raise self._failed("fails in", error) from error
        return {name: torch.from_numpy(values) for name, values in zip(self._modules, outputs, strict=True)}

    def _open(self, images: Tensor) -> Any:
        """Return the session of the network, which an earlier recorder may have opened."""
        inputs, threads = graph_inputs(self._network, self._modules, images), torch.get_num_threads()
        key, session = _SESSIONS.get(self._network, (None, None))
        if key != (inputs, threads):
            graph = load_or_export(self._network, self._modules, images, self._settings.folder)
            session = self._session_of(graph, threads)
            _SESSIONS[self._network] = (inputs, threads), session
        return session

    def _session_of(self, graph: bytes, threads: int) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors
        try:
            return self._runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise self._failed("cannot open the graph of", error) from error

    def _failed(self, what: str, error: Exception) -> BackendError:
        reason = next((line for line in str(error).strip().splitlines() if line), "no reason given")
        return BackendError(
            f"ONNX Runtime {self._runtime.__version__} {what} network {self._network.name!r}: "
            f"{type(error).__name__}: {reason}. Leave out --backend onnxruntime to run it in PyTorch."
        )


def _check(network: Network, settings: BackendSettings) -> None:
    """Refuse what ONNX Runtime does not compute as PyTorch does.

    Raises
    ------
    BackendError
        If the network is not float32, or does not run on the CPU in float32.
    """
    if settings.precision != "float32" or network.dtype != torch.float32:
        seen = settings.precision if network.dtype == torch.float32 else str(network.dtype).removeprefix("torch.")
        raise BackendError(
            f"ONNX Runtime computes float32 on a CPU, and network {network.name!r} is to run in {seen}. Expected "
            "--precision float32 and weights of that type; the backends eager and compile take others."
        )
    if network.device.type != "cpu":
        raise BackendError(
            f"The backend onnxruntime runs on the CPU, and network {network.name!r} is on {network.device}. Expected "
            "--device cpu; eager and compile run on other devices."
        )
