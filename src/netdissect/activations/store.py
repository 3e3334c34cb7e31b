"""Activation cache between the threshold pass and the counting pass, sparse where possible.

A cell matters only if it, or a neighbor with which it is interpolated, exceeds the threshold of the unit. A lower bound
on the threshold is known during the threshold pass (`StreamingTopK.bound`), and it only rises. For each batch a sparse
store keeps

    one bit a unit and image (any cell kept?), one bit a cell of those, the kept values as float32, a CRC-32

and reads full maps in which all other cells hold the lowest float. On real layers that is 8 to 15 % of the dense size
at a quantile of 0.005. Maps that are interpolated over more than two cells are stored dense.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netdissect.activations.array_log import AppendOnlyFile
from netdissect.activations.image_values import largest_values
from netdissect.concepts import Size
from netdissect.jit import compiled_in_place
from netdissect.process.split_loops import ONE_THREAD, SplitLoops

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

LOWEST_FLOAT = np.finfo(np.float32).min
LEADING_ZEROS = np.array([8 - value.bit_length() for value in range(256)])
"""Number of leading zero bits of each byte."""


class ActivationStore(AppendOnlyFile):
    """An append-only file of the activation maps of one layer, batch by batch.

    Parameters
    ----------
    path
        As for `AppendOnlyFile`.
    units, cells
        Units of the layer, U, and size of their maps.
    dense
        Whether every cell is kept.

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
        """Continue after the batches of an earlier session; a removed file holds none of them."""
        super().truncate(offsets if self.path.exists() else [0])

    def append(self, maps: Floats, bound: Floats, maxima: Floats | None = None, split: SplitLoops = ONE_THREAD) -> None:
        """Store one batch; only cells near a value above the bound can matter.

        Parameters
        ----------
        maps
            float32 (B, U, h, w).
        bound
            float32 (U,); a dense store does not read it.
        maxima
            Largest value of each map, float32 (B, U); None: not known.
        split
            Divides the images among threads.
        """
        maps = np.ascontiguousarray(maps)
        if self.dense:
            parts: list[npt.NDArray[Any]] = [maps]
        else:
            parts = _pack(maps, (largest_values(maps) if maxima is None else maxima) > bound, bound, split)
        self.write([part.data for part in parts])

    def read(self, batch: int, *images: int) -> Floats:
        """Return batches from `batch` on, joined: float32 (n, U, h, w); cells not kept hold the lowest float.

        Parameters
        ----------
        batch
            Index of the first batch.
        *images
            Number of images of each batch.
        """
        maps, start = np.empty((sum(images), *self._shape), np.float32), 0
        for index, count in enumerate(images, batch):
            part = maps[start : start + count]
            content = self.record(index)
            if self.dense:
                part.reshape(-1)[:] = np.frombuffer(content, np.float32)
            else:
                _unpack(content, part)
            start += count
        return maps


def _pack(maps: Floats, active: npt.NDArray[np.bool_], bound: Floats, split: SplitLoops) -> list[npt.NDArray[Any]]:
    height, width = maps.shape[2:]
    cells = np.count_nonzero(active, axis=1) * height * width
    ends = np.append(0, cells.cumsum())
    needed = np.empty(ends[-1], np.uint8)

    def select(first: int, last: int) -> Floats:
        values = np.empty(ends[last] - ends[first] + 1, np.float32)
        frames = np.zeros((2, (height + 2) * (width + 2)), np.uint8)
        flags = needed[ends[first] : ends[last]]
        return values[: _select(maps[first:last], active[first:last], bound, frames, flags, values)]

    values = split.run(select, len(maps), int(ends[-1]))
    return [np.packbits(active), np.packbits(needed), *values]


def _unpack(content: bytes, maps: Floats) -> None:
    raw = np.frombuffer(content, np.uint8)
    images, units, height, width = maps.shape
    active_end = (images * units + 7) // 8
    active = np.unpackbits(raw[:active_end], count=images * units).view(np.bool_)
    needed_end = active_end + (int(active.sum()) * height * width + 7) // 8
    values = np.frombuffer(content, np.float32, offset=needed_end)
    _scatter(active, raw[active_end:needed_end], values, maps.reshape(images * units, height * width))


@compiled_in_place
def _scatter(active: npt.NDArray[np.bool_], needed: Bytes, values: Floats, maps: Floats) -> None:
    """Invert `_select`: fill the maps (B * U, cells); `needed` has one bit a cell, few of which are set."""
    begin, kept = 0, 0
    for unit in range(len(maps)):
        maps[unit] = LOWEST_FLOAT
        if not active[unit]:
            continue
        bit, end = begin, begin + maps.shape[1]
        while bit < end:
            flags_left = (needed[bit >> 3] << (bit & 7)) & 0xFF  # of this cell and the later ones of its byte
            if flags_left == 0:
                bit += 8 - (bit & 7)
                continue
            bit += LEADING_ZEROS[flags_left]
            if bit < end:
                maps[unit, bit - begin] = values[kept]
                kept += 1
                bit += 1
        begin = end


@compiled_in_place
def _select(
    maps: Floats, active: npt.NDArray[np.bool_], bound: Floats, frames: Bytes, needed: Bytes, values: Floats
) -> np.int64:
    """Mark and gather cells above the bound, and each cell that shares an interpolated pixel with one.

    Fills the flags of the cells of active maps and the marked values, with capacity for one more value than cells, and
    returns the number of values. A map lies in a frame of zeros, so that neighbors are found without testing for
    edges, and all cells at once: the loops over the few cells of a row took three times as long. Each value is written,
    and overwritten if it is not kept. `frames` (2, n) are two such frames.
    """
    images, units, height, width = maps.shape
    framed, first, kept = width + 2, 0, np.int64(0)
    above, widened = frames[0], frames[1]
    for image in range(images):
        for unit in range(units):
            if not active[image, unit]:
                continue
            cell, low = maps[image, unit], bound[unit]
            for i in range(height):
                row = above[(i + 1) * framed + 1 : (i + 2) * framed - 1]
                for j in range(width):
                    row[j] = cell[i, j] > low
            for k in range(1, len(above) - 1):
                widened[k] = above[k - 1] | above[k] | above[k + 1]
            for i in range(height):
                upper = widened[i * framed + 1 : (i + 1) * framed - 1]
                middle = widened[(i + 1) * framed + 1 : (i + 2) * framed - 1]
                lower = widened[(i + 2) * framed + 1 : (i + 3) * framed - 1]
                flags, marked = needed[first : first + width], np.int64(0)
                for j in range(width):
                    flags[j] = upper[j] | middle[j] | lower[j]
                    marked += flags[j]
                first += width
                if marked == 0:
                    continue
                for j in range(width):
                    values[kept] = cell[i, j]
                    kept += np.int64(flags[j])
    return kept
