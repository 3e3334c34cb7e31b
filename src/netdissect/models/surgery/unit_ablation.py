"""Ablate units of a layer and return the scores of the classifier.

    ablator = unit_ablator(network, layer)
    for scores in ablator.scores(images, sets):  # float32 (B, C), one for each set of units
        ...

Activations of an ablated unit are 0 everywhere. For each set of units as little of the network runs again as it allows:

    linear    the layer is pooled into a linear layer: nothing runs again, the terms of the units are replaced
    partial   the network can be split after the layer: the second part runs again
    full      any other network: it runs again as a whole, with a hook on the layer
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import torch
from torch import Tensor

from netdissect.errors import NetworkError
from netdissect.models import Layer, Network, resolve_layers
from netdissect.models.surgery.layer_edits import LayerEditor, layer_editor, with_units
from netdissect.models.surgery.linear_head import HeadRecorder, LinearHead, dummy_input, find_head

AblationMode = Literal["linear", "partial", "full"]


class UnitAblator(Protocol):
    """A classifier of which units can be ablated."""

    @property
    def mode(self) -> AblationMode:
        """How much of the network runs again for a set of units."""

    def scores(self, images: Tensor, sets: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """Yield the scores of a batch with each set of units ablated, float32 (B, C).

        Raises
        ------
        NetworkError
            If the network is no classifier.
        """


def unit_ablator(network: Network, layer: str) -> UnitAblator:
    """Return the cheapest ablator of the units of a layer.

    Parameters
    ----------
    network
        A classifier that returns (B, C); runs a few times on images of noise.
    layer
        Name of the layer whose units are ablated.

    Raises
    ------
    LayerError
        If there is no such layer.
    """
    resolved = resolve_layers(network, [layer])[0]
    try:
        head = find_head(network, resolved.name)
    except NetworkError:
        return _EditAblation(network, resolved, layer_editor(network, resolved))
    with HeadRecorder(network, head, zeroed=True) as record:
        ablated = record(dummy_input(network)).pooled
    return _LinearAblation(network, head, ablated)


@dataclass(frozen=True)
class _LinearAblation:
    """Scores are linear in the pooled units: only the terms of the ablated units change."""

    network: Network
    head: LinearHead
    ablated: Tensor  # (1, U): pooled units when they are ablated
    mode: AblationMode = "linear"

    def scores(self, images: Tensor, sets: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        with HeadRecorder(self.network, self.head) as record:
            output = record(images)
        change = output.pooled - self.ablated
        for units in sets:
            indices = _indices(units, images)
            yield (output.scores - change[:, indices] @ self.head.weight[:, indices].T).cpu()


@dataclass(frozen=True)
class _EditAblation:
    """The network, or its part after the layer, runs on the layer's output with the units at 0."""

    network: Network
    layer: Layer
    editor: LayerEditor

    @property
    def mode(self) -> AblationMode:
        """How much runs again."""
        return self.editor.mode

    def scores(self, images: Tensor, sets: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        edits = [partial(with_units, layer=self.layer, units=units) for units in sets]
        for scores in self.editor.outputs(images, edits):
            yield _checked(self.network, scores)


def _indices(units: Sequence[int], like: Tensor) -> Tensor:
    return torch.as_tensor(list(units), dtype=torch.int64, device=like.device)


def _checked(network: Network, scores: object) -> Tensor:
    if not isinstance(scores, Tensor) or scores.ndim != 2:
        raise NetworkError(f"Network {network.name!r} does not return scores (batch, classes). Expected a classifier.")
    return scores.float().cpu()
