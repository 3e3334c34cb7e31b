"""Operations that only move elements: the same operation is applied to the codes."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from netdissect.models.receptive_field import cell_codes
from netdissect.models.receptive_field.ops.op_call import OpCall, Shape, TensorLayout, codes_of, op_names
from netdissect.models.receptive_field.spatial_layout import SpatialLayout, UnknownLayout

RESHAPES = op_names("view _unsafe_view reshape _reshape_alias squeeze unsqueeze flatten unflatten")
PADS = frozenset(
    {"constant_pad_nd", *(f"{kind}_pad{rank}d" for kind in ("reflection", "replication") for rank in (1, 2, 3))}
)
REAL_ONLY = op_names("im2col pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle")
OF_ONE_TENSOR = op_names(
    "expand permute transpose t select slice unbind split split_with_sizes chunk narrow movedim flip roll rot90 "
    "index_select index gather take repeat unfold diagonal as_strided unsafe_split unsafe_split_with_sizes unsafe_chunk"
)
OF_TWO_TENSORS = {"index_put": "values", "scatter": "src", "slice_scatter": "src", "select_scatter": "src"}
REARRANGED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(RESHAPES | PADS | REAL_ONLY | OF_ONE_TENSOR, ("self",)),
    **{name: ("self", source) for name, source in OF_TWO_TENSORS.items()},
}
"""Operation -> names of the arguments whose elements it moves."""


def rearrange(call: OpCall, outputs: Sequence[Tensor]) -> list[TensorLayout]:
    """Return the layouts of outputs that are made of the elements of inputs."""
    unknown: list[TensorLayout] = [call.unknown] * len(outputs)
    moved = [tensor for name in REARRANGED[call.name] for tensor in _as_list(call.arguments[name])]
    layouts = [call.layout_of(tensor) for tensor in moved]
    known = [layout for layout in layouts if isinstance(layout, SpatialLayout)]
    others = [layout for tensor, layout in call.tensors if not any(tensor is one for one in moved)]
    # An index that was computed from the image, or drawn, moves elements differently each time.
    if (
        not known
        or any(isinstance(layout, UnknownLayout) for layout in layouts)
        or any(layout is not None for layout in others)
    ):
        return unknown
    if call.arguments.get("accumulate") or call.arguments.get("reduce"):
        return unknown  # sums of codes are codes of other cells
    deciding = [layout for layout in known if layout.has_cells] or known
    if len({(layout.grid, layout.pairwise) for layout in deciding}) > 1:
        return unknown
    codes = {id(tensor): codes_of(tensor, layout) for tensor, layout in zip(moved, layouts, strict=True)}
    shapes = [tuple(output.shape) for output in outputs]
    rearranged = _run_on_codes(call, codes, shapes)
    if [tuple(one.shape) for one in rearranged] != shapes:
        return unknown
    base = replace(deciding[0], is_gate=all(layout.is_gate for layout in deciding))
    return [base.with_codes(cell_codes.compressed_if_large(one)) for one in rearranged]


def _run_on_codes(call: OpCall, codes: dict[int, Tensor], shapes: Sequence[Shape]) -> list[Tensor]:
    if call.name in RESHAPES:
        (one,) = codes.values()
        return [one.reshape(shape) if one.numel() == math.prod(shape) else one for shape in shapes]
    arguments = dict(call.arguments)
    for name in REARRANGED[call.name]:
        value = arguments[name]
        arguments[name] = codes[id(value)] if isinstance(value, Tensor) else [codes[id(one)] for one in value]
    if call.name in PADS:
        pad = arguments["pad" if "pad" in arguments else "padding"]
        return [torch.ops.aten.constant_pad_nd(arguments["self"], pad, 0)]
    if call.name in REAL_ONLY:  # torch has these for real numbers alone, of which float64 holds every code
        arguments["self"] = arguments["self"].cpu().double()
    if call.name == "as_strided":
        return [_strided(call.arguments, arguments["self"])]
    device = next(iter(codes.values())).device
    result = getattr(torch.ops.aten, call.name)(**arguments)
    return [one.to(device, torch.int64) for one in _as_list(result)]


def _strided(arguments: dict[str, Any], codes: Tensor) -> Tensor:
    """Read codes from a memory in the tensor's own order; torch raises an error for what reaches beyond it."""
    tensor = arguments["self"]
    memory = torch.empty_strided(tensor.shape, tensor.stride(), dtype=torch.int64, device=codes.device).copy_(codes)
    offset = arguments["storage_offset"]
    start = 0 if offset is None else offset - tensor.storage_offset()
    return memory.as_strided(arguments["size"], arguments["stride"], start)


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]
