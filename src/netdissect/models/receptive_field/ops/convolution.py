"""Convolutions, plain, transposed, grouped and quantized, and the sum of overlapping patches."""

from dataclasses import replace
from functools import partial

from netdissect.models.receptive_field import cell_codes
from netdissect.models.receptive_field.axis import ReceptiveFieldAxis
from netdissect.models.receptive_field.cell_codes import DIRECTIONS, HORIZONTAL, IMAGE, VERTICAL
from netdissect.models.receptive_field.ops.op_call import OpCall, Shape, SingleInputRule
from netdissect.models.receptive_field.ops.windows import FieldChange, windowed, within_windows
from netdissect.models.receptive_field.reduction import reduce_dims
from netdissect.models.receptive_field.spatial_layout import SpatialLayout, UnknownLayout


def _convolution(call: OpCall, layout: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    weight = call.layout_of(call.arguments["weight"])
    if isinstance(weight, UnknownLayout) or (weight is not None and weight.has_cells):
        return None  # the kernel is a part of an image, whose cells would have to be distinguished
    seen = _sum_over_units(layout, call.arguments.get("groups", 1), shape[1])
    if seen is None:
        return None
    kernel = list(call.arguments["weight"].shape[2:])
    settings = zip(kernel, *(call.per_dimension(name) for name in ("stride", "padding", "dilation")), strict=True)
    transposed = call.arguments["transposed"]
    compose = ReceptiveFieldAxis.transposed if transposed else ReceptiveFieldAxis.window
    changes: dict[int, FieldChange] = {}
    enlarged = set()
    for dim, (size, stride, padding, dilation) in enumerate(settings, 2):
        if (size, stride, padding) != (1, 1, 0):
            changes[dim] = partial(compose, kernel=size, stride=stride, padding=padding, dilation=dilation)
        if transposed and stride > 1:
            enlarged.add(dim)
    found = windowed(seen, shape, changes, enlarged)
    if found is None and not transposed:
        found = within_windows(seen, shape, changes)
    return replace(found, is_gate=False, image_level=layout.image_level) if found else None


def _sum_over_units(layout: SpatialLayout, groups: int, units: int) -> SpatialLayout | None:
    """Return the layout of a sum over units; groups may be the images, each with a kernel of its own."""
    if groups == 1 or not layout.images_differ(1):
        return reduce_dims(layout, [1], keep=True)
    grouped = replace(layout, codes=layout.codes.reshape(layout.shape[0], groups, -1, *layout.shape[2:]))
    seen = reduce_dims(grouped, [2], keep=True)
    if seen is None:
        return None
    by_group = list(seen.shape)
    by_group[2] = units // groups
    return replace(seen, codes=seen.codes.expand(by_group).flatten(1, 2))


def _quantized_convolution(call: OpCall, layout: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    """Return the layout of a quantized convolution, whose weights and settings are packed."""
    packed = call.arguments["packed_weight"]
    settings = {name: getattr(packed, name)() for name in ("stride", "padding", "dilation")}
    unpacked = settings | {"weight": packed.unpack()[0], "transposed": bool(packed.transpose())}
    return _convolution(replace(call, arguments=unpacked), layout, shape)


def _col2im(call: OpCall, layout: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    """Return the layout of the sum of overlapping patches: a transposed convolution of the map of patches."""
    seen = reduce_dims(layout, [1], keep=True)
    aligned = seen.aligned if seen else None
    if aligned is None or aligned.dims.get(VERTICAL) != 2 or aligned.dims.get(HORIZONTAL) != 2:
        return None
    names = ("kernel_size", "stride", "padding", "dilation")
    settings = zip(*(call.arguments[name] for name in names), strict=True)
    grid, dims = aligned.layout.grid, {IMAGE: 0, VERTICAL: len(shape) - 2, HORIZONTAL: len(shape) - 1}
    axes, lengths, enlarged = {}, {}, []
    for direction, (kernel, stride, padding, dilation) in zip(DIRECTIONS, settings, strict=True):
        axes[direction] = grid.axis(direction).transposed(kernel, stride, padding, dilation)
        lengths[direction] = shape[dims[direction]]
        if stride > 1:
            enlarged.append(direction)
    codes = cell_codes.codes_along(shape, dims, layout.codes.device)
    return SpatialLayout(codes, grid.changed(lengths, axes, enlarged))


RULES: dict[str, SingleInputRule] = {
    "convolution": _convolution,
    **dict.fromkeys(("quantized.conv2d", "quantized.conv2d_relu"), _quantized_convolution),
    "col2im": _col2im,
}
