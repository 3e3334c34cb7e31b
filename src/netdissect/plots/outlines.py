"""Masks as they were scored: pages, figures and the explorer all make masks here.

MaskGrid(layer, network's input, protocol).values(maps)   on the grid on which the run compared masks with labels
values > threshold                                        the scored mask, bit for bit
enlarged(mask, side)                                      pixels for a figure
mask_outline(values, threshold)                           an SVG path for a page, in a square of SIDE x SIDE
outline(label map)                                        an SVG path of labels
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from contourpy import LineType, contour_generator
from matplotlib.path import Path

from netdissect.concepts import Size
from netdissect.config import Protocol
from netdissect.result import LayerInfo, LayerResult, RunInfo
from netdissect.scoring import make_upsampler

T = TypeVar("T", bound=np.generic)
Maps = npt.NDArray[np.float32]

SIDE = 128
"""Height and width of the square in which outlines are drawn."""

# Points closer than this to the line between their neighbors are dropped: a tenth of the bytes, no visible change.
TOLERANCE = 0.6
# For masks, in pixels: outlines are at least 0.17 pixels away from the center of every pixel.
MASK_TOLERANCE = 0.08
# Outlines are closed just outside of the border.
BEYOND = 0.01


@dataclass(frozen=True)
class MaskGrid:
    """Make masks of the activation maps of one layer.

    Attributes
    ----------
    layer
        Its receptive field and the size of its maps are used.
    source
        Height and width of the network's input.
    protocol
        The run's.
    labels
        Size of the label maps of images without label maps; None: half the network's input, as in the published
        data.
    """

    layer: LayerInfo
    source: tuple[int, int]
    protocol: Protocol
    labels: Size | None = None

    @classmethod
    def of(cls, info: RunInfo, layer: LayerResult) -> "MaskGrid":
        """Return the grid of one layer of a run."""
        first = layer.top.select("label_height", "label_width").head(1).rows()
        return cls(layer.info, info.network.size, info.config.protocol, Size(*first[0]) if first else None)

    def size(self, labels: Size | None = None) -> Size:
        """Return the grid on which masks of an image are scored, by the size of its label maps."""
        side = self.protocol.segmentation_size
        if side is not None:
            return Size(side, side)
        return labels or self.labels or Size(max(1, self.source[0] // 2), max(1, self.source[1] // 2))

    def values(self, maps: Maps, labels: Size | None = None) -> Maps:
        """Interpolate maps as they were scored: a mask is where they exceed the unit's threshold.

        Parameters
        ----------
        maps
            float32 (..., h, w).
        labels
            Size of the image's label maps; None: see the class.

        Returns
        -------
        float32 (..., sh, sw)
        """
        cells = Size(self.layer.height, self.layer.width)
        upsampler = make_upsampler(cells, self.size(labels), Size(*self.source), self.layer.field, self.protocol.anchor)
        return upsampler.upsample(np.asarray(maps))

    def outline(self, cells: Maps, threshold: float, labels: Size | None = None) -> str:
        """Return the outline of where one map, float32 (h, w), is above a threshold; see `mask_outline`."""
        return mask_outline(self.values(cells, labels), threshold)


def enlarged(values: npt.NDArray[T], side: int) -> npt.NDArray[T]:
    """Enlarge an array (sh, sw) to (side, side) by its nearest pixels."""
    down, right = (((np.arange(side) + 0.5) * count / side).astype(int) for count in values.shape)
    return np.asarray(values[down[:, None], right])


def mask_outline(values: Maps, threshold: float) -> str:
    """Outline a mask: filled by the rule ``evenodd``, the path contains the centers of exactly its pixels.

    Parameters
    ----------
    values
        float32 (sh, sw); see `MaskGrid.values`.
    threshold
        The unit's: values above it are inside.

    Returns
    -------
    str
        An SVG path of closed lines in a square of `SIDE`, rounded to a tenth or finer; empty where nothing is inside.
    """
    # One digit for pixels of 0.8 or more, so that rounding moves no line over a center.
    digits = 1 + int(np.log10(max(*values.shape, 16) / 16))
    tolerance = MASK_TOLERANCE * SIDE / max(values.shape)
    return _outline(signed(values, threshold), 0.0, tolerance, digits)


def signed(values: Maps, threshold: float) -> npt.NDArray[np.float64]:
    """Return scaled distances of values to a threshold, whose zero line runs between pixels.

    Returns
    -------
    float64 of the shape of `values`
        Above 0 exactly where the mask is; linear near the threshold, and of a magnitude from 0.5 to 1.5, so that the
        border between two neighbors is between a quarter and three quarters of the way.
    """
    inside = values > np.float32(threshold)
    above = values.astype(np.float64) - float(np.float32(threshold))
    border = np.zeros_like(inside)
    for axis in (0, 1):
        changes = np.diff(inside, axis=axis)
        pad = [(0, 0), (0, 0)]
        for pad[axis] in ((0, 1), (1, 0)):
            border |= np.pad(changes, pad)
    near = np.abs(above[border])
    scale = float(np.median(near)) if near.size else 1.0
    size = np.clip(np.abs(above) / (scale or 1.0), 0.5, 1.5)
    return np.where(inside, size, -size)


def outline(values: npt.NDArray[Any], level: float, min_area: float = 0) -> str:
    """Outline the region of values above a level, simplified by up to half a unit.

    Parameters
    ----------
    values
        (H, W): values at the centers of the pixels of an image.
    level
        Values above it are inside.
    min_area
        Outlines of a smaller area are left out.

    Returns
    -------
    str
        An SVG path of closed lines with whole coordinates between 0 and `SIDE`, to be filled by the rule ``evenodd``;
        empty where nothing is inside.

    Examples
    --------
    >>> outline(np.array([[1.0, 0.0], [1.0, 0.0]]), 0.5)
    'M0 0 64 0 64 128 0 128Z'
    """
    return _outline(np.asarray(values, np.float64), level, TOLERANCE, 0, min_area)


def _outline(values: npt.NDArray[np.float64], level: float, tolerance: float, digits: int, min_area: float = 0) -> str:
    outside = min(float(values.min(initial=0)), level) - 1
    padded = np.pad(np.pad(values, 1, mode="edge"), 1, constant_values=outside)
    down, right = (_centers(count) for count in values.shape)
    lines = contour_generator(x=right, y=down, z=padded, line_type=LineType.Separate).lines(level)
    return "".join(_closed(np.asarray(line), tolerance, digits, min_area) for line in lines)


def _centers(count: int) -> npt.NDArray[np.float64]:
    inner = (np.arange(count) + 0.5) / count
    return SIDE * np.concatenate([[-BEYOND, 0], inner, [1, 1 + BEYOND]])


def _closed(line: npt.NDArray[np.float64], tolerance: float, digits: int, min_area: float) -> str:
    path = Path(line)
    path.simplify_threshold = tolerance
    points = np.asarray(path.cleaned(simplify=True).vertices)[:-1].clip(0, SIDE).round(digits)
    distinct = np.concatenate([[True], (np.diff(points, axis=0) != 0).any(axis=1)])
    corners = points[distinct]
    if len(corners) > 1 and (corners[0] == corners[-1]).all():
        corners = corners[:-1]
    right, down = corners.T
    area = abs(float(right @ np.roll(down, -1) - down @ np.roll(right, -1))) / 2
    coordinates = " ".join(f"{number:.6g}" for number in corners.ravel())
    return f"M{coordinates}Z" if len(corners) > 2 and area >= min_area else ""
