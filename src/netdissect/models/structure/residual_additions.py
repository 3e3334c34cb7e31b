"""Find blocks where a network has no modules, as in a graph: by the additions that end residual blocks.

An addition follows another one if it is given its output as it was. In such a chain, what runs before an addition is
known by the shapes of its weights, and a block is what repeats: a transformer layer has two additions, attention and
perceptron, a ConvNeXt block has one.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from netdissect.models.receptive_field.trace import Stamp
from netdissect.models.structure.module_tree import ModuleTree

ADDITION = "Add"
MOST = 2 / 3
"""Share of the operations with weights that run within residual blocks where a network consists of them."""


class Chain(NamedTuple):
    """Additions that follow one another.

    Attributes
    ----------
    additions
        In the order of execution.
    parts
        Before each, the operations with weights.
    """

    additions: list[str]
    parts: list[list[str]]


def residual_blocks(tree: ModuleTree) -> list[str]:
    """Return the addition that ends each block, in the order of execution; empty: the network has other blocks, too."""
    chains = _chains(tree)
    inside = sum(len(part) for chain in chains for part in chain.parts)
    if inside <= MOST * sum(1 for name in tree.nodes if _weights(tree, name)):
        return []
    return [name for chain in chains for name in _block_ends(tree, chain)]


def hidden_values(tree: ModuleTree) -> Iterator[tuple[str, int]]:
    """Yield the value that is given to the narrowing product of each perceptron in a residual block, and its units."""
    makers = _makers(tree)
    for name in (name for chain in _chains(tree) for part in chain.parts for name in part):
        maker = next((makers[stamp] for stamp in tree.nodes[name].inputs if stamp in makers), None)
        shape, given = tree.nodes[name].shape or (), (tree.nodes[maker].shape if maker else None) or ()
        if given and shape[:-1] == given[:-1] and shape[-1] < given[-1]:
            yield maker or "", given[-1]


def _chains(tree: ModuleTree) -> list[Chain]:
    order, makers = {name: index for index, name in enumerate(tree.nodes)}, _makers(tree)
    chains: dict[str, list[str]] = {}
    starts: dict[str, int] = {}
    for name, node in tree.nodes.items():
        given = [makers[stamp] for stamp in node.inputs if stamp in makers]
        if node.type != ADDITION or [tree.nodes[each].shape for each in given] != [node.shape] * 2:
            continue
        before = next((each for each in given if each in chains), name)
        chains[name] = [*chains.pop(before, []), name]
        starts[name] = starts.pop(before, min(order[each] for each in given))
    weighted = [name for name in tree.nodes if _weights(tree, name)]
    found = []
    for last, additions in chains.items():
        edges = pairwise([starts[last], *(order[name] for name in additions)])
        found.append(Chain(additions, [[name for name in weighted if low < order[name] < high] for low, high in edges]))
    return [chain for chain in found if len(chain.additions) > 1]


def _block_ends(tree: ModuleTree, chain: Chain) -> Sequence[str]:
    """Return the last addition of each block: after as many as repeat."""
    forms = [sorted(shape for name in part for shape in _weights(tree, name)) for part in chain.parts]
    periods = (each for each in range(1, len(forms)) if len(forms) % each == 0 and forms[each:] == forms[:-each])
    period = next(periods, 1)
    return chain.additions[period - 1 :: period]


def _makers(tree: ModuleTree) -> dict[Stamp | None, str]:
    """Return which operation gave each value that was computed from the image."""
    makers: dict[Stamp | None, str] = {}
    for name, node in tree.nodes.items():
        if node.layout is not None:
            makers.setdefault(node.output, name)
    return makers


def _weights(tree: ModuleTree, name: str) -> list[tuple[int, ...]]:
    """Return the shapes of the matrices and kernels of an operation, without what is equal for all images."""
    shapes = [tuple(parameter.shape) for parameter in tree.modules[name].parameters(recurse=False)]
    return [shape for shape in shapes if len(shape) > 1 and shape[0] > 1] if tree.is_leaf(name) else []
