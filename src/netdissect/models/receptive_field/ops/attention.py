"""Attention and recurrent layers."""

from dataclasses import replace

import torch

from netdissect.models.receptive_field import cell_codes
from netdissect.models.receptive_field.ops.op_call import MultiInputRule, OpCall, Shape, SingleInputRule, op_names
from netdissect.models.receptive_field.ops.products import queries_repeat, with_images
from netdissect.models.receptive_field.reduction import reduce_dims, shared_image_codes
from netdissect.models.receptive_field.spatial_layout import SpatialLayout, UnknownLayout


def _attention(call: OpCall, shape: Shape) -> SpatialLayout | None:
    """Return the layout of scaled dot product attention: each result has the cell of its query."""
    query, key = (call.layout_of(call.arguments[name]) for name in ("query", "key"))
    if isinstance(query, UnknownLayout) or (query is None and not isinstance(key, SpatialLayout)):
        return None
    if shape != (*call.arguments["query"].shape[:-1], call.arguments["value"].shape[-1]):
        return None  # another output than the result, such as the normalizer
    known = key if isinstance(key, SpatialLayout) else None
    rows = reduce_dims(query, [-1], keep=True) if query else None
    if query and (rows is None or (known and queries_repeat(rows, known))):
        return None
    if rows is None and known:  # learned queries
        codes = torch.zeros((), dtype=torch.int64, device=known.codes.device).expand(shape)
        rows = replace(known, codes=codes, image_level=True, pairwise=False)
    images = shared_image_codes(known, [-1, -2]) if known else None
    if rows is None:
        return None
    return replace(rows, codes=with_images(rows.codes.expand(shape), images), is_gate=False)


def _fused_attention(call: OpCall, shape: Shape) -> SpatialLayout | None:
    """Return the layout of torch's fused attention module or encoder layer: each token keeps its cell."""
    layout = call.layout_of(call.arguments["query" if "query" in call.arguments else "src"])
    if not isinstance(layout, SpatialLayout) or layout.shape != shape:
        return None
    return replace(layout, codes=with_images(layout.codes, shared_image_codes(layout, [-1, -2])), is_gate=False)


def _recurrent(_call: OpCall, layout: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    """Return the layout of a recurrent layer: each token keeps its cell."""
    if len(layout.shape) != 3 or shape[:2] != layout.shape[:2] or layout.varies(-1):
        return None
    return layout.with_codes(cell_codes.resize_constant(layout.codes, shape, (0, 1)))


RULES: dict[str, MultiInputRule] = {
    "scaled_dot_product_attention": _attention,
    **{
        f"_scaled_dot_product_{variant}": _attention
        for variant in op_names(
            "attention_math flash_attention flash_attention_for_cpu efficient_attention cudnn_attention "
            "fused_attention_overrideable"
        )
    },
    **dict.fromkeys(("_native_multi_head_attention", "_transformer_encoder_layer_fwd"), _fused_attention),
}
RECURRENT_RULES: dict[str, SingleInputRule] = dict.fromkeys(
    ("mkldnn_rnn_layer", "lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent
)
