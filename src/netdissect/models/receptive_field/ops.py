"""How each tensor operation carries along where its elements come from.

    operation, places of its inputs, its outputs -> Place, Lost or None (not of the image) of each output

Operations are named as ATen's dispatcher names them, an in-place one as its plain form. Four kinds are followed:
those that move elements (done to the codes, too), that work cell by cell, that sum over dimensions, and
that are windows over rows and columns. What is none of these loses the place: nothing is taken for granted.
"""

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from netdissect.models.receptive_field.axis import ReceptiveFieldAxis
from netdissect.models.receptive_field.spatial_layout import (
    DIRECTIONS,
    HORIZONTAL,
    IMAGE,
    VERTICAL,
    Lost,
    SpatialLayout,
    codes_along,
    compact,
    compacted,
    coordinate,
    images_over,
    joined_codes,
    meet,
    reduced,
    without_cells,
    without_wrap,
)

Found = SpatialLayout | Lost | None
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OpCall:
    """One operation as it ran.

    Attributes
    ----------
    name
        Operation without overload and trailing underscore; with its namespace if that is not ATen's.
    arguments
        Every argument by its name, defaults filled in.
    tensors
        Tensors among the arguments, those in lists too, with their places.
    pointwise
        Whether torch says that it works element by element.
    random
        Whether torch says that it draws random numbers.
    """

    name: str
    arguments: dict[str, Any]
    tensors: tuple[tuple[Tensor, Found], ...]
    pointwise: bool = False
    random: bool = False

    @property
    def spatial_rank(self) -> int:
        """How many of the last dimensions a windowed operation works on."""
        if "weight" in self.arguments:
            return int(self.arguments["weight"].ndim) - 2
        return int(re.findall(r"(\d)d", self.name)[-1])

    def place_of(self, tensor: object) -> Found:
        """Return the place of a tensor among the arguments."""
        return next((place for one, place in self.tensors if one is tensor), None)

    def each(self, argument: str) -> list[int]:
        """Return an argument that is one number, or one for each spatial dimension, as the latter."""
        value = self.arguments[argument]
        numbers = [value] if isinstance(value, int) else list(value)
        return numbers * self.spatial_rank if len(numbers) == 1 else numbers

    @property
    def lost(self) -> Lost:
        """What to say where its outcome cannot be told."""
        return next((place for _, place in self.tensors if isinstance(place, Lost)), Lost(f"by {self.name}"))


Rule = Callable[[OpCall, SpatialLayout, Shape], SpatialLayout | None]
Move = Callable[[ReceptiveFieldAxis], ReceptiveFieldAxis]


def follow(call: OpCall, outputs: Sequence[Tensor]) -> list[Found]:
    """Return the place of each output; None where it is not computed from the image."""
    if call.name in CONSTANT:
        return [None] * len(outputs)
    if call.name == "copy":
        return [_copied(call, tuple(output.shape)) for output in outputs]
    known = [place for _, place in call.tensors if isinstance(place, SpatialLayout)]
    if not known:
        lost = call.random or any(isinstance(place, Lost) for _, place in call.tensors)
        return [call.lost if lost else None] * len(outputs)
    if call.name in MOVES:
        return _moved(call, outputs)
    return [_follow(call, tuple(output.shape)) or call.lost for output in outputs]


def _follow(call: OpCall, shape: Shape) -> SpatialLayout | None:
    if call.name in SEVERAL:
        return SEVERAL[call.name](call, shape)
    if call.name in SINGLE:
        first = call.tensors[0][1]
        return SINGLE[call.name](call, first, shape) if isinstance(first, SpatialLayout) else None
    if {"dim", "keepdim"} <= call.arguments.keys() or call.name in REDUCTIONS:
        first = call.tensors[0][1]
        return _reduce(call, first, shape) if isinstance(first, SpatialLayout) else None
    return _cell_by_cell(call, shape) if call.pointwise or call.name in CELL_BY_CELL else None


# Operations that move elements: done to the codes.


