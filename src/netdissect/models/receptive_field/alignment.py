"""Bring the codes of a tensor to a form in which each direction of the image fills one dimension in order.

    codes -> box of elements with a cell -> factors of each dimension -> runs of rows, columns, images -> new codes

Crops, paddings, strides and repetitions of cells become part of the grid, and the codes count from 1.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from netdissect.models.receptive_field import cell_codes
from netdissect.models.receptive_field.cell_codes import DIRECTIONS, IMAGE, VERTICAL
from netdissect.models.receptive_field.cell_grid import CellGrid


class AlignedCodes(NamedTuple):
    """Codes that count along the dimensions of the images and of the directions, and their grid."""

    codes: Tensor
    grid: CellGrid
    dims: Mapping[str, int]


class AxisFactor(NamedTuple):
    """A loop over indices of one dimension: difference between the codes of two iterations, and their number."""

    step: int
    length: int


class AxisRun(NamedTuple):
    """Cells of one direction along a dimension, each `stride` cells of the grid apart and repeated `repeats` times."""

    dim: int
    cells: int
    stride: int
    repeats: int


class CellBox(NamedTuple):
    """The smallest box of codes that holds every cell, and where it starts along each dimension."""

    codes: Tensor
    lows: list[int]


def align(codes: Tensor, grid: CellGrid, *, has_cells: bool) -> AlignedCodes | None:
    """Align codes with the dimensions of their tensor; None if a direction fills no dimension in order."""
    small = cell_codes.unexpanded(codes)
    if not has_cells:
        dim = cell_codes.varying_dim(cell_codes.decode(small, IMAGE))
        return None if dim is None else AlignedCodes(codes, grid, {IMAGE: dim} if dim >= 0 else {})
    box = _cell_box(small)
    if (cell_codes.cell_part(box.codes) == 0).any():
        return None
    factors = _factors(box.codes)
    runs = None if factors is None else _runs(factors)
    if factors is None or runs is None:
        return None
    aligned = _aligned_grid(grid, runs, box, codes.shape)
    return AlignedCodes(
        _aligned_codes(codes.shape, aligned, runs, factors, box),
        aligned,
        {coordinate: run.dim for coordinate, run in runs.items()},
    )


def _cell_box(codes: Tensor) -> CellBox:
    """Crop codes to the elements that have a cell."""
    lows = []
    defined = cell_codes.cell_part(codes) != 0
    for dim in range(codes.ndim):
        others = [other for other in range(codes.ndim) if other != dim]
        present = (defined.any(others) if others else defined).nonzero().flatten()
        low, high = int(present[0]), int(present[-1])
        codes, defined = (t.narrow(dim, low, high - low + 1) for t in (codes, defined))
        lows.append(low)
    return CellBox(codes, lows)


def _factors(box: Tensor) -> dict[int, list[AxisFactor]] | None:
    """Factor codes into loops along each dimension; None if they are no sum of such loops."""
    origin = box.flatten()[0]
    total = torch.zeros_like(origin)
    factors: dict[int, list[AxisFactor]] = {}
    for dim in range(box.ndim):
        line = cell_codes.line_along(box, dim) - origin
        total = total + cell_codes.broadcast_line(line, dim, box.ndim)
        of_line = _factors_of_line(line.tolist()) if box.shape[dim] > 1 else []
        if of_line is None:
            return None
        factors[dim] = of_line
    return factors if torch.equal((total + origin).expand(box.shape), box) else None


def _factors_of_line(line: Sequence[int]) -> list[AxisFactor] | None:
    """Factor a sequence into loops, the slowest first: 0 0 1 1 is (1, 2), (0, 2)."""
    if len(line) == 1:
        return []
    step, run = line[1] - line[0], 1
    while run < len(line) and line[run] - line[run - 1] == step:
        run += 1
    if len(line) % run:
        return None
    for start in range(0, len(line), run):
        if any(line[start + i] - line[start] != i * step for i in range(run)):
            return None
    slower = _factors_of_line(line[::run])
    return None if slower is None else [*slower, AxisFactor(step, run)]


def _runs(factors: Mapping[int, list[AxisFactor]]) -> dict[str, AxisRun] | None:
    """Return the run of the images and of each direction; None if one is along several dimensions."""
    runs: dict[str, AxisRun] = {}
    for dim, of_dim in factors.items():
        found = _runs_of_dim(dim, of_dim)
        if found is None or any(coordinate in runs for coordinate in found):
            return None
        runs |= found
    if len({run.repeats for coordinate, run in runs.items() if coordinate != IMAGE}) > 1:
        return None
    return runs


def _runs_of_dim(dim: int, factors: Sequence[AxisFactor]) -> dict[str, AxisRun] | None:
    """Return the runs along one dimension; None if it holds no whole direction.

    Notes
    -----
    A factor of step 0 after a direction is depth to space, or a repetition of cells: a finer direction. Both
    directions must have the same one: units that were merged with rows give such a factor along one of them.
    """
    runs: dict[str, AxisRun] = {}
    last: str | None = None
    if len(factors) == 1 and factors[0].step == 0:
        return runs
    if any(cell_codes.step_coordinate(factor.step) == IMAGE for factor in factors if factor.step):
        moving = [factor for factor in factors if factor.step]
        return {IMAGE: AxisRun(dim, 0, 0, 1)} if len(moving) == 1 else None  # several: for each head, say
    for step, length in factors:
        if step == 0:
            if last is None or runs[last].repeats > 1:
                return None
            runs[last] = runs[last]._replace(repeats=length)
            continue
        coordinate = cell_codes.step_coordinate(step)
        stride = cell_codes.step_length(step, coordinate) if coordinate else 0
        if coordinate is None or coordinate in runs or stride < 1:
            return None
        runs[coordinate], last = AxisRun(dim, length, stride, 1), coordinate
    return runs


def _aligned_grid(grid: CellGrid, runs: Mapping[str, AxisRun], box: CellBox, shape: Sequence[int]) -> CellGrid:
    """Return the grid of cells along the dimensions of the directions, from end to end."""
    dims = [run.dim for run in runs.values()]
    lengths, axes, enlarged = {}, {}, []
    origin = box.codes.flatten()[0]
    for direction in DIRECTIONS:
        start = int(cell_codes.decode(origin, direction))
        if not start:
            continue
        run = runs.get(direction, AxisRun(-1, 1, 1, 1))
        axis = grid.axis(direction).window(kernel=1, stride=run.stride, padding=1 - start)
        if run.repeats > 1:
            axis = axis.resampled(1 / run.repeats)
            enlarged.append(direction)
        alone = dims.count(run.dim) == 1
        lengths[direction] = shape[run.dim] if alone else run.cells * run.repeats
        axes[direction] = axis.window(kernel=1, padding=box.lows[run.dim] if alone else 0)
    return grid.changed(lengths, axes, enlarged)


def _aligned_codes(
    shape: Sequence[int],
    grid: CellGrid,
    runs: Mapping[str, AxisRun],
    factors: Mapping[int, Sequence[AxisFactor]],
    box: CellBox,
) -> Tensor:
    """Return codes that count along the dimensions of the images and the directions, from end to end."""
    device, ndim = box.codes.device, len(shape)
    total = torch.zeros([1] * ndim, dtype=torch.int64, device=device)
    known = torch.ones([1] * ndim, dtype=torch.bool, device=device)
    for dim in {run.dim for run in runs.values()}:
        coordinates = [coordinate for coordinate, run in runs.items() if run.dim == dim]
        if coordinates == [IMAGE]:
            total = total + cell_codes.broadcast_line(
                cell_codes.image_part(cell_codes.line_along(box.codes, dim)), dim, ndim
            )
        elif len(coordinates) == 1:
            total = total + cell_codes.broadcast_line(
                torch.arange(1, shape[dim] + 1, device=device), dim, ndim, coordinates[0]
            )
        else:
            start = box.lows[dim]
            line = torch.zeros(shape[dim], dtype=torch.int64, device=device)
            line[start : start + box.codes.shape[dim]] = _token_codes(factors[dim], grid, device)
            total = total + cell_codes.broadcast_line(line, dim, ndim)
            known = known & cell_codes.broadcast_line(line != 0, dim, ndim)
    if IMAGE not in runs:
        total = total + cell_codes.image_part(box.codes.flatten()[0])
    return torch.where(known, total, cell_codes.image_part(total)).expand(tuple(shape))


def _token_codes(factors: Sequence[AxisFactor], grid: CellGrid, device: torch.device) -> Tensor:
    """Return the codes of a grid's cells along one dimension of tokens, rows or columns slowest as in its factors."""
    rows, columns = (
        cell_codes.encode(torch.arange(1, grid.length(direction) + 1, device=device), direction)
        for direction in DIRECTIONS
    )
    rows_first = cell_codes.step_coordinate(next(factor.step for factor in factors if factor.step)) == VERTICAL
    codes = rows[:, None] + columns[None, :] if rows_first else columns[:, None] + rows[None, :]
    return codes.flatten()
