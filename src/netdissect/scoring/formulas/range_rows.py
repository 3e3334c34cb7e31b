"""The pixels of ranges of activation by row of a table of label sets: masks of Clustered Compositional Explanations.

Source: La Rosa et al. 2023 :cite:p:`larosa2023towards`.
"""

import numpy as np
import numpy.typing as npt

from netdissect.jit import compiled
from netdissect.scoring.formulas.image_rows import MaskRows
from netdissect.scoring.upsampling import Upsampler

Floats = npt.NDArray[np.float32]

UNITS = 64  # whose maps are interpolated at a time


def count_range_rows(
    maps: Floats, bounds: Floats, upsampler: Upsampler, row_map: npt.NDArray[np.int32], image_index: int
) -> MaskRows:
    """Count the pixels of each range of each unit by row, on one image.

    Parameters
    ----------
    maps
        float32 (U, h, w).
    bounds
        float32 (U, K, 2): a pixel is in a range if its activation is above the first and below the second value. The
        ranges of a unit do not overlap; NaN: no pixel.
    upsampler
        From the maps to the label map.
    row_map
        int32 (sh, sw): row of each pixel of the label map.
    image_index
        Of the image.

    Returns
    -------
    MaskRows
        The range k of unit u has the number u * K + k.
    """
    units, ranges, _ = bounds.shape
    rows, places = np.unique(row_map, return_inverse=True)
    counts = np.zeros((units, ranges, len(rows)), np.uint32)
    for start in range(0, units, UNITS):
        some = slice(start, start + UNITS)
        _add_pixels(upsampler.upsample(maps[some]), bounds[some], places.reshape(row_map.shape), counts[some])
    masks, columns = np.nonzero(counts.reshape(units * ranges, len(rows)))
    active = counts.reshape(units * ranges, len(rows))[masks, columns]
    of_image = np.full(len(masks), image_index, np.uint32)
    return MaskRows(masks.astype(np.uint32), of_image, rows[columns].astype(np.uint32), active)


@compiled
def _add_pixels(values: Floats, bounds: Floats, places: npt.NDArray[np.int64], counts: npt.NDArray[np.uint32]) -> None:
    units, height, width = values.shape
    for unit in range(units):
        for row in range(height):
            for column in range(width):
                value = values[unit, row, column]
                for index in range(bounds.shape[1]):
                    if bounds[unit, index, 0] < value < bounds[unit, index, 1]:
                        counts[unit, index, places[row, column]] += np.uint32(1)
                        break
