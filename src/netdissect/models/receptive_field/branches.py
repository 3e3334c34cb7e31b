"""The layout of a result where branches of a network meet: sums, products and concatenations of maps."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from netdissect.models.receptive_field import cell_codes
from netdissect.models.receptive_field.axis import ReceptiveFieldAxis
from netdissect.models.receptive_field.cell_codes import DIRECTIONS
from netdissect.models.receptive_field.cell_grid import CellGrid
from netdissect.models.receptive_field.reduction import reduce_dims
from netdissect.models.receptive_field.spatial_layout import SpatialLayout


def merge_branches(
    branches: Sequence[SpatialLayout], *, multiplied: bool = False, align: bool = True
) -> SpatialLayout | None:
    """Return the layout where branches of one shape meet; None if their cells differ.

    Parameters
    ----------
    branches
        At least one.
    multiplied
        The branches are multiplied: gates among them do not count.
    align
        Branches whose codes contradict each other may still have the same rows and columns, such as a map and another
        that was cropped to its size.

    Notes
    -----
    A branch does not count if it was pooled over the whole map, or has one cell where others have many. In each
    direction, enlarged branches do not decide where another was not enlarged. Of those left, the one with the largest
    field gives step and center (on a tie the first), and the size is the largest of all.
    """
    if len(branches) == 1:
        return branches[0]
    counted = _counted(branches, multiplied=multiplied)
    codes = _combined_codes(counted)
    if codes is None:
        counted = _finest(counted)
        codes = _combined_codes(counted)
    if codes is None and align and len({branch.grid for branch in counted}) == 1:
        return _neighboring_cells(counted)
    if codes is None and align:
        aligned = [one for branch in counted if (one := branch.aligned)]
        if len(aligned) < len(counted) or any(one.dims != aligned[0].dims for one in aligned):
            return None
        counted = [one.layout for one in aligned]
        codes = _combined_codes(counted)
    grid = None if codes is None else merge_grids(counted)
    if codes is None or grid is None:
        return None
    for branch in branches:  # those that do not count may still know from which image
        more = cell_codes.combine(codes, cell_codes.image_part(branch.codes))
        codes = codes if more is None else more
    return SpatialLayout(
        codes,
        grid,
        is_gate=all(branch.is_gate for branch in counted),
        image_level=all(branch.image_level for branch in counted),
        pairwise=any(branch.pairwise for branch in counted),
    )


def merge_grids(branches: Sequence[SpatialLayout]) -> CellGrid | None:
    """Return the grid of branches with the same cells; None if the cells are apart, as those of two halves of a map."""
    lengths, axes, enlarged = {}, {}, set()
    for direction in DIRECTIONS:
        grids = [branch.grid for branch in branches if branch.has(direction)] or [branch.grid for branch in branches]
        deciding = [grid for grid in grids if direction not in grid.enlarged]
        if not deciding:
            enlarged.add(direction)
        base = max(deciding or grids, key=lambda grid: grid.axis(direction).size)
        if any(_apart(grid.axis(direction), base.axis(direction), base.length(direction)) for grid in grids):
            return None
        lengths[direction] = base.length(direction)
        axes[direction] = base.axis(direction).widened(max(grid.axis(direction).size for grid in grids))
    return replace(branches[0].grid, enlarged=frozenset()).changed(lengths, axes, enlarged)


def _counted(branches: Sequence[SpatialLayout], *, multiplied: bool) -> list[SpatialLayout]:
    """Return the branches that decide the layout of the result."""
    counted = [branch for branch in branches if branch.has_cells and not branch.image_level]
    counted = counted or [branch for branch in branches if not branch.image_level] or list(branches)
    if multiplied:
        counted = [branch for branch in counted if not branch.is_gate] or counted
    return counted


def _combined_codes(branches: Sequence[SpatialLayout]) -> Tensor | None:
    """Return the codes on which all branches agree; None: they contradict each other, or have grids of other sizes."""
    for direction in DIRECTIONS:
        if len({branch.grid.length(direction) for branch in branches if branch.has(direction)}) > 1:
            return None
    codes: Tensor | None = branches[0].codes
    for branch in branches[1:]:
        codes = cell_codes.combine(codes, branch.codes) if codes is not None else None
    return codes


def _neighboring_cells(branches: Sequence[SpatialLayout]) -> SpatialLayout | None:
    """Return the layout of a sum of neighboring cells, such as even and odd rows: each result sees a window of them."""
    first = branches[0]
    constant = [dim for dim in range(len(first.shape)) if all(branch.codes.stride(dim) == 0 for branch in branches)]
    codes = torch.stack([cell_codes.first_along(branch.codes, constant, keep=True) for branch in branches], -1)
    stacked = replace(first, codes=codes, is_gate=all(branch.is_gate for branch in branches))
    seen = reduce_dims(stacked, [-1], keep=False)
    if seen is None:
        return None
    for direction in DIRECTIONS:
        before, after = first.grid.axis(direction), seen.grid.axis(direction)
        if after.size > before.size + 2 * before.step:
            return None  # they are far apart: nothing is seen at the center
    return replace(seen, codes=seen.codes.expand(first.shape))


def _finest(branches: Sequence[SpatialLayout]) -> list[SpatialLayout]:
    """Leave out branches that do not vary along dimensions where another does, such as a mean over a window."""
    varied = [frozenset(dim for dim in range(len(branch.shape)) if branch.varies(dim)) for branch in branches]
    return [branch for branch, dims in zip(branches, varied, strict=True) if not any(dims < other for other in varied)]


def _apart(one: ReceptiveFieldAxis, other: ReceptiveFieldAxis, cells: int) -> bool:
    """Tell whether the same cells are more than two steps apart, and each outside the field of the other.

    Paddings and resizing move cells by less: HRNet adds maps that were enlarged eightfold and are 3.5 steps apart.
    """
    limit = max(2 * one.step, 2 * other.step, one.size / 2, other.size / 2)
    return cells > 1 and any(abs(one.center(cell) - other.center(cell)) > limit for cell in (0, cells - 1))
