"""Where on the image each element of a tensor lies.

A tensor that is computed from the image has codes of the same shape: of each element, from which image of the batch
and from which row and column of a grid of cells it comes. What moves elements (view, permute, roll, gather, windows)
is done to the codes by the very same operation, so that nothing about it has to be known; what mixes them
(convolution, pooling, sums) needs rules, which make a new grid with other receptive fields.

A code is one integer of three fields, image, row and column, each counted from 1; 0 says that an element has none:
a parameter, a class token, padding, or a mean over that direction. Dimensions along which all elements agree, as
units do, have stride 0 and take no memory.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from netdissect.models.receptive_field.axis import ReceptiveField, ReceptiveFieldAxis

IMAGE, VERTICAL, HORIZONTAL = "image", "vertical", "horizontal"
DIRECTIONS = (VERTICAL, HORIZONTAL)

_BITS = 20
_FIELD = (1 << _BITS) - 1
_SHIFT = {IMAGE: 2 * _BITS, VERTICAL: _BITS, HORIZONTAL: 0}
_CELL = (1 << 2 * _BITS) - 1
_NOWHERE = _FIELD + 1  # above every coordinate


@dataclass(frozen=True, slots=True)
class CellGrid:
    """The cells that codes speak of.

    Attributes
    ----------
    rows, columns
        How many there are; 1 where a direction was pooled as a whole.
    field
        Their receptive fields.
    enlarged
        Directions that were interpolated: they do not decide where branches meet.
    """

    rows: int
    columns: int
    field: ReceptiveField
    enlarged: frozenset[str] = frozenset()

    def length(self, kind: str) -> int:
        """Return the number of cells along a direction."""
        return self.rows if kind == VERTICAL else self.columns

    def axis(self, kind: str) -> ReceptiveFieldAxis:
        """Return the receptive fields along a direction."""
        return self.field.vertical if kind == VERTICAL else self.field.horizontal

    def changed(
        self, lengths: Mapping[str, int], axes: Mapping[str, ReceptiveFieldAxis], enlarged: Iterable[str] = ()
    ) -> "CellGrid":
        """Return the grid with other cells along some directions."""
        return CellGrid(
            lengths.get(VERTICAL, self.rows),
            lengths.get(HORIZONTAL, self.columns),
            ReceptiveField(axes.get(VERTICAL, self.field.vertical), axes.get(HORIZONTAL, self.field.horizontal)),
            self.enlarged | frozenset(enlarged),
        )


@dataclass(frozen=True)
class Lost:
    """Says that a tensor was computed from the image, but not from where each element comes.

    Attributes
    ----------
    reason
        What its way was lost at.
    """

    reason: str


@dataclass(frozen=True, eq=False)
class SpatialLayout:
    """How a tensor lies over the image.

    Attributes
    ----------
    codes : int64, of the tensor's shape
        From where each element comes.
    grid
        What rows and columns of the codes mean.
    gate
        Output of a sigmoid or softmax: what it multiplies keeps its own field.
    whole
        Pooled over the whole map, or taken from tokens without a cell: does not count where branches meet.
    pairs
        Each element is about two cells, as in an attention matrix; the codes are of the first.
    """

    codes: Tensor
    grid: CellGrid
    gate: bool = False
    whole: bool = False
    pairs: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return tuple(self.codes.shape)

    @cached_property
    def spread(self) -> bool:
        """Whether its elements come from different cells."""
        return bool((compact(self.codes) & _CELL).any())

    def has(self, kind: str) -> bool:
        """Tell whether any element has a coordinate of this kind."""
        return bool(coordinate(compact(self.codes), kind).any())

    def varies(self, dim: int) -> bool:
        """Tell whether elements along a dimension come from different cells."""
        return not _constant(compact(self.codes) & _CELL, dim)

    def moved(self, codes: Tensor) -> "SpatialLayout":
        """Return the place of elements of this tensor that now lie elsewhere in another."""
        after = replace(self, codes=codes)
        return replace(after, whole=True) if self.spread and not after.spread else after

    @cached_property
    def settled(self) -> "Settled | None":
        """The same place with every direction in one dimension from end to end; None if that is not so."""
        return _settle(self)


@dataclass(frozen=True)
class Settled:
    """A place whose directions each fill one dimension in order.

    Attributes
    ----------
    place
        Codes count from 1 along each direction: what was cropped, padded, strided or repeated is part of the grid.
    dims
        Dimension of the images and of each direction; both directions have the same one where cells are tokens.
    """

    place: SpatialLayout
    dims: Mapping[str, int]


def image_place(images: Tensor) -> SpatialLayout:
    """Return the place of an input batch (B, C, H, W): every pixel sees itself."""
    rows, columns = images.shape[2:]
    grid = CellGrid(rows, columns, ReceptiveField(ReceptiveFieldAxis(0, 1, 1), ReceptiveFieldAxis(0, 1, 1)))
    return SpatialLayout(codes_along(images.shape, {IMAGE: 0, VERTICAL: 2, HORIZONTAL: 3}, images.device), grid)


def codes_along(shape: Sequence[int], dims: Mapping[str, int], device: torch.device) -> Tensor:
    """Return codes that count along one dimension for each kind of coordinate; a direction of length 1 has none."""
    codes = torch.zeros([1] * len(shape), dtype=torch.int64, device=device)
    for kind, dim in dims.items():
        if shape[dim] > 1 or kind == IMAGE:
            codes = codes + _along(torch.arange(1, shape[dim] + 1, device=device), dim, len(shape), kind)
    return codes.expand(*shape)


def coordinate(codes: Tensor, kind: str) -> Tensor:
    """Return the image, row or column of codes, from 1; 0 where there is none."""
    return (codes >> _SHIFT[kind]) & _FIELD


def without_cells(codes: Tensor) -> Tensor:
    """Return codes that say only from which image an element comes."""
    return codes & ~_CELL


def compact(codes: Tensor) -> Tensor:
    """Return the codes with length 1 along dimensions on which they do not depend."""
    strides = zip(codes.stride(), codes.shape, strict=True)
    return codes[tuple(slice(0, 1) if stride == 0 and size > 1 else slice(None) for stride, size in strides)]


def compacted(codes: Tensor) -> Tensor:
    """Return equal codes with stride 0 along every dimension on which they do not depend."""
    small = compact(codes)
    for dim in range(small.ndim):
        if small.shape[dim] > 1 and _constant(small, dim):
            small = small.narrow(dim, 0, 1)
    return small.expand(codes.shape)


def joined_codes(one: Tensor, other: Tensor) -> Tensor | None:
    """Return what both codes say together, both of one shape; None if they contradict each other."""
    if one is other:
        return one
    shape = one.shape
    one, other = compact(one), compact(other)
    for kind in _SHIFT:
        mine, yours = coordinate(one, kind), coordinate(other, kind)
        if ((mine != yours) & (mine != 0) & (yours != 0)).any():
            return None
    return (one | other).expand(shape)


def reduced(place: SpatialLayout, dims: Collection[int], *, keep: bool) -> SpatialLayout | None:
    """Follow a sum, mean or maximum over some dimensions; with `keep` they stay, with length 1.

    Notes
    -----
    Each result sees the rows and columns from the first to the last of what went into it. These windows are the cells
    of a new grid if they are equally large and evenly spaced: a map that was cut into (h, 2, w, 2) and
    averaged over the twos was pooled with kernel and stride 2. None if they are not.
    """
    dims = sorted(dim % place.codes.ndim for dim in dims)
    codes = compact(place.codes)
    mixed = [dim for dim in dims if codes.shape[dim] > 1]
    if not mixed:
        return place.moved(_dropped(place.codes, dims, keep=keep))
    images = coordinate(codes, IMAGE)
    first, last = _extent(images, mixed)
    if (first != last).any():
        return None  # over the batch
    total = last << _SHIFT[IMAGE]
    lengths, axes = {}, {}
    for kind in DIRECTIONS:
        window = _windows(coordinate(codes, kind), mixed, place.grid.length(kind))
        if window is None:
            return None
        labels, size, start, stride, count = window
        total = total | (labels << _SHIFT[kind])
        if count:
            lengths[kind] = count
            axes[kind] = place.grid.axis(kind).window(kernel=size, stride=stride, padding=-start)
    shape = [1 if dim in dims else length for dim, length in enumerate(place.shape)]
    after = replace(place, grid=place.grid.changed(lengths, axes)).moved(_dropped(total.expand(shape), dims, keep=keep))
    return replace(after, whole=place.whole or (place.spread and not after.spread))


def without_wrap(place: SpatialLayout) -> SpatialLayout:
    """Return the place without cells that a circular padding repeats beyond the opposite edge."""
    codes = whole = compact(place.codes)
    for kind in DIRECTIONS:
        values = coordinate(whole, kind)
        dim, cells = _only_dim(values), place.grid.length(kind)
        if dim is None or dim < 0:
            continue
        line = _line(values, dim)
        around = (cells - int(line[0]) + 1) % cells  # repeated before the first cell
        expected = (torch.arange(len(line), device=line.device) - around) % cells + 1
        if torch.equal(line, expected) and len(line) > cells:
            inside = torch.zeros_like(line, dtype=torch.bool)
            inside[around : around + cells] = True
            codes = torch.where(_along(inside, dim, codes.ndim), codes, without_cells(codes))
    return place if codes is whole else replace(place, codes=codes.expand(place.shape))


def images_over(place: SpatialLayout, dims: Sequence[int]) -> Tensor | None:
    """Return codes of the image alone that all elements over some dimensions share, with length 1 there; None: none."""
    codes = without_cells(place.codes)
    high = codes.amax(tuple(dims), keepdim=True)
    return None if ((codes != high) & (codes != 0)).any() else high


def meet(places: Sequence[SpatialLayout], *, gates: bool = False, settle: bool = True) -> SpatialLayout | None:
    """Return the place where branches of one shape meet; None if they lie differently.

    Parameters
    ----------
    places
        At least one.
    gates
        The branches are multiplied: those that are gates do not count.
    settle
        Branches whose codes contradict each other may still have the same rows and columns, such as a map and
        one that was cropped to its size.

    Notes
    -----
    Whatever was pooled over the whole map, or has one cell where others have many, does not count. In each
    direction, branches that were enlarged do not decide where another was not; of those left the largest field gives
    step and center (on a tie the first), and the size is the largest of all.
    """
    if len(places) == 1:
        return places[0]
    counted = [place for place in places if place.spread and not place.whole]
    counted = counted or [place for place in places if not place.whole] or list(places)
    if gates:
        counted = [place for place in counted if not place.gate] or counted
    together = _together(counted)
    if together is None:
        counted = _finest(counted)
        together = _together(counted)
    if together is None and settle and len({place.grid for place in counted}) == 1:
        return _seen_together(counted)
    if together is None and settle:
        settled = [one for place in counted if (one := place.settled)]
        if len(settled) < len(counted) or any(one.dims != settled[0].dims for one in settled):
            return None
        counted = [one.place for one in settled]
        together = _together(counted)
    if together is None:
        return None
    grid = _met_grid(counted)
    if grid is None:
        return None
    for place in places:  # those that do not count may still know from which image
        together = _if_possible(together, without_cells(place.codes))
    first = counted[0]
    return SpatialLayout(
        together,
        grid,
        gate=all(place.gate for place in counted),
        whole=all(place.whole for place in counted),
        pairs=any(place.pairs for place in counted) or first.pairs,
    )


def _together(places: Sequence[SpatialLayout]) -> Tensor | None:
    for kind in DIRECTIONS:
        if len({place.grid.length(kind) for place in places if place.has(kind)}) > 1:
            return None
    codes: Tensor | None = places[0].codes
    for place in places[1:]:
        codes = joined_codes(codes, place.codes) if codes is not None else None
    return codes


def _seen_together(places: Sequence[SpatialLayout]) -> SpatialLayout | None:
    """Follow a sum of cells that lie side by side, such as even and odd rows: each result sees a window of them."""
    shape = places[0].shape
    alike = [dim for dim in range(len(shape)) if all(place.codes.stride(dim) == 0 for place in places)]
    codes = torch.stack([_dropped(place.codes, alike, keep=True) for place in places], -1)
    seen = reduced(replace(places[0], codes=codes, gate=all(place.gate for place in places)), [-1], keep=False)
    if seen is None:
        return None
    for kind in DIRECTIONS:
        before, after = places[0].grid.axis(kind), seen.grid.axis(kind)
        if after.size > before.size + 2 * before.step:
            return None  # they lie far apart: nothing is seen at the center
    return replace(seen, codes=seen.codes.expand(shape))


def _finest(places: Sequence[SpatialLayout]) -> list[SpatialLayout]:
    """Leave out what does not vary along dimensions where another does, such as a mean over a window."""
    varied = [frozenset(dim for dim in range(len(place.shape)) if place.varies(dim)) for place in places]
    return [place for place, dims in zip(places, varied, strict=True) if not any(dims < other for other in varied)]


def _if_possible(codes: Tensor, more: Tensor) -> Tensor:
    joined = joined_codes(codes, more)
    return codes if joined is None else joined


def _met_grid(places: Sequence[SpatialLayout]) -> CellGrid | None:
    """Return the grid of branches with the same cells; None if they lie apart, as halves of a map do."""
    grid = places[0].grid
    lengths, axes, enlarged = {}, {}, set()
    for kind in DIRECTIONS:
        grids = [place.grid for place in places if place.has(kind)] or [place.grid for place in places]
        deciding = [one for one in grids if kind not in one.enlarged]
        if not deciding:
            enlarged.add(kind)
        base = max(deciding or grids, key=lambda one: one.axis(kind).size)
        if any(_apart(one.axis(kind), base.axis(kind), base.length(kind)) for one in grids):
            return None
        lengths[kind] = base.length(kind)
        axes[kind] = base.axis(kind).widened(max(one.axis(kind).size for one in grids))
    return replace(grid, enlarged=frozenset()).changed(lengths, axes, enlarged)


def _apart(one: ReceptiveFieldAxis, other: ReceptiveFieldAxis, cells: int) -> bool:
    """Tell whether the same cells lie more than two steps apart, and each outside of what the other sees.

    Paddings and resizing move cells by less: HRNet adds maps that were enlarged eightfold and lie 3.5 steps aside.
    """
    far = max(2 * one.step, 2 * other.step, one.size / 2, other.size / 2)
    return cells > 1 and any(abs(one.center(cell) - other.center(cell)) > far for cell in (0, cells - 1))


def _settle(place: SpatialLayout) -> Settled | None:
    codes = compact(place.codes)
    if not place.spread:
        dim = _only_dim(coordinate(codes, IMAGE))
        return None if dim is None else Settled(place, {IMAGE: dim} if dim >= 0 else {})
    box, lows = _defined_box(codes)
    if ((box & _CELL) == 0).any():
        return None
    origin = box.flatten()[0]
    total = torch.zeros_like(origin)
    parts: dict[int, list[tuple[int, int]]] = {}
    for dim in range(box.ndim):
        line = _line(box, dim) - origin
        total = total + _along(line, dim, box.ndim)
        atoms = _atoms(line.tolist()) if box.shape[dim] > 1 else []
        if atoms is None:
            return None
        parts[dim] = atoms
    if not torch.equal((total + origin).expand(box.shape), box):
        return None
    return _rebuilt(place, parts, box, lows)


def _rebuilt(
    place: SpatialLayout, parts: Mapping[int, list[tuple[int, int]]], box: Tensor, lows: Sequence[int]
) -> Settled | None:
    """Lay codes anew along the dimensions that were found to be a direction, or tokens, from end to end."""
    ndim, device, sizes = box.ndim, box.device, box.shape
    origin = int(box.flatten()[0])
    runs: dict[str, tuple[int, int, int, int]] = {}  # direction -> dimension, cells, step, repeats
    dims: dict[str, int] = {}
    for dim, atoms in parts.items():
        found = _runs(atoms)
        if found is None or any(kind in dims for kind in found):
            return None
        for kind, run in found.items():
            dims[kind] = dim
            if kind != IMAGE:
                runs[kind] = (dim, *run)
    if len({repeats for _, _, _, repeats in runs.values()}) > 1:
        return None
    lengths, axes, enlarged = {}, {}, []
    for kind in DIRECTIONS:
        start = int(coordinate(torch.tensor(origin), kind))
        if not start:
            continue
        dim, cells, step, repeats = runs.get(kind, (-1, 1, 1, 1))
        axis = place.grid.axis(kind).window(kernel=1, stride=step, padding=1 - start)
        if repeats > 1:
            axis = axis.resampled(1 / repeats)
            enlarged.append(kind)
        alone = (
            dim >= 0
            and (kind == VERTICAL or dims.get(VERTICAL) != dim)
            and (dims.get(HORIZONTAL) != dim or kind == HORIZONTAL)
        )
        before = lows[dim] if alone else 0
        lengths[kind] = place.shape[dim] if alone else cells * repeats
        axes[kind] = axis.window(kernel=1, padding=before)
    grid = place.grid.changed(lengths, axes, enlarged)
    shape = [length if dim in dims.values() else 1 for dim, length in enumerate(place.shape)]
    total = torch.zeros([1] * ndim, dtype=torch.int64, device=device)
    known = torch.ones([1] * ndim, dtype=torch.bool, device=device)
    for dim in set(dims.values()):
        kinds = [kind for kind, where in dims.items() if where == dim]
        if kinds == [IMAGE]:
            total = total + _along(without_cells(_line(box, dim)), dim, ndim)
        elif len(kinds) == 1:
            total = total + _along(torch.arange(1, shape[dim] + 1, device=device), dim, ndim, kinds[0])
        else:
            inner = list(range(lows[dim], lows[dim] + sizes[dim]))
            line = torch.zeros(shape[dim], dtype=torch.int64, device=device)
            line[inner] = _token_codes(parts[dim], grid, device)
            total = total + _along(line, dim, ndim)
            known = known & _along(line != 0, dim, ndim)
    if IMAGE not in dims:
        total = total + without_cells(torch.tensor(origin, device=device))
    total = torch.where(known, total, without_cells(total))
    return Settled(replace(place, codes=total.expand(place.shape), grid=grid), dims)


def _token_codes(atoms: Sequence[tuple[int, int]], grid: CellGrid, device: torch.device) -> Tensor:
    rows, columns = (torch.arange(1, grid.length(kind) + 1, device=device) << _SHIFT[kind] for kind in DIRECTIONS)
    rows_first = _kind(next(step for step, _ in atoms if step)) == VERTICAL
    codes = rows[:, None] + columns[None, :] if rows_first else columns[:, None] + rows[None, :]
    return codes.flatten()


def _runs(atoms: Sequence[tuple[int, int]]) -> dict[str, tuple[int, int, int]] | None:
    """Read the factors of one dimension: for each kind its cells, step and repeats; None if it is no whole direction.

    Notes
    -----
    An anonymous factor behind a direction is depth to space, or a repetition of cells: a finer direction. It has to
    be there for both directions alike: units that were merged with rows look like it for one.
    """
    found: dict[str, tuple[int, int, int]] = {}
    last: str | None = None
    if len(atoms) == 1 and atoms[0][0] == 0:
        return found
    if any(_kind(step) == IMAGE for step, _ in atoms if step):
        several = [step for step, _ in atoms if step]
        return {IMAGE: (0, 0, 1)} if len(several) == 1 else None  # for each head, say
    for step, length in atoms:
        if step == 0:
            if last is None or found[last][2] > 1:
                return None
            cells, stride, _ = found[last]
            found[last] = (cells, stride, length)
            continue
        kind = _kind(step)
        stride = step >> _SHIFT[kind] if kind else 0
        if kind is None or kind in found or stride < 1:
            return None
        found[kind], last = (length, stride, 1), kind
    return found


def _kind(step: int) -> str | None:
    """Tell along which one coordinate a step between codes leads; None: along several."""
    size = abs(step)
    if size <= _FIELD >> 1:
        return HORIZONTAL
    if size % (1 << _BITS) == 0 and size >> _BITS <= _FIELD >> 1:
        return VERTICAL
    return IMAGE if size % (1 << 2 * _BITS) == 0 else None


def _atoms(line: Sequence[int]) -> list[tuple[int, int]] | None:
    """Factor a sequence into steps and lengths, the slowest first: 0 0 1 1 is (1, 2), (0, 2)."""
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
    slower = _atoms(line[::run])
    return None if slower is None else [*slower, (step, run)]


def _windows(values: Tensor, dims: Sequence[int], length: int) -> tuple[Tensor, int, int, int, int] | None:
    """Return windows over dimensions: labels from 1, size, first, stride and number of them; None if uneven."""
    low, high = _extent(values, dims)
    defined = high > 0
    if not defined.any():
        return low, 1, 0, 1, 0
    span = high - low + 1
    size = int(span[defined].max())
    # A window that reaches beyond the map is cut there.
    low = torch.where((span < size) & (low == 1) & (high < length), high - size + 1, low)
    span = high - low + 1
    if (defined & (span < size) & (high < length)).any():
        return None
    counted = evenly_spaced(low[defined])
    if counted is None:
        return None
    start, stride, count = counted
    if count == 1:
        stride = size  # as the one cell of a map that was pooled as a whole
    labels = torch.where(defined, (low - start) // stride + 1, 0)
    return labels if count > 1 else torch.zeros_like(labels), size, start - 1, stride, count


def evenly_spaced(values: Tensor) -> tuple[int, int, int] | None:
    """Return the first coordinate, the step and the number of different ones; None if they are not evenly spaced."""
    found = torch.unique(values).tolist()
    steps = {after - before for before, after in pairwise(found)}
    if len(steps) > 1:
        return None
    return (found[0], steps.pop() if steps else 1, len(found)) if found else (0, 1, 0)


def _extent(values: Tensor, dims: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest coordinate over dimensions; 0 and 0 where there is none."""
    high = values.amax(tuple(dims), keepdim=True)
    low = torch.where(values > 0, values, _NOWHERE).amin(tuple(dims), keepdim=True)
    return torch.where(high > 0, low, 0), high


