"""Classifiers that end in a layer, pooled over the image, and a linear layer.

    find_head(network) -> LinearHead (layer, weights)
    with HeadRecorder(network, head) as record:
        record(images)  # maps of the layer, pooled units, scores of the classes

The score of a class is its bias plus, for each unit, weight times pooled activation.

Source: Zhou et al. 2018 :cite:p:`zhou2018interpreting`, on explaining decisions by units.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from netdissect.errors import NetworkError
from netdissect.models import Layer, Network, list_layers
from netdissect.models.checkpoints import refuse_missing_weights
from netdissect.models.run_module import hookable_modules


@dataclass(frozen=True)
class LinearHead:
    """A final linear layer whose inputs are the units of a layer, each pooled by itself.

    Attributes
    ----------
    layer
        The layer that is pooled.
    name
        Dotted name of the linear layer; empty if it is the whole network.
    weight
        float32 (C, U).
    bias
        float32 (C,); zeros if it has none.
    """

    layer: Layer
    name: str
    weight: Tensor
    bias: Tensor


class HeadOutput(NamedTuple):
    """One batch: maps (B, U, h, w) of the layer, pooled units (B, U), scores of the classes (B, C); all float32."""

    maps: Tensor
    pooled: Tensor
    scores: Tensor


def find_head(network: Network, layer: str | None = None) -> LinearHead:
    """Find the final linear layer of a classifier and the layer whose pooled units are its inputs.

    Parameters
    ----------
    network
        Runs a few times on an image of noise.
    layer
        Name of the layer that is pooled. None: the last convolution.

    Raises
    ------
    NetworkError
        If the network does not end in a linear layer on pooled units of that layer, or its checkpoint lacked weights.
    """
    refuse_missing_weights(network.name, network.module)
    name, linear = _last_linear(network)
    source = _pooled_layer(network, layer)
    if linear.in_features != source.units:
        raise NetworkError(
            f"Network {network.name!r} ends in the linear layer {name!r}, which takes {linear.in_features} features, "
            f"but layer {source.name!r} has {source.units} units. Expected a linear layer with one input for each "
            "unit, pooled over the image: name the layer that is pooled, or take a network with global pooling before "
            "its classifier."
        )
    bias = torch.zeros(linear.out_features) if linear.bias is None else linear.bias.detach().float()
    head = LinearHead(source, name, linear.weight.detach().float(), bias)
    _check_unit_by_unit(network, head)
    return head


class HeadRecorder:
    """Run a network and record the inputs of its head; hooks are attached while it is open.

    Parameters
    ----------
    network
        Is not changed.
    head
        From `find_head`.
    zeroed
        Replace the layer's output by zeros: the head's inputs are then those of ablated units.
    """

    def __init__(self, network: Network, head: LinearHead, *, zeroed: bool = False) -> None:
        self._network, self._head, self._zeroed = network, head, zeroed
        self._hooks: list[RemovableHandle] = []
        self._recorded: dict[str, Tensor] = {}

    def __enter__(self) -> Self:
        layer = self._network.module.get_submodule(self._head.layer.name)
        linear = self._network.module.get_submodule(self._head.name)
        self._hooks = [
            layer.register_forward_hook(lambda _module, _inputs, output: self._keep_maps(output)),
            linear.register_forward_pre_hook(lambda _module, inputs: self._keep("pooled", inputs[0])),
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    @torch.no_grad()
    def __call__(self, images: Tensor) -> HeadOutput:
        """Run one batch of normalized images, float32 (B, C, H, W)."""
        scores = self._network.forward(images)
        if not isinstance(scores, Tensor):
            raise _no_tensor(self._network, scores)
        return HeadOutput(self._recorded["maps"], self._recorded["pooled"], scores.float())

    def _keep(self, name: str, values: Tensor) -> None:
        self._recorded[name] = values.float().clone()  # the next operation may work in place

    def _keep_maps(self, output: Tensor) -> Tensor | None:
        self._keep("maps", _by_unit(output, self._head.layer))
        return torch.zeros_like(output) if self._zeroed else None


def _by_unit(output: Tensor, layer: Layer) -> Tensor:
    """Return a layer's output as maps (B, U, h, w)."""
    return output if layer.layout is None else layer.layout.read(output, layer.grid)


def dummy_input(network: Network, count: int = 1) -> Tensor:
    """Make normalized images of noise, float32 (count, C, H, W), the same ones each time."""
    preprocessing = network.preprocessing
    return preprocessing(preprocessing.noise(count)).to(network.device)


