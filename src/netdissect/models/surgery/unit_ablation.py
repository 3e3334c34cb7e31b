"""Switch units of a layer off and see what a classifier then says.

    board = switchboard(network, layer)
    for scores in board.scores(images, sets):  # float32 (B, C), one for each set of units
        ...

A unit is off when its activations are 0 everywhere. What lies before the layer runs once for each batch of pictures;
what lies behind it is as little as the network allows:

    head    the layer is pooled into a linear layer: weights times the difference of the pooled units
    tail    the network can be cut behind the layer: only what follows runs again
    whole   any other: the whole network, with a hook
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from netdissect.errors import NetworkError
from netdissect.models import Layer, Network, resolve_layers
from netdissect.models.run_module import evaluating
from netdissect.models.surgery.linear_head import HeadRecorder, LinearHead, dummy_input, find_head
from netdissect.models.surgery.split import SplitNetwork, split_after

How = Literal["head", "tail", "whole"]


class UnitAblator(Protocol):
    """A classifier that can be asked what it says with units off."""

    @property
    def how(self) -> How:
        """How much of the network runs again for a set of units."""

    def scores(self, images: Tensor, sets: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """Yield the scores of a batch with each set of units off, float32 (B, C).

        Raises
        ------
        NetworkError
            If the network is no classifier.
        """


def unit_ablator(network: Network, layer: str) -> UnitAblator:
    """Return the cheapest way to switch units of a layer off.

    Parameters
    ----------
    network
        A classifier that returns (B, C); runs a few times on pictures of noise.
    layer
        Name of the layer whose units are switched.

    Raises
    ------
    LayerError
        If there is no such layer.
    """
    chosen = resolve_layers(network, [layer])[0]
    try:
        head = find_head(network, chosen.name)
    except NetworkError:
        parts = split_after(network, chosen.name)
        return _FullAblation(network, chosen) if parts is None else _PartialAblation(network, chosen, parts)
    with HeadRecorder(network, head, zeroed=True) as record:
        off = record(dummy_input(network)).pooled
    return _LinearAblation(network, head, off)


@dataclass(frozen=True)
class _LinearAblation:
    """Scores are linear in the pooled units: only the terms of the units that are off change."""

    network: Network
    head: LinearHead
    off: Tensor  # (1, U): pooled units when they are off
    how: How = "head"

    def scores(self, images: Tensor, sets: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        with HeadRecorder(self.network, self.head) as record:
            seen = record(images)
        change = seen.pooled - self.off
        for units in sets:
            places = _places(units, images)
            yield (seen.scores - change[:, places] @ self.head.weight[:, places].T).cpu()


@dataclass(frozen=True)
class _PartialAblation:
    """What follows the layer runs on its output with the units at 0."""

    network: Network
    layer: Layer
    parts: SplitNetwork
    how: How = "tail"

    @torch.no_grad()
    def scores(self, images: Tensor, sets: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        with evaluating(self.network.module):
            values = self.parts.before(self.network.as_input(images))
            for units in sets:
                yield _checked(self.network, self.parts.scores(values, _off(values[0], self.layer, units)))


@dataclass(frozen=True)
class _FullAblation:
    """The whole network runs, with a hook that switches the units off."""

    network: Network
    layer: Layer
    how: How = "whole"

    @torch.no_grad()
    def scores(self, images: Tensor, sets: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        module = self.network.module.get_submodule(self.layer.name)
        for units in sets:

            def off(_module: nn.Module, _inputs: object, output: Tensor, units: Sequence[int] = units) -> Tensor:
                return _off(output, self.layer, units)

            hook = module.register_forward_hook(off)
            try:
                scores = self.network.forward(images)
            finally:
                hook.remove()
            yield _checked(self.network, scores)


def _places(units: Sequence[int], like: Tensor) -> Tensor:
    return torch.as_tensor(list(units), dtype=torch.int64, device=like.device)


def _off(output: Tensor, layer: Layer, units: Sequence[int]) -> Tensor:
    """Return a copy of a layer's output, maps or tokens, with units at 0."""
    axis = 1 if layer.layout is None else layer.layout.units
    return output.clone().index_fill_(axis, _places(units, output), 0)


def _checked(network: Network, scores: object) -> Tensor:
    if not isinstance(scores, Tensor) or scores.ndim != 2:
        raise NetworkError(f"Network {network.name!r} does not return scores (batch, classes). Expected a classifier.")
    return scores.float().cpu()
