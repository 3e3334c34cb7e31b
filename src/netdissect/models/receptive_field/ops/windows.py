"""Change the receptive fields of a layout by windows over rows and columns."""

from collections.abc import Callable, Collection
from dataclasses import replace

from torch import Tensor

from netdissect.models.receptive_field import cell_codes
from netdissect.models.receptive_field.axis import ReceptiveFieldAxis
from netdissect.models.receptive_field.cell_codes import DIRECTIONS, HORIZONTAL, IMAGE, VERTICAL
from netdissect.models.receptive_field.ops.op_call import Shape
from netdissect.models.receptive_field.reduction import marked_if_pooled, without_circular_padding
from netdissect.models.receptive_field.spatial_layout import AlignedLayout, SpatialLayout

FieldChange = Callable[[ReceptiveFieldAxis], ReceptiveFieldAxis]


def windowed(
    layout: SpatialLayout, shape: Shape, changes: dict[int, FieldChange], enlarged: Collection[int] = ()
) -> SpatialLayout | None:
    """Change the fields along some dimensions; the others keep their cells.

    Parameters
    ----------
    layout
        Of the input.
    shape
        Of the output.
    changes
        Dimension -> its new fields.
    enlarged
        Dimensions along which the map was interpolated to a larger one.
    """
    aligned = layout.aligned or without_circular_padding(layout).aligned
    if aligned is None or len(layout.shape) != len(shape):
        return None
    dims = dict(aligned.dims)
    by_position = {len(shape) - 2: VERTICAL, len(shape) - 1: HORIZONTAL}
    axes, lengths, grown = {}, {}, []
    for dim, change in changes.items():
        coordinates = [coordinate for coordinate, other in dims.items() if other == dim]
        if not coordinates and dim in by_position and by_position[dim] not in dims:
            coordinates = [by_position[dim]]  # a direction of length 1
            dims[coordinates[0]] = dim
        if len(coordinates) > 1 or coordinates == [IMAGE]:
            return None
        for direction in coordinates:
            axes[direction], lengths[direction] = change(aligned.layout.grid.axis(direction)), shape[dim]
            grown += [direction] if dim in enlarged else []
    if any(layout.shape[dim] != shape[dim] for dim in dims.values() if dim not in changes):
        return None
    grid = aligned.layout.grid.changed(lengths, axes, grown)
    return marked_if_pooled(layout, replace(layout, codes=_codes(aligned, dims, shape), grid=grid))


def _codes(aligned: AlignedLayout, dims: dict[str, int], shape: Shape) -> Tensor:
    codes = aligned.layout.codes
    if dims.get(VERTICAL) is not None and dims.get(VERTICAL) == dims.get(HORIZONTAL):  # tokens
        return cell_codes.resize_constant(codes, shape, dims.values())
    directions = {direction: dim for direction, dim in dims.items() if direction != IMAGE}
    images = cell_codes.resize_constant(cell_codes.image_part(codes), shape, [dims.get(IMAGE, 0)])
    cells = cell_codes.codes_along(shape, directions, images.device)
    return (cell_codes.unexpanded(images) + cell_codes.unexpanded(cells)).expand(*shape)


def within_windows(layout: SpatialLayout, shape: Shape, changes: dict[int, FieldChange]) -> SpatialLayout | None:
    """Return the layout of a convolution or pooling within windows of the map, or along tokens.

    Cells stay if the operation keeps their number; their fields are widened.
    """
    if any(layout.shape[dim] != shape[dim] for dim in range(2, len(shape))):
        return None
    axes = {
        direction: changes[dim](layout.grid.axis(direction))
        for direction, dim in zip(DIRECTIONS, (len(shape) - 2, len(shape) - 1), strict=True)
        if dim in changes and len(shape) > 3
    }
    if any(axis.step != layout.grid.axis(direction).step for direction, axis in axes.items()):
        return None
    widened = {direction: layout.grid.axis(direction).widened(axis.size) for direction, axis in axes.items()}
    codes = cell_codes.resize_constant(layout.codes, shape, range(2, len(shape)))
    return replace(layout, codes=codes, grid=layout.grid.changed({}, widened))
