"""The operations of a graph as modules, which are called as the values are that they give."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from netdissect.errors import NetworkError
from netdissect.models.onnx_files.graph_tensors import STANDARD_DOMAINS
from netdissect.models.onnx_files.run_node import NodeRunner, run_traceably
from netdissect.models.onnx_files.translation import Output, translate

AGREEMENT, LOW_PRECISION = {torch.float32: 1e-4, torch.float64: 1e-4}, 1e-2
"""Largest difference between a translation and ONNX Runtime, as a part of an output's largest magnitude."""
FEW = 16
"""Numbers of an input, such as a shape, on which it may depend whether a translation is right."""
Form = tuple[object, ...]
"""Settings of an operation, and shapes, types and few numbers of its inputs."""


class OnnxOutput(nn.Module):
    """A further output of an operation with several."""

    def __init__(self, op_type: str, index: int) -> None:
        super().__init__()
        self.op_type, self.index = op_type, index

    def extra_repr(self) -> str:
        """Return which output it is."""
        return f"output {self.index} of {self.op_type}"

    def forward(self, outputs: tuple[Tensor, ...]) -> Tensor:
        """Return one of several tensors."""
        return outputs[self.index]


class OnnxNode(nn.Module):
    """Runs one operation, and is called as its first output."""

    def __init__(self, node: Any, weights: Mapping[str, Tensor], model: Any) -> None:
        super().__init__()
        inputs = inputs_of(node)
        self.op_type, self.inputs = node.op_type, tuple(inputs)
        self.outputs = tuple(name for name in node.output if name)
        self.read_last: list[str] = []
        self.checked: dict[Form, bool] | None = None
        attributes = _attributes(node)
        if node.op_type == "Split":
            attributes["num_outputs"] = len(self.outputs)
        self.attributes_text = _attributes_text(node)
        own = len(inputs) == len(node.input) and node.domain in STANDARD_DOMAINS and all(node.output)
        self.translation = translate(node.op_type, attributes) if own else None
        self.runner = NodeRunner(node, inputs, model)
        # Not by register_parameter: names of ONNX may have dots.
        for name, weight in ((name, weights[name]) for name in inputs if name in weights):
            if isinstance(weight, nn.Parameter):
                self._parameters[name] = weight
            else:
                self._buffers[name] = weight

    @property
    def weights(self) -> dict[str, Tensor]:
        """Its weights by name."""
        held = {**self._parameters, **self._buffers}
        return {name: weight for name, weight in held.items() if weight is not None}

    def extra_repr(self) -> str:
        """Return its inputs and settings, which are part of the digest of a network."""
        return f"{self.inputs}, {self.outputs}, {self.attributes_text}"

    def given(self, values: Mapping[str, Tensor]) -> list[Tensor]:
        """Return those of its inputs that other operations gave."""
        return [values[name] for name in self.inputs if name in values]

    def forward(self, *given: Tensor) -> Output:
        """Run the operation on the values that other operations gave."""
        values, weights = iter(given), self.weights
        inputs = [None if not name else weights[name] if name in weights else next(values) for name in self.inputs]
        if self.checked is not None:
            return self._checked(inputs, self.checked)
        if self.translation is not None:
            output = self.translation(*_on_one_device(inputs))
            if output is not None:
                return output
        if not any(value is not None for value in inputs):
            return _one_or_all(self.runner(inputs))
        self._refuse_gradient(inputs)
        return _one_or_all(run_traceably(self.runner, self.op_type, inputs))

    def _refuse_gradient(self, inputs: Sequence[Tensor | None]) -> None:
        """Refuse to lose a gradient: beside a residual connection only a part of it would be missing."""
        if torch.is_grad_enabled() and any(value is not None and value.requires_grad for value in inputs):
            raise NetworkError(
                f"The operation {self.op_type!r} that gives {self.outputs[0]!r} runs in ONNX Runtime, which has no "
                "gradients. Expected layers after it, or the network from which the file was exported, such as "
                "python:, timm: or transformers:."
            )

    def _form(self, inputs: Sequence[Tensor | None]) -> Form:
        """Return all on which it depends whether a translation is right."""
        return (self.op_type, self.attributes_text, *map(_form_of, inputs))

    def _checked(self, inputs: Sequence[Tensor | None], checked: dict[Form, bool]) -> Output:
        """Run the operation both ways where its form is new, and keep the translation if it gives the same numbers."""
        form = self._form(inputs)
        known = self.translation(*inputs) if self.translation is not None and checked.get(form) else None
        if known is not None:
            return known
        expected = self.runner(inputs)
        self.runner.close()
        if self.translation is not None:
            try:
                output = self.translation(*inputs)
            except Exception:  # a form of the operation that the translation does not know
                output = None
            found = output if isinstance(output, tuple) else (output,)
            checked[form] = len(found) >= len(expected) and all(map(_agree, found, expected))
            if not checked[form]:
                self.translation = None
        return _one_or_all(expected)


def _form_of(value: Tensor | None) -> object:
    if value is None:
        return None
    small = tuple(value.flatten().tolist()) if value.numel() <= FEW else ()
    return (value.dtype, tuple(value.shape), small)


@cache
def node_class(op_type: str) -> type[OnnxNode]:
    """Return a class that is called as an operation is, which lists of layers show."""
    return type(op_type, (OnnxNode,), {"__module__": __name__})


def _one_or_all(outputs: Sequence[Tensor]) -> Output:
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _on_one_device(inputs: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Bring shapes, which are on the CPU, to where the values are."""
    devices = {value.device for value in inputs if value is not None}
    if len(devices) < 2:
        return list(inputs)
    device = next(each for each in devices if each.type != "cpu")
    return [None if value is None else value.to(device) for value in inputs]


def _agree(found: Tensor | None, expected: Tensor) -> bool:
    """Tell whether a translation gave what ONNX Runtime does, up to rounding."""
    if found is None or found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if not expected.is_floating_point() or expected.numel() == 0:
        return torch.equal(found, expected)
    largest = expected.nan_to_num(0.0, 0.0, 0.0).abs().max()
    tolerance = AGREEMENT.get(expected.dtype, LOW_PRECISION) * float(largest)
    return torch.allclose(found, expected, rtol=0, atol=tolerance, equal_nan=True)


def inputs_of(node: Any) -> list[str]:
    """Return the names of the values that a node reads, those of its inner graphs included."""
    found = list(node.input)
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            found += [name for name in _captured(graph) if name not in found]
    return found


def _captured(graph: Any) -> list[str]:
    """Return the names that an inner graph reads from around it."""
    own = {value.name for value in (*graph.input, *graph.initializer)} | {
        name for node in graph.node for name in node.output
    }
    read = [name for node in graph.node for name in inputs_of(node)] + [value.name for value in graph.output]
    return [name for name in dict.fromkeys(read) if name and name not in own]


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper, numpy_helper

    found = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        found[attribute.name] = numpy_helper.to_array(value) if attribute.HasField("t") else value
    return found


def _attributes_text(node: Any) -> str:
    """Return the settings of a node, the same text for the same ones."""
    parts = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
    return hashlib.sha256(b"".join([node.domain.encode(), *parts])).hexdigest()
