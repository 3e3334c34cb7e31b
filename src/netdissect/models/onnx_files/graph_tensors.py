"""Every tensor of a graph: initializers, and those in the settings of operations and in inner graphs."""

from collections.abc import Iterable, Iterator
from typing import Any

STANDARD_DOMAINS = ("", "ai.onnx")
"""Names of the operator set of ONNX itself."""


def graph_tensors(graph: Any) -> Iterator[Any]:
    """Yield every ``TensorProto`` of a ``GraphProto``; of sparse ones, values and indices."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from node_tensors(graph.node)


def node_tensors(nodes: Iterable[Any]) -> Iterator[Any]:
    """Yield every ``TensorProto`` in the settings of ``NodeProto`` messages and in their inner graphs."""
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                yield from graph_tensors(graph)
