"""Operations that move elements, or give shapes and constants."""

import math

import numpy as np
import torch
from torch import Tensor

from netdissect.models.onnx_files.translation.node_inputs import Attributes, Operation, Output, axes_of, ints


def _shape(attributes: Attributes, values: Tensor) -> Tensor:
    return torch.tensor(tuple(values.shape)[attributes.get("start", 0) : attributes.get("end")], dtype=torch.int64)


def _reshape(attributes: Attributes, values: Tensor, shape: Tensor | None = None) -> Tensor:
    wanted = attributes["shape"] if shape is None else ints(shape) or []
    if not attributes.get("allowzero", 0):
        wanted = [length or values.shape[dim] for dim, length in enumerate(wanted)]
    return values.reshape(wanted)


def _flatten(attributes: Attributes, values: Tensor) -> Tensor:
    axis = attributes.get("axis", 1)
    return values.reshape(math.prod(values.shape[:axis]), -1)


def _transpose(attributes: Attributes, values: Tensor) -> Tensor:
    return values.permute(attributes.get("perm") or tuple(reversed(range(values.ndim))))


def _squeeze(attributes: Attributes, values: Tensor, axes: Tensor | None = None) -> Tensor:
    dims = axes_of(attributes, axes)
    return values.squeeze() if dims is None else values.squeeze(tuple(dims))


def _unsqueeze(attributes: Attributes, values: Tensor, axes: Tensor | None = None) -> Tensor:
    dims = axes_of(attributes, axes) or []
    rank = values.ndim + len(dims)
    for dim in sorted(dim % rank for dim in dims):
        values = values.unsqueeze(dim)
    return values


def _expand(_attributes: Attributes, values: Tensor, shape: Tensor) -> Tensor:
    return values.expand(np.broadcast_shapes(values.shape, ints(shape) or []))


def _concat(attributes: Attributes, *inputs: Tensor) -> Tensor:
    return torch.cat(inputs, attributes["axis"])


def _split(attributes: Attributes, values: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = attributes.get("axis", 0)
    lengths = attributes.get("split") or ints(sizes)
    if lengths is None:  # as many equal parts as it has outputs
        length = math.ceil(values.shape[axis] / attributes["num_outputs"])
        return torch.split(values, length, axis)
    return torch.split(values, lengths, axis)


def _slice(attributes: Attributes, values: Tensor, *bounds: Tensor | None) -> Tensor:
    if bounds:
        starts, ends, axes, steps = (ints(bound) for bound in (*bounds, None, None)[:4])
    else:
        starts, ends, axes, steps = attributes["starts"], attributes["ends"], attributes.get("axes"), None
    assert starts is not None and ends is not None  # noqa: S101, PT018 - inputs that always are there
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        dim, step = index if axes is None else axes[index], 1 if steps is None else steps[index]
        length = values.shape[dim]
        if step < 0:  # torch has no negative steps: the indices are those of a Python slice
            indices = range(length)[_from_end(start, length) : _from_end(end, length) : step]
            values = values.index_select(dim, torch.tensor(indices, dtype=torch.int64, device=values.device))
        else:
            parts = [slice(None)] * (dim % values.ndim) + [slice(start, min(end, length), step)]
            values = values[tuple(parts)]
    return values


def _from_end(bound: int, length: int) -> int | None:
    """Return the bound of a slice with a negative step: what is before the first element has no other name."""
    return None if bound < -length else bound


def _gather(attributes: Attributes, values: Tensor, indices: Tensor) -> Tensor:
    axis = attributes.get("axis", 0) % values.ndim
    if indices.ndim == 0:
        return values.select(axis, int(indices.item()))
    indices = torch.where(indices < 0, indices + values.shape[axis], indices).to(values.device)
    picked = values.index_select(axis, indices.flatten())
    return picked.reshape(*values.shape[:axis], *indices.shape, *values.shape[axis + 1 :])


def _gather_elements(attributes: Attributes, values: Tensor, indices: Tensor) -> Tensor:
    return torch.gather(values, attributes.get("axis", 0), indices.to(torch.int64))


def _tile(_attributes: Attributes, values: Tensor, repeats: Tensor) -> Tensor:
    return values.repeat(ints(repeats) or [])


def _constant_of_shape(attributes: Attributes, shape: Tensor) -> Tensor:
    value = torch.tensor(attributes.get("value", [0.0])).flatten()
    return value.expand(ints(shape) or []) if shape.numel() else value[0]


def _range(_attributes: Attributes, start: Tensor, limit: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), step.item(), dtype=start.dtype)


def _unchanged(_attributes: Attributes, values: Tensor, *_: Tensor | None) -> Output:
    return values


def _top_k(attributes: Attributes, values: Tensor, count: Tensor) -> tuple[Tensor, ...]:
    largest = bool(attributes.get("largest", 1))
    return tuple(torch.topk(values, int(count.item()), attributes.get("axis", -1), largest))


OPERATIONS: dict[str, Operation] = {
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Dropout": _unchanged,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Identity": _unchanged,
    "Range": _range,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "TopK": _top_k,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
