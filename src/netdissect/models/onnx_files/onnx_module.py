"""The graph of an ONNX file as a module, with one part for each value that an operation gives.

The parts are called as the values are, so that hooks, traces and edits of layers meet the names of the file. Each runs
its operation in PyTorch, or in ONNX Runtime where there is no translation that gives the same numbers.
"""

from collections.abc import Container, Iterator, Sequence

import torch
from torch import Tensor, nn

from netdissect.errors import NetworkError
from netdissect.models.onnx_files.graph_nodes import Form, OnnxNode, OnnxOutput, node_class
from netdissect.models.onnx_files.model_file import ImageInput, ModelFile
from netdissect.models.onnx_files.run_node import NUMBERS, tensor_proto
from netdissect.models.onnx_files.translation import Output
from netdissect.models.run_module import FLOATS

OWN = "netdissect: {}"
"""Names of values that are added to a graph: no exporter writes such ones."""


class OnnxModule(nn.Module):
    """Runs a graph on images (B, C, H, W), normalized, and returns its outputs.

    Parameters
    ----------
    file
        From `read_model`.
    """

    def __init__(self, file: ModelFile) -> None:
        super().__init__()
        self.image: ImageInput = file.image
        self._model = file.model
        self._results = [value.name for value in file.model.graph.output]
        nodes = file.model.graph.node
        weights = {
            name: nn.Parameter(tensor, requires_grad=False) if tensor.dtype in FLOATS else tensor
            for name, tensor in file.weights.items()
        }
        self._weights = {name: weights[name] for name in self._results if name in weights}
        self._nodes: list[OnnxNode] = []
        known = {"", file.image.name, *weights}
        for node in nodes:
            part = node_class(node.op_type)(node, weights, file.model)
            self._nodes.append(part)
            _check_order(part, known)
            # Not by add_module: names of ONNX may have dots.
            for index, name in enumerate(part.outputs):
                self._modules[name] = OnnxOutput(node.op_type, index) if index else part
                known.add(name)
        last_reader = {name: part for part in self._nodes for name in part.inputs}
        for name, part in last_reader.items():
            part.read_last.append(name)

    def extra_repr(self) -> str:
        """Return what the file says beside its operations, which is part of the digest of a network."""
        sets = [(each.domain, each.version) for each in self._model.opset_import]
        return f"{self.image}, {self._results}, {sets}"

    def get_submodule(self, target: str) -> nn.Module:
        """Return the part that gives a value, whose name may contain dots."""
        part = self._modules.get(target)
        return super().get_submodule(target) if part is None else part

    def forward(self, images: Tensor) -> Output:
        """Return the outputs of the graph, one as it is, several as a tuple."""
        values = {self.image.name: self._as_input(images)}
        results = dict(self._weights)
        for part in self._nodes:
            output = part(*part.given(values))
            first, *others = part.outputs
            values[first] = output[0] if isinstance(output, tuple) else output
            values |= {name: self.get_submodule(name)(output) for name in others}
            results |= {name: values[name] for name in part.outputs if name in self._results}
            for name in part.read_last:
                values.pop(name, None)
        found = tuple(results[name] for name in self._results if name in results)
        return found[0] if len(found) == 1 else found

    def _as_input(self, images: Tensor) -> Tensor:
        images = images.to(self.image.dtype)
        return images.permute(0, 2, 3, 1) if self.image.channels_last else images

    @torch.no_grad()
    def check(self, images: Tensor) -> None:
        """Compare each translation with ONNX Runtime on these images, and leave the node to the latter if they differ.

        Raises
        ------
        NetworkError
            If ONNX Runtime cannot run an operation, or the graph gives nothing for each image.
        """
        checked: dict[Form, bool] = {}  # blocks of a network repeat the same operations
        for part in self._nodes:
            part.checked = checked
        try:
            results = self(images)
        finally:
            for part in self._nodes:
                part.checked = None
        shapes = [tuple(result.shape) for result in (results if isinstance(results, tuple) else (results,))]
        if not any(shape and shape[0] == len(images) for shape in shapes):
            raise NetworkError(
                f"The graph gives outputs of shape {', '.join(map(str, shapes))} for {len(images)} images: its input "
                "has any number of images, but its operations do not keep them apart. Expected a first dimension of "
                f"{len(images)}; export it with a dynamic batch."
            )

    def graph(self, names: Sequence[str]) -> bytes:
        """Return the graph up to some values, float32, as an ONNX file with weights.

        Parameters
        ----------
        names
            Of the values, which are the outputs of the graph in this order.

        Returns
        -------
        bytes
            With one input, float32 (B, C, H, W).
        """
        from onnx import TensorProto, helper

        model = type(self._model)()
        model.CopyFrom(self._model)
        graph, image = model.graph, self.image
        cast = helper.make_node(
            "Cast", [OWN.format("images")], [OWN.format("converted images")], to=NUMBERS[image.dtype]
        )
        order = (0, 2, 3, 1) if image.channels_last else (0, 1, 2, 3)
        turned = helper.make_node("Transpose", [OWN.format("converted images")], [image.name], perm=order)
        nodes = [cast, turned, *graph.node]
        nodes += [
            helper.make_node("Cast", [name], [OWN.format(index)], to=TensorProto.FLOAT)
            for index, name in enumerate(names)
        ]
        shape = ("batch", image.channels, image.height or "height", image.width or "width")
        outputs = [
            helper.make_tensor_value_info(OWN.format(index), TensorProto.FLOAT, None) for index in range(len(names))
        ]
        weights = [tensor_proto(name, tensor) for name, tensor in self._all_weights()]
        whole = helper.make_graph(
            nodes,
            "layers",
            [helper.make_tensor_value_info(OWN.format("images"), TensorProto.FLOAT, shape)],
            outputs,
            weights,
        )
        model.graph.CopyFrom(whole)
        content: bytes = model.SerializeToString()
        return content

    def _all_weights(self) -> Iterator[tuple[str, Tensor]]:
        found = dict(self._weights)
        for part in self._nodes:
            found |= part.weights
        yield from found.items()


def _check_order(part: OnnxNode, known: Container[str]) -> None:
    """Refuse a graph in which an operation reads what none before it gives, or gives what another one does."""
    missing = next((name for name in part.inputs if name not in known), None)
    again = next((name for name in part.outputs if name in known), None)
    if missing is not None or again is not None:
        fault = f"gives {again!r} once more" if missing is None else f"reads {missing!r}, which nothing before it gives"
        raise NetworkError(
            f"The operation {part.op_type!r} of the graph {fault}. Expected a graph in the order of execution, "
            "in which each value is given once; export the network again."
        )
