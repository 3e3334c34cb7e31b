"""Resizing of maps by nearest, bilinear and bicubic interpolation."""

import math
from functools import partial

from netdissect.models.receptive_field.axis import ReceptiveFieldAxis
from netdissect.models.receptive_field.ops.op_call import OpCall, Shape, SingleInputRule
from netdissect.models.receptive_field.ops.windows import FieldChange, windowed
from netdissect.models.receptive_field.spatial_layout import SpatialLayout


def _upsample(call: OpCall, layout: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    changes: dict[int, FieldChange] = {}
    for dim, factor in zip((len(shape) - 2, len(shape) - 1), _scale_factors(call), strict=True):
        old, new = layout.shape[dim], shape[dim]
        corners = bool(call.arguments.get("align_corners"))
        # A scale factor that was given counts, even if the sizes imply another.
        scale = (old - 1) / max(new - 1, 1) if corners else 1 / factor if factor else old / new
        if "nearest" in call.name:
            first, support = _nearest_first(old, new, scale, 0.5 if "exact" in call.name else 0.0), 1
        else:
            first, support = 0.0 if corners else scale / 2 - 0.5, 4 if "cubic" in call.name else 2
        # An antialiasing filter widens with the scale when it makes a map smaller.
        reach = math.ceil(support * max(scale, 1)) if call.name.endswith("_aa") else support
        if (scale, first) != (1, 0):
            changes[dim] = partial(ReceptiveFieldAxis.resampled, scale=scale, support=min(reach, old), first=first)
    enlarged = {dim for dim in changes if shape[dim] > layout.shape[dim]}
    return windowed(layout, shape, changes, enlarged)


def _scale_factors(call: OpCall) -> list[float | None]:
    """Return the factors along rows and columns that the operation was given; None: sizes decide."""
    given = call.arguments.get("scale_factors") or [call.arguments.get(name) for name in ("scales_h", "scales_w")]
    return [float(factor) if factor else None for factor in given]


def _nearest_first(old: int, new: int, scale: float, shift: float) -> float:
    """Return the mean of ``floor((i + shift) * scale) - i * scale`` over the new cells i that pick an old cell."""
    picked = [(cell, math.floor((cell + shift) * scale)) for cell in range(new)]
    differences = [old_cell - cell * scale for cell, old_cell in picked if old_cell < old]
    return sum(differences) / len(differences)


RULES: dict[str, SingleInputRule] = {
    **{f"{name}2d": _upsample for name in ("upsample_nearest", "_upsample_nearest_exact")},
    **dict.fromkeys(("upsample_bilinear2d", "upsample_bicubic2d"), _upsample),
    **{f"_upsample_{name}2d_aa": _upsample for name in ("bilinear", "bicubic")},
}
