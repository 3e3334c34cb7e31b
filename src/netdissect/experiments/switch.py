"""Switch units of a layer off and see what a classifier then says.

    switchboard(network, layer, pictures) -> Switchboard.scores(units)  # float32 (N, C)

A unit is off when its activations are 0 everywhere. What lies before the layer is computed once; what lies
behind it is as little as the network allows:

    the layer is pooled into a linear layer    weights times the difference of the pooled units
    the network is a torch.nn.Sequential       the modules behind the layer, on activations in memory
    any other                                  the whole network, with a hook
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from netdissect.config import Progress
from netdissect.errors import NetworkError
from netdissect.experiments.heads import HeadRecorder, LinearHead, find_head, noise
from netdissect.experiments.labeled import LabeledPictures
from netdissect.models import Layer, Network, Recorder, resolve_layers

MEMORY = 2**30  # bytes of activations that are kept at most


class Switchboard(Protocol):
    """A classifier and pictures, ready to be asked again and again."""

    @property
    def how(self) -> str:
        """``head``, ``tail`` or ``hooks``."""

    def scores(self, units: Sequence[int]) -> Tensor:
        """Return the scores of all pictures with these units off, float32 (N, C)."""


def switchboard(
    network: Network, layer: str, pictures: LabeledPictures, *, batch_size: int = 64, progress: Progress | None = None
) -> Switchboard:
    """Look at all pictures once and return the cheapest way to switch units off.

    Parameters
    ----------
    network
        A classifier that returns (B, C).
    layer
        Name of the layer whose units are switched.
    pictures
        N of them.
    batch_size
        Pictures in a forward pass.
    progress
        Told of the pictures (``activations``).

    Raises
    ------
    LayerError
        If there is no such layer.
    ConceptsError
        If a picture cannot be decoded.
    """
    chosen = resolve_layers(network, [layer])[0]
    network.module.to(memory_format=torch.channels_last)
    try:
        head = find_head(network, layer)
    except NetworkError:
        behind = modules_behind(network.module, layer)
        cells = 1 if chosen.grid is None else chosen.grid.height * chosen.grid.width
        if behind is not None and 4 * len(pictures) * chosen.units * cells <= MEMORY:
            return _tail(network, chosen, behind, (pictures, batch_size), progress)
        return _Hooked(network, chosen, pictures, batch_size)
    return _head(network, head, (pictures, batch_size), progress)


def modules_behind(module: nn.Module, name: str) -> nn.Sequential | None:
    """Return what runs after a module, where everything around it is a `torch.nn.Sequential`; None otherwise."""
    if not name:
        return nn.Sequential()
    first, _, rest = name.partition(".")
    children = dict(module.named_children())
    if not isinstance(module, nn.Sequential) or first not in children:
        return None
    inner = modules_behind(children[first], rest)
    names = list(children)
    later = [children[one] for one in names[names.index(first) + 1 :]]
    return None if inner is None else nn.Sequential(*inner, *later)


@dataclass(frozen=True)
class _Head:
    """Scores are linear in the pooled units: only the terms of the units that are off change."""

    base: Tensor
    change: Tensor  # (N, U): pooled unit as it is, less what it is when the unit is off
    weight: Tensor
    how: str = "head"

    def scores(self, units: Sequence[int]) -> Tensor:
        off = torch.as_tensor(list(units), dtype=torch.int64)
        return self.base - self.change[:, off] @ self.weight[:, off].T


def _head(
    network: Network, head: LinearHead, shown: tuple[LabeledPictures, int], progress: Progress | None
) -> Switchboard:
    pictures, batch_size = shown
    pooled, base = [], []
    with HeadRecorder(network, head, zeroed=True) as record:
        off = record(noise(network)).pooled
    with HeadRecorder(network, head) as record:
        for pixels in pictures.batches(network.preprocessing, batch_size):
            decision = record(network.preprocessing(torch.from_numpy(pixels)).to(network.device))
            pooled.append(decision.pooled.cpu())
            base.append(decision.scores.cpu())
            _tell(progress, len(pooled) * batch_size, len(pictures))
    return _Head(torch.cat(base), torch.cat(pooled) - off.cpu(), head.weight.cpu())


@dataclass(frozen=True)
class _Tail:
    """What follows the layer runs on its activations, which are in memory."""

    maps: Tensor
    behind: nn.Sequential
    batch_size: int
    how: str = "tail"

    @torch.no_grad()
    def scores(self, units: Sequence[int]) -> Tensor:
        found = []
        for maps in torch.split(self.maps, self.batch_size):
            changed = maps.clone()
            changed[:, list(units)] = 0
            found.append(self.behind(changed).float())
        return torch.cat(found)


def _tail(
    network: Network,
    layer: Layer,
    behind: nn.Sequential,
    shown: tuple[LabeledPictures, int],
    progress: Progress | None,
) -> Switchboard:
    pictures, batch_size = shown
    kept: list[Tensor] = []
    with Recorder(network, [layer]) as record:
        for pixels in pictures.batches(network.preprocessing, batch_size):
            kept.append(record(network.preprocessing(torch.from_numpy(pixels)).to(network.device))[layer.name].clone())
            _tell(progress, len(kept) * batch_size, len(pictures))
    # Whole-image units were recorded as maps of one cell.
    maps = torch.cat(kept)
    return _Tail(maps if layer.grid is not None else maps.flatten(1), behind, batch_size)


@dataclass(frozen=True)
class _Hooked:
    """The whole network runs, with a hook that switches the units off."""

    network: Network
    layer: Layer
    pictures: LabeledPictures
    batch_size: int
    how: str = "hooks"

    @torch.no_grad()
    def scores(self, units: Sequence[int]) -> Tensor:
        def off(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            changed = output.clone()
            axis = 1 if output.shape[1] == self.layer.units else output.ndim - 1
            return changed.index_fill_(axis, torch.as_tensor(list(units), dtype=torch.int64, device=output.device), 0)

        hook = self.network.module.get_submodule(self.layer.name).register_forward_hook(off)
        preprocessing, found = self.network.preprocessing, []
        try:
            for pixels in self.pictures.batches(preprocessing, self.batch_size):
                images = preprocessing(torch.from_numpy(pixels)).to(self.network.device)
                scores = self.network.forward(images.contiguous(memory_format=torch.channels_last))
                if not isinstance(scores, Tensor) or scores.ndim != 2:
                    raise NetworkError(
                        f"Network {self.network.name!r} does not return scores (batch, classes). Expected a classifier."
                    )
                found.append(scores.float().cpu())
        finally:
            hook.remove()
        return torch.cat(found)


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress:
        progress("activations", min(done, total), total)
