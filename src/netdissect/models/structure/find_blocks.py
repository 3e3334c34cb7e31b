"""Find the blocks of a network from the modules that ran: no names of architectures, only what repeats.

A block is a module with parts that is followed directly by another one of its kind, as residual blocks, transformer
layers and inverted residuals are. A kind whose modules do nothing but run blocks one after the other is a container of
blocks and no block itself. Where nothing repeats, each convolution with what follows it on the same map is a block.
"""

from collections.abc import Iterable, Iterator, Sequence, Set

from torch import nn

from netdissect.models.receptive_field.trace import Stamp
from netdissect.models.structure.module_tree import ModuleTree


def repeated_blocks(tree: ModuleTree) -> list[str]:
    """Return the outermost modules that repeat, in the order in which they finished; empty: none repeats."""
    single = set(_in_containers(tree))

    def outermost(kinds: Set[str]) -> list[str]:
        blocks = {name for name in tree.nodes if name in single or tree.kind(name) in kinds}
        return [name for name in tree.nodes if name in blocks and not blocks.intersection(tree.ancestors(name))]

    kinds = {kind for kind in tree.repeated if not tree.is_container(kind)}
    # Once more without kinds that repeat within blocks alone, such as a convolution with its norm and activation.
    found = outermost(tree.repeating(outermost(kinds)) & kinds)
    return _with_neighbors(tree, found)


def _with_neighbors(tree: ModuleTree, blocks: Sequence[str]) -> list[str]:
    """Replace blocks within a module that is fed by a block, or feeds one, by this module: Inception's reductions."""
    found = set(blocks)
    for name in tree.nodes:
        inner = {block for block in found if name in tree.ancestors(block)}
        if not inner or tree.is_container(tree.kind(name)):
            continue
        siblings = found.intersection(tree.parts[tree.parents[name]])
        if any(tree.follows(name, other) or tree.follows(other, name) for other in siblings):
            found = (found - inner) | {name}
    return [name for name in tree.nodes if name in found]


def _in_containers(tree: ModuleTree) -> Iterator[str]:
    """Yield blocks that are the only ones of their kind: alone in a container beside containers of blocks."""
    for siblings in tree.parts.values():
        containers = {name for name in siblings if tree.is_container(tree.kind(name))}
        for name in siblings if containers else ():
            parts = tree.parts.get(name, [])
            if name not in containers and tree.nodes[name].type == "Sequential" and not any(map(tree.is_leaf, parts)):
                yield from parts


def convolution_blocks(tree: ModuleTree) -> list[str]:
    """Return the last module of each convolution with its norm and activation, in the order of execution."""
    blocks: list[list[str]] = []
    for name in filter(tree.is_leaf, tree.nodes):
        if _weight_dims(tree, name) > 2:
            blocks.append([name])
        elif blocks and _weight_dims(tree, name) < 2:
            last = blocks[-1][-1]
            if tree.follows(name, last) and tree.nodes[name].shape == tree.nodes[last].shape:
                blocks[-1].append(name)
    return [_outermost(tree, members) for members in blocks]


def _weight_dims(tree: ModuleTree, name: str) -> int:
    return max((parameter.ndim for parameter in tree.modules[name].parameters(recurse=False)), default=0)


def _outermost(tree: ModuleTree, members: Sequence[str]) -> str:
    """Return the outermost module that holds only these, and returns what the last of them does."""
    found = members[-1]
    for name in tree.ancestors(members[-1]):
        if set(_leaves(tree, name)) <= set(members) and tree.same_output(name, found):
            found = name
    return found


def _leaves(tree: ModuleTree, name: str) -> Iterator[str]:
    for part in tree.parts.get(name, ()):
        yield from (part,) if tree.is_leaf(part) else _leaves(tree, part)


def stage_end(tree: ModuleTree, blocks: Sequence[str], others: Iterable[str]) -> str:
    """Return the outermost module that returns what the last of some blocks does, or joins their outputs.

    Parameters
    ----------
    tree
        Of the network.
    blocks
        Of the stage.
    others
        Blocks of other stages.
    """
    last, foreign = blocks[-1], set(others)
    found = last
    for name in tree.ancestors(last):
        inside = {block for block in (*blocks, *foreign) if name in tree.ancestors(block)}
        joins = all(part in blocks for part in tree.parts[name])
        if not inside & foreign and (joins or tree.same_output(name, last)):
            found = name
    return found


def hidden_layers(tree: ModuleTree, blocks: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield the module that gives the hidden neurons of each perceptron within blocks, and their number.

    Notes
    -----
    It is what a linear layer with more inputs than outputs is given as it was: the activation between two linear
    layers. The projection of attention heads is given no module's output, and is left out.
    """
    makers: dict[Stamp | None, str] = {}
    for name, node in tree.nodes.items():
        makers.setdefault(node.output, name)
    for name in filter(tree.is_leaf, tree.nodes):
        weight = getattr(tree.modules[name], "weight", None)
        if not isinstance(weight, nn.Parameter) or weight.ndim != 2 or weight.shape[1] <= weight.shape[0]:
            continue
        inside = [block for block in tree.ancestors(name) if block in blocks]
        maker = next((makers[stamp] for stamp in tree.nodes[name].inputs if stamp in makers), None)
        if maker is not None and inside and inside[0] in tree.ancestors(maker):
            yield maker, weight.shape[1]
