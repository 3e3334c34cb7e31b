"""Which dimensions of a layer's output are the batch, the units and the cells of its maps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from netdissect.concepts import Size
from netdissect.models.receptive_field import cell_codes
from netdissect.models.receptive_field.axis import ReceptiveField
from netdissect.models.receptive_field.cell_codes import DIRECTIONS, HORIZONTAL, IMAGE, VERTICAL
from netdissect.models.receptive_field.reduction import evenly_spaced, reduce_dims
from netdissect.models.receptive_field.spatial_layout import SpatialLayout, UnknownLayout

LayoutSource = Literal["traced", "assumed"]


@dataclass(frozen=True)
class Layout:
    """How the output of a layer is read as activations (B, U, h, w).

    Attributes
    ----------
    batch
        Dimension of the images.
    units
        Dimension of the units.
    parts
        How many indices of the batch dimension belong to one image: windows of an image may follow each other there.
    cells
        Index of each cell, row by row, in the remaining dimensions of one image, flattened in order. None: the cells
        are in order there.
    name
        ``NCHW``, ``NHWC``, ``tokens`` (``tokens:1`` after one class token), ``units`` of the whole image, or another
        order in words.
    source
        ``traced``, or ``assumed`` by an option.

    Examples
    --------
    >>> tokens = torch.arange(2 * 5 * 3).reshape(2, 5, 3)  # a class token and 2 x 2 cells
    >>> Layout(batch=0, units=2, cells=(1, 2, 3, 4), name="tokens:1").read(tokens, Size(2, 2))[0, 0]
    tensor([[ 3,  6],
            [ 9, 12]])
    """

    batch: int
    units: int
    parts: int = 1
    cells: tuple[int, ...] | None = None
    name: str = "NCHW"
    source: LayoutSource = "traced"

    def read(self, output: Tensor, grid: Size | None) -> Tensor:
        """Bring an output to (B, U, h, w); image-level units (`grid` is None) to (B, U, 1, 1).

        Raises
        ------
        ValueError
            If the output has another number of cells than the grid.
        """
        height, width = grid or (1, 1)
        values = self.by_image(output)
        if self.cells is not None:
            first, last = self.cells[0], self.cells[-1]
            if self.cells == tuple(range(first, last + 1)):
                values = values[:, :, first : last + 1]
            elif max(self.cells) < values.shape[2]:
                values = values.index_select(2, torch.tensor(self.cells, device=values.device))
        if values.shape[2] != height * width:
            raise ValueError(f"{values.shape[2]} cells are not {height} x {width}")
        return values.reshape(*values.shape[:2], height, width)

    def by_image(self, output: Tensor) -> Tensor:
        """Return an output as (B, U, cells), the cells in the order of the output."""
        values = output.movedim(self.batch, 0)
        units = self.units + (self.units < self.batch)
        if self.parts > 1:
            values, units = values.reshape(-1, self.parts, *values.shape[1:]), units + 1
        return values.movedim(units, 1).flatten(2) if values.ndim > 2 else values[:, :, None]


@dataclass(frozen=True)
class OutputReading:
    """How an output is read: its layout, units, map size (None: image-level units) and receptive field."""

    layout: Layout
    units: int
    grid: Size | None
    field: ReceptiveField | None


def read_output(spatial: SpatialLayout | UnknownLayout) -> OutputReading | str:
    """Distinguish units from cells by the layout of an output; a text says why they cannot be distinguished.

    Parameters
    ----------
    spatial
        Of the output for a batch of at least two images.
    """
    if isinstance(spatial, UnknownLayout):
        return f"its elements cannot be traced to the image: the trace ends {spatial.reason}"
    if spatial.pairwise:
        return "its elements are about pairs of cells, as an attention matrix is"
    if len(spatial.shape) == 2 and not spatial.has(IMAGE) and not spatial.has_cells:
        return OutputReading(Layout(0, 1, name="units"), spatial.shape[1], None, None)
    batch = _batch_dim(spatial)
    if batch is None:
        return "no dimension of it is the batch"
    dim, parts = batch
    if len(spatial.shape) == 2 and parts == 1:
        return OutputReading(Layout(dim, 1 - dim, name="units"), spatial.shape[1 - dim], None, None)
    if not spatial.has_cells:
        return _read_image_level(spatial, dim, parts)
    units = _unit_dim(spatial, dim)
    if isinstance(units, str):
        return units
    spatial, unit_dim, count = units
    if len(spatial.shape) != 4 and _is_part(spatial):
        return "it holds a part of the map alone"
    aligned = spatial.aligned
    return _read_map(spatial if aligned is None else aligned.layout, Layout(dim, unit_dim, parts), count)


def _batch_dim(spatial: SpatialLayout) -> tuple[int, int] | None:
    """Return the dimension of the images and how many of its indices each takes."""
    images = cell_codes.decode(cell_codes.unexpanded(spatial.codes), IMAGE)
    count = int(images.max())
    varying = [dim for dim in range(images.ndim) if images.shape[dim] > 1 and _differs(images, dim)]
    if count < 2 or len(varying) != 1:
        return None
    (dim,) = varying
    parts = images.shape[dim] // count
    expected = torch.arange(count, device=images.device).repeat_interleave(parts) + 1
    along = images.movedim(dim, -1)
    if images.shape[dim] != parts * count or ((along != expected) & (along != 0)).any():
        return None
    return dim, parts


def _differs(values: Tensor, dim: int) -> bool:
    """Tell whether values along a dimension differ, apart from those that are 0."""
    high = values.amax(dim, keepdim=True)
    return bool(((values != high) & (values != 0)).any())


def _read_image_level(spatial: SpatialLayout, batch: int, parts: int) -> OutputReading | str:
    """Read units of the whole image: one cell, or none."""
    shape = spatial.shape
    if parts == 1 and len(shape) == 4 and batch == 0:
        for units, cells, name in ((1, (2, 3), "NCHW"), (3, (1, 2), "NHWC")):
            if all(shape[dim] == 1 for dim in cells):
                return OutputReading(Layout(batch, units, name=name), shape[units], Size(1, 1), spatial.grid.field)
    larger = [dim for dim, length in enumerate(shape) if dim != batch and length > 1]
    if parts == 1 and len(larger) == 1:
        return OutputReading(Layout(batch, larger[0], name="units"), shape[larger[0]], None, None)
    return "no dimension of it is a direction of the image"


def _unit_dim(spatial: SpatialLayout, batch: int) -> tuple[SpatialLayout, int, int] | str:
    """Find the dimension of the units; return the layout of single units, the dimension and their number."""
    others = [dim for dim in range(len(spatial.shape)) if dim != batch]
    free = [dim for dim in others if not spatial.varies(dim)]
    longer = [dim for dim in free if spatial.shape[dim] > 1]
    if len(longer) > 1:
        return "it has more than one dimension of units, as values per head have"
    if free:
        dim = (longer or [dim for dim in (1, len(spatial.shape) - 1) if dim in free] or free)[0]
        return spatial, dim, spatial.shape[dim]
    # Pieces of a map that was cut into its even and odd rows are side by side as units: each sees a window.
    best: tuple[int, SpatialLayout, int] | None = None
    for dim in (others[-1], *others[:-1]):
        seen = reduce_dims(spatial, [dim], keep=True)
        if seen is not None and _tiles(spatial, seen):
            cells = seen.grid.rows * seen.grid.columns
            if best is None or cells > best[0]:
                best = cells, seen, dim
    return (best[1], best[2], spatial.shape[best[2]]) if best else "none of its dimensions is that of the units"


def _tiles(spatial: SpatialLayout, seen: SpatialLayout) -> bool:
    """Tell whether single units still see every direction, in windows side by side."""
    codes = cell_codes.unexpanded(seen.codes)
    for direction in DIRECTIONS:
        before, after = spatial.grid.axis(direction), seen.grid.axis(direction)
        if seen.has(direction) != spatial.has(direction) or after.size - before.size >= after.step:
            return False
    return len(torch.unique(codes).tolist()) == codes.numel()


def _is_part(spatial: SpatialLayout) -> bool:
    """Tell whether rows or columns at the border of the map are missing."""
    for direction in DIRECTIONS:
        values = cell_codes.decode(cell_codes.unexpanded(spatial.codes), direction)
        spacing = evenly_spaced(values[values > 0])
        if spacing is not None and spacing.length > 0:
            last = spacing.first + (spacing.length - 1) * spacing.step
            if spacing.first > spacing.step or spatial.grid.length(direction) - last >= spacing.step:
                return True
    return False


def _read_map(spatial: SpatialLayout, layout: Layout, units: int) -> OutputReading | str:
    """Find each cell of a grid among the elements of one image."""
    first, *rest = layout.by_image(spatial.codes)[:, 0]
    positions = [cell_codes.decode(first, direction) for direction in DIRECTIONS]
    if any(
        not torch.equal(cell_codes.decode(first, one), cell_codes.decode(other, one))
        for other in rest
        for one in DIRECTIONS
    ):
        return "its cells have another order in each image"
    defined = (positions[0] > 0) | (positions[1] > 0)
    order, lengths, axes = torch.zeros_like(first), {}, {}
    for direction, values in zip(DIRECTIONS, positions, strict=True):
        spacing = evenly_spaced(values[defined])
        if spacing is None:
            return "its rows or columns are not evenly spaced"
        start, step, count = spacing
        lengths[direction] = count
        if start:
            axes[direction] = spatial.grid.axis(direction).window(kernel=1, stride=step, padding=1 - start)
        order = order * count + (values - start) // step
    height, width = lengths[VERTICAL], lengths[HORIZONTAL]
    if not torch.equal(order[defined].sort().values, torch.arange(height * width, device=order.device)):
        return "its cells are not each cell of a map once"
    cells = defined.nonzero().flatten()[order[defined].argsort()].tolist()
    found = replace(layout, cells=None if cells == list(range(len(first))) else tuple(cells))
    named = replace(found, name=_name(found, spatial.shape))
    return OutputReading(named, units, Size(height, width), spatial.grid.changed(lengths, axes).field)


def _name(layout: Layout, shape: Sequence[int]) -> str:
    if layout.parts > 1:
        return "windows"
    batch_first, cells = layout.batch == 0, layout.cells
    if len(shape) == 4 and batch_first and cells is None and layout.units in (1, 3):
        return "NCHW" if layout.units == 1 else "NHWC"
    if len(shape) != 3 or (cells is not None and cells != tuple(range(cells[0], cells[0] + len(cells)))):
        return "another order"
    text = "tokens" if cells is None else f"tokens:{cells[0]}"
    return text if batch_first and layout.units == 2 else f"{text}, {'units' if batch_first else 'tokens'} first"