def _last_linear(network: Network) -> tuple[str, nn.Linear]:
    """Find the linear layer whose output the network returns."""
    outputs: list[tuple[str, nn.Module, object]] = []
    hooks = [
        module.register_forward_hook(lambda module, _inputs, output, name=name: outputs.append((name, module, output)))
        for name, module in hookable_modules(network.module)
        if next(module.children(), None) is None
    ]
    try:
        with torch.no_grad():
            scores = network.forward(dummy_input(network))
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(scores, Tensor):
        raise _no_tensor(network, scores)
    for name, module, output in reversed(outputs):
        if isinstance(module, nn.Linear) and isinstance(output, Tensor) and torch.equal(output, scores):
            return name, module
    last = f"the module that runs last is {outputs[-1][0]!r}, a {type(outputs[-1][1]).__name__}" if outputs else "none"
    raise NetworkError(
        f"Network {network.name!r} does not end in a linear layer: {last}. Expected a classifier that returns the "
        "output of a torch.nn.Linear, whose input is a layer pooled over the image."
    )


def _pooled_layer(network: Network, layer: str | None) -> Layer:
    layers = {found.name: found for found in list_layers(network) if found.grid is not None}
    if layer is not None:
        if layer not in layers:
            raise NetworkError(
                f"Network {network.name!r} has no layer {layer!r} with a feature map. Expected the name of the layer "
                "that is pooled, such as its last convolution; run 'netdissect layers' to list them."
            )
        return layers[layer]
    modules = dict(network.module.named_modules())
    convolutions = [found for name, found in layers.items() if isinstance(modules.get(name), nn.Conv2d)]
    if not convolutions:
        raise NetworkError(
            f"Network {network.name!r} has no convolution. Expected one before its pooling; name the layer that is "
            "pooled."
        )
    return convolutions[-1]


def _check_unit_by_unit(network: Network, head: LinearHead) -> None:
    """Make sure that each input of the head depends on the unit of the same index alone.

    Two indices differ in some bit. For each bit the derivative of all pooled units with that bit set has to vanish
    at all units without it, and the other way round: 2 log2(U) derivatives tell all pairs apart.
    """
    maps, pooled = _with_graph(network, head)
    units = torch.arange(head.layer.units, device=pooled.device)
    if pooled.ndim != 2 or pooled.shape[1] != len(units) or not pooled.requires_grad:
        raise _mixed(network, head, f"its input is {tuple(pooled.shape)} for one image")
    for bit in range(max(1, int(units[-1]).bit_length())):
        for value in (0, 1):
            inside = (units >> bit) % 2 == value
            try:
                (slope,) = torch.autograd.grad(pooled[:, inside].sum(), maps, retain_graph=True, allow_unused=True)
            except RuntimeError as error:  # code that overwrites what a derivative needs
                raise _mixed(network, head, f"its input has no derivative ({str(error)[:120]})") from error
            if slope is not None and bool((_by_unit(slope, head.layer)[:, ~inside] != 0).any()):
                raise _mixed(network, head, "one of its inputs depends on units of other indices")


def _with_graph(network: Network, head: LinearHead) -> tuple[Tensor, Tensor]:
    """Run an image of noise; return the layer's output and, as a function of it, the head's input."""
    kept: dict[str, Tensor] = {}

    def start(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        kept["maps"] = output.detach().clone().requires_grad_()
        return kept["maps"].clone()  # not the leaf itself: the next operation may work in place

    def end(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        kept["pooled"] = inputs[0]

    module = network.module
    hooks = [
        module.get_submodule(head.layer.name).register_forward_hook(start),
        module.get_submodule(head.name).register_forward_pre_hook(end),
    ]
    try:
        with torch.enable_grad():
            network.forward(dummy_input(network))
    finally:
        for hook in hooks:
            hook.remove()
    return kept["maps"], kept["pooled"]


def _mixed(network: Network, head: LinearHead, reason: str) -> NetworkError:
    return NetworkError(
        f"Network {network.name!r} does not pool layer {head.layer.name!r} unit by unit before its linear layer "
        f"{head.name!r}: {reason}. Expected nothing between them but normalization, rectifiers, pooling and dropout; "
        "name the layer that is pooled."
    )


def _no_tensor(network: Network, output: object) -> NetworkError:
    return NetworkError(
        f"Network {network.name!r} returns a {type(output).__name__}. Expected a classifier that returns one tensor, "
        "(batch, classes)."
    )
