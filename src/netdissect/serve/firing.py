"""Which units are on where in one picture: the dissection's own rule, applied to a single picture."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from netdissect.concepts import Size
from netdissect.config import Anchor
from netdissect.result import LayerInfo, RunInfo
from netdissect.score import grid
from netdissect.show.masks import unit_outlines, unit_values

Maps = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Geometry:
    """How a layer's maps are laid over a picture.

    Attributes
    ----------
    layer
        For its receptive field and map size.
    source
        Height and width of the network's input.
    anchor
        The protocol's.
    """

    layer: LayerInfo
    source: tuple[int, int]
    anchor: Anchor

    @classmethod
    def of(cls, info: RunInfo, layer: LayerInfo) -> "Geometry":
        """Return the geometry of one layer of a run."""
        return cls(layer, info.network.size, info.config.protocol.anchor)

    @property
    def segmentation(self) -> Size:
        """Size on which masks are measured: half the network's input, as the label maps of the published data."""
        return Size(max(1, self.source[0] // 2), max(1, self.source[1] // 2))

    def upsample(self, maps: Maps, size: Size) -> Maps:
        """Bring maps, float32 (..., h, w), to a size as the dissection does."""
        cells = Size(self.layer.height, self.layer.width)
        return grid(cells, size, Size(*self.source), self.layer.field, self.anchor).upsample(maps)

    def outline(self, maps: Maps, threshold: float) -> str:
        """Return where one map, float32 (h, w), is above a threshold; see `netdissect.show.masks.outline`."""
        values = unit_values(maps[None], self.layer, self.source, self.anchor)
        return unit_outlines(values, threshold)[0]


@dataclass(frozen=True)
class Firing:
    """Units that are on somewhere, or at the point asked for.

    Attributes
    ----------
    units
        int64 (n,): their numbers, rising.
    values
        float32 (n,): the largest activation in the picture; at a point, the activation there.
    areas
        float64 (n,): share of the picture in which each is on.
    """

    units: npt.NDArray[np.int64]
    values: Maps
    areas: npt.NDArray[np.float64]


def firing(maps: Maps, thresholds: Maps, geometry: Geometry, point: tuple[float, float] | None = None) -> Firing:
    """Say which units of a layer are on in a picture.

    Parameters
    ----------
    maps
        float32 (U, h, w).
    thresholds
        float32 (U,).
    geometry
        How the maps lie over the picture.
    point
        x from the left and y from the top, both in 0..1: only units that are on there. None: anywhere.
    """
    # A pixel exceeds the threshold only if a cell does: most units need no upsampling.
    hot = np.flatnonzero(maps.max(axis=(1, 2)) > thresholds)
    size = geometry.segmentation
    units, values, areas = [], [], []
    for unit in hot:
        scene = geometry.upsample(maps[unit], size)
        mask = scene > thresholds[unit]
        value = maps[unit].max()
        if point is not None:
            value = scene[_pixel(point[1], size.height), _pixel(point[0], size.width)]
        if (value > thresholds[unit]) and mask.any():
            units.append(unit)
            values.append(value)
            areas.append(mask.mean())
    return Firing(np.array(units, np.int64), np.array(values, np.float32), np.array(areas, np.float64))


def _pixel(place: float, pixels: int) -> int:
    return min(int(place * pixels), pixels - 1)
