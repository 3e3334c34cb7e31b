"""Concatenations: of units where branches meet, of tokens, or of pieces of one map."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from netdissect.models.receptive_field import cell_codes
from netdissect.models.receptive_field.branches import merge_branches
from netdissect.models.receptive_field.ops.op_call import MultiInputRule, OpCall, Shape, TensorLayout, codes_of
from netdissect.models.receptive_field.spatial_layout import SpatialLayout, UnknownLayout


def _cat(call: OpCall, shape: Shape) -> SpatialLayout | None:
    return _concatenated([(tensor, layout) for tensor, layout in call.tensors if tensor.numel()], call, shape)


def _stack(call: OpCall, shape: Shape) -> SpatialLayout | None:
    dim = call.arguments["dim"] % len(shape)
    pieces = [
        (
            tensor.unsqueeze(dim),
            layout.with_codes(layout.codes.unsqueeze(dim)) if isinstance(layout, SpatialLayout) else layout,
        )
        for tensor, layout in call.tensors
    ]
    return _concatenated(pieces, call, shape)


def _concatenated(pieces: Sequence[tuple[Tensor, TensorLayout]], call: OpCall, shape: Shape) -> SpatialLayout | None:
    dim = call.arguments["dim"] % len(shape)
    known = [layout for _, layout in pieces if isinstance(layout, SpatialLayout)]
    with_cells = [layout for layout in known if layout.has_cells]
    one_map = len({layout.grid for layout in with_cells}) <= 1
    if any(isinstance(layout, UnknownLayout) for _, layout in pieces):
        return None
    if not any(layout.varies(dim) for layout in with_cells):
        first = [layout.with_codes(layout.codes.narrow(dim, 0, 1)) for layout in known]
        merged = merge_branches(first, align=not one_map)
        if merged is not None:
            image_level = all(layout.image_level for layout in known)
            return replace(merged, codes=merged.codes.expand(shape), image_level=image_level)
    if not one_map:
        return None
    codes = torch.cat([codes_of(tensor, layout) for tensor, layout in pieces], dim)
    base = (with_cells or known)[0]
    return replace(
        base,
        codes=cell_codes.compressed_if_large(codes),
        is_gate=all(layout.is_gate for layout in known),
        image_level=not with_cells and base.image_level,
    )


RULES: dict[str, MultiInputRule] = {"cat": _cat, "quantized.cat": _cat, "stack": _stack}
