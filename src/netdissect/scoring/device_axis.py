"""One axis of the upsampling on a device, and the pieces into which it cuts the label map.

Source: the same weights as `netdissect.scoring.upsampling`, copied once.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from netdissect.activations.transfers import upload
from netdissect.scoring.upsampling import Upsampler, UpsamplingAxis


class DeviceAxis(NamedTuple):
    """The arrays of an axis on a device.

    Attributes
    ----------
    lower, upper
        int64 (pixels,): the two cells of each pixel.
    lower_weight, upper_weight
        float64 (pixels,): their weights.
    piece_cells
        int64 (2, p): the two cells of each piece. A piece is at most `side` neighboring pixels between two cells.
    piece_pixels
        int64 (p, side): its pixels; beyond its end the last one again.
    inside
        bool (p, side): False beyond its end.
    resample_matrix
        float64 (pixels, cells) or None; see `UpsamplingAxis`.
    """

    lower: Tensor
    upper: Tensor
    lower_weight: Tensor
    upper_weight: Tensor
    piece_cells: Tensor
    piece_pixels: Tensor
    inside: Tensor
    resample_matrix: Tensor | None

    @property
    def side(self) -> int:
        """Largest number of pixels of a piece."""
        return self.inside.shape[1]


@lru_cache(maxsize=256)
def device_axis(axis: UpsamplingAxis, device: torch.device) -> DeviceAxis:
    """Copy an axis to a device."""
    cells, spans = len(axis.start) - 1, np.diff(axis.start)
    lower = np.repeat(np.arange(cells), spans)
    side = max(1, -(-axis.pixels // cells))
    pieces = -(-spans // side)
    cell = np.repeat(np.arange(cells), pieces)
    number = np.arange(len(cell)) - np.repeat(pieces.cumsum() - pieces, pieces)
    pixels = (axis.start[cell] + number * side)[:, None] + np.arange(side)
    end = axis.start[cell + 1][:, None]
    arrays = (
        lower, np.minimum(lower + 1, cells - 1), axis.lower_weight, axis.upper_weight,
        np.stack([cell, np.minimum(cell + 1, cells - 1)]), np.minimum(pixels, end - 1), pixels < end,
    )  # fmt: skip
    matrix = None if axis.resample_matrix is None else upload(axis.resample_matrix, device)
    return DeviceAxis._make([*(upload(array, device) for array in arrays), matrix])


def resample(maps: Tensor, upsampler: Upsampler) -> Tensor:
    """Apply the resample matrices of the axes: `Upsampler.resample` on any device."""
    for axis, dim in ((upsampler.columns, -1), (upsampler.rows, -2)):
        matrix = device_axis(axis, maps.device).resample_matrix
        if matrix is not None:
            maps = torch.movedim(torch.movedim(maps, dim, -1).double() @ matrix.T, -1, dim).float()
    return maps


def upsample(maps: Tensor, upsampler: Upsampler) -> Tensor:
    """Interpolate maps, float32 (..., h, w), to float32 (..., sh, sw): `Upsampler.upsample` on any device."""
    wide_rows = _interpolate(resample(maps, upsampler).double(), device_axis(upsampler.columns, maps.device))
    if upsampler.round_rows:
        wide_rows = wide_rows.float().double()
    rows = device_axis(upsampler.rows, maps.device)
    return _interpolate(wide_rows.transpose(-1, -2), rows).transpose(-1, -2).float()


def _interpolate(values: Tensor, axis: DeviceAxis) -> Tensor:
    return values[..., axis.lower] * axis.lower_weight + values[..., axis.upper] * axis.upper_weight


def pieces_near(above: Tensor, upsampler: Upsampler) -> Tensor:
    """Tell which pieces of the label map have an active cell at a corner.

    A pixel exceeds a threshold only if one of its four cells does.

    Parameters
    ----------
    above
        bool (..., h, w): the active cells.
    upsampler
        From cells to pixels.

    Returns
    -------
    bool (..., p, q)
        For each piece of the rows and of the columns.
    """
    for axis, dim in ((upsampler.rows, -2), (upsampler.columns, -1)):
        first, second = device_axis(axis, above.device).piece_cells
        above = above.index_select(dim, first) | above.index_select(dim, second)
    return above


def interpolate_pieces(cells: Tensor, index: Tensor, upsampler: Upsampler) -> Tensor:
    """Interpolate the pixels of some pieces, each rounded as in `upsample`.

    Parameters
    ----------
    cells
        float32 (B, U, h, w); see `resample`.
    index
        int64 (4, n): image, unit, piece of the rows, and piece of the columns.
    upsampler
        From cells to pixels.

    Returns
    -------
    float32 (n, side of the rows, side of the columns)
        -inf beyond the end of a piece.
    """
    image, unit, row, column = index
    rows, columns = (device_axis(axis, cells.device) for axis in (upsampler.rows, upsampler.columns))
    left, right = (columns.piece_cells[corner][column] for corner in (0, 1))
    pixels = columns.piece_pixels[column]
    lower_weight, upper_weight = columns.lower_weight[pixels], columns.upper_weight[pixels]
    lines = []
    for corner in (0, 1):
        cell = rows.piece_cells[corner][row]
        first, second = (cells[image, unit, cell, side].double()[:, None] for side in (left, right))
        line = first * lower_weight + second * upper_weight
        lines.append((line.float().double() if upsampler.round_rows else line)[:, None, :])
    pixels = rows.piece_pixels[row]
    values = lines[0] * rows.lower_weight[pixels][:, :, None] + lines[1] * rows.upper_weight[pixels][:, :, None]
    inside = rows.inside[row][:, :, None] & columns.inside[column][:, None, :]
    return values.float().masked_fill_(~inside, -torch.inf)
