"""Average and maximum pooling, adaptive pooling, and unpooling."""

from functools import partial

from netdissect.models.receptive_field.axis import ReceptiveFieldAxis
from netdissect.models.receptive_field.ops.op_call import OpCall, Shape, SingleInputRule
from netdissect.models.receptive_field.ops.windows import FieldChange, windowed, within_windows
from netdissect.models.receptive_field.spatial_layout import SpatialLayout


def _pool(call: OpCall, layout: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    rank, kernel = call.spatial_rank, call.per_dimension("kernel_size")
    dilation = call.per_dimension("dilation") if "dilation" in call.arguments else [1] * rank
    settings = zip(kernel, call.per_dimension("stride") or kernel, call.per_dimension("padding"), dilation, strict=True)
    changes: dict[int, FieldChange] = {
        dim: partial(ReceptiveFieldAxis.window, kernel=size, stride=stride, padding=padding, dilation=apart)
        for dim, (size, stride, padding, apart) in enumerate(settings, len(shape) - rank)
    }
    return windowed(layout, shape, changes) or within_windows(layout, shape, changes)


def _adaptive_pool(call: OpCall, layout: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    changes: dict[int, FieldChange] = {}
    for dim in range(len(shape) - call.spatial_rank, len(shape)):
        old, new = layout.shape[dim], shape[dim]
        if old != new:
            edges = [(cell * old // new, -(-(cell + 1) * old // new)) for cell in range(new)]
            widest = max(end - start for start, end in edges)
            changes[dim] = partial(ReceptiveFieldAxis.resampled, scale=old / new, support=widest)
    enlarged = {dim for dim in changes if shape[dim] > layout.shape[dim]}
    return windowed(layout, shape, changes, enlarged)


def _max_unpool(_call: OpCall, layout: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    """Return the layout of max unpooling: each cell comes back somewhere in the window of which it was the maximum."""
    changes: dict[int, FieldChange] = {}
    for dim in (len(shape) - 2, len(shape) - 1):
        if layout.shape[dim] != shape[dim]:
            changes[dim] = partial(ReceptiveFieldAxis.resampled, scale=layout.shape[dim] / shape[dim])
    return windowed(layout, shape, changes, set(changes))


RULES: dict[str, SingleInputRule] = {
    "max_unpool2d": _max_unpool,
    **{f"avg_pool{rank}d": _pool for rank in (2, 3)},
    **{f"max_pool{rank}d{variant}": _pool for rank in (2, 3) for variant in ("", "_with_indices")},
    "quantized_max_pool2d": _pool,
    **{f"{name}_pool{rank}d": _adaptive_pool for name in ("_adaptive_avg", "adaptive_max") for rank in (2, 3)},
}
