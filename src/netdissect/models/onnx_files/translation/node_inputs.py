"""What translations have in common: types, and inputs that are read as numbers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Output = Tensor | tuple[Tensor, ...]
Attributes = dict[str, Any]
Operation = Callable[..., Output | None]
"""Takes attributes and inputs, absent ones None; returns None where it does not know what they ask for."""

DTYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool,
    10: torch.float16, 11: torch.float64, 16: torch.bfloat16,
}  # fmt: skip
"""Types of tensors by their number in TensorProto.DataType."""


def ints(tensor: Tensor | None) -> list[int] | None:
    """Return the values of a tensor of whole numbers."""
    return None if tensor is None else [int(value) for value in tensor.flatten().tolist()]


def axes_of(attributes: Attributes, given: Tensor | None) -> list[int] | None:
    """Return the dimensions of an operation: an attribute at first, an input since opset 11, 13 or 18."""
    found: list[int] | None = attributes.get("axes")
    return ints(given) if found is None else found
