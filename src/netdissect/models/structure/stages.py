"""Find the stages and blocks of a network, and the hidden neurons of its perceptrons."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import torch

from netdissect.config import Assumed
from netdissect.models.as_network import as_network
from netdissect.models.layers import NOTHING_ASSUMED, read_layer
from netdissect.models.network import Network
from netdissect.models.receptive_field.trace import TracedModule, trace
from netdissect.models.structure import find_blocks, residual_additions
from netdissect.models.structure.layer import Layer
from netdissect.models.structure.module_tree import ModuleTree

MOST_STAGES = 12
"""Changes of size in a network that runs one block after the other; with more, blocks of one size are a stage."""
DEPTHS = 4
"""Stages of a network whose blocks have maps of one size."""


@dataclass(frozen=True)
class Stage:
    """Blocks that follow one another with maps of one size.

    Attributes
    ----------
    blocks
        In the order of execution.
    end
        The layer that gives the output of the stage: its last block, or a module around its blocks.
    """

    blocks: tuple[Layer, ...]
    end: Layer


@dataclass(frozen=True)
class Structure:
    """The parts of a network that are usually dissected; nothing where its shape is not known.

    Attributes
    ----------
    stages
        In the order of execution. Where all blocks have maps of one size, as in a vision transformer, four stages of
        equal depth.
    hidden
        The layers that give the hidden neurons of the perceptrons within blocks.
    """

    stages: tuple[Stage, ...]
    hidden: tuple[Layer, ...]

    def layers(self, name: str) -> tuple[Layer, ...]:
        """Return the layers of ``auto`` (the end of each stage), ``blocks`` or ``mlp``."""
        if name == "mlp":
            return self.hidden
        if name == "auto":
            return tuple(stage.end for stage in self.stages)
        return tuple(block for stage in self.stages for block in stage.blocks)


def find_structure(
    model: Network | torch.nn.Module | str, assumed: Assumed = NOTHING_ASSUMED, *, preprocessing: object = None
) -> Structure:
    """Return the stages, blocks and hidden neurons of a network, found by its structure and not by names.

    Parameters
    ----------
    model, assumed, preprocessing
        As in `netdissect.list_layers`.

    Raises
    ------
    NetworkError
        If the preprocessing is not known, or the network fails on its own input size.

    Notes
    -----
    A block is a module with parts that another one of its kind follows directly. Where nothing repeats, as in a graph
    without modules, it is what ends with an addition of a residual network, or a convolution with what follows it on
    the same map. A stage ends where the size of the map changes.
    """
    network = as_network(model, preprocessing)
    return structure_of(network, trace(network), assumed)


def structure_of(network: Network, traced: Sequence[TracedModule], assumed: Assumed) -> Structure:
    """Return the structure of a network that was traced."""
    assumed = network.assumed(assumed)
    tree, layers = ModuleTree(traced, network.module), dict[str, Layer]()

    def on_maps(names: Iterable[str]) -> list[str]:
        """Keep the modules whose maps have cells."""
        for name in names:
            layers.setdefault(name, read_layer(tree.nodes[name], assumed))
        return [name for name in names if (grid := layers[name].grid) is not None and max(grid) > 1]

    repeated, residual = on_maps(find_blocks.repeated_blocks(tree)), list[str]()
    if not repeated:
        residual = on_maps(residual_additions.residual_blocks(tree))
    blocks = repeated or residual or on_maps(find_blocks.convolution_blocks(tree))
    groups = _by_size(blocks, layers)
    ends = [find_blocks.stage_end(tree, group, set(blocks) - set(group)) for group in groups]
    stages = tuple(
        Stage(tuple(layers[name] for name in group), layers[end if end in on_maps([end]) else group[-1]])
        for group, end in zip(groups, ends, strict=True)
    )
    hidden = dict(residual_additions.hidden_values(tree) if residual else find_blocks.hidden_layers(tree, blocks))
    return Structure(stages, tuple(layers[name] for name in on_maps(hidden) if layers[name].units == hidden[name]))


def _by_size(blocks: Sequence[str], layers: Mapping[str, Layer]) -> list[list[str]]:
    """Split blocks where the size of their maps changes; those of one size into four parts."""
    groups = [list(group) for _, group in groupby(blocks, key=lambda name: layers[name].grid)]
    if len(groups) > MOST_STAGES:  # branches of several sizes run in turn
        sizes = dict.fromkeys(layers[name].grid for name in blocks)
        return [[name for name in blocks if layers[name].grid == size] for size in sizes]
    if len(groups) != 1:
        return groups
    count = min(DEPTHS, len(blocks))
    edges = [len(blocks) * part // count for part in range(count + 1)]
    return [list(blocks[start:stop]) for start, stop in pairwise(edges)]
