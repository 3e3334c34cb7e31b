"""Layouts of sums, means and maxima over dimensions, and of parts of a map."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from netdissect.models.receptive_field import cell_codes
from netdissect.models.receptive_field.cell_codes import DIRECTIONS, IMAGE, LARGEST_COORDINATE
from netdissect.models.receptive_field.spatial_layout import SpatialLayout

_ABOVE_ALL = LARGEST_COORDINATE + 1


class Spacing(NamedTuple):
    """Evenly spaced coordinates: the first, the step and how many different ones there are."""

    first: int
    step: int
    length: int


class CellWindows(NamedTuple):
    """Windows over coordinates of one direction.

    Attributes
    ----------
    labels : int64
        Number of each element's window, from 1; 0 where there is none or one window alone.
    size, start, stride, length
        Cells in a window, first cell, cells from one window to the next, number of windows.
    """

    labels: Tensor
    size: int
    start: int
    stride: int
    length: int


def reduce_dims(layout: SpatialLayout, dims: Collection[int], *, keep: bool) -> SpatialLayout | None:
    """Return the layout of a sum, mean or maximum over some dimensions; with `keep` they stay, with length 1.

    Notes
    -----
    Each result sees the rows and columns from the first to the last of its terms. These windows are the cells of a new
    grid if they are equally large and evenly spaced: a map that was cut into (h, 2, w, 2) and averaged over the twos
    was pooled with kernel and stride 2. None if they are not.
    """
    dims = sorted(dim % layout.codes.ndim for dim in dims)
    codes = cell_codes.unexpanded(layout.codes)
    mixed = [dim for dim in dims if codes.shape[dim] > 1]
    if not mixed:
        return layout.with_codes(cell_codes.first_along(layout.codes, dims, keep=keep))
    first, last = _range_over(cell_codes.decode(codes, IMAGE), mixed)
    if (first != last).any():
        return None  # over the batch
    total = cell_codes.encode(last, IMAGE)
    lengths, axes = {}, {}
    for direction in DIRECTIONS:
        windows = _windows(cell_codes.decode(codes, direction), mixed, layout.grid.length(direction))
        if windows is None:
            return None
        total = total | cell_codes.encode(windows.labels, direction)
        if windows.length:
            lengths[direction] = windows.length
            axes[direction] = layout.grid.axis(direction).window(windows.size, windows.stride, -windows.start)
    shape = [1 if dim in dims else length for dim, length in enumerate(layout.shape)]
    reduced = replace(layout, grid=layout.grid.changed(lengths, axes))
    return marked_if_pooled(layout, reduced.with_codes(cell_codes.first_along(total.expand(shape), dims, keep=keep)))


def marked_if_pooled(before: SpatialLayout, after: SpatialLayout) -> SpatialLayout:
    """Mark the result of an operation as image-level if its input was, or if it alone has no cells."""
    return replace(after, image_level=before.image_level or (before.has_cells and not after.has_cells))


def without_circular_padding(layout: SpatialLayout) -> SpatialLayout:
    """Return the layout without the cells that a circular padding repeats beyond the opposite edge."""
    codes = padded = cell_codes.unexpanded(layout.codes)
    for direction in DIRECTIONS:
        values = cell_codes.decode(padded, direction)
        dim, cells = cell_codes.varying_dim(values), layout.grid.length(direction)
        if dim is None or dim < 0:
            continue
        line = cell_codes.line_along(values, dim)
        around = (cells - int(line[0]) + 1) % cells  # repeated before the first cell
        expected = (torch.arange(len(line), device=line.device) - around) % cells + 1
        if torch.equal(line, expected) and len(line) > cells:
            inside = torch.zeros_like(line, dtype=torch.bool)
            inside[around : around + cells] = True
            codes = torch.where(cell_codes.broadcast_line(inside, dim, codes.ndim), codes, cell_codes.image_part(codes))
    return layout if codes is padded else replace(layout, codes=codes.expand(layout.shape))


def shared_image_codes(layout: SpatialLayout, dims: Sequence[int]) -> Tensor | None:
    """Return codes of the image that all elements over some dimensions share, with length 1 there; None: several."""
    codes = cell_codes.image_part(layout.codes)
    high = codes.amax(tuple(dims), keepdim=True)
    return None if ((codes != high) & (codes != 0)).any() else high


def evenly_spaced(values: Tensor) -> Spacing | None:
    """Return the spacing of coordinates; None if they are not evenly spaced."""
    found = torch.unique(values).tolist()
    steps = {after - before for before, after in pairwise(found)}
    if len(steps) > 1:
        return None
    return Spacing(found[0], steps.pop() if steps else 1, len(found)) if found else Spacing(0, 1, 0)


def _windows(values: Tensor, dims: Sequence[int], length: int) -> CellWindows | None:
    """Return windows of coordinates over dimensions of a map of this length; None if they are uneven."""
    low, high = _range_over(values, dims)
    defined = high > 0
    if not defined.any():
        return CellWindows(low, 1, 0, 1, 0)
    span = high - low + 1
    size = int(span[defined].max())
    # A window that reaches beyond the map is cut there.
    low = torch.where((span < size) & (low == 1) & (high < length), high - size + 1, low)
    span = high - low + 1
    if (defined & (span < size) & (high < length)).any():
        return None
    spacing = evenly_spaced(low[defined])
    if spacing is None:
        return None
    start, stride, count = spacing
    if count == 1:
        stride = size  # as the one cell of a map that was pooled as a whole
    labels = torch.where(defined, (low - start) // stride + 1, 0)
    return CellWindows(labels if count > 1 else torch.zeros_like(labels), size, start - 1, stride, count)


def _range_over(values: Tensor, dims: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest coordinate over dimensions; 0 and 0 where there is none."""
    high = values.amax(tuple(dims), keepdim=True)
    low = torch.where(values > 0, values, _ABOVE_ALL).amin(tuple(dims), keepdim=True)
    return torch.where(high > 0, low, 0), high
