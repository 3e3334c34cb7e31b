"""Cut a network behind one layer, so that what lies before it runs once and what lies behind it as often as needed.

    cut(network, layer) -> Cut.before(images) -> values -> Cut.behind(values) -> scores

`torch.fx` follows the data through the modules around the layer; every other module is a single step, whatever its
code does. A network whose code around the layer depends on the data cannot be followed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from netdissect.models import Network
from netdissect.models.run_module import evaluating
from netdissect.models.surgery.linear_head import dummy_input


@dataclass(frozen=True)
class SplitNetwork:
    """A network in two parts.

    Attributes
    ----------
    before
        From normalized pictures to everything that is needed behind: first the layer's output.
    behind
        From these values to the network's output.
    """

    before: fx.GraphModule
    behind: fx.GraphModule

    def scores(self, values: Sequence[object], changed: Tensor) -> object:
        """Run what lies behind the layer, with another output of it; `values` stay as they are."""
        rest = (value.clone() if isinstance(value, Tensor) else value for value in values[1:])
        return self.behind(changed, *rest)


def split_after(network: Network, layer: str) -> SplitNetwork | None:
    """Cut a network behind a layer.

    Parameters
    ----------
    network
        Runs on pictures of noise, whole and in parts.
    layer
        Dotted name of a module.

    Returns
    -------
    Cut or None
        None: its code cannot be followed, the layer runs more than once, or the parts do not give what the whole does.
    """
    images = dummy_input(network, 2)
    try:
        with evaluating(network.module):
            found = _parts(network.module, _Around(layer).trace(network.module), layer)
            same = found is not None and _gives_the_whole(found, network, images)
    except Exception:  # tracing runs the module's own code on stand-ins, which may raise anything
        return None
    return found if same else None


class _Around(fx.Tracer):
    """Follow the code of the modules around a layer; the layer and all others are single steps."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self._layer = layer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002 - as torch calls it
        """Say whether a module is a single step."""
        return not self._layer.startswith(f"{module_qualified_name}.")


def _parts(module: nn.Module, graph: fx.Graph, layer: str) -> SplitNetwork | None:
    runs = [node for node in graph.nodes if node.op == "call_module" and node.target == layer]
    if len(runs) != 1:
        return None
    later = {runs[0]}
    for node in graph.nodes:
        if any(one in later for one in node.all_input_nodes):
            later.add(node)
    later.discard(runs[0])
    before, behind, made = fx.Graph(), fx.Graph(), dict[fx.Node, fx.Node]()
    for node in graph.nodes:
        if node not in later and node.op != "output":
            made[node] = before.node_copy(node, made.__getitem__)
    needed = [runs[0]]
    for node in graph.nodes:
        needed += [one for one in node.all_input_nodes if node in later and one not in (*later, *needed)]
    before.output(tuple(made[node] for node in needed))
    there = {node: behind.placeholder(node.name) for node in needed}
    for node in graph.nodes:
        if node in later:
            there[node] = behind.node_copy(node, there.__getitem__)
    return SplitNetwork(fx.GraphModule(module, before), fx.GraphModule(module, behind))


@torch.no_grad()
def _gives_the_whole(found: SplitNetwork, network: Network, images: Tensor) -> bool:
    values = found.before(network.as_input(images))
    if not isinstance(values[0], Tensor):
        return False
    whole, parts = network.forward(images), found.scores(values, values[0].clone())
    return isinstance(whole, Tensor) and isinstance(parts, Tensor) and torch.equal(whole, parts)
