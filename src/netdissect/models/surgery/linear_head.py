"""Classifiers whose decision is a weighted sum of units: a layer, pooled over the picture, and a linear layer.

    find_head(network) -> LinearHead (layer, weights)
    with HeadRecorder(network, head) as record:
        record(images)  # maps of the layer, what the linear layer sees of them, scores of the classes

There a class's score is its bias plus, for each unit, weight times pooled activation.

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
from netdissect.models.run_module import watched


@dataclass(frozen=True)
class LinearHead:
    """A layer whose units, each pooled by itself, are what a final linear layer sees.

    Attributes
    ----------
    layer
        Whose units they are.
    name
        Dotted name of the linear layer; empty if the network is nothing else.
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
    """Find the linear layer that makes the decision, and the layer whose pooled units feed it.

    Parameters
    ----------
    network
        Runs a few times on a picture of noise.
    layer
        Name of the layer that is pooled. None: the last convolution.

    Raises
    ------
    NetworkError
        If the network does not end in a linear layer on pooled units of that layer; says what was found.
    """
    name, linear = _last_linear(network)
    chosen = _chosen(network, layer)
    if linear.in_features != chosen.units:
        raise NetworkError(
            f"{_ends(network, name, linear)}, but layer {chosen.name!r} has {chosen.units} units. Expected a linear "
            "layer that sees each unit once, pooled over the picture: name the layer that is pooled, or take a network "
            "with global pooling before its classifier."
        )
    bias = torch.zeros(linear.out_features) if linear.bias is None else linear.bias.detach().float()
    head = LinearHead(chosen, name, linear.weight.detach().float(), bias)
    _check_own_units(network, head)
    return head


class HeadRecorder:
    """Run a network and keep what its head sees; hooks are attached while it is open.

    Parameters
    ----------
    network
        Stays as it is.
    head
        From `find_head`.
    zeroed
        Replace the layer's output by zeros: what the head sees then is what a unit gives that is switched off.
    """

    def __init__(self, network: Network, head: LinearHead, *, zeroed: bool = False) -> None:
        self._network, self._head, self._zeroed = network, head, zeroed
        self._hooks: list[RemovableHandle] = []
        self._seen: dict[str, Tensor] = {}

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
        """Run one batch of normalized pictures, float32 (B, C, H, W)."""
        scores = self._network.forward(images)
        if not isinstance(scores, Tensor):
            raise _no_tensor(self._network, scores)
        return HeadOutput(self._seen["maps"], self._seen["pooled"], scores.float())

    def _keep(self, name: str, values: Tensor) -> None:
        self._seen[name] = values.float().clone()  # the next operation may work in place

    def _keep_maps(self, output: Tensor) -> Tensor | None:
        self._keep("maps", _by_unit(output, self._head.layer))
        return torch.zeros_like(output) if self._zeroed else None


def _by_unit(output: Tensor, layer: Layer) -> Tensor:
    """Return a layer's output as maps (B, U, h, w)."""
    return output if layer.layout is None else layer.layout.read(output, layer.grid)


def dummy_input(network: Network, count: int = 1) -> Tensor:
    """Make normalized pictures of noise, float32 (count, C, H, W), the same ones each time."""
    preprocessing = network.preprocessing
    generator = torch.Generator().manual_seed(0)
    shape = (count, preprocessing.channels, *preprocessing.size)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return preprocessing(pixels).to(network.device)


def _last_linear(network: Network) -> tuple[str, nn.Linear]:
    """Find the linear layer whose output the network returns."""
    outputs: list[tuple[str, nn.Module, object]] = []
    hooks = [
        module.register_forward_hook(lambda module, _inputs, output, name=name: outputs.append((name, module, output)))
        for name, module in watched(network.module)
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
        "output of a torch.nn.Linear, whose input is a layer pooled over the picture."
    )


def _chosen(network: Network, layer: str | None) -> Layer:
    layers = {one.name: one for one in list_layers(network) if one.grid is not None}
    if layer is not None:
        if layer not in layers:
            raise NetworkError(
                f"Network {network.name!r} has no layer {layer!r} with a feature map. Expected the name of the layer "
                "that is pooled, such as its last convolution; run 'netdissect layers' to list them."
            )
        return layers[layer]
    modules = dict(network.module.named_modules())
    convolutions = [one for name, one in layers.items() if isinstance(modules.get(name), nn.Conv2d)]
    if not convolutions:
        raise NetworkError(
            f"Network {network.name!r} has no convolution. Expected one before its pooling; name the layer that is "
            "pooled."
        )
    return convolutions[-1]


def _check_own_units(network: Network, head: LinearHead) -> None:
    """Make sure that what the head sees under a number comes from the unit of that number alone.

    Numbers differ in some bit. For each bit the derivative of all pooled units with that bit set has to vanish
    at all units without it, and the other way round: 2 log2(U) derivatives tell all pairs apart.
    """
    maps, pooled = _with_graph(network, head)
    units = torch.arange(head.layer.units, device=pooled.device)
    if pooled.ndim != 2 or pooled.shape[1] != len(units) or not pooled.requires_grad:
        raise _mixed(network, head, f"it sees {tuple(pooled.shape)} for one picture")
    for bit in range(max(1, int(units[-1]).bit_length())):
        for wanted in (0, 1):
            inside = (units >> bit) % 2 == wanted
            try:
                (slope,) = torch.autograd.grad(pooled[:, inside].sum(), maps, retain_graph=True, allow_unused=True)
            except RuntimeError as error:  # code that overwrites what a derivative needs
                raise _mixed(network, head, f"what it sees has no derivative ({str(error)[:120]})") from error
            if slope is not None and bool((_by_unit(slope, head.layer)[:, ~inside] != 0).any()):
                raise _mixed(network, head, "what it sees under one number depends on units of other numbers")


def _with_graph(network: Network, head: LinearHead) -> tuple[Tensor, Tensor]:
    """Run a picture of noise; return the layer's output and, as a function of it, what the head sees."""
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


def _ends(network: Network, name: str, linear: nn.Linear) -> str:
    return f"Network {network.name!r} ends in the linear layer {name!r}, which takes {linear.in_features} features"


def _mixed(network: Network, head: LinearHead, seen: str) -> NetworkError:
    return NetworkError(
        f"Network {network.name!r} does not pool layer {head.layer.name!r} unit by unit before its linear layer "
        f"{head.name!r}: {seen}. Expected nothing between them but normalization, rectifiers, pooling and dropout; "
        "name the layer that is pooled."
    )


def _no_tensor(network: Network, output: object) -> NetworkError:
    return NetworkError(
        f"Network {network.name!r} returns a {type(output).__name__}. Expected a classifier that returns one tensor, "
        "(batch, classes)."
    )
