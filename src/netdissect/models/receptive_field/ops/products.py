"""Matrix products and linear layers."""

from dataclasses import replace

import torch
from torch import Tensor

from netdissect.models.receptive_field import cell_codes
from netdissect.models.receptive_field.ops.op_call import MultiInputRule, OpCall, Shape
from netdissect.models.receptive_field.reduction import reduce_dims, shared_image_codes
from netdissect.models.receptive_field.spatial_layout import SpatialLayout, UnknownLayout

FACTORS = {
    "mm": ("self", "mat2"),
    "bmm": ("self", "mat2"),
    "matmul": ("self", "other"),
    "addmm": ("mat1", "mat2"),
    "_addmm_activation": ("mat1", "mat2"),
    "baddbmm": ("batch1", "batch2"),
}
"""Operation -> names of its left and its right matrix."""


def _matmul(call: OpCall, shape: Shape) -> SpatialLayout | None:
    left, right = (call.arguments[name] for name in FACTORS[call.name])
    if left.ndim < 2 or right.ndim < 2:
        return None
    rows, columns = call.layout_of(left), call.layout_of(right)
    if isinstance(rows, UnknownLayout):
        return None
    rows = _expanded(rows, (*shape[:-1], left.shape[-1]))
    if not isinstance(columns, UnknownLayout):
        return _product(rows, _expanded(columns, (*shape[:-2], *right.shape[-2:])), shape)
    # The rows keep their cells, whatever they are multiplied by.
    found = _product(rows, None, shape)
    known = found is not None and rows is not None and found.has_cells and found.varies(-2)
    return replace(found, pairwise=not rows.pairwise) if known and found and rows else None


def _linear(call: OpCall, shape: Shape) -> SpatialLayout | None:
    layout = call.layout_of(call.arguments["input"])
    if not isinstance(layout, SpatialLayout) or call.layout_of(call.arguments["weight"]) is not None:
        return None
    seen = reduce_dims(layout, [-1], keep=True)
    return replace(seen.with_codes(seen.codes.expand(shape)), is_gate=False) if seen else None


def _quantized_linear(call: OpCall, shape: Shape) -> SpatialLayout | None:
    """Return the layout of a quantized linear layer, whose weights are packed."""
    return _linear(replace(call, arguments={"input": call.arguments["X"], "weight": None}), shape)


def _expanded(layout: SpatialLayout | None, shape: Shape) -> SpatialLayout | None:
    return layout.with_codes(layout.codes.expand(shape)) if layout else None


def _product(left: SpatialLayout | None, right: SpatialLayout | None, shape: Shape) -> SpatialLayout | None:
    """Return the layout of a product of matrices: that of the left one's rows, or else of the right one's columns.

    Notes
    -----
    The dimension that is summed over is reduced as by any sum. Where rows and columns both vary, an element is about
    two cells: these are attention scores, which get the cell of their query.
    """
    rows = reduce_dims(left, [-1], keep=True) if left else None
    if left and rows is None:
        return None
    base: SpatialLayout | None
    images: Tensor | None = None
    across = right is not None and right.has_cells and right.varies(-1)
    if rows is not None and rows.has_cells and (rows.varies(-2) or not across):
        if across and right is not None and queries_repeat(rows, right):
            return None
        base, images = rows, shared_image_codes(right, [-2]) if right else None
    else:
        base = reduce_dims(right, [-2], keep=True) if right else rows
        if right and rows:
            images = shared_image_codes(rows, [-1])
    if base is None:
        return None
    codes = with_images(base.codes.expand(shape), images)
    return replace(base, codes=codes, is_gate=False, pairwise=across and base is rows)


def queries_repeat(queries: SpatialLayout, keys: SpatialLayout) -> bool:
    """Tell whether queries of another map were repeated over windows of keys: they do not give the windows a cell."""
    if queries.grid == keys.grid or not queries.has_cells:
        return False
    return _mean_occurrences(queries) > _mean_occurrences(keys)


def _mean_occurrences(layout: SpatialLayout) -> float:
    """Return how often each cell occurs on the average: once for each head, say."""
    codes = cell_codes.unexpanded(cell_codes.compressed(layout.codes))
    return codes.numel() / len(torch.unique(codes).tolist())


def with_images(codes: Tensor, images: Tensor | None) -> Tensor:
    """Add the image to codes that have none."""
    combined = None if images is None else cell_codes.combine(codes, images.expand(codes.shape))
    return codes if combined is None else combined


RULES: dict[str, MultiInputRule] = {
    "linear": _linear,
    **{f"quantized.linear{variant}": _quantized_linear for variant in ("", "_relu", "_dynamic", "_relu_dynamic")},
    **dict.fromkeys(FACTORS, _matmul),
}
