"""The mask of each unit as a list of pixel indices: masks are sparse, so lists are short.

    maps, thresholds, upsampler -> list_mask_pixels -> statistics/permutation.py

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 2.2 (the mask M_k).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.jit import compiled
from netdissect.scoring.kernel import any_above, interpolate
from netdissect.scoring.kernel_arrays import UpsamplerArrays
from netdissect.scoring.upsampling import Maps, Upsampler

UInts = npt.NDArray[np.uint32]


class MaskPixels(NamedTuple):
    """The masks of all units on one image.

    Attributes
    ----------
    mask_pixels
        uint32 (M,): pixels of each mask, M = quantiles times units, units varying fastest.
    pixel_index
        uint32 (sum of `mask_pixels`,): index y * width + x of each pixel, mask after mask.
    """

    mask_pixels: UInts
    pixel_index: UInts


def list_mask_pixels(maps: Maps, thresholds: Maps, upsampler: Upsampler) -> MaskPixels:
    """List the pixels of one image's masks.

    Parameters
    ----------
    maps
        float32 (U, h, w). Cells more than one away from any cell above the lowest threshold may hold anything below it.
    thresholds
        float32 (Q, U).
    upsampler
        From the size of the maps to the size of the label maps.
    """
    cells = np.ascontiguousarray(upsampler.resample(maps))
    quantiles, units = thresholds.shape
    mask_pixels = np.zeros((quantiles, units), np.uint32)
    # Capacity for full masks: the operating system provides only the memory that is written to.
    buffer = np.empty(units * upsampler.rows.pixels * upsampler.columns.pixels, np.uint32)
    parts = []
    for quantile, row in enumerate(thresholds):
        count = _list_pixels(cells, row, UpsamplerArrays.of(upsampler), mask_pixels[quantile], buffer)
        parts.append(buffer[:count].copy())
    return MaskPixels(mask_pixels.ravel(), np.concatenate(parts))


@compiled
def _list_pixels(
    maps: Maps, thresholds: Maps, upsampler: UpsamplerArrays, mask_pixels: UInts, pixel_index: UInts
) -> int:
    """Write the pixels at which each unit (U, h, w) exceeds its threshold (U,), and return their number.

    A pixel can exceed the threshold only if one of the cells around it does.
    """
    (row_start, row_lower_weight, row_upper_weight), (column_start, column_lower_weight, _), _ = upsampler
    height, width, pixel_width = maps.shape[1], maps.shape[2], np.uint64(len(column_lower_weight))
    top, bottom = np.empty(pixel_width, np.float64), np.empty(pixel_width, np.float64)
    count = 0
    for unit in range(maps.shape[0]):
        cells, threshold, begin = maps[unit], thresholds[unit], count
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
                    lower_weight, upper_weight = row_lower_weight[y], row_upper_weight[y]
                    for x in range(column_start[j], column_start[j + 1]):
                        if np.float32(top[x] * lower_weight + bottom[x] * upper_weight) > threshold:
                            pixel_index[count] = y * pixel_width + x
                            count += 1
        mask_pixels[unit] = count - begin
    return count
