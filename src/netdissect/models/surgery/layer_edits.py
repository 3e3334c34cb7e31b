"""Run a network with a changed output of one layer, and return the network's output.

    editor = layer_editor(network, layer)
    for output in editor.outputs(images, edits):  # one for each edit
        ...

For each edit as little of the network runs again as it allows:

    partial   the network can be split after the layer: the second part runs again
    full      any other network: it runs again as a whole, with a hook on the layer
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from netdissect.models import Layer, Network
from netdissect.models.run_module import evaluation_mode
from netdissect.models.surgery.split import SplitNetwork, split_after

Edit = Callable[[Tensor], Tensor]
"""Returns another output of a layer, in the layer's own layout; it does not change the one that it is given."""


class LayerEditor(Protocol):
    """A network whose output with a changed layer can be computed."""

    @property
    def mode(self) -> Literal["partial", "full"]:
        """How much of the network runs again for an edit."""

    def outputs(self, images: Tensor, edits: Sequence[Edit]) -> Iterator[object]:
        """Yield the output of the network on a batch with each edit of the layer."""

    def differentiable(self, images: Tensor, edit: Edit) -> object:
        """Return the output with one edit, with gradients for what the edit depends on."""


def layer_editor(network: Network, layer: Layer) -> LayerEditor:
    """Return the cheapest editor of a layer; the network runs a few times on noise."""
    parts = split_after(network, layer.name)
    return _FullEditor(network, layer) if parts is None else _PartialEditor(network, parts)


@dataclass(frozen=True)
class _PartialEditor:
    """The part after the layer runs again."""

    network: Network
    parts: SplitNetwork
    mode: Literal["partial", "full"] = "partial"

    @torch.no_grad()
    def outputs(self, images: Tensor, edits: Sequence[Edit]) -> Iterator[object]:
        with evaluation_mode(self.network.module):
            values = self.parts.before(*self.network.arguments(images))
            for edit in edits:
                yield self.parts.scores(values, edit(values[0]))

    def differentiable(self, images: Tensor, edit: Edit) -> object:
        with evaluation_mode(self.network.module):
            with torch.no_grad():
                values = self.parts.before(*self.network.arguments(images))
            return self.parts.scores(values, edit(values[0]))


@dataclass(frozen=True)
class _FullEditor:
    """The whole network runs, with a hook that changes the output of the layer."""

    network: Network
    layer: Layer
    mode: Literal["partial", "full"] = "full"

    @torch.no_grad()
    def outputs(self, images: Tensor, edits: Sequence[Edit]) -> Iterator[object]:
        arguments = self.network.arguments(images)
        for edit in edits:
            yield self._output(arguments, edit)

    def differentiable(self, images: Tensor, edit: Edit) -> object:
        return self._output(self.network.arguments(images), edit)

    def _output(self, arguments: Sequence[Tensor], edit: Edit) -> object:
        def change(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            return edit(output)

        hook = self.network.module.get_submodule(self.layer.name).register_forward_hook(change)
        try:
            return self.network.run(arguments)
        finally:
            hook.remove()


def with_units(output: Tensor, layer: Layer, units: Sequence[int], value: float = 0.0) -> Tensor:
    """Return a copy of a layer's output, maps or tokens, with units at a value everywhere."""
    axis = 1 if layer.layout is None else layer.layout.units
    indices = torch.as_tensor(list(units), dtype=torch.int64, device=output.device)
    return output.clone().index_fill_(axis, indices, value)


def addresses(output: Tensor, layer: Layer) -> Tensor:
    """Return where each activation is in a layer's flattened output: int64 (B, U, h, w)."""
    flat = torch.arange(output.numel(), device=output.device).reshape(output.shape)
    return flat[:, :, None, None] if layer.layout is None else layer.layout.read(flat, layer.grid)


def towards(
    output: Tensor, layer: Layer, units: Sequence[int], values: Tensor, *, strength: float = 1.0,
    cells: Sequence[tuple[int, int]] | None = None,
) -> Tensor:  # fmt: skip
    """Return a copy of a layer's output with units moved from their activation towards a value.

    Parameters
    ----------
    output
        Of the layer, in its own layout.
    layer
        The layer.
    units
        Their indices.
    values : float (len(units),)
        One for each unit.
    strength
        0 changes nothing, and with 1 a unit has its value: ``activation + strength * (value - activation)``.
    cells
        Rows and columns of the cells that are changed; None: all.
    """
    flat, where = output.flatten().clone(), addresses(output, layer)[:, list(units)]
    if cells is None:
        chosen = where.flatten(2)
    else:
        rows, columns = (list(each) for each in zip(*cells, strict=True))
        chosen = where[:, :, rows, columns]
    flat[chosen] = torch.lerp(flat[chosen], values.to(flat.device, flat.dtype)[:, None], strength)
    return flat.reshape(output.shape)


def mixed(output: Tensor, layer: Layer, strengths: Tensor, values: Tensor, cells: npt.NDArray[np.int64]) -> Tensor:
    """Return a copy of a layer's output with all units of one cell of each image mixed with values, differentiably.

    Parameters
    ----------
    output
        Of the layer, in its own layout.
    layer
        The layer.
    strengths, values : float (U,)
        A unit of the activation h, the strength a and the value k becomes ``(1 - a) h + a k``.
    cells : int64 (B, 2)
        Row and column of the cell of each image.
    """
    where = addresses(output, layer)
    rows, columns = torch.from_numpy(cells).to(output.device).T
    index = where[torch.arange(len(where), device=output.device), :, rows, columns].flatten()
    share, value = (each.to(output.device, output.dtype).repeat(len(where)) for each in (strengths, values))
    flat = output.flatten()
    return flat.scatter(0, index, flat[index] * (1 - share) + value * share).reshape(output.shape)
