"""Which pixels of the segmentation each unit is on at, as lists: masks are sparse, so lists are short.

    maps, thresholds, grid -> mask_pixels() -> chance.py

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 2.2 (the mask M_k).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.jit import compiled
from netdissect.scoring.kernel import any_above, interpolate
from netdissect.scoring.kernel_arrays import UpsamplerArrays
from netdissect.scoring.upsampling import Maps, Upsampler

Places = npt.NDArray[np.uint32]


class MaskPixels(NamedTuple):
    """The masks of all units on one image.

    Attributes
    ----------
    mask_pixels
        uint32 (M,): pixels of each mask; M is quantiles times units, units side by side.
    pixel_index
        uint32 (sum of `mask_pixels`,): their places y * width + x, mask after mask.
    """

    mask_pixels: Places
    pixel_index: Places


def mask_pixels(maps: Maps, thresholds: Maps, grid: Upsampler) -> MaskPixels:
    """List the pixels of one image's masks.

    Parameters
    ----------
    maps
        float32 (U, h, w). Cells more than one away from any cell above the lowest threshold may hold anything below it.
    thresholds
        float32 (Q, U).
    grid
        From the maps' size to the label maps'.
    """
    cells = np.ascontiguousarray(grid.resample(maps))
    quantiles, units = thresholds.shape
    on = np.zeros((quantiles, units), np.uint32)
    # Room for full masks, of which the operating system provides only what is written to.
    room = np.empty(units * grid.rows.pixels * grid.columns.pixels, np.uint32)
    found = []
    for quantile, row in enumerate(thresholds):
        used = _list_pixels(cells, row, UpsamplerArrays.of(grid), on[quantile], room)
        found.append(room[:used].copy())
    return MaskPixels(on.ravel(), np.concatenate(found))


@compiled
def _list_pixels(maps: Maps, thresholds: Maps, upsampler: UpsamplerArrays, on: Places, places: Places) -> int:
    """Write where each unit (U, h, w) is above its threshold (U,), and return how many places were written.

    Only a pixel between cells of which one exceeds the threshold can itself exceed it.
    """
    (row_start, row_near, row_far), (column_start, column_near, _), _ = upsampler
    height, width, across = maps.shape[1], maps.shape[2], np.uint64(len(column_near))
    top, bottom = np.empty(across, np.float64), np.empty(across, np.float64)
    used = 0
    for unit in range(maps.shape[0]):
        cells, threshold, begin = maps[unit], thresholds[unit], used
        if not any_above(cells, threshold):
            continue
        for i in range(height):
            if row_start[i] == row_start[i + 1]:
                continue
            row, below = cells[i], cells[min(i + 1, height - 1)]
            for j in range(width):
                right = min(j + 1, width - 1)
                if not max(max(row[j], row[right]), max(below[j], below[right])) > threshold:
                    continue
                interpolate(row, j, upsampler, top)
                interpolate(below, j, upsampler, bottom)
                for y in range(row_start[i], row_start[i + 1]):
                    near, far = row_near[y], row_far[y]
                    for x in range(column_start[j], column_start[j + 1]):
                        if np.float32(top[x] * near + bottom[x] * far) > threshold:
                            places[used] = y * across + x
                            used += 1
        on[unit] = used - begin
    return used
