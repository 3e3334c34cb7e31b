"""Activations kept between the two looks at them, without keeping them all.

A cell can only matter if it, or a neighbor with which it is interpolated, exceeds the unit's threshold.
The threshold is not known yet, but a lower bound on it is (`StreamingTopK.bound`), and it only rises. So a
sparse store keeps, per batch,

    one bit a unit and image (any cell kept?), one bit a cell of those, the kept values as float32, a CRC-32

and reads back full maps in which every other cell holds the lowest float. On real layers that is 8 to
15 % of the dense size at a quantile of 0.005. A dense store is kept for maps that are interpolated over more than two
cells.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netdissect.activations.array_log import AppendOnlyFile
from netdissect.concepts import Size
from netdissect.jit import compiled

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

LOWEST = np.finfo(np.float32).min
ZEROS = np.array([8 - value.bit_length() for value in range(256)])
"""How many of a byte's bits, the high ones first, are off before the first that is on."""


class ActivationStore(AppendOnlyFile):
    """An append-only file of the activation maps of one layer, batch by batch.

    Parameters
    ----------
    path
        As for `AppendOnlyFile`.
    units, cells
        Units of the layer, U, and size of their maps.
    dense
        Keep every cell.

    Attributes
    ----------
    dense
        Whether every cell is kept.
    """

    remedy = (
        "Remove this file and run the same command again: its activations are computed once more, everything else is "
        "kept."
    )
    disk_full_remedy = ", or keep nothing with --activation-cache none"

    def __init__(self, path: Path, units: int, cells: Size, *, dense: bool) -> None:
        super().__init__(path)
        self._shape = (units, *cells)
        self.dense = dense

    def truncate(self, offsets: Sequence[int]) -> None:
        """Go on after the batches of an earlier session; a file that was removed holds none of them."""
        super().truncate(offsets if self.path.exists() else [0])

    def append(self, maps: Floats, bound: Floats) -> None:
        """Keep one batch, float32 (B, U, h, w), of which only cells near a value above `bound` (U,) can matter."""
        maps = np.ascontiguousarray(maps)
        self.write([part.data for part in ([maps] if self.dense else _pack(maps, bound))])

    def read(self, batch: int, images: int) -> Floats:
        """Return one batch of `images` maps, float32 (images, U, h, w); cells not kept hold the lowest float."""
        content, shape = self.record(batch), (images, *self._shape)
        if self.dense:
            return np.frombuffer(bytearray(content), np.float32).reshape(shape)
        return _unpack(content, shape)


def _pack(maps: Floats, bound: Floats) -> list[npt.NDArray[Any]]:
    active = np.zeros(maps.shape[:2], np.uint8)
    near = np.empty(maps.size, np.uint8)
    values = np.empty(maps.size + 1, np.float32)
    cells, kept = _select(maps, bound, active, near, values)
    return [np.packbits(active), np.packbits(near[:cells]), values[:kept]]


def _unpack(content: bytes, shape: tuple[int, ...]) -> Floats:
    raw = np.frombuffer(content, np.uint8)
    images, units, height, width = shape
    used = (images * units + 7) // 8
    active = np.unpackbits(raw[:used], count=images * units).view(np.bool_)
    more = (int(active.sum()) * height * width + 7) // 8
    values = np.frombuffer(content, np.float32, offset=used + more)
    maps = np.empty(shape, np.float32)
    _spread(active, raw[used : used + more], values, maps.reshape(images * units, height * width))
    return maps


@compiled
def _spread(active: npt.NDArray[np.bool_], near: Bytes, values: Floats, maps: Floats) -> None:
    """Undo `_select`: fill the maps (B * U, cells); `near` has a bit a cell, few of which are on."""
    begin, kept = 0, 0
    for unit in range(len(maps)):
        maps[unit] = LOWEST
        if not active[unit]:
            continue
        bit, end = begin, begin + maps.shape[1]
        while bit < end:
            rest = (near[bit >> 3] << (bit & 7)) & 0xFF  # the flags of this cell and of those behind it in its byte
            if rest == 0:
                bit += 8 - (bit & 7)
                continue
            bit += ZEROS[rest]
            if bit < end:
                maps[unit, bit - begin] = values[kept]
                kept += 1
                bit += 1
        begin = end


@compiled
def _select(maps: Floats, bound: Floats, active: Bytes, near: Bytes, values: Floats) -> tuple[int, int]:
    """Mark and gather cells above the bound, and every cell that shares an interpolated pixel with one.

    Fills the flags of the cells of active maps and the marked values, with room for one more value than there are
    cells, and returns how many there are of each. Flags are widened by rows and then by columns, and every value is
    written, to be overwritten if it is not kept: without branches the compiler makes vector code of most of it.
    """
    images, units, height, width = maps.shape
    size, cells, kept = height * width, 0, 0
    above = np.zeros(width + 2, np.uint8)
    wide = np.zeros((height + 2, width), np.uint8)
    for image in range(images):
        for unit in range(units):
            cell, low = maps[image, unit], bound[unit]
            found = np.int64(0)
            for value in cell.flat:
                found += value > low
            if found == 0:
                continue
            active[image, unit] = 1
            flags = near[cells : cells + size].reshape(height, width)
            for i in range(height):
                for j in range(width):
                    above[j + 1] = cell[i, j] > low
                for j in range(width):
                    wide[i + 1, j] = above[j] | above[j + 1] | above[j + 2]
            for i in range(height):
                marked = np.int64(0)
                for j in range(width):
                    flags[i, j] = wide[i, j] | wide[i + 1, j] | wide[i + 2, j]
                    marked += flags[i, j]
                if marked == 0:
                    continue
                for j in range(width):
                    values[kept] = cell[i, j]
                    if flags[i, j]:
                        kept += 1
            cells += size
    return cells, kept
