"""Operations of ONNX as operations of PyTorch.

    translate(op_type, attributes)(*inputs) -> output, or a tuple of outputs

Only what the operations usually are is written here. `OnnxModule` compares each node with ONNX Runtime and takes no
translation that gives other numbers: rare settings are left to that check.
"""

from collections.abc import Callable
from functools import partial

from netdissect.models.onnx_files.translation import arithmetic, maps, tensor_shapes
from netdissect.models.onnx_files.translation.node_inputs import DTYPES, Attributes, Operation, Output

__all__ = ["DTYPES", "Output", "translate"]

OPERATIONS: dict[str, Operation] = arithmetic.OPERATIONS | maps.OPERATIONS | tensor_shapes.OPERATIONS


def translate(op_type: str, attributes: Attributes) -> Callable[..., Output | None] | None:
    """Return an operation of ONNX as a function of its inputs, absent ones None; None: it has no translation."""
    operation = OPERATIONS.get(op_type)
    return None if operation is None else partial(operation, attributes)
