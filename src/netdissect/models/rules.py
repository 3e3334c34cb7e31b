"""How each tensor operation moves the receptive fields of what it reads.

    operation, places of its inputs, shape of its output -> place of the output, or None

Operations are named as ATen's dispatcher names them, an in-place one as its plain form. What no rule
names is taken to work cell by cell if its output keeps the cells of its inputs (activations, norms,
sums, attention over tokens), and otherwise loses its place.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from netdissect.models.geometry import Axis
from netdissect.models.places import (
    HORIZONTAL,
    VERTICAL,
    Dim,
    Place,
    fitted,
    joined,
    length_of,
    permuted,
    plain,
    settled,
    stretch,
    viewed,
    with_tokens_before,
    without,
    without_tokens,
)


@dataclass(frozen=True, slots=True)
class Call:
    """One operation as it ran.

    Attributes
    ----------
    name
        Operation without namespace, overload and trailing underscore.
    arguments
        Every argument by its name, defaults filled in.
    tensors
        Tensors among the arguments, those in lists too, with their places.
    """

    name: str
    arguments: dict[str, Any]
    tensors: tuple[tuple[Tensor, Place | None], ...]

    @property
    def spatial_rank(self) -> int:
        """How many of the last dimensions a windowed operation works on."""
        if "weight" in self.arguments:
            return int(self.arguments["weight"].ndim) - 2
        return int(re.findall(r"(\d)d", self.name)[-1])

    def place_of(self, argument: str) -> Place | None:
        """Return the place of a tensor argument."""
        return next((place for tensor, place in self.tensors if tensor is self.arguments[argument]), None)

    def each(self, argument: str) -> list[int]:
        """Return an argument that is one number, or one for each spatial dimension, as the latter."""
        value = self.arguments[argument]
        numbers = [value] if isinstance(value, int) else list(value)
        return numbers * self.spatial_rank if len(numbers) == 1 else numbers


Shape = tuple[int, ...]
Rule = Callable[[Call, Place, Shape], Place | None]
Move = Callable[[Axis], Axis]


def follow(call: Call, shape: Shape) -> Place | None:
    """Return the place of an output of this shape; None where it has none or it cannot be told."""
    if all(place is None for _, place in call.tensors):
        return None
    if call.name in SEVERAL:
        return SEVERAL[call.name](call, shape)
    rule = SINGLE.get(call.name)
    if rule is None and {"dim", "keepdim"} <= call.arguments.keys():
        rule = _reduce
    if rule is None:
        return _cell_by_cell(call, shape)
    first = call.tensors[0][1]
    return rule(call, first, shape) if first else None


# Operations on several tensors.


def _cell_by_cell(call: Call, shape: Shape) -> Place | None:
    # A result of more dimensions than every input is no broadcast: its last ones could fit by chance.
    if all(tensor.ndim < len(shape) for tensor, _ in call.tensors):
        return None
    fits = [fit for _, place in call.tensors if place and (fit := fitted(place, shape))]
    return joined(fits, gates=call.name == "mul") if fits else None


def _gate(call: Call, shape: Shape) -> Place | None:
    place = _cell_by_cell(call, shape)
    return replace(place, gate=True) if place else None


def _cat(call: Call, shape: Shape) -> Place | None:
    dim = call.arguments["dim"] % len(shape)
    *before, (last, place) = call.tensors
    if place is not None and len(place.dims) == len(shape) and place.labeled(dim):
        if any(other is not None and other.labeled(dim) for _, other in before):
            return None
        return _with_dim(place, dim, with_tokens_before(place.dims[dim], shape[dim] - last.shape[dim]))
    place = _cell_by_cell(call, shape)
    return _space_to_depth(place, call) if place else None


def _space_to_depth(place: Place, call: Call) -> Place:
    """Span the pieces of a map that was sliced into its even and odd cells and put together as channels.

    Their fields differ only in the offset, by less than a step: together they are one window (Swin's patch merging).
    """
    places = [other for _, other in call.tensors if other and not other.whole]
    axes = {}
    for kind in (VERTICAL, HORIZONTAL):
        pieces = [other.axis(kind) for other in places]
        first, last = min(piece.offset for piece in pieces), max(piece.offset for piece in pieces)
        alike = len({(piece.size, piece.step) for piece in pieces}) == 1 and last - first < pieces[0].step
        if alike and last > first:
            axes[kind] = Axis(first, pieces[0].size + last - first, pieces[0].step)
    return place.with_axes(axes)


def _stack(call: Call, shape: Shape) -> Place | None:
    dim = call.arguments["dim"] % len(shape)
    places = [place for _, place in call.tensors if place]
    stacked = joined(places)
    return replace(stacked, dims=(*stacked.dims[:dim], plain(shape[dim]), *stacked.dims[dim:]))


FACTORS = {
    "mm": ("self", "mat2"),
    "bmm": ("self", "mat2"),
    "matmul": ("self", "other"),
    "addmm": ("mat1", "mat2"),
    "_addmm_activation": ("mat1", "mat2"),
    "baddbmm": ("batch1", "batch2"),
    "linear": ("input", "weight"),
}


def _matmul(call: Call, shape: Shape) -> Place | None:
    """Rows lie where the left factor's do, otherwise columns where the right factor's do; what is summed over goes."""
    left, right = (call.place_of(name) for name in FACTORS[call.name])
    if left and len(left.dims) == len(shape) and any(left.labeled(dim) for dim in range(len(shape) - 1)):
        place = settled(left, (*left.dims[:-1], plain(shape[-1])))
    elif right and len(right.dims) == len(shape) and right.labeled(-1):
        place = settled(right, (*right.dims[:-2], plain(shape[-2]), right.dims[-1]))
    else:
        return None
    return replace(place, gate=False) if place else None


# Operations on the dimensions of one tensor.


def _view(_call: Call, place: Place, shape: Shape) -> Place | None:
    return viewed(place, shape)


def _expand(_call: Call, place: Place, shape: Shape) -> Place | None:
    return fitted(place, shape)


def _permute(call: Call, place: Place, _shape: Shape) -> Place | None:
    return permuted(place, call.arguments["dims"])


def _transpose(call: Call, place: Place, shape: Shape) -> Place | None:
    order = list(range(len(shape)))
    if len(order) > 1:
        one, other = (0, 1) if call.name == "t" else (call.arguments["dim0"], call.arguments["dim1"])
        order[one], order[other] = order[other], order[one]
    return permuted(place, order)


def _reduce(call: Call, place: Place, shape: Shape) -> Place | None:
    rank, dims = len(place.dims), call.arguments["dim"]
    listed = [dims] if isinstance(dims, int) else list(dims or range(rank))
    return without(place, {dim % rank for dim in listed}, keep=len(shape) == rank)


def _select(call: Call, place: Place, _shape: Shape) -> Place | None:
    dim = call.arguments["dim"] % len(place.dims)
    return None if place.labeled(dim) else without(place, {dim}, keep=False)


def _reorder(call: Call, place: Place, shape: Shape) -> Place | None:
    dims = call.arguments["dims"] if "dims" in call.arguments else [call.arguments["dim"]]
    return None if any(place.labeled(dim) for dim in dims) else fitted(place, shape)


def _index(call: Call, place: Place, shape: Shape) -> Place | None:
    chosen = [dim for dim, index in enumerate(call.arguments["indices"]) if index is not None]
    if len(place.dims) != len(shape) or any(place.labeled(dim) for dim in chosen):
        return None
    return fitted(place, shape)


def _slice(call: Call, place: Place, shape: Shape) -> Place | None:
    dim, step = call.arguments["dim"] % len(shape), call.arguments["step"]
    before = length_of(place.dims[dim])
    if not place.labeled(dim) or before == shape[dim]:
        return fitted(place, shape)
    start = call.arguments["start"] or 0
    start = min(max(start + before if start < 0 else start, 0), before)
    if place.direction(dim):
        return _moved(place, shape, {dim: partial(Axis.window, kernel=1, stride=step, padding=-start)})
    rest = without_tokens(place.dims[dim], start)
    return _with_dim(place, dim, rest) if rest and step == 1 and start + shape[dim] == before else None


# Operations that move the fields of one tensor.


def _pad(call: Call, place: Place, shape: Shape) -> Place | None:
    pads = call.arguments["pad" if "pad" in call.arguments else "padding"]
    moves: dict[int, Move] = {}
    for pair, (before, after) in enumerate(zip(pads[::2], pads[1::2], strict=True)):
        if before or after:
            moves[len(shape) - 1 - pair] = partial(Axis.window, kernel=1, padding=before)
    return _moved(place, shape, moves)


def _convolution(call: Call, place: Place, shape: Shape) -> Place | None:
    if len(place.dims) != len(shape) or place.labeled(1):
        return None
    kernel = list(call.arguments["weight"].shape[2:])
    settings = zip(kernel, call.each("stride"), call.each("padding"), call.each("dilation"), strict=True)
    compose = Axis.transposed if call.arguments["transposed"] else Axis.window
    moves: dict[int, Move] = {}
    for dim, (size, stride, padding, dilation) in enumerate(settings, 2):
        if (size, stride, padding) != (1, 1, 0):
            moves[dim] = partial(compose, kernel=size, stride=stride, padding=padding, dilation=dilation)
    moved = _moved(place, shape, moves)
    return replace(moved, gate=False) if moved else None


def _pool(call: Call, place: Place, shape: Shape) -> Place | None:
    rank, kernel = call.spatial_rank, call.each("kernel_size")
    dilation = call.each("dilation") if "dilation" in call.arguments else [1] * rank
    settings = zip(kernel, call.each("stride") or kernel, call.each("padding"), dilation, strict=True)
    moves: dict[int, Move] = {
        dim: partial(Axis.window, kernel=size, stride=stride, padding=padding, dilation=apart)
        for dim, (size, stride, padding, apart) in enumerate(settings, len(shape) - rank)
    }
    return _pooled(place, shape, moves)


def _adaptive_pool(call: Call, place: Place, shape: Shape) -> Place | None:
    moves: dict[int, Move] = {}
    for dim in range(len(shape) - call.spatial_rank, len(shape)):
        old, new = length_of(place.dims[dim]), shape[dim]
        if old != new:
            edges = [(cell * old // new, -(-(cell + 1) * old // new)) for cell in range(new)]
            widest = max(end - start for start, end in edges)
            moves[dim] = partial(Axis.resampled, scale=old / new, support=widest)
    return _pooled(place, shape, moves)


def _upsample(call: Call, place: Place, shape: Shape) -> Place | None:
    support = 1 if "nearest" in call.name else 4 if "cubic" in call.name else 2
    moves: dict[int, Move] = {}
    for dim in range(len(shape) - call.spatial_rank, len(shape)):
        old, new = length_of(place.dims[dim]), shape[dim]
        if old == new:
            continue
        corners = bool(call.arguments.get("align_corners")) and new > 1
        scale = (old - 1) / (new - 1) if corners else old / new
        # An antialiasing filter widens with the scale when it makes a map smaller.
        reach = math.ceil(support * max(scale, 1)) if call.name.endswith("_aa") else support
        first = 0.0 if corners else None
        moves[dim] = partial(Axis.resampled, scale=scale, support=min(reach, old), first=first)
    return _moved(place, shape, moves)


def _pixel_shuffle(call: Call, place: Place, shape: Shape) -> Place | None:
    factor = call.arguments["upscale_factor"]
    return _last_two(place, shape, partial(Axis.resampled, scale=1 / factor))


def _pixel_unshuffle(call: Call, place: Place, shape: Shape) -> Place | None:
    factor = call.arguments["downscale_factor"]
    return _last_two(place, shape, partial(Axis.window, kernel=factor, stride=factor))


def _restride(_call: Call, place: Place, shape: Shape) -> Place | None:
    """Channels-last pooling sets the strides of its output anew, at the same shape."""
    return place if tuple(map(length_of, place.dims)) == shape else None


def _lost(_call: Call, _place: Place, _shape: Shape) -> None:
    """Give up on what samples anywhere, even if its output happens to have the size of its input."""


def _last_two(place: Place, shape: Shape, move: Move) -> Place | None:
    return _moved(place, shape, {len(shape) - 2: move, len(shape) - 1: move})


def _moved(place: Place, shape: Shape, moves: dict[int, Move]) -> Place | None:
    """Move the fields along some dimensions; the others keep their cells."""
    if len(place.dims) != len(shape):
        return None
    axes: dict[str, Axis] = {}
    dims: list[Dim] = []
    for dim, length in enumerate(shape):
        kind = place.direction(dim) if dim in moves else None
        if kind:
            axes[kind] = moves[dim](place.axis(kind))
            dims.append(stretch(kind, length))
        elif not place.labeled(dim):
            dims.append(plain(length))
        elif dim in moves or length_of(place.dims[dim]) != length:
            return None
        else:
            dims.append(place.dims[dim])
    return replace(place.with_axes(axes), dims=tuple(dims))


def _pooled(place: Place, shape: Shape, moves: dict[int, Move]) -> Place | None:
    moved = _moved(place, shape, moves)
    if moved is None:
        return None
    one_cell = place.spread and not moved.spread
    return replace(moved, whole=moved.whole or one_cell)


def _with_dim(place: Place, dim: int, atoms: Dim) -> Place:
    return replace(place, dims=(*place.dims[:dim], atoms, *place.dims[dim + 1 :]))


SEVERAL: dict[str, Callable[[Call, Shape], Place | None]] = {
    "cat": _cat,
    "stack": _stack,
    **dict.fromkeys(("sigmoid", "hardsigmoid", "softmax", "_softmax", "_safe_softmax"), _gate),
    **dict.fromkeys(FACTORS, _matmul),
}

SINGLE: dict[str, Rule] = {
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze", "unsqueeze", "flatten"), _view),
    "expand": _expand,
    "permute": _permute,
    **dict.fromkeys(("transpose", "t"), _transpose),
    **dict.fromkeys(("select", "unbind"), _select),
    **dict.fromkeys(("flip", "index_select"), _reorder),
    "index": _index,
    "slice": _slice,
    "constant_pad_nd": _pad,
    **{f"{kind}_pad{rank}d": _pad for kind in ("reflection", "replication") for rank in (1, 2, 3)},
    "convolution": _convolution,
    **{f"avg_pool{rank}d": _pool for rank in (2, 3)},
    **{f"max_pool{rank}d{tail}": _pool for rank in (2, 3) for tail in ("", "_with_indices")},
    **{f"{name}_pool{rank}d": _adaptive_pool for name in ("_adaptive_avg", "adaptive_max") for rank in (2, 3)},
    **{f"{name}2d": _upsample for name in ("upsample_nearest", "_upsample_nearest_exact")},
    **dict.fromkeys(("upsample_bilinear2d", "upsample_bicubic2d"), _upsample),
    **{f"_upsample_{name}2d_aa": _upsample for name in ("bilinear", "bicubic")},
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    **dict.fromkeys(("grid_sampler_2d", "roi_align"), _lost),
    "as_strided": _restride,
}