def _moved(call: OpCall, outputs: Sequence[Tensor]) -> list[Found]:
    names = MOVES[call.name]
    moving = [tensor for name in names for tensor in _as_list(call.arguments[name])]
    places = [call.place_of(tensor) for tensor in moving]
    others = [place for tensor, place in call.tensors if not any(tensor is one for one in moving)]
    known = [place for place in places if isinstance(place, SpatialLayout)]
    # An index that was computed from the image, or drawn, moves elements differently each time.
    if any(place is not None for place in others) or any(isinstance(place, Lost) for place in places) or not known:
        return [call.lost] * len(outputs)
    if call.arguments.get("accumulate") or call.arguments.get("reduce"):
        return [call.lost] * len(outputs)  # sums of codes are codes of other cells
    spread = [place for place in known if place.spread] or known
    if len({(place.grid, place.pairs) for place in spread}) > 1:
        return [call.lost] * len(outputs)
    codes = {id(tensor): _codes_of(tensor, place) for tensor, place in zip(moving, places, strict=True)}
    shapes = [tuple(output.shape) for output in outputs]
    moved = _run_on_codes(call, codes, shapes)
    if [tuple(one.shape) for one in moved] != shapes:
        return [call.lost] * len(outputs)
    base = replace(spread[0], gate=all(place.gate for place in spread))
    return [base.moved(_light(one)) for one in moved]


def _codes_of(tensor: Tensor, place: Found) -> Tensor:
    if isinstance(place, SpatialLayout):
        return place.codes
    return torch.zeros((), dtype=torch.int64, device=tensor.device).expand(tensor.shape)


def _run_on_codes(call: OpCall, codes: dict[int, Tensor], shapes: Sequence[Shape]) -> list[Tensor]:
    if call.name in SAME_ORDER:
        (one,) = codes.values()
        return [one.reshape(shape) if one.numel() == math.prod(shape) else one for shape in shapes]
    arguments = dict(call.arguments)
    for name in MOVES[call.name]:
        value = arguments[name]
        arguments[name] = codes[id(value)] if isinstance(value, Tensor) else [codes[id(one)] for one in value]
    if call.name in PADS:
        pad = arguments["pad" if "pad" in arguments else "padding"]
        return [torch.ops.aten.constant_pad_nd(arguments["self"], pad, 0)]
    if call.name in REAL_ONLY:  # torch has these for real numbers alone, of which float64 holds every code
        arguments["self"] = arguments["self"].cpu().double()
    if call.name == "as_strided":
        return [_strided(call.arguments, arguments["self"])]
    device = next(iter(codes.values())).device
    result = getattr(torch.ops.aten, call.name)(**arguments)
    return [one.to(device, torch.int64) for one in _as_list(result)]


def _strided(arguments: dict[str, Any], codes: Tensor) -> Tensor:
    """Read codes from a memory of the tensor's own order; what reaches beyond it is an error of torch's."""
    tensor = arguments["self"]
    memory = torch.empty_strided(tensor.shape, tensor.stride(), dtype=torch.int64, device=codes.device).copy_(codes)
    offset = arguments["storage_offset"]
    start = 0 if offset is None else offset - tensor.storage_offset()
    return memory.as_strided(arguments["size"], arguments["stride"], start)


def _light(codes: Tensor) -> Tensor:
    """Give up memory that codes take along dimensions on which they do not depend."""
    return compacted(codes) if compact(codes).numel() > 4096 else codes


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def _copied(call: OpCall, shape: Shape) -> Found:
    place = call.place_of(call.arguments["src"])
    return place.moved(place.codes.expand(shape)) if isinstance(place, SpatialLayout) else place


# Operations on several tensors.


def _cell_by_cell(call: OpCall, shape: Shape) -> SpatialLayout | None:
    places = []
    for tensor, place in call.tensors:
        if isinstance(place, SpatialLayout):
            if not _broadcasts(tensor.shape, shape):
                return None
            places.append(place if place.shape == shape else place.moved(place.codes.expand(shape)))
    if max(tensor.ndim for tensor, _ in call.tensors) < len(shape):
        return None
    return meet(places, gates=call.name == "mul")


