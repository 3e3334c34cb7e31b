"""Record the outputs of layers while a network runs on images.

    with ActivationRecorder(network, layers) as record:
        activations = record(images)  # {"layer4": float32 (B, U, h, w)}

All layers are recorded in one forward pass, which ends as soon as the last of them has run.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from netdissect.errors import ActivationError, LayerError
from netdissect.models.backends import EAGER, BackendSettings, open_backend
from netdissect.models.dictionaries.basis import encode_maps
from netdissect.models.network import Network
from netdissect.models.structure.layer import Layer


class ActivationRecorder:
    """Record named layers of a network.

    Parameters
    ----------
    network
        Is not changed; hooks are attached while the recorder is open.
    layers
        From `list_layers` or `resolve_layers`; virtual layers are computed from the layers that `Network.bases` names.
    backend
        What runs the network; one that makes a graph for some number of images gets batches in pieces of it, several
        at once if it takes them, the last one padded.

    Raises
    ------
    LayerError
        If the network has no such module.

    Notes
    -----
    A module that runs several times in a pass is recorded at its last run. Nothing behind the last layer is computed
    from the second batch on.
    """

    def __init__(self, network: Network, layers: Sequence[Layer], *, backend: BackendSettings = EAGER) -> None:
        self._network = network
        self._names = [layer.name for layer in layers]
        self._bases = {layer.name: network.bases[layer.name] for layer in layers if layer.name in network.bases}
        self._layers = {layer.name: layer for layer in layers if layer.name not in network.bases}
        for layer in layers:
            if layer.name in self._bases:
                basis = self._bases[layer.name]
                self._layers.setdefault(basis.source, replace(layer, name=basis.source, units=basis.inputs))
        modules = dict(network.module.named_modules(remove_duplicate=False))
        for name in self._layers:
            if name not in modules:
                raise LayerError(
                    f"Network {network.name!r} has no module {name!r}. Expected a layer of this network; find them "
                    "with list_layers or 'netdissect layers'."
                )
        self._backend = open_backend(network, {name: modules[name] for name in self._layers}, backend)
        self._opened = ExitStack()
        self._pool: ThreadPoolExecutor | None = None
        self._open = False

    def __enter__(self) -> Self:
        self._opened.enter_context(self._backend)
        if self._backend.calls_at_once > 1:
            self._pool = self._opened.enter_context(ThreadPoolExecutor(self._backend.calls_at_once))
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        self._opened.__exit__(kind, error, trace)

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
            If the network fails, or the backend cannot take it.
        """
        if not self._open:
            raise ActivationError(
                "The recorder is not open. Expected 'with ActivationRecorder(network, layers) as record: "
                "record(images)'."
            )
        pieces = torch.split(images, self._backend.batch_size or len(images))
        parts = list((self._pool.map if self._pool else map)(self._run, pieces))
        with torch.inference_mode():
            recorded = parts[0]
            if len(parts) > 1:
                recorded = {name: torch.cat([part[name] for part in parts]) for name in self._layers}
            for name, basis in self._bases.items():
                recorded[name] = encode_maps(basis, recorded[basis.source])
        return {name: recorded[name] for name in self._names}

    def _run(self, images: Tensor) -> dict[str, Tensor]:
        """Record the layers that are no virtual ones in one call of the backend."""
        padded = _repeated(images, self._backend.batch_size or len(images))
        outputs = self._backend(padded)
        with torch.inference_mode():
            return {name: self._recorded(name, outputs, len(padded))[: len(images)] for name in self._layers}

    def _recorded(self, name: str, outputs: Mapping[str, Tensor], batch: int) -> Tensor:
        layer = self._layers[name]
        if name not in outputs:
            raise ActivationError(
                f"Layer {name!r} of network {self._network.name!r} returned no tensor in this forward pass: it did not "
                "run, or a copy of it did in its place. Expected one for every batch; dissect a layer that always "
                "runs, and give the module that runs itself (YOLO(...).model, not YOLO(...))."
            )
        output = outputs[name]
        maps = _read(output, layer)
        if maps is None or len(maps) != batch:
            expected = f"{layer.units} units" + (f" on {layer.grid.height} x {layer.grid.width}" if layer.grid else "")
            raise ActivationError(
                f"Layer {name!r} of network {self._network.name!r} returned {tuple(output.shape)} for {batch} images; "
                f"it was listed with {expected}. Expected the same shape for every batch: resize all images to the "
                "size of the network's preprocessing, and take layers from this network."
            )
        return maps


def _repeated(images: Tensor, size: int) -> Tensor:
    """Repeat the images of a smaller batch up to a batch size."""
    return images if len(images) == size else torch.cat([images] * -(-size // len(images)))[:size]


def _read(output: Tensor, layer: Layer) -> Tensor | None:
    """Bring an output to (B, U, h, w); None if it has another shape than the layer."""
    if layer.layout is None:
        return None
    try:
        maps = layer.layout.read(output, layer.grid)
    except (ValueError, IndexError, RuntimeError):
        return None
    return maps.contiguous() if maps.shape[1] == layer.units else None
