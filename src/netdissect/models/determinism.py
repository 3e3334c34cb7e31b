"""Check that a network gives the same for an image each time, alone or in a batch.

Dropout that evaluation mode does not disable and batch normalization without running statistics do not: counts would
depend on the run or on the batch size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from netdissect.models.activation_recorder import ActivationRecorder
from netdissect.models.network import Network
from netdissect.models.run_module import hookable_modules
from netdissect.models.structure.layer import Layer

TOLERANCE = 1e-3
"""Largest difference that is taken for rounding, relative to a layer's largest magnitude."""
FINER = (TOLERANCE, 1e-5, 0.0)
"""Tolerances in the search for the module where differences begin: they grow from layer to layer."""
LOW_PRECISION = 16
"""Between batch sizes, the tolerance in precisions of 16-bit numbers, if that is more than `TOLERANCE`."""

Between = Literal["two equal passes", "passes alone and in a batch"]
HINTS: dict[Between, str] = {
    "two equal passes": "It draws random numbers in evaluation mode, too, as torch.nn.functional.dropout does "
    "without training=self.training",
    "passes alone and in a batch": "Its output for an image depends on the other images of the batch, as that of batch "
    "normalization without running statistics (track_running_stats=False) does",
}


@dataclass(frozen=True)
class Difference:
    """Where the outputs of a network for one image differ.

    Attributes
    ----------
    between
        Which two passes.
    layer
        The first layer that differs.
    share
        Largest difference relative to the layer's largest magnitude.
    module
        Where it begins: dotted name and class of the first module to finish whose inputs agree and whose output does
        not; None: not found.
    """

    between: Between
    layer: str
    share: float
    module: str | None

    def __str__(self) -> str:
        where = "" if self.module is None else f" It begins in {self.module}."
        return (
            f"between {self.between} of one image, layer {self.layer!r} differs by {self.share:.2g} of its largest "
            f"magnitude.{where} {HINTS[self.between]}."
        )


def find_difference(network: Network, layers: Sequence[Layer], images: Tensor) -> Difference | None:
    """Run one image twice, and alone and in a batch, and compare the outputs of layers.

    Parameters
    ----------
    network
        Within `Network.prepared`.
    layers
        Layers to compare.
    images : float32 (B, C, H, W)
        Normalized, on the network's device; the first one is compared.

    Returns
    -------
    Difference or None
        None: all agree but for rounding. The global generators are not changed.
    """
    one = images[:1]
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        with ActivationRecorder(network, layers) as record:
            alone, again = record(one), record(one)
            among = record(images) if len(images) > 1 else alone
        rounding = max(TOLERANCE, LOW_PRECISION * _precision(network, images.device))
        passes: tuple[tuple[Between, dict[str, Tensor], float, Tensor], ...] = (
            ("two equal passes", again, TOLERANCE, one),
            ("passes alone and in a batch", among, rounding, images),
        )
        for between, other, tolerance, second in passes:
            shares = {name: relative_difference(maps[0], other[name][0]) for name, maps in alone.items()}
            name = next((name for name, share in shares.items() if share > tolerance), None)
            if name is not None:
                return Difference(between, name, shares[name], _begins_in(network, one, second))
    return None


def _precision(network: Network, device: torch.device) -> float:
    """Return the relative precision of 16-bit numbers if the network computes with them; 0 otherwise."""
    low = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else network.dtype
    return torch.finfo(low).eps if low.itemsize == 2 else 0.0


def relative_difference(one: Tensor, other: Tensor) -> float:
    """Return the largest difference relative to the largest magnitude; infinities and NaN are refused elsewhere.

    >>> relative_difference(torch.tensor([1.0, -4.0]), torch.tensor([1.5, -4.0]))
    0.125
    """
    one, other = (torch.nan_to_num(tensor.float(), 0.0, 0.0, 0.0) for tensor in (one, other))
    largest = max(float(one.abs().max()), float(other.abs().max())) if one.numel() else 0.0
    return float((one - other).abs().max()) / largest if largest > 0 else 0.0


@dataclass(frozen=True)
class _ModuleCall:
    name: str
    type: str
    inputs: list[Tensor]
    outputs: list[Tensor]


def _begins_in(network: Network, one: Tensor, other: Tensor) -> str | None:
    first, second = _calls(network, one), _calls(network, other)
    for tolerance in FINER:
        for left, right in zip(first, second, strict=False):
            if left.name != right.name:
                return f"what calls {left.name!r} in one pass and {right.name!r} in the other"
            if _agree(left.inputs, right.inputs, tolerance) and not _agree(left.outputs, right.outputs, tolerance):
                return f"the network's own code ({left.type})" if not left.name else f"{left.name!r} ({left.type})"
    return None


def _calls(network: Network, images: Tensor) -> list[_ModuleCall]:
    """Run a network and return copies of the inputs and outputs of its modules, in the order in which they finished."""
    calls: list[_ModuleCall] = []
    unfinished: list[list[Tensor]] = []

    def before(_module: nn.Module, args: object, kwargs: object) -> None:
        unfinished.append(_copies((args, kwargs)))

    def after(module: nn.Module, output: object, name: str) -> None:
        calls.append(_ModuleCall(name, type(module).__name__, unfinished.pop(), _copies(output)))

    hooks = []
    for name, module in hookable_modules(network.module):
        hooks.append(module.register_forward_pre_hook(before, with_kwargs=True))
        hooks.append(
            module.register_forward_hook(lambda module, _inputs, output, name=name: after(module, output, name))
        )
    try:
        with torch.no_grad():
            network.forward(images)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _copies(values: object) -> list[Tensor]:
    tensors = (value for value in tree_leaves(values) if isinstance(value, Tensor))
    return [(tensor.dequantize() if tensor.is_quantized else tensor).clone() for tensor in tensors]


def _agree(one: Sequence[Tensor], other: Sequence[Tensor], tolerance: float) -> bool:
    return all(relative_difference(left, right) <= tolerance for left, right in _same_image(one, other))


def _same_image(one: Sequence[Tensor], other: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pairs of tensors, the second cut to its first image: the batch may be any dimension."""
    for left, right in zip(one, other, strict=False):
        if left.ndim != right.ndim:
            continue
        longer = [dim for dim in range(left.ndim) if left.shape[dim] != right.shape[dim]]
        if len(longer) <= 1:
            yield left, right.narrow(longer[0], 0, left.shape[longer[0]]) if longer else right
