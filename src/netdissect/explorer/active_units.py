"""Which units are active in one image, and where, by the same rule as in a dissection."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from netdissect.concepts import Size
from netdissect.plots.outlines import MaskGrid

Maps = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ActiveUnits:
    """Units that are active somewhere in an image, or at one point of it.

    Attributes
    ----------
    units
        int64 (n,): unit indices, ascending.
    values
        float32 (n,): largest activation in the image, or the activation at the point.
    areas
        float64 (n,): share of the image in which the unit is active.
    """

    units: npt.NDArray[np.int64]
    values: Maps
    areas: npt.NDArray[np.float64]


def active_units(
    maps: Maps,
    thresholds: Maps,
    masks: MaskGrid,
    point: tuple[float, float] | None = None,
    label_size: Size | None = None,
) -> ActiveUnits:
    """Return which units of a layer are active in an image.

    Parameters
    ----------
    maps
        float32 (U, h, w).
    thresholds
        float32 (U,).
    masks
        How the run makes masks of activation maps.
    point
        x from the left and y from the top, both in 0..1: only units that are active there. None: anywhere.
    label_size
        Size of the image's label maps; None: it has none.
    """
    # A pixel exceeds the threshold only if a cell does: most units need no upsampling.
    candidates = np.flatnonzero(maps.max(axis=(1, 2)) > thresholds)
    units, values, areas = [], [], []
    for unit in candidates:
        upsampled = masks.values(maps[unit], label_size)
        mask = upsampled > thresholds[unit]
        value = maps[unit].max()
        if point is not None:
            value = upsampled[_pixel(point[1], upsampled.shape[0]), _pixel(point[0], upsampled.shape[1])]
        if (value > thresholds[unit]) and mask.any():
            units.append(unit)
            values.append(value)
            areas.append(mask.mean())
    return ActiveUnits(np.array(units, np.int64), np.array(values, np.float32), np.array(areas, np.float64))


def _pixel(share: float, pixels: int) -> int:
    return min(int(share * pixels), pixels - 1)
