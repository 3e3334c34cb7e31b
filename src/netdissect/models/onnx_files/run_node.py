"""Run one operation of a graph in ONNX Runtime."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from netdissect.errors import NetworkError
from netdissect.extras import need
from netdissect.models.onnx_files.runtime import open_session
from netdissect.models.onnx_files.translation import DTYPES

SMALL = 1024
"""Bytes of an input that becomes a constant of the operation: some take shapes and bounds in no other way."""
NUMBERS = {dtype: number for number, dtype in DTYPES.items()}
REFUSALS = {
    "InvalidGraph": "it does not know such an operation in these operator sets, or not with these settings",
    "NotImplemented": "it has no such operation for numbers of this type",
}
"""What the errors of ONNX Runtime mean, by their class."""

_RUNNERS: dict[int, "NodeRunner"] = {}


class NodeRunner:
    """Runs one node of a graph in ONNX Runtime, on the CPU.

    Parameters
    ----------
    node
        ``NodeProto``.
    inputs
        Names of the values that it is given, those that its inner graphs read included.
    model
        Of the file, whose operator sets and version count.
    """

    def __init__(self, node: Any, inputs: Sequence[str], model: Any) -> None:
        self._node, self._inputs = node, inputs
        self._imports, self._ir_version = list(model.opset_import), model.ir_version
        self._sessions: dict[tuple[object, ...], Any] = {}

    def __call__(self, inputs: Sequence[Tensor | None]) -> list[Tensor]:
        """Return the outputs, as many as the node has.

        Raises
        ------
        NetworkError
            If ONNX Runtime cannot run it.
        """
        given = {name: value for name, value in zip(self._inputs, inputs, strict=True) if value is not None}
        arrays = {name: value.detach().cpu().contiguous() for name, value in given.items()}
        constants = {name for name in arrays if arrays[name].nbytes <= SMALL}
        devices = {value.device for value in given.values() if value.device.type != "cpu"}
        try:
            session = self._session(arrays, constants)
            feeds = {name: value.numpy() for name, value in arrays.items() if name not in constants}
            outputs = [torch.from_numpy(array) for array in session.run(None, feeds)]
        except Exception as error:  # of the runtime, which has several kinds
            raise NetworkError(self._failure(error)) from error
        return [output.to(next(iter(devices), output.device)) for output in outputs]

    def close(self) -> None:
        """Forget what was opened."""
        self._sessions = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs: sessions cannot be copied."""
        return self.__dict__ | {"_sessions": {}}

    def _session(self, arrays: dict[str, Tensor], constants: set[str]) -> Any:
        from onnx import ValueInfoProto, helper

        small = {name: arrays[name] for name in constants}
        key = (
            *((name, value.dtype) for name, value in arrays.items()),
            *((name, tuple(value.shape), *value.flatten().tolist()) for name, value in small.items()),
        )
        if key not in self._sessions:
            inputs = [
                helper.make_tensor_value_info(name, NUMBERS[value.dtype], None)
                for name, value in arrays.items()
                if name not in constants
            ]
            outputs = [ValueInfoProto(name=name) for name in self._node.output if name]
            weights = [tensor_proto(name, value) for name, value in small.items()]
            graph = helper.make_graph([self._node], "node", inputs, outputs, weights)
            model = helper.make_model(graph, opset_imports=self._imports, ir_version=self._ir_version)
            self._sessions = {key: open_session(_runtime(), model.SerializeToString(), 1)}
        return self._sessions[key]

    def _failure(self, error: Exception) -> str:
        sets = ", ".join(f"{each.domain or 'ai.onnx'} {each.version}" for each in self._imports)
        said = next(iter(str(error).strip().splitlines()), "no reason given").rstrip(".")
        reason = REFUSALS.get(type(error).__name__, f"it says: {said}")
        title = f"ONNX Runtime {_runtime().__version__}"
        return (
            f"{title} cannot run the operation {self._node.op_type!r} that gives {self._node.output[0]!r}: {reason}. "
            f"The file asks for the operator sets {sets}. Expected operations that this version knows: export the "
            "network again without custom operations, with another opset_version, or update onnxruntime."
        )


def _runtime() -> Any:
    return need("onnxruntime", "onnx", "An ONNX file")


def tensor_proto(name: str, tensor: Tensor) -> Any:
    """Return a tensor as ONNX writes it."""
    from onnx import TensorProto

    values = tensor.detach().cpu().contiguous().reshape(-1)
    data = values.view(torch.uint8).numpy().tobytes() if values.numel() else b""
    return TensorProto(name=name, dims=tuple(tensor.shape), data_type=NUMBERS[tensor.dtype], raw_data=data)


def run_traceably(runner: NodeRunner, op_type: str, inputs: Sequence[Tensor | None]) -> list[Tensor]:
    """Run a node as one operation of PyTorch, which a trace sees and does not know.

    Parameters
    ----------
    runner
        Of the node.
    op_type
        Its operation; it is called ``onnxruntime.OP_TYPE`` where a trace ends.
    inputs
        At least one tensor.
    """
    _RUNNERS[id(runner)] = runner
    try:
        outputs: list[Tensor] = _operation(re.sub(r"\W", "_", op_type))(list(inputs), id(runner))
    finally:
        del _RUNNERS[id(runner)]
    return outputs


@cache
def _operation(name: str) -> Any:
    torch.library.define(f"onnxruntime::{name}", "(Tensor?[] inputs, int runner) -> Tensor[]")
    torch.library.impl(f"onnxruntime::{name}", "CompositeExplicitAutograd")(
        lambda inputs, runner: _RUNNERS[runner](inputs)
    )
    return getattr(torch.ops.onnxruntime, name)
