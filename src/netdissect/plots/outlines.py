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

from netdissect.concepts import Size
from netdissect.config import Protocol
from netdissect.plots.contours import contour_path, signed_distances
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
    return _path(signed(values, threshold), tolerance, digits)


def signed(values: Maps, threshold: float) -> npt.NDArray[np.float64]:
    """Return scaled distances of values to a threshold, whose zero line runs between pixels.

    Returns
    -------
    float64 of the shape of `values`
        Above 0 exactly where the mask is; linear near the threshold, and of a magnitude from 0.5 to 1.5, so that the
        border between two neighbors is between a quarter and three quarters of the way.
    """
    return np.asarray(signed_distances(np.asarray(values, np.float32), np.float32(threshold)))


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
    'M64 0l0 128-64 0 0-128z'
    """
    return _path(np.asarray(values, np.float64) - level, TOLERANCE, 0, min_area)


def _path(distances: npt.NDArray[np.float64], tolerance: float, digits: int, min_area: float = 0) -> str:
    text: bytes = contour_path(distances, float(SIDE), tolerance, digits, float(min_area)).tobytes()
    return text.decode("ascii")
