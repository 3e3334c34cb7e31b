"""The compiled inner loop: which pixels of the segmentation are on, and what they are labeled.

Only a pixel between cells of which one exceeds the threshold can itself exceed it, so the loop visits
just those: on real layers about 0.2 % of the pixels are on, and more than 95 % are never looked at.

Every function releases the interpreter lock and works on plain arrays; `netdissect.score.tally` is the
way in.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from netdissect.score.grid import Maps

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
AxisArrays = tuple[Ints, Floats, Floats]

compiled: Any = numba.njit(nogil=True, cache=True)


@compiled  # type: ignore[untyped-decorator]
def any_above(cells: Maps, threshold: np.float32) -> bool:
    """Tell whether any cell of a map, float32 (h, w), exceeds a threshold."""
    above = np.int64(0)
    for value in cells.flat:
        above += value > threshold  # an integer sum: the compiler makes vector code of it
    return bool(above > 0)


@compiled  # type: ignore[untyped-decorator]
def tally_image(
    maps: Maps,
    thresholds: npt.NDArray[np.float32],
    rows: AxisArrays,
    columns: AxisArrays,
    round_rows: bool,
    places: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int32],
    pixels_on: Ints,
) -> None:
    """Count one image at several quantiles: add to `counts` (Q, U, n) and `pixels_on` (Q, U), all 0 before.

    Parameters
    ----------
    maps
        float32 (U, h, w). A cell that cannot matter may hold any value at or below the lowest threshold.
    thresholds
        float32 (Q, U), rising along Q; a pixel is on when its interpolated value is above, strictly.
    rows, columns
        Arrays of the two axes of a `Grid`.
    round_rows
        See `Grid`.
    places
        int32 (P, sh, sw): the column of `counts` that each pixel adds to.
    """
    row_start, row_near, row_far = rows
    column_start, column_near, column_far = columns
    height, width = maps.shape[1:]
    top, bottom = np.empty(len(column_near), np.float64), np.empty(len(column_near), np.float64)
    for unit in range(maps.shape[0]):
        cells, threshold, higher = maps[unit], thresholds[0, unit], thresholds[1:, unit]
        if not any_above(cells, threshold):
            continue
        for i in range(height):
            if row_start[i] == row_start[i + 1]:
                continue
            below = min(i + 1, height - 1)
            for j in range(width):
                right = min(j + 1, width - 1)
                if not (
                    cells[i, j] > threshold
                    or cells[i, right] > threshold
                    or cells[below, j] > threshold
                    or cells[below, right] > threshold
                ):
                    continue
                first, last = column_start[j], column_start[j + 1]
                between(cells[i, j], cells[i, right], column_near, column_far, first, last, round_rows, top)
                between(cells[below, j], cells[below, right], column_near, column_far, first, last, round_rows, bottom)
                for y in range(row_start[i], row_start[i + 1]):
                    near, far = row_near[y], row_far[y]
                    found = np.int64(0)
                    for x in range(first, last):
                        found += np.float32(top[x] * near + bottom[x] * far) > threshold
                    if found == 0:
                        continue
                    for x in range(first, last):
                        value = np.float32(top[x] * near + bottom[x] * far)
                        if value > threshold:
                            # Above the lowest threshold first; each further one is passed only with those before it.
                            passed = 0
                            while passed < len(higher) and value > higher[passed]:
                                passed += 1
                            pixels_on[passed, unit] += 1
                            for plane in range(places.shape[0]):
                                counts[passed, unit, places[plane, y, x]] += 1
        for passed in range(len(higher), 0, -1):
            pixels_on[passed - 1, unit] += pixels_on[passed, unit]
            counts[passed - 1, unit] += counts[passed, unit]


@compiled  # type: ignore[untyped-decorator]
def add_image(counts: npt.NDArray[np.int32], pixels_on: Ints, numbers: Ints, intersection: Ints) -> None:
    """Add one image's counts, (U, n), of the labels `numbers` (n,) to an `intersection` (U, C)."""
    for unit in range(len(pixels_on)):
        if pixels_on[unit]:
            for place in range(len(numbers)):
                intersection[unit, numbers[place]] += counts[unit, place]


@compiled  # type: ignore[untyped-decorator]
def between(
    left: np.float32,
    right: np.float32,
    near: Floats,
    far: Floats,
    first: int,
    last: int,
    round_rows: bool,
    out: Floats,
) -> None:
    """Interpolate one row of cells at the pixels `first` to `last`, in float64 or rounded to float32."""
    for x in range(first, last):
        out[x] = np.float64(left) * near[x] + np.float64(right) * far[x]
        if round_rows:
            out[x] = np.float32(out[x])
