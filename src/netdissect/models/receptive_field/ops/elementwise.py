"""Operations that work cell by cell: pointwise functions, normalizations, gates, and the order of units."""

from collections.abc import Sequence
from dataclasses import replace

from netdissect.models.receptive_field import cell_codes
from netdissect.models.receptive_field.branches import merge_branches
from netdissect.models.receptive_field.ops.op_call import MultiInputRule, OpCall, Shape, SingleInputRule, op_names
from netdissect.models.receptive_field.spatial_layout import SpatialLayout

CELL_BY_CELL = op_names(
    "rsub hardswish _prelu_kernel prelu native_layer_norm layer_norm native_batch_norm cudnn_batch_norm batch_norm "
    "_native_batch_norm_legit _native_batch_norm_legit_no_training native_group_norm group_norm instance_norm "
    "_fused_rms_norm rms_norm _log_softmax log_softmax clone _to_copy to detach alias lift_fresh contiguous "
    "fill zero native_dropout dropout cumsum cumprod logcumsumexp cummax cummin tril triu floor_divide "
    "log_sigmoid_forward log_sigmoid hardtanh _conj quantize_per_tensor quantize_per_channel dequantize "
    "fake_quantize_per_tensor_affine_cachemask _fake_quantize_per_tensor_affine_cachemask_tensor_qparams "
    "fake_quantize_per_channel_affine_cachemask _fused_moving_avg_obs_fq_helper "
    "quantized.add quantized.add_relu quantized.mul quantized.hardswish quantized.leaky_relu"
)
"""Operations that work cell by cell but that torch does not tag as pointwise; normalizations count as such."""


def elementwise(call: OpCall, shape: Shape) -> SpatialLayout | None:
    """Return the layout of a function of the elements at one index of all inputs."""
    branches = []
    for tensor, layout in call.tensors:
        if isinstance(layout, SpatialLayout):
            if not _broadcasts(tensor.shape, shape):
                return None
            branches.append(layout if layout.shape == shape else layout.with_codes(layout.codes.expand(shape)))
    if max(tensor.ndim for tensor, _ in call.tensors) < len(shape):
        return None
    return merge_branches(branches, multiplied=call.name == "mul")


def _broadcasts(shape: Sequence[int], to: Shape) -> bool:
    """Tell whether a tensor of one shape fits into a result of another."""
    last = to[len(to) - len(shape) :]
    return len(shape) <= len(to) and all(mine in (1, full) for mine, full in zip(shape, last, strict=True))


def _gate(call: OpCall, shape: Shape) -> SpatialLayout | None:
    layout = elementwise(call, shape)
    return replace(layout, is_gate=True) if layout else None


def _gated_linear_unit(call: OpCall, layout: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    """Return the layout of one half of the units times a gate made of the other half."""
    dim = call.arguments["dim"] % len(shape)
    return None if layout.varies(dim) else layout.with_codes(layout.codes.narrow(dim, 0, shape[dim]))


def _sorted_units(call: OpCall, layout: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    """Return the layout of the units of each cell in the order of their values."""
    dim = call.arguments["dim"] % len(shape)
    if layout.varies(dim) or layout.images_differ(dim):
        return None
    return layout.with_codes(cell_codes.resize_constant(layout.codes, shape, set(range(len(shape))) - {dim}))


def _view_as_complex(_call: OpCall, layout: SpatialLayout, _shape: Shape) -> SpatialLayout | None:
    return None if layout.varies(-1) else layout.with_codes(layout.codes.select(-1, 0))


def _view_as_real(_call: OpCall, layout: SpatialLayout, shape: Shape) -> SpatialLayout:
    return layout.with_codes(layout.codes.unsqueeze(-1).expand(shape))


GATE_RULES: dict[str, MultiInputRule] = dict.fromkeys(
    ("sigmoid", "hardsigmoid", "softmax", "_softmax", "_safe_softmax"), _gate
)
UNIT_RULES: dict[str, SingleInputRule] = {
    "glu": _gated_linear_unit,
    **dict.fromkeys(("sort", "argsort", "topk"), _sorted_units),
    "view_as_complex": _view_as_complex,
    "view_as_real": _view_as_real,
}
