"""Which units are on where in one image: the dissection's own rule, applied to a single image."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from netdissect.concepts import Size
from netdissect.plots.outlines import MaskGrid

Maps = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Firing:
    """Units that are on somewhere, or at the point asked for.

    Attributes
    ----------
    units
        int64 (n,): their numbers, rising.
    values
        float32 (n,): the largest activation in the image; at a point, the activation there.
    areas
        float64 (n,): share of the image in which each is on.
    """

    units: npt.NDArray[np.int64]
    values: Maps
    areas: npt.NDArray[np.float64]


def firing(
    maps: Maps,
    thresholds: Maps,
    masks: MaskGrid,
    point: tuple[float, float] | None = None,
    labels: Size | None = None,
) -> Firing:
    """Say which units of a layer are on in an image.

    Parameters
    ----------
    maps
        float32 (U, h, w).
    thresholds
        float32 (U,).
    masks
        How the run makes masks of them.
    point
        x from the left and y from the top, both in 0..1: only units that are on there. None: anywhere.
    labels
        Size of the image's label maps; None: it has none.
    """
    # A pixel exceeds the threshold only if a cell does: most units need no upsampling.
    hot = np.flatnonzero(maps.max(axis=(1, 2)) > thresholds)
    units, values, areas = [], [], []
    for unit in hot:
        scene = masks.values(maps[unit], labels)
        mask = scene > thresholds[unit]
        value = maps[unit].max()
        if point is not None:
            value = scene[_pixel(point[1], scene.shape[0]), _pixel(point[0], scene.shape[1])]
        if (value > thresholds[unit]) and mask.any():
            units.append(unit)
            values.append(value)
            areas.append(mask.mean())
    return Firing(np.array(units, np.int64), np.array(values, np.float32), np.array(areas, np.float64))


def _pixel(place: float, pixels: int) -> int:
    return min(int(place * pixels), pixels - 1)
