"""Integer codes that say from which image, row and column each element of a tensor comes.

A code is one int64 with three coordinates: image, row and column, each counted from 1. A coordinate of 0 means that the
element has none: it is a parameter, a class token, padding, or a mean over that direction. A dimension along which all
elements agree, such as that of the units, has stride 0 and takes no memory.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor

IMAGE, VERTICAL, HORIZONTAL = "image", "vertical", "horizontal"
DIRECTIONS = (VERTICAL, HORIZONTAL)
COORDINATES = (IMAGE, VERTICAL, HORIZONTAL)

_BITS = 20
LARGEST_COORDINATE = (1 << _BITS) - 1
_SHIFT = {IMAGE: 2 * _BITS, VERTICAL: _BITS, HORIZONTAL: 0}
_CELL_MASK = (1 << 2 * _BITS) - 1
_LARGE = 4096  # codes


def codes_along(shape: Sequence[int], dims: Mapping[str, int], device: torch.device) -> Tensor:
    """Return codes that count along one dimension for each coordinate; a direction of length 1 has none."""
    codes = torch.zeros([1] * len(shape), dtype=torch.int64, device=device)
    for coordinate, dim in dims.items():
        if shape[dim] > 1 or coordinate == IMAGE:
            codes = codes + broadcast_line(torch.arange(1, shape[dim] + 1, device=device), dim, len(shape), coordinate)
    return codes.expand(*shape)


def decode(codes: Tensor, coordinate: str) -> Tensor:
    """Return the image, row or column of codes, from 1; 0 where there is none."""
    return (codes >> _SHIFT[coordinate]) & LARGEST_COORDINATE


def encode(values: Tensor, coordinate: str) -> Tensor:
    """Return codes with one coordinate."""
    return values << _SHIFT[coordinate] if _SHIFT[coordinate] else values


def cell_part(codes: Tensor) -> Tensor:
    """Return codes without their image."""
    return codes & _CELL_MASK


def image_part(codes: Tensor) -> Tensor:
    """Return codes without their row and column."""
    return codes & ~_CELL_MASK


def step_coordinate(step: int) -> str | None:
    """Return the one coordinate that changes by a difference of two codes; None: several change."""
    size = abs(step)
    if size <= LARGEST_COORDINATE >> 1:
        return HORIZONTAL
    if size % (1 << _BITS) == 0 and size >> _BITS <= LARGEST_COORDINATE >> 1:
        return VERTICAL
    return IMAGE if size % (1 << 2 * _BITS) == 0 else None


def step_length(step: int, coordinate: str) -> int:
    """Return by how much a difference of two codes changes a coordinate."""
    return step >> _SHIFT[coordinate]


def combine(one: Tensor, other: Tensor) -> Tensor | None:
    """Return codes with the coordinates of both, which have one shape; None if they contradict each other."""
    if one is other:
        return one
    shape = one.shape
    one, other = unexpanded(one), unexpanded(other)
    for coordinate in COORDINATES:
        left, right = decode(one, coordinate), decode(other, coordinate)
        if ((left != right) & (left != 0) & (right != 0)).any():
            return None
    return (one | other).expand(shape)


def unexpanded(codes: Tensor) -> Tensor:
    """Return codes with length 1 along dimensions of stride 0."""
    strides = zip(codes.stride(), codes.shape, strict=True)
    return codes[tuple(slice(0, 1) if stride == 0 and size > 1 else slice(None) for stride, size in strides)]


def compressed(codes: Tensor) -> Tensor:
    """Return equal codes with stride 0 along every dimension on which they do not depend."""
    small = unexpanded(codes)
    for dim in range(small.ndim):
        if small.shape[dim] > 1 and is_constant(small, dim):
            small = small.narrow(dim, 0, 1)
    return small.expand(codes.shape)


def compressed_if_large(codes: Tensor) -> Tensor:
    """Compress codes that take much memory."""
    return compressed(codes) if unexpanded(codes).numel() > _LARGE else codes


def resize_constant(codes: Tensor, shape: Sequence[int], kept: Collection[int]) -> Tensor:
    """Change lengths of all dimensions but `kept`; codes must not depend on those that change."""
    small = codes
    for dim in range(len(shape)):
        if dim not in kept and codes.shape[dim] != shape[dim]:
            small = small.narrow(dim, 0, 1)
    return small.expand(tuple(shape))


def first_along(codes: Tensor, dims: Iterable[int], *, keep: bool) -> Tensor:
    """Return the first element along some dimensions; with `keep` they stay, with length 1."""
    for dim in sorted(dims, reverse=True):
        codes = codes.narrow(dim, 0, 1) if keep else codes.select(dim, 0)
    return codes


def is_constant(values: Tensor, dim: int) -> bool:
    """Tell whether values do not depend on a dimension."""
    if values.shape[dim] <= 1:
        return True
    return bool((values == values.narrow(dim, 0, 1)).all())


def varying_dim(values: Tensor) -> int | None:
    """Return the dimension along which values vary; -1: none; None: several."""
    varying = [dim for dim in range(values.ndim) if not is_constant(values, dim)]
    return -1 if not varying else varying[0] if len(varying) == 1 else None


def line_along(codes: Tensor, dim: int) -> Tensor:
    """Return the elements along one dimension at index 0 of all others."""
    return codes[tuple(slice(None) if other == dim else 0 for other in range(codes.ndim))]


def broadcast_line(values: Tensor, dim: int, ndim: int, coordinate: str = HORIZONTAL) -> Tensor:
    """Encode values of one coordinate along one of `ndim` dimensions; the others have length 1."""
    shape = [1] * ndim
    shape[dim] = -1
    return encode(values, coordinate).reshape(shape)
