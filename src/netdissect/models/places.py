"""Where the two directions of the picture lie among the dimensions of a tensor.

Networks view, permute, flatten and window their feature maps. To follow them, each dimension is a
product of atoms, most significant first: an atom is a stretch of the vertical ("v") or the horizontal
("h") direction that advances `stride` cells per index, or anonymous (""). A map (1, 8, 14, 14) has
the dimensions (), ("" 8), (v 14), (h 14); flattened to tokens, the last two become one dimension
(v 14, h 14); cut into windows of 7, v becomes (v 2, stride 7) and (v 7, stride 1). Stretches of length 1
have no atom.

Tokens that precede the map (class, registers) make a dimension one opaque "tokens" atom.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from netdissect.models.geometry import Axis, ReceptiveField

VERTICAL, HORIZONTAL, ANONYMOUS, TOKENS = "v", "h", "", "tokens"


class Atom(NamedTuple):
    """A factor of one dimension.

    Attributes
    ----------
    kind
        ``v``, ``h``, anonymous, or ``tokens``: `prefix` tokens, then the cells of `inner`.
    length
        Indices.
    stride
        Cells of the map between neighboring indices.
    prefix, inner
        Of ``tokens`` only.
    """

    kind: str
    length: int
    stride: int = 1
    prefix: int = 0
    inner: tuple["Atom", ...] = ()


Dim = tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """How a tensor lies over the picture.

    Attributes
    ----------
    dims
        Atoms of each dimension.
    field
        Receptive field of its cells.
    gate
        Output of a sigmoid or softmax: what it multiplies keeps its own field.
    whole
        Pooled over the whole map: does not count where branches meet.
    """

    dims: tuple[Dim, ...]
    field: ReceptiveField
    gate: bool = False
    whole: bool = False

    def axis(self, kind: str) -> Axis:
        """Return the vertical or the horizontal axis of the field."""
        return self.field.vertical if kind == VERTICAL else self.field.horizontal

    def stretches(self, kind: str) -> list[Atom]:
        """Return the atoms of one direction, wherever they lie, the finest first."""
        return sorted(_stretches(self.dims, kind), key=lambda atom: atom.stride)

    @property
    def spread(self) -> bool:
        """Whether there is more than one cell."""
        return bool(self.stretches(VERTICAL) or self.stretches(HORIZONTAL))

    def labeled(self, dim: int) -> bool:
        """Tell whether a dimension holds a part of the picture."""
        return _labeled(self.dims[dim])

    def direction(self, dim: int) -> str | None:
        """Return which direction a dimension is, as long as it is exactly that; None otherwise.

        A dimension of length 1 has no atom: the last but one is then vertical and the last horizontal.
        """
        atoms = self.dims[dim]
        if not atoms:
            by_position = {len(self.dims) - 2: VERTICAL, len(self.dims) - 1: HORIZONTAL}.get(dim % len(self.dims))
            return by_position if by_position and not self.stretches(by_position) else None
        kind = atoms[0].kind
        if kind not in (VERTICAL, HORIZONTAL) or self.stretches(kind) != list(atoms):
            return None
        return kind

    def with_axes(self, axes: dict[str, Axis]) -> "Place":
        """Return the same place with other fields."""
        vertical = axes.get(VERTICAL, self.field.vertical)
        return replace(self, field=ReceptiveField(vertical, axes.get(HORIZONTAL, self.field.horizontal)))


def image_place(shape: Sequence[int]) -> Place:
    """Return the place of an input batch (B, C, H, W): every pixel sees itself."""
    batch, channels, height, width = shape
    dims = (plain(batch), plain(channels), stretch(VERTICAL, height), stretch(HORIZONTAL, width))
    return Place(dims, ReceptiveField(Axis(0, 1, 1), Axis(0, 1, 1)))


def plain(length: int) -> Dim:
    """Return a dimension that holds no part of the picture."""
    return stretch(ANONYMOUS, length)


def stretch(kind: str, length: int) -> Dim:
    """Return a dimension that is one direction from end to end."""
    return (Atom(kind, length),) if length != 1 else ()


def length_of(dim: Dim) -> int:
    """Return how many indices a dimension has."""
    return math.prod(atom.length for atom in dim)


def viewed(place: Place, shape: Sequence[int]) -> Place | None:
    """Follow a view, flatten, squeeze or unsqueeze: the same elements in the same order, other dimensions."""
    pending = list(_merged([atom for dim in place.dims for atom in dim]))
    dims = []
    for length in shape:
        taken = _take(pending, length)
        if taken is None:
            return None
        dims.append(_merged(taken))
    return replace(place, dims=tuple(dims))


def permuted(place: Place, order: Sequence[int]) -> Place:
    """Follow a permutation: new dimension i is old dimension ``order[i]``."""
    return replace(place, dims=tuple(place.dims[dim] for dim in order))


def fitted(place: Place, shape: Sequence[int]) -> Place | None:
    """Return the place of a result of this shape that was computed cell by cell; None if cells were not kept."""
    more = len(shape) - len(place.dims)
    if more < 0:
        return None
    dims = [plain(length) for length in shape]
    for dim, atoms in enumerate(place.dims, more):
        if length_of(atoms) == shape[dim]:
            dims[dim] = atoms
        elif _labeled(atoms):
            return None
    return replace(place, dims=tuple(dims))


def without(place: Place, gone: Collection[int], *, keep: bool) -> Place | None:
    """Follow a sum or mean over the dimensions `gone`; with `keep` they stay, with length 1.

    Notes
    -----
    A map that was cut into (h, 2, w, 2) and averaged over the twos was pooled with kernel and stride 2: where the
    coarse stretch of a direction remains, the fine one composes as a window. Where nothing remains of
    either direction, the whole map was pooled.
    """
    dims = tuple(() if i in gone else dim for i, dim in enumerate(place.dims) if keep or i not in gone)
    return settled(place, dims)


def settled(before: Place, dims: tuple[Dim, ...]) -> Place | None:
    """Return the place after some of the atoms of `before` were summed away and `dims` remain."""
    axes: dict[str, Axis] = {}
    shrink: dict[str, int] = {}
    for kind in (VERTICAL, HORIZONTAL):
        cells = math.prod(atom.length for atom in before.stretches(kind))
        left = sorted(_stretches(dims, kind), key=lambda atom: atom.stride)
        fine = left[0].stride if left else cells
        reached = fine
        for atom in left:
            if atom.stride != reached:
                return None
            reached *= atom.length
        if reached != cells:
            return None
        axes[kind] = before.axis(kind).window(kernel=fine, stride=fine if left else 1)
        shrink[kind] = fine
    finer = tuple(tuple(_finer(atom, shrink) for atom in dim) for dim in dims)
    after = replace(before.with_axes(axes), dims=finer)
    return replace(after, whole=before.whole or (before.spread and not after.spread))


def joined(places: Sequence[Place], *, gates: bool = False) -> Place:
    """Return the place where branches meet: in each direction, the largest field; on a tie, the first.

    Parameters
    ----------
    places
        At least one, all of the result's shape.
    gates
        The branches are multiplied: those that are gates do not count.

    Notes
    -----
    Whatever was pooled over the whole map, or has one cell where others have many, does not count either.
    """
    counted = [place for place in places if not place.whole] or list(places)
    if gates:
        counted = [place for place in counted if not place.gate] or counted
    base = max(counted, key=lambda place: bool(place.stretches(VERTICAL)) + bool(place.stretches(HORIZONTAL)))
    axes = {}
    for kind in (VERTICAL, HORIZONTAL):
        alike = [place for place in counted if place.stretches(kind) or not base.stretches(kind)]
        axes[kind] = max((place.axis(kind) for place in alike), key=lambda axis: axis.size)
    return replace(base.with_axes(axes), gate=all(place.gate for place in counted))


def with_tokens_before(dim: Dim, more: int) -> Dim:
    """Put class or register tokens before the cells of a dimension."""
    if len(dim) == 1 and dim[0].kind == TOKENS:
        return (dim[0]._replace(length=dim[0].length + more, prefix=dim[0].prefix + more),)
    return (Atom(TOKENS, length_of(dim) + more, prefix=more, inner=dim),)


def without_tokens(dim: Dim, dropped: int) -> Dim | None:
    """Drop the first tokens of a dimension; None if they are more than precede the cells."""
    if len(dim) != 1 or dim[0].kind != TOKENS or dropped > dim[0].prefix:
        return None
    left = dim[0].prefix - dropped
    return dim[0].inner if not left else (dim[0]._replace(length=dim[0].length - dropped, prefix=left),)


def cells(dim: Dim) -> Dim:
    """Return the atoms of a dimension behind its class and register tokens."""
    return dim[0].inner if len(dim) == 1 and dim[0].kind == TOKENS else dim


def _labeled(dim: Dim) -> bool:
    return any(atom.kind != ANONYMOUS for atom in dim)


def _stretches(dims: Sequence[Dim], kind: str) -> list[Atom]:
    return [atom for dim in dims for atom in cells(dim) if atom.kind == kind]


def _finer(atom: Atom, shrink: dict[str, int]) -> Atom:
    if atom.kind == TOKENS:
        return atom._replace(inner=tuple(_finer(inner, shrink) for inner in atom.inner))
    return atom._replace(stride=atom.stride // shrink[atom.kind]) if atom.kind in shrink else atom


def _merged(atoms: Sequence[Atom]) -> Dim:
    """Join neighbors that are one stretch of the same direction."""
    merged: list[Atom] = []
    for atom in atoms:
        last = merged[-1] if merged else None
        same = last is not None and last.kind == atom.kind != TOKENS
        if last and same and (atom.kind == ANONYMOUS or last.stride == atom.stride * atom.length):
            merged[-1] = Atom(atom.kind, last.length * atom.length, atom.stride)
        else:
            merged.append(atom)
    return tuple(merged)


def _take(pending: list[Atom], length: int) -> list[Atom] | None:
    """Take atoms that make up a dimension of this length off the front, splitting the last if need be."""
    taken: list[Atom] = []
    have = 1
    while have < length:
        if not pending or length % have:
            return None
        need, atom = length // have, pending.pop(0)
        if atom.length > need:
            if atom.length % need or atom.kind == TOKENS:
                return None
            rest = atom.length // need
            pending.insert(0, Atom(atom.kind, rest, atom.stride))
            atom = Atom(atom.kind, need, atom.stride * rest)
        taken.append(atom)
        have *= atom.length
    return taken if have == length else None
