"""Which dimension of a layer's output is what: the batch, the units, and the cells of its maps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from netdissect.concepts import Size
from netdissect.models.receptive_field.axis import ReceptiveField
from netdissect.models.receptive_field.spatial_layout import (
    DIRECTIONS,
    HORIZONTAL,
    IMAGE,
    VERTICAL,
    Lost,
    SpatialLayout,
    compact,
    coordinate,
    evenly_spaced,
    reduced,
)

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
        Where each cell, row by row, lies among the remaining dimensions of one image, flattened in order. None: as
        they lie there.
    name
        What it is called: ``NCHW``, ``NHWC``, ``tokens`` (``tokens:1`` behind one class token), ``units`` of the
        whole image, or another order in words.
    source
        ``traced``, or ``assumed`` because it was asked for.

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
        """Bring an output to (B, U, h, w); whole-image units (`grid` is None) to (B, U, 1, 1).

        Raises
        ------
        ValueError
            If the output has not the cells of the grid.
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
        """Return an output as (B, U, cells), the cells as they lie in it."""
        values = output.movedim(self.batch, 0)
        units = self.units + (self.units < self.batch)
        if self.parts > 1:
            values, units = values.reshape(-1, self.parts, *values.shape[1:]), units + 1
        return values.movedim(units, 1).flatten(2) if values.ndim > 2 else values[:, :, None]


@dataclass(frozen=True)
class Read:
    """What tracing says of an output: its layout, units, map size and receptive field."""

    layout: Layout
    units: int
    grid: Size | None
    field: ReceptiveField | None


def read_place(place: SpatialLayout | Lost) -> Read | str:
    """Tell units from cells by from where on the image elements come; a text says why they cannot be told.

    Parameters
    ----------
    place
        Of the output for a batch of at least two images.
    """
    if isinstance(place, Lost):
        return f"its way from the image is lost {place.reason}"
    if place.pairs:
        return "its elements are about pairs of cells, as an attention matrix is"
    if len(place.shape) == 2 and not place.has(IMAGE) and not place.spread:
        return Read(Layout(0, 1, name="units"), place.shape[1], None, None)
    batch = _batch(place)
    if batch is None:
        return "no dimension of it is the batch"
    dim, parts = batch
    if len(place.shape) == 2 and parts == 1:
        return Read(Layout(dim, 1 - dim, name="units"), place.shape[1 - dim], None, None)
    if not place.spread:
        return _whole(place, dim, parts)
    units = _units(place, dim)
    if isinstance(units, str):
        return units
    place, unit_dim, count = units
    if len(place.shape) != 4 and _is_part(place):
        return "it holds a part of the map alone"
    settled = place.settled
    if settled is not None:
        place = settled.place
    return _mapped(place, Layout(dim, unit_dim, parts), count)


def _batch(place: SpatialLayout) -> tuple[int, int] | None:
    """Return the dimension of the images and how many of its indices each takes."""
    images = coordinate(compact(place.codes), IMAGE)
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


def _whole(place: SpatialLayout, batch: int, parts: int) -> Read | str:
    """Read what speaks of the whole image: one cell."""
    shape = place.shape
    if parts == 1 and len(shape) == 4 and batch == 0:
        for units, cells, name in ((1, (2, 3), "NCHW"), (3, (1, 2), "NHWC")):
            if all(shape[dim] == 1 for dim in cells):
                return Read(Layout(batch, units, name=name), shape[units], Size(1, 1), place.grid.field)
    larger = [dim for dim, length in enumerate(shape) if dim != batch and length > 1]
    if parts == 1 and len(larger) == 1:
        return Read(Layout(batch, larger[0], name="units"), shape[larger[0]], None, None)
    return "no dimension of it is a direction of the image"


def _units(place: SpatialLayout, batch: int) -> tuple[SpatialLayout, int, int] | str:
    """Find the dimension of the units; return the place of single units, it and their number."""
    others = [dim for dim in range(len(place.shape)) if dim != batch]
    free = [dim for dim in others if not place.varies(dim)]
    longer = [dim for dim in free if place.shape[dim] > 1]
    if len(longer) > 1:
        return "it has more than one dimension of units, as values per head have"
    if free:
        dim = (longer or [dim for dim in (1, len(place.shape) - 1) if dim in free] or free)[0]
        return place, dim, place.shape[dim]
    # Pieces of a map that was cut into its even and odd rows lie side by side as units: each sees a window.
    best: tuple[int, SpatialLayout, int] | None = None
    for dim in (others[-1], *others[:-1]):
        seen = reduced(place, [dim], keep=True)
        if seen is not None and _whole_windows(place, seen):
            cells = seen.grid.rows * seen.grid.columns
            if best is None or cells > best[0]:
                best = cells, seen, dim
    return (best[1], best[2], place.shape[best[2]]) if best else "none of its dimensions is that of the units"


def _whole_windows(place: SpatialLayout, seen: SpatialLayout) -> bool:
    """Tell whether single units still see every direction, in windows side by side."""
    codes = compact(seen.codes)
    for kind in DIRECTIONS:
        before, after = place.grid.axis(kind), seen.grid.axis(kind)
        if seen.has(kind) != place.has(kind) or after.size - before.size >= after.step:
            return False
    return len(torch.unique(codes).tolist()) == codes.numel()


def _is_part(place: SpatialLayout) -> bool:
    """Tell whether rows or columns at the border of the map are missing."""
    for kind in DIRECTIONS:
        values = coordinate(compact(place.codes), kind)
        spaced = evenly_spaced(values[values > 0])
        if spaced is not None and spaced[2] > 0:
            start, step, count = spaced
            if start > step or place.grid.length(kind) - (start + (count - 1) * step) >= step:
                return True
    return False


def _mapped(place: SpatialLayout, layout: Layout, units: int) -> Read | str:
    """Find each cell of a grid among the elements of one image."""
    first, *rest = layout.by_image(place.codes)[:, 0]
    where = [coordinate(first, kind) for kind in DIRECTIONS]
    if any(not torch.equal(coordinate(first, kind), coordinate(one, kind)) for one in rest for kind in DIRECTIONS):
        return "its cells lie differently from image to image"
    defined = (where[0] > 0) | (where[1] > 0)
    order, lengths, axes = torch.zeros_like(first), {}, {}
    for kind, values in zip(DIRECTIONS, where, strict=True):
        spaced = evenly_spaced(values[defined])
        if spaced is None:
            return "its rows or columns are not evenly spaced"
        start, step, count = spaced
        lengths[kind] = count
        if start:
            axes[kind] = place.grid.axis(kind).window(kernel=1, stride=step, padding=1 - start)
        order = order * count + (values - start) // step
    height, width = lengths[VERTICAL], lengths[HORIZONTAL]
    if not torch.equal(order[defined].sort().values, torch.arange(height * width, device=order.device)):
        return "its cells are not each cell of a map once"
    cells = defined.nonzero().flatten()[order[defined].argsort()].tolist()
    as_they_lie = cells == list(range(len(first)))
    found = replace(layout, cells=None if as_they_lie else tuple(cells))
    named = replace(found, name=_name(found, place.shape))
    return Read(named, units, Size(height, width), place.grid.changed(lengths, axes).field)


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
