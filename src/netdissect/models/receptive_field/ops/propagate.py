"""Choose the rule of an operation and return the layouts of its outputs."""

from collections.abc import Sequence

from torch import Tensor

from netdissect.models.receptive_field.ops import (
    attention,
    concatenate,
    convolution,
    elementwise,
    interpolation,
    pooling,
    products,
)
from netdissect.models.receptive_field.ops.op_call import (
    OpCall,
    Shape,
    TensorLayout,
    op_names,
)
from netdissect.models.receptive_field.ops.rearrange import REARRANGED, rearrange
from netdissect.models.receptive_field.reduction import reduce_dims
from netdissect.models.receptive_field.spatial_layout import SpatialLayout, UnknownLayout

CONSTANTS = op_names(
    "zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty new_empty_strided"
)
REDUCTIONS = op_names("sum mean amax amin max min prod var std var_mean norm linalg_vector_norm logsumexp any all")
MULTI_INPUT_RULES = concatenate.RULES | elementwise.GATE_RULES | products.RULES | attention.RULES
SINGLE_INPUT_RULES = (
    elementwise.UNIT_RULES | attention.RECURRENT_RULES | convolution.RULES | pooling.RULES | interpolation.RULES
)


def propagate(call: OpCall, outputs: Sequence[Tensor]) -> list[TensorLayout]:
    """Return the layout of each output; None where it is not computed from the image."""
    if call.name in CONSTANTS:
        return [None] * len(outputs)
    if call.name == "copy":
        return [_copied(call, tuple(output.shape)) for output in outputs]
    if not any(isinstance(layout, SpatialLayout) for _, layout in call.tensors):
        unknown = call.random or any(isinstance(layout, UnknownLayout) for _, layout in call.tensors)
        return [call.unknown if unknown else None] * len(outputs)
    if call.name in REARRANGED:
        return rearrange(call, outputs)
    return [_computed(call, tuple(output.shape)) or call.unknown for output in outputs]


def _computed(call: OpCall, shape: Shape) -> SpatialLayout | None:
    if call.name in MULTI_INPUT_RULES:
        return MULTI_INPUT_RULES[call.name](call, shape)
    rule = SINGLE_INPUT_RULES.get(call.name)
    if rule is None and ({"dim", "keepdim"} <= call.arguments.keys() or call.name in REDUCTIONS):
        rule = _reduced
    if rule is not None:
        first = call.tensors[0][1]
        return rule(call, first, shape) if isinstance(first, SpatialLayout) else None
    return elementwise.elementwise(call, shape) if call.pointwise or call.name in elementwise.CELL_BY_CELL else None


def _copied(call: OpCall, shape: Shape) -> TensorLayout:
    layout = call.layout_of(call.arguments["src"])
    return layout.with_codes(layout.codes.expand(shape)) if isinstance(layout, SpatialLayout) else layout


def _reduced(call: OpCall, layout: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    rank, dims = len(layout.shape), call.arguments.get("dim")
    listed = [dims] if isinstance(dims, int) else list(dims or range(rank))
    after = reduce_dims(layout, listed, keep=len(shape) == rank)
    return after if after and after.shape == shape else None
