"""Record the outputs of layers while a network runs on images.

    with ActivationRecorder(network, layers) as record:
        activations = record(images)  # {"layer4": float32 (B, U, h, w)}

All layers are recorded in one forward pass, which ends as soon as the last of them has run.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import Self

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from netdissect.errors import ActivationError, LayerError, NetworkError
from netdissect.models.layers import Layer
from netdissect.models.network import Network
from netdissect.models.outputs import first_tensor
from netdissect.models.run_module import evaluation_mode, unwrapped


class ActivationRecorder:
    """Record named layers of a network.

    Parameters
    ----------
    network
        Is not changed; hooks are attached while the recorder is open.
    layers
        From `list_layers` or `resolve_layers`; virtual layers are computed from the layers that `Network.bases` names.
    compiled_for
        Compile the pass up to the layers with torch.compile, for batches of this size; smaller batches are padded. Sums
        are taken in another order: activations differ in their last bits. None: run the network without compiling.

    Raises
    ------
    LayerError
        If the network has no such module.

    Notes
    -----
    The first forward pass runs to its end, to count how often each layer runs; later passes stop after the last
    run of the last layer. A module that runs several times in a pass is recorded at its last run. The compiler
    removes what no layer needs.
    """

    def __init__(self, network: Network, layers: Sequence[Layer], *, compiled_for: int | None = None) -> None:
        self._network = network
        self._names = [layer.name for layer in layers]
        self._bases = {layer.name: network.bases[layer.name] for layer in layers if layer.name in network.bases}
        self._layers = {layer.name: layer for layer in layers if layer.name not in network.bases}
        for layer in layers:
            if layer.name in self._bases:
                source, matrix = self._bases[layer.name]
                self._layers.setdefault(source, replace(layer, name=source, units=matrix.shape[1]))
        self._hooks: list[RemovableHandle] = []
        self._outputs: dict[str, Tensor] = {}
        self._runs: Counter[str] = Counter()
        self._expected: Counter[str] | None = None
        self._batch_size = compiled_for
        modules = dict(network.module.named_modules(remove_duplicate=False))
        for name in self._layers:
            if name not in modules:
                raise LayerError(
                    f"Network {network.name!r} has no module {name!r}. Expected a layer of this network; find them "
                    "with list_layers or 'netdissect layers'."
                )
        self._modules = {name: modules[name] for name in self._layers}

    def __enter__(self) -> Self:
        record = self._record if self._batch_size is None else self._record_compiled
        for name, module in self._modules.items():
            self._hooks.append(
                module.register_forward_hook(lambda module, _inputs, output, name=name: record(name, module, output))
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if self._batch_size is not None:
            # The compiler counts all recorders as one function, and gives up on it when it has met eight.
            torch.compiler.reset()

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Run the network on one batch.

        Parameters
        ----------
        images : float32 (B, C, H, W)
            Normalized, on the network's device.

        Returns
        -------
        dict of str to float32 (B, U, h, w)
            Activations of each layer. Image-level units are (B, U, 1, 1); tokens are on their grid. Operations after
            the layer do not change them.

        Raises
        ------
        ActivationError
            If the recorder is not open, a layer did not run, or its output is not what `Layer` says.
        NetworkError
            If the network fails.
        """
        if not self._hooks and self._layers:
            raise ActivationError(
                "The recorder is not open. Expected 'with ActivationRecorder(network, layers) as record: "
                "record(images)'."
            )
        if self._batch_size is None:
            self._pass(images)
        else:
            self._outputs = self._compiled_pass(images, self._batch_size)
        with torch.inference_mode():
            recorded = {name: self._recorded(name, len(images)) for name in self._layers}
            for name, (source, matrix) in self._bases.items():
                units = recorded[source]
                rotated = matrix.to(units.device) @ units.flatten(2)
                recorded[name] = rotated.reshape(len(units), -1, *units.shape[2:])
        self._outputs = {}
        return {name: recorded[name] for name in self._names}

    def _pass(self, images: Tensor) -> None:
        """Run the network as far as needed; the outputs of its layers are in `_outputs` afterwards."""
        self._outputs, self._runs = {}, Counter()
        try:
            # Not in inference mode: its owner could not train with tensors that the module keeps for its next pass.
            with torch.no_grad():
                self._network.forward(images)
        except _AllRecordedError:
            pass
        else:
            self._expected = self._runs

    def _compiled_pass(self, images: Tensor, batch_size: int) -> dict[str, Tensor]:
        # In the same memory format, and outside of inference mode: for another type of tensor all is compiled again.
        times = -(-batch_size // len(images))
        padded = self._network.as_input(images if times == 1 else torch.cat([images] * times)[:batch_size])
        try:
            with torch.inference_mode(), evaluation_mode(self._network.module):
                outputs = self._compiled(padded)
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), "no reason given")
            raise NetworkError(
                f"Network {self._network.name!r} cannot be compiled, or fails when it is: {type(error).__name__}: "
                f"{reason}. Expected a network that torch.compile takes, and a C++ "
                "compiler (such as g++) for a CPU; leave out --backend compile to run it without compiling."
            ) from error
        surplus = len(padded) - len(images)
        return {name: output[: len(output) - surplus] for name, output in outputs.items()}

    @cached_property
    def _compiled(self) -> Callable[[Tensor], dict[str, Tensor]]:
        # Weights do not change: norms are folded into convolutions, whose weights are laid out once.
        return torch.compile(self._compilable_pass, dynamic=False, options={"freezing": True})

    def _compilable_pass(self, images: Tensor) -> dict[str, Tensor]:
        """Run the network to its end and return the outputs of its layers: the function that is compiled."""
        self._outputs = {}
        unwrapped(self._network.module)(images)
        return self._outputs

    def _record_compiled(self, name: str, _module: torch.nn.Module, output: object) -> None:
        self._keep(name, output)

    def _record(self, name: str, module: torch.nn.Module, output: object) -> None:
        if not self._hooks or module is not self._modules[name]:
            return  # a copy of the module has the hook, too, and keeps it after this recorder is closed
        self._runs[name] += 1
        last = self._expected is not None and self._runs == self._expected
        self._keep(name, output, copy=not last)
        if last:
            raise _AllRecordedError

    def _keep(self, name: str, output: object, *, copy: bool = True) -> None:
        """Keep the output of a layer: a copy, since the next operation may work in place (torchvision's AlexNet)."""
        tensor = first_tensor(output)
        if tensor is not None:
            tensor = tensor.dequantize() if tensor.is_quantized else tensor
            self._outputs[name] = tensor.to(torch.float32, memory_format=torch.contiguous_format, copy=copy)

    def _recorded(self, name: str, batch: int) -> Tensor:
        layer = self._layers[name]
        if name not in self._outputs:
            raise ActivationError(
                f"Layer {name!r} of network {self._network.name!r} returned no tensor in this forward pass: it did not "
                "run, or a copy of it did in its place. Expected one for every batch; dissect a layer that always "
                "runs, and give the module that runs itself (YOLO(...).model, not YOLO(...))."
            )
        output = self._outputs[name]
        maps = _read(output, layer)
        if maps is None or len(maps) != batch:
            expected = f"{layer.units} units" + (f" on {layer.grid.height} x {layer.grid.width}" if layer.grid else "")
            raise ActivationError(
                f"Layer {name!r} of network {self._network.name!r} returned {tuple(output.shape)} for {batch} images; "
                f"it was listed with {expected}. Expected the same shape for every batch: resize all images to the "
                "size of the network's preprocessing, and take layers from this network."
            )
        return maps


class _AllRecordedError(BaseException):
    """Ends a forward pass early; not an Exception, so that a network's own handlers do not catch it."""


def _read(output: Tensor, layer: Layer) -> Tensor | None:
    """Bring an output to (B, U, h, w); None if it has another shape than the layer."""
    if layer.layout is None:
        return None
    try:
        maps = layer.layout.read(output, layer.grid)
    except (ValueError, IndexError, RuntimeError):
        return None
    return maps.contiguous() if maps.shape[1] == layer.units else None
