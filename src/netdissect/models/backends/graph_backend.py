"""A backend that runs the exported graph of a network in another library on the CPU.

    runtime.open(graph, settings, threads) -> run
    run(images) -> outputs of the layers

A batch runs in pieces of two images, one on each core: their activations stay in its cache, and no layer waits for the
slowest thread. `benchmarks/RESULTS.md` has what that saves.

Sums are taken in another order, and norms are folded into convolutions: activations differ in their last bits.
"""

from collections.abc import Callable, Sequence
from threading import Lock
from types import TracebackType
from typing import NamedTuple, Protocol, Self
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netdissect.config import BackendName, Precision
from netdissect.errors import BackendError
from netdissect.models.backends.backend import BackendSettings, Modules
from netdissect.models.backends.onnx_export import graph_inputs, load_or_export
from netdissect.models.network import Network

Array = npt.NDArray[np.float32]
RunGraph = Callable[[Array], Sequence[Array]]
"""Takes images, float32 (B, C, H, W), and returns new arrays, float32, of the layers in the order of the graph.

It may be called from `Threads.calls` threads at once.
"""

PIECE = 2
"""Images that a graph runs at once where it divides the size of a batch. One image alone costs more for each call."""


class Threads(NamedTuple):
    """How the cores are shared out.

    Attributes
    ----------
    calls
        Pieces that run at the same time.
    of_each
        Threads that run one piece.
    """

    calls: int
    of_each: int


PLACES = ("Exception from", "Check '")
"""Beginnings of lines in which OpenVINO names places in its own code."""

_OPENED: "WeakKeyDictionary[Network, tuple[tuple[object, ...], RunGraph]]" = WeakKeyDictionary()
"""The last graph opened of each network: the layout check and the passes of one run use the same."""


class GraphRuntime(Protocol):
    """A library that runs graphs on the CPU."""

    @property
    def name(self) -> BackendName:
        """Of its backend."""

    @property
    def title(self) -> str:
        """Of the library, with its version."""

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Number formats in which it computes."""

    def open(self, graph: bytes, settings: BackendSettings, threads: Threads) -> RunGraph:
        """Open a graph for images of one shape and number.

        Parameters
        ----------
        graph
            ONNX, float32, with weights.
        settings
            With the precision in which it runs; inputs and outputs are float32 in any.
        threads
            That it has.

        Raises
        ------
        BackendError
            If it cannot run in this precision here. Errors of the library itself are raised as they are.
        """


class GraphBackend:
    """Run the exported graph, with as many threads as torch has."""

    def __init__(self, network: Network, modules: Modules, settings: BackendSettings, runtime: GraphRuntime) -> None:
        self.batch_size = settings.batch_size if settings.batch_size % PIECE else PIECE
        self.calls_at_once = min(settings.batch_size // self.batch_size, torch.get_num_threads())
        self._network, self._modules, self._settings, self._runtime = network, modules, settings, runtime
        self._run: RunGraph | None = None
        self._opening = Lock()

    def __enter__(self) -> Self:
        self._check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run = None

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Run one piece of a batch; see `Backend`."""
        images = images.contiguous()
        with self._opening:
            if self._run is None:
                run = self._opened(images)
                self._outputs(run, images)  # what a library sets up in its first call, one thread alone has to
                self._run = run
        return self._outputs(self._run, images)

    def _outputs(self, run: RunGraph, images: Tensor) -> dict[str, Tensor]:
        try:
            outputs = run(images.numpy())
        except Exception as error:  # each library has classes of its own
            raise self._failed("fails in", error) from error
        return {name: torch.from_numpy(values) for name, values in zip(self._modules, outputs, strict=True)}

    def _opened(self, images: Tensor) -> RunGraph:
        """Return the graph of the network, which an earlier recorder may have opened."""
        inputs = graph_inputs(self._network, self._modules, images)
        threads = Threads(self.calls_at_once, max(1, torch.get_num_threads() // self.calls_at_once))
        wanted = (self._runtime.name, self._settings.precision, threads, inputs)
        found, run = _OPENED.get(self._network, (None, None))
        if run is None or found != wanted:
            graph = load_or_export(self._network, self._modules, images, self._settings.folder)
            try:
                run = self._runtime.open(graph, self._settings, threads)
            except BackendError:
                raise
            except Exception as error:
                raise self._failed("cannot open the graph of", error) from error
            _OPENED[self._network] = wanted, run
        return run

    def _failed(self, what: str, error: Exception) -> BackendError:
        lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith(PLACES)]
        reason = lines[0].rstrip(".") if lines else "no reason given"
        return BackendError(
            f"{self._runtime.title} {what} network {self._network.name!r}: {type(error).__name__}: {reason}. Leave out "
            f"--backend {self._runtime.name} to run it in PyTorch."
        )

    def _check(self) -> None:
        """Refuse what the library does not compute as PyTorch does.

        Raises
        ------
        BackendError
            If the network is not float32, or does not run on the CPU in a precision of the library.
        """
        network, runtime, asked = self._network, self._runtime, self._settings.precision
        if asked not in runtime.precisions or network.dtype != torch.float32:
            seen = asked if network.dtype == torch.float32 else f"weights of {network.dtype}".replace("torch.", "")
            raise BackendError(
                f"{runtime.title} computes {' or '.join(runtime.precisions)} on a CPU from weights in float32, and "
                f"network {network.name!r} is to run in {seen}. Expected such a precision and such weights; the "
                "backends eager and compile take others."
            )
        if network.device.type != "cpu":
            raise BackendError(
                f"The backend {runtime.name} runs on the CPU, and network {network.name!r} is on {network.device}. "
                "Expected --device cpu; eager and compile run on other devices."
            )