def _broadcasts(shape: Sequence[int], to: Shape) -> bool:
    """Tell whether a tensor of one shape fits into a result of another."""
    last = to[len(to) - len(shape) :]
    return len(shape) <= len(to) and all(mine in (1, whole) for mine, whole in zip(shape, last, strict=True))


def _gate(call: OpCall, shape: Shape) -> SpatialLayout | None:
    place = _cell_by_cell(call, shape)
    return replace(place, gate=True) if place else None


def _half(call: OpCall, place: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    """Follow a gated linear unit: one half of the units times a gate made of the other."""
    dim = call.arguments["dim"] % len(shape)
    return None if place.varies(dim) else place.moved(place.codes.narrow(dim, 0, shape[dim]))


def _cat(call: OpCall, shape: Shape) -> SpatialLayout | None:
    return _side_by_side([(tensor, place) for tensor, place in call.tensors if tensor.numel()], call, shape)


def _stack(call: OpCall, shape: Shape) -> SpatialLayout | None:
    dim = call.arguments["dim"] % len(shape)
    pieces = [
        (tensor.unsqueeze(dim), place.moved(place.codes.unsqueeze(dim)) if isinstance(place, SpatialLayout) else place)
        for tensor, place in call.tensors
    ]
    return _side_by_side(pieces, call, shape)


def _side_by_side(pieces: Sequence[tuple[Tensor, Found]], call: OpCall, shape: Shape) -> SpatialLayout | None:
    """Follow a concatenation: of units where branches meet, of tokens, or of pieces of one map."""
    dim = call.arguments["dim"] % len(shape)
    known = [place for _, place in pieces if isinstance(place, SpatialLayout)]
    spread = [place for place in known if place.spread]
    one_map = len({place.grid for place in spread}) <= 1
    if any(isinstance(place, Lost) for _, place in pieces):
        return None  # some units, or some cells, lie nobody knows where
    if not any(place.varies(dim) for place in spread):
        met = meet([place.moved(place.codes.narrow(dim, 0, 1)) for place in known], settle=not one_map)
        if met is not None:
            return replace(met, codes=met.codes.expand(shape), whole=all(place.whole for place in known))
    if not one_map:
        return None
    codes = torch.cat([_codes_of(tensor, place) for tensor, place in pieces], dim)
    base = (spread or known)[0]
    return replace(base, codes=_light(codes), gate=all(place.gate for place in known), whole=not spread and base.whole)


FACTORS = {
    "mm": ("self", "mat2"),
    "bmm": ("self", "mat2"),
    "matmul": ("self", "other"),
    "addmm": ("mat1", "mat2"),
    "_addmm_activation": ("mat1", "mat2"),
    "baddbmm": ("batch1", "batch2"),
}


def _matmul(call: OpCall, shape: Shape) -> SpatialLayout | None:
    left, right = (call.arguments[name] for name in FACTORS[call.name])
    if left.ndim < 2 or right.ndim < 2:
        return None
    rows, columns = call.place_of(left), call.place_of(right)
    if isinstance(rows, Lost):
        return None
    if isinstance(columns, Lost):  # rows stay where they are, whatever they are multiplied by
        found = _product(_expanded(rows, (*shape[:-1], left.shape[-1])), None, shape)
        known = found is not None and rows is not None and found.spread and found.varies(-2)
        return replace(found, pairs=not rows.pairs) if known and found and rows else None
    return _product(
        _expanded(rows, (*shape[:-1], left.shape[-1])), _expanded(columns, (*shape[:-2], *right.shape[-2:])), shape
    )


def _linear(call: OpCall, shape: Shape) -> SpatialLayout | None:
    place = call.place_of(call.arguments["input"])
    if not isinstance(place, SpatialLayout) or call.place_of(call.arguments["weight"]) is not None:
        return None
    seen = reduced(place, [-1], keep=True)
    return replace(seen.moved(seen.codes.expand(shape)), gate=False) if seen else None


def _quantized_linear(call: OpCall, shape: Shape) -> SpatialLayout | None:
    """Follow a quantized linear layer, whose weights are packed."""
    return _linear(replace(call, arguments={"input": call.arguments["X"], "weight": None}), shape)


def _expanded(place: SpatialLayout | None, shape: Shape) -> SpatialLayout | None:
    return place.moved(place.codes.expand(shape)) if place else None


def _product(left: SpatialLayout | None, right: SpatialLayout | None, shape: Shape) -> SpatialLayout | None:
    """Follow a product of matrices: its rows lie where the left one's do, or else its columns where the right one's do.

    Notes
    -----
    What is summed over goes, as in any sum. Where rows and columns both vary, an element is about two cells: these
    are scores of attention, which lie where their query does.
    """
    rows = reduced(left, [-1], keep=True) if left else None
    if left and rows is None:
        return None
    base: SpatialLayout | None
    other: Tensor | None = None
    across = right is not None and right.spread and right.varies(-1)
    if rows is not None and rows.spread and (rows.varies(-2) or not across):
        if across and right is not None and _repeats(rows, right):
            return None
        base, other = rows, images_over(right, [-2]) if right else None
    else:
        base = reduced(right, [-2], keep=True) if right else rows
        if right and rows:
            other = images_over(rows, [-1])
    if base is None:
        return None
    codes = _with_images(base.codes.expand(shape), other)
    pairs = across and base is rows
    return replace(base, codes=codes, gate=False, pairs=pairs)


def _repeats(queries: SpatialLayout, keys: SpatialLayout) -> bool:
    """Tell whether queries of another map were repeated over windows of keys: then they do not say where those lie."""
    if queries.grid == keys.grid or not queries.spread:
        return False
    asked, answered = (_times(compact(compacted(place.codes))) for place in (queries, keys))
    return asked > answered


def _times(codes: Tensor) -> float:
    """Return how often each cell occurs on the average: once for each head, say."""
    return codes.numel() / len(torch.unique(codes).tolist())


def _with_images(codes: Tensor, images: Tensor | None) -> Tensor:
    """Add to codes from which image their elements come, where they do not say so."""
    joined = None if images is None else joined_codes(codes, images.expand(codes.shape))
    return codes if joined is None else joined


def _attention(call: OpCall, shape: Shape) -> SpatialLayout | None:
    """Follow scaled dot product attention: a result lies where its query does."""
    query, key = (call.place_of(call.arguments[name]) for name in ("query", "key"))
    if isinstance(query, Lost) or (query is None and not isinstance(key, SpatialLayout)):
        return None
    if shape != (*call.arguments["query"].shape[:-1], call.arguments["value"].shape[-1]):
        return None  # an output beside the result, such as the normalizer
    known = key if isinstance(key, SpatialLayout) else None
    rows = reduced(query, [-1], keep=True) if query else None
    if query and (rows is None or (known and _repeats(rows, known))):
        return None
    if rows is None and known:  # learned queries
        codes = torch.zeros((), dtype=torch.int64, device=known.codes.device).expand(shape)
        rows = replace(known, codes=codes, whole=True, pairs=False)
    images = images_over(known, [-1, -2]) if known else None
    if rows is None:
        return None
    return replace(rows, codes=_with_images(rows.codes.expand(shape), images), gate=False)


def _whole_attention(call: OpCall, shape: Shape) -> SpatialLayout | None:
    """Follow torch's fused attention module or encoder layer: a token stays where it is."""
    place = call.place_of(call.arguments["query" if "query" in call.arguments else "src"])
    if not isinstance(place, SpatialLayout) or place.shape != shape:
        return None
    return replace(place, codes=_with_images(place.codes, images_over(place, [-1, -2])), gate=False)


def _ordered_units(call: OpCall, place: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    """Follow the units of each cell in the order of their values."""
    dim = call.arguments["dim"] % len(shape)
    if place.varies(dim) or _differ_by_image(place, dim):
        return None
    return place.moved(_resized(place.codes, shape, set(range(len(shape))) - {dim}))


def _recurrent(_call: OpCall, place: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    """Follow a recurrent layer: what it says of a token lies where the token does."""
    if len(place.shape) != 3 or shape[:2] != place.shape[:2] or place.varies(-1):
        return None
    return place.moved(_resized(place.codes, shape, (0, 1)))


# Operations that sum over dimensions.


def _reduce(call: OpCall, place: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    rank, dims = len(place.shape), call.arguments.get("dim")
    listed = [dims] if isinstance(dims, int) else list(dims or range(rank))
    after = reduced(place, listed, keep=len(shape) == rank)
    return after if after and after.shape == shape else None


# Windows over rows and columns.


def _convolution(call: OpCall, place: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    made = call.place_of(call.arguments["weight"])
    if isinstance(made, Lost) or (made is not None and made.spread):
        return None  # its kernel is a part of an image, whose cells would have to be told apart
    seen = _over_units(place, call.arguments.get("groups", 1), shape[1])
    if seen is None:
        return None
    kernel = list(call.arguments["weight"].shape[2:])
    settings = zip(kernel, call.each("stride"), call.each("padding"), call.each("dilation"), strict=True)
    transposed = call.arguments["transposed"]
    compose = ReceptiveFieldAxis.transposed if transposed else ReceptiveFieldAxis.window
    moves: dict[int, Move] = {}
    enlarged = set()
    for dim, (size, stride, padding, dilation) in enumerate(settings, 2):
        if (size, stride, padding) != (1, 1, 0):
            moves[dim] = partial(compose, kernel=size, stride=stride, padding=padding, dilation=dilation)
        if transposed and stride > 1:
            enlarged.add(dim)
    found = _windowed(seen, shape, moves, enlarged)
    if found is None and not transposed:
        found = _within_windows(seen, shape, moves)
    return replace(found, gate=False, whole=place.whole) if found else None


def _over_units(place: SpatialLayout, groups: int, units: int) -> SpatialLayout | None:
    """Follow the sum over units of a convolution; groups may be the images, each with a kernel of its own."""
    if groups == 1 or not _differ_by_image(place, 1):
        return reduced(place, [1], keep=True)
    grouped = replace(place, codes=place.codes.reshape(place.shape[0], groups, -1, *place.shape[2:]))
    seen = reduced(grouped, [2], keep=True)
    if seen is None:
        return None
    each = list(seen.shape)
    each[2] = units // groups
    return replace(seen, codes=seen.codes.expand(each).flatten(1, 2))


def _differ_by_image(place: SpatialLayout, dim: int) -> bool:
    """Tell whether elements along a dimension come from different images."""
    images = coordinate(compact(place.codes), IMAGE)
    return bool((images != images.narrow(dim, 0, 1)).any())


def _quantized_convolution(call: OpCall, place: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    """Follow a quantized convolution, whose weights and settings are packed."""
    packed = call.arguments["packed_weight"]
    settings = {name: getattr(packed, name)() for name in ("stride", "padding", "dilation")}
    unpacked = settings | {"weight": packed.unpack()[0], "transposed": bool(packed.transpose())}
    return _convolution(replace(call, arguments=unpacked), place, shape)


def _pool(call: OpCall, place: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    rank, kernel = call.spatial_rank, call.each("kernel_size")
    dilation = call.each("dilation") if "dilation" in call.arguments else [1] * rank
    settings = zip(kernel, call.each("stride") or kernel, call.each("padding"), dilation, strict=True)
    moves: dict[int, Move] = {
        dim: partial(ReceptiveFieldAxis.window, kernel=size, stride=stride, padding=padding, dilation=apart)
        for dim, (size, stride, padding, apart) in enumerate(settings, len(shape) - rank)
    }
    return _windowed(place, shape, moves) or _within_windows(place, shape, moves)


def _adaptive_pool(call: OpCall, place: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    moves: dict[int, Move] = {}
    for dim in range(len(shape) - call.spatial_rank, len(shape)):
        old, new = place.shape[dim], shape[dim]
        if old != new:
            edges = [(cell * old // new, -(-(cell + 1) * old // new)) for cell in range(new)]
            widest = max(end - start for start, end in edges)
            moves[dim] = partial(ReceptiveFieldAxis.resampled, scale=old / new, support=widest)
    enlarged = {dim for dim in moves if shape[dim] > place.shape[dim]}
    return _windowed(place, shape, moves, enlarged)


def _upsample(call: OpCall, place: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    moves: dict[int, Move] = {}
    for dim, factor in zip((len(shape) - 2, len(shape) - 1), _scale_factors(call), strict=True):
        old, new = place.shape[dim], shape[dim]
        corners = bool(call.arguments.get("align_corners"))
        # A scale factor that was given counts, even if the sizes say otherwise.
        scale = (old - 1) / max(new - 1, 1) if corners else 1 / factor if factor else old / new
        if "nearest" in call.name:
            first, support = _nearest_first(old, new, scale, 0.5 if "exact" in call.name else 0.0), 1
        else:
            first, support = 0.0 if corners else scale / 2 - 0.5, 4 if "cubic" in call.name else 2
        # An antialiasing filter widens with the scale when it makes a map smaller.
        reach = math.ceil(support * max(scale, 1)) if call.name.endswith("_aa") else support
        if (scale, first) != (1, 0):
            moves[dim] = partial(ReceptiveFieldAxis.resampled, scale=scale, support=min(reach, old), first=first)
    enlarged = {dim for dim in moves if shape[dim] > place.shape[dim]}
    return _windowed(place, shape, moves, enlarged)


def _scale_factors(call: OpCall) -> list[float | None]:
    """Return the factors along rows and columns that were handed on to the operation; None: sizes decide."""
    given = call.arguments.get("scale_factors") or [call.arguments.get(name) for name in ("scales_h", "scales_w")]
    return [float(factor) if factor else None for factor in given]


def _nearest_first(old: int, new: int, scale: float, shift: float) -> float:
    """Return where, on the average, cells that pick old cell ``floor((i + shift) * scale)`` lie before i * scale."""
    picked = [(cell, math.floor((cell + shift) * scale)) for cell in range(new)]
    inside = [place - cell * scale for cell, place in picked if place < old]
    return sum(inside) / len(inside)


def _col2im(call: OpCall, place: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    """Follow the sum of overlapping patches: a transposed convolution of the map of patches."""
    seen = reduced(place, [1], keep=True)
    settled = seen.settled if seen else None
    if settled is None or settled.dims.get(VERTICAL) != 2 or settled.dims.get(HORIZONTAL) != 2:
        return None
    names = ("kernel_size", "stride", "padding", "dilation")
    settings = zip(*(call.arguments[name] for name in names), strict=True)
    grid, dims = settled.place.grid, {IMAGE: 0, VERTICAL: len(shape) - 2, HORIZONTAL: len(shape) - 1}
    axes, lengths, enlarged = {}, {}, []
    for kind, (kernel, stride, padding, dilation) in zip(DIRECTIONS, settings, strict=True):
        axes[kind] = grid.axis(kind).transposed(kernel, stride, padding, dilation)
        lengths[kind] = shape[dims[kind]]
        if stride > 1:
            enlarged.append(kind)
    codes = codes_along(shape, dims, place.codes.device)
    return SpatialLayout(codes, grid.changed(lengths, axes, enlarged))


def _unpool(_call: OpCall, place: SpatialLayout, shape: Shape) -> SpatialLayout | None:
    """Follow max unpooling: each cell comes back somewhere within the window that it was the maximum of."""
    moves: dict[int, Move] = {}
    for dim in (len(shape) - 2, len(shape) - 1):
        if place.shape[dim] != shape[dim]:
            moves[dim] = partial(ReceptiveFieldAxis.resampled, scale=place.shape[dim] / shape[dim])
    return _windowed(place, shape, moves, set(moves))


def _windowed(
    place: SpatialLayout, shape: Shape, moves: dict[int, Move], enlarged: Collection[int] = ()
) -> SpatialLayout | None:
    """Move the fields along some dimensions; the others keep their cells."""
    settled = place.settled or without_wrap(place).settled
    if settled is None or len(place.shape) != len(shape):
        return None
    dims = dict(settled.dims)
    by_position = {len(shape) - 2: VERTICAL, len(shape) - 1: HORIZONTAL}
    axes, lengths, grown = {}, {}, []
    for dim, move in moves.items():
        kinds = [kind for kind, where in dims.items() if where == dim]
        if not kinds and dim in by_position and by_position[dim] not in dims:
            kinds = [by_position[dim]]  # a direction of length 1
            dims[kinds[0]] = dim
        if len(kinds) > 1 or kinds == [IMAGE]:
            return None
        for kind in kinds:
            axes[kind], lengths[kind] = move(settled.place.grid.axis(kind)), shape[dim]
            grown += [kind] if dim in enlarged else []
    if any(place.shape[dim] != shape[dim] for dim in dims.values() if dim not in moves):
        return None
    tokens = dims.get(VERTICAL) is not None and dims.get(VERTICAL) == dims.get(HORIZONTAL)
    if tokens:
        codes = _resized(settled.place.codes, shape, dims.values())
    else:
        images = _resized(without_cells(settled.place.codes), shape, [dims.pop(IMAGE, 0)])
        codes = images + codes_along(shape, dims, images.device)
    after = replace(place, codes=codes, grid=settled.place.grid.changed(lengths, axes, grown))
    return replace(after, whole=place.whole or (place.spread and not after.spread))


def _within_windows(place: SpatialLayout, shape: Shape, moves: dict[int, Move]) -> SpatialLayout | None:
    """Follow a convolution or pooling of windows, or along tokens: cells stay if it keeps their number."""
    if any(place.shape[dim] != shape[dim] for dim in range(2, len(shape))):
        return None
    axes = {
        kind: moves[dim](place.grid.axis(kind))
        for kind, dim in zip(DIRECTIONS, (len(shape) - 2, len(shape) - 1), strict=True)
        if dim in moves and len(shape) > 3
    }
    if any(axis.step != place.grid.axis(kind).step for kind, axis in axes.items()):
        return None
    widened = {kind: place.grid.axis(kind).widened(axis.size) for kind, axis in axes.items()}
    return replace(
        place, codes=_resized(place.codes, shape, range(2, len(shape))), grid=place.grid.changed({}, widened)
    )


def _resized(codes: Tensor, shape: Shape, kept: Any) -> Tensor:
    """Give codes other lengths along dimensions on which they do not depend."""
    small = codes
    for dim in range(len(shape)):
        if dim not in kept and codes.shape[dim] != shape[dim]:
            small = small.narrow(dim, 0, 1)
    return small.expand(shape)


def _as_complex(_call: OpCall, place: SpatialLayout, _shape: Shape) -> SpatialLayout | None:
    return None if place.varies(-1) else place.moved(place.codes.select(-1, 0))


def _as_real(_call: OpCall, place: SpatialLayout, shape: Shape) -> SpatialLayout:
    return place.moved(place.codes.unsqueeze(-1).expand(shape))


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


SAME_ORDER = _names("view _unsafe_view reshape _reshape_alias squeeze unsqueeze flatten unflatten")
PADS = frozenset(
    {"constant_pad_nd", *(f"{kind}_pad{rank}d" for kind in ("reflection", "replication") for rank in (1, 2, 3))}
)
REAL_ONLY = _names("im2col pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle")
OF_ONE = _names(
    "expand permute transpose t select slice unbind split split_with_sizes chunk narrow movedim flip roll rot90 "
    "index_select index gather take repeat unfold diagonal as_strided unsafe_split unsafe_split_with_sizes unsafe_chunk"
)
OF_TWO = {"index_put": "values", "scatter": "src", "slice_scatter": "src", "select_scatter": "src"}
MOVES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(SAME_ORDER | PADS | REAL_ONLY | OF_ONE, ("self",)),
    **{name: ("self", other) for name, other in OF_TWO.items()},
}

CONSTANT = _names("zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty new_empty_strided")
REDUCTIONS = _names("sum mean amax amin max min prod var std var_mean norm linalg_vector_norm logsumexp any all")
CELL_BY_CELL = _names(
    "rsub hardswish _prelu_kernel prelu native_layer_norm layer_norm native_batch_norm cudnn_batch_norm batch_norm "
    "_native_batch_norm_legit _native_batch_norm_legit_no_training native_group_norm group_norm instance_norm "
    "_fused_rms_norm rms_norm _log_softmax log_softmax clone _to_copy to detach alias lift_fresh contiguous "
    "fill zero native_dropout dropout cumsum cumprod logcumsumexp cummax cummin tril triu floor_divide "
    "log_sigmoid_forward log_sigmoid hardtanh _conj quantize_per_tensor quantize_per_channel dequantize "
    "fake_quantize_per_tensor_affine_cachemask _fake_quantize_per_tensor_affine_cachemask_tensor_qparams "
    "fake_quantize_per_channel_affine_cachemask _fused_moving_avg_obs_fq_helper "
    "quantized.add quantized.add_relu quantized.mul quantized.hardswish quantized.leaky_relu"
)

SEVERAL: dict[str, Callable[[OpCall, Shape], SpatialLayout | None]] = {
    "cat": _cat,
    "quantized.cat": _cat,
    "stack": _stack,
    "linear": _linear,
    **{f"quantized.linear{tail}": _quantized_linear for tail in ("", "_relu", "_dynamic", "_relu_dynamic")},
    **dict.fromkeys(("sigmoid", "hardsigmoid", "softmax", "_softmax", "_safe_softmax"), _gate),
    **dict.fromkeys(FACTORS, _matmul),
    **dict.fromkeys(
        (
            "scaled_dot_product_attention",
            "_scaled_dot_product_attention_math",
            "_scaled_dot_product_flash_attention",
            "_scaled_dot_product_flash_attention_for_cpu",
            "_scaled_dot_product_efficient_attention",
            "_scaled_dot_product_cudnn_attention",
            "_scaled_dot_product_fused_attention_overrideable",
        ),
        _attention,
    ),
    **dict.fromkeys(("_native_multi_head_attention", "_transformer_encoder_layer_fwd"), _whole_attention),
}

SINGLE: dict[str, Rule] = {
    "glu": _half,
    **dict.fromkeys(("sort", "argsort", "topk"), _ordered_units),
    **dict.fromkeys(("mkldnn_rnn_layer", "lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
    "convolution": _convolution,
    **dict.fromkeys(("quantized.conv2d", "quantized.conv2d_relu"), _quantized_convolution),
    "col2im": _col2im,
    "max_unpool2d": _unpool,
    **{f"avg_pool{rank}d": _pool for rank in (2, 3)},
    **{f"max_pool{rank}d{tail}": _pool for rank in (2, 3) for tail in ("", "_with_indices")},
    "quantized_max_pool2d": _pool,
    **{f"{name}_pool{rank}d": _adaptive_pool for name in ("_adaptive_avg", "adaptive_max") for rank in (2, 3)},
    **{f"{name}2d": _upsample for name in ("upsample_nearest", "_upsample_nearest_exact")},
    **dict.fromkeys(("upsample_bilinear2d", "upsample_bicubic2d"), _upsample),
    **{f"_upsample_{name}2d_aa": _upsample for name in ("bilinear", "bicubic")},
    "view_as_complex": _as_complex,
    "view_as_real": _as_real,
}
