"""From which cell of the image each element of a tensor comes.

A tensor that is computed from the image has one code for each of its elements (`cell_codes`) and a grid of cells to
which the codes refer (`cell_grid`). An operation that only moves elements (view, permute, roll, gather) is applied to
the codes themselves, so that nothing about it has to be known. An operation that mixes elements (convolution, pooling,
sums) needs a rule (`ops`), which makes a new grid with other receptive fields.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from netdissect.models.receptive_field import cell_codes
from netdissect.models.receptive_field.alignment import align
from netdissect.models.receptive_field.axis import ReceptiveField, ReceptiveFieldAxis
from netdissect.models.receptive_field.cell_codes import HORIZONTAL, IMAGE, VERTICAL
from netdissect.models.receptive_field.cell_grid import CellGrid


@dataclass(frozen=True)
class UnknownLayout:
    """A tensor was computed from the image, but it is not known from where each element comes.

    Attributes
    ----------
    reason
        Where the trace ended: at which operation, for example.
    """

    reason: str


@dataclass(frozen=True, eq=False)
class SpatialLayout:
    """From where on the image the elements of a tensor come.

    Attributes
    ----------
    codes : int64, of the tensor's shape
        Image, row and column of each element.
    grid
        The cells to which rows and columns of the codes refer.
    is_gate
        Output of a sigmoid or softmax: the tensor that it multiplies keeps its own field.
    image_level
        Pooled over the whole map, or taken from tokens without a cell. Such a branch does not count where branches
        meet.
    pairwise
        Each element is about two cells, as in an attention matrix; the codes are those of the first.
    """

    codes: Tensor
    grid: CellGrid
    is_gate: bool = False
    image_level: bool = False
    pairwise: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return tuple(self.codes.shape)

    @cached_property
    def has_cells(self) -> bool:
        """Whether any element has a row or a column."""
        return bool(cell_codes.cell_part(cell_codes.unexpanded(self.codes)).any())

    def has(self, coordinate: str) -> bool:
        """Tell whether any element has this coordinate."""
        return bool(cell_codes.decode(cell_codes.unexpanded(self.codes), coordinate).any())

    def varies(self, dim: int) -> bool:
        """Tell whether elements along a dimension come from different cells."""
        return not cell_codes.is_constant(cell_codes.cell_part(cell_codes.unexpanded(self.codes)), dim)

    def images_differ(self, dim: int) -> bool:
        """Tell whether elements along a dimension come from different images."""
        images = cell_codes.decode(cell_codes.unexpanded(self.codes), IMAGE)
        return bool((images != images.narrow(dim, 0, 1)).any())

    def with_codes(self, codes: Tensor) -> "SpatialLayout":
        """Return the layout of a tensor that is made of elements of this one."""
        after = replace(self, codes=codes)
        return replace(after, image_level=True) if self.has_cells and not after.has_cells else after

    @cached_property
    def aligned(self) -> "AlignedLayout | None":
        """The same layout with each direction in order along one dimension; None if that is not so."""
        found = align(self.codes, self.grid, has_cells=self.has_cells)
        return found and AlignedLayout(replace(self, codes=found.codes, grid=found.grid), found.dims)


@dataclass(frozen=True)
class AlignedLayout:
    """A layout in which each direction fills one dimension in order.

    Attributes
    ----------
    layout
        Codes count from 1 along each direction. Cropping, padding, strides and repetition are part of the grid.
    dims
        Dimension of the images and of each direction. Both directions have the same one where cells are tokens.
    """

    layout: SpatialLayout
    dims: Mapping[str, int]


def image_layout(images: Tensor) -> SpatialLayout:
    """Return the layout of an input batch (B, C, H, W): each pixel is its own cell."""
    rows, columns = images.shape[2:]
    grid = CellGrid(rows, columns, ReceptiveField(ReceptiveFieldAxis(0, 1, 1), ReceptiveFieldAxis(0, 1, 1)))
    return SpatialLayout(
        cell_codes.codes_along(images.shape, {IMAGE: 0, VERTICAL: 2, HORIZONTAL: 3}, images.device), grid
    )
