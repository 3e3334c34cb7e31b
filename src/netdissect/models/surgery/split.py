"""Split a network after one layer, so that the first part runs once and the second as often as needed.

    split_after(network, layer) -> SplitNetwork.before(images) -> values -> SplitNetwork.after(values) -> scores

`torch.fx` traces the modules around the layer; every other module is a single step. A network whose code around the
layer depends on the data cannot be traced.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from netdissect.models import Network
from netdissect.models.run_module import evaluation_mode
from netdissect.models.surgery.linear_head import dummy_input

TAKEN = frozenset(dir(fx.GraphModule)) - frozenset(dir(nn.Module))
"""Names that torch.fx has for itself: a traced module whose child is called ``code`` calls its own source text."""


@dataclass(frozen=True)
class SplitNetwork:
    """A network in two parts.

    Attributes
    ----------
    before
        From normalized images to all values that the second part needs: first the layer's output.
    after
        From these values to the network's output.
    """

    before: fx.GraphModule
    after: fx.GraphModule

    def scores(self, values: Sequence[object], changed: Tensor) -> object:
        """Run the second part with another output of the layer; `values` are not changed."""
        rest = (value.clone() if isinstance(value, Tensor) else value for value in values[1:])
        return self.after(changed, *rest)


def split_after(network: Network, layer: str) -> SplitNetwork | None:
    """Split a network after a layer.

    Parameters
    ----------
    network
        Runs on images of noise, as a whole and in parts.
    layer
        Dotted name of a module.

    Returns
    -------
    SplitNetwork or None
        None: its code cannot be traced, a child has a name that torch.fx uses, the layer runs more than once, or the
        parts give another result than the network.
    """
    if TAKEN & {name for name, _ in network.module.named_children()}:
        return None
    images = dummy_input(network, 2)
    try:
        with evaluation_mode(network.module):
            split = _split(network.module, _LayerTracer(layer).trace(network.module), layer)
            same = split is not None and _reproduces(split, network, images)
    except Exception:  # tracing runs the module's own code on proxies, which may raise anything
        return None
    return split if same else None


class _LayerTracer(fx.Tracer):
    """Trace the modules around a layer; the layer and all other modules are single steps."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self._layer = layer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002 - as torch calls it
        """Tell whether a module is a single step."""
        return not self._layer.startswith(f"{module_qualified_name}.")


def _split(module: nn.Module, graph: fx.Graph, layer: str) -> SplitNetwork | None:
    runs = [node for node in graph.nodes if node.op == "call_module" and node.target == layer]
    if len(runs) != 1:
        return None
    dependent = {runs[0]}
    for node in graph.nodes:
        if any(source in dependent for source in node.all_input_nodes):
            dependent.add(node)
    dependent.discard(runs[0])
    before, after, first = fx.Graph(), fx.Graph(), dict[fx.Node, fx.Node]()
    for node in graph.nodes:
        if node not in dependent and node.op != "output":
            first[node] = before.node_copy(node, first.__getitem__)
    needed = [runs[0]]
    for node in graph.nodes:
        if node in dependent:
            needed += [source for source in node.all_input_nodes if source not in (*dependent, *needed)]
    before.output(tuple(first[node] for node in needed))
    second = {node: after.placeholder(node.name) for node in needed}
    for node in graph.nodes:
        if node in dependent:
            second[node] = after.node_copy(node, second.__getitem__)
    return SplitNetwork(fx.GraphModule(module, before), fx.GraphModule(module, after))


@torch.no_grad()
def _reproduces(split: SplitNetwork, network: Network, images: Tensor) -> bool:
    """Tell whether the parts give bit for bit what the network gives."""
    values = split.before(*network.arguments(images))
    if not isinstance(values[0], Tensor):
        return False
    expected, scores = network.forward(images), split.scores(values, values[0].clone())
    return isinstance(expected, Tensor) and isinstance(scores, Tensor) and torch.equal(expected, scores)