def _dropped(codes: Tensor, dims: Sequence[int], *, keep: bool) -> Tensor:
    for dim in sorted(dims, reverse=True):
        codes = codes.narrow(dim, 0, 1) if keep else codes.select(dim, 0)
    return codes


def _defined_box(codes: Tensor) -> tuple[Tensor, list[int]]:
    """Crop codes to where there are cells; return where the box begins along each dimension, too."""
    lows = []
    defined = (codes & _CELL) != 0
    for dim in range(codes.ndim):
        others = [other for other in range(codes.ndim) if other != dim]
        present = (defined.any(others) if others else defined).nonzero().flatten()
        low, high = int(present[0]), int(present[-1])
        codes, defined = (t.narrow(dim, low, high - low + 1) for t in (codes, defined))
        lows.append(low)
    return codes, lows


def _only_dim(values: Tensor) -> int | None:
    """Return the dimension along which values vary; -1: none; None: several."""
    varying = [dim for dim in range(values.ndim) if not _constant(values, dim)]
    return -1 if not varying else varying[0] if len(varying) == 1 else None


def _constant(values: Tensor, dim: int) -> bool:
    if values.shape[dim] <= 1:
        return True
    return bool((values == values.narrow(dim, 0, 1)).all())


def _line(codes: Tensor, dim: int) -> Tensor:
    return codes[tuple(slice(None) if other == dim else 0 for other in range(codes.ndim))]


def _along(line: Tensor, dim: int, ndim: int, kind: str = HORIZONTAL) -> Tensor:
    """Lay coordinates along one dimension of many, at the bits of their kind."""
    shape = [1] * ndim
    shape[dim] = -1
    return (line << _SHIFT[kind] if _SHIFT[kind] else line).reshape(shape)
