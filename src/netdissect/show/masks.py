"""Where a unit is on, as outlines that a page can draw over a picture: lines, dimming, or nothing at all.

    activation maps, threshold -> unit_outlines() -> SVG paths in a square of SIDE x SIDE
    label plane                -> outline()

A picture is thereby kept once, whichever units fire on it and however their masks are shown.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from contourpy import LineType, contour_generator
from matplotlib.path import Path

from netdissect.concepts import Size
from netdissect.config import Anchor
from netdissect.result import LayerInfo
from netdissect.score import grid

SIDE = 128
"""Height and width of the square in which outlines are drawn."""

# Outlines are followed on this many places a side: at the segmentation's 112 they differ by less than a pixel.
PLACES = 64
# Points closer than this to the line between their neighbors are left out: a tenth of the bytes, no visible change.
TOLERANCE = 0.6
# Past the border there is nothing: outlines close just outside of it.
BEYOND = 0.01


def unit_values(
    maps: npt.NDArray[np.float32], layer: LayerInfo, source: tuple[int, int], anchor: Anchor, side: int = PLACES
) -> npt.NDArray[np.float32]:
    """Bring activation maps of one unit over whole pictures.

    Parameters
    ----------
    maps
        float32 (K, h, w).
    layer
        The layer, for its receptive field.
    source
        Height and width of the network's input.
    anchor
        The protocol's.
    side
        Height and width of what is returned.

    Returns
    -------
    float32 (K, side, side)
    """
    cells = Size(*maps.shape[-2:])
    upsampling = grid(cells, Size(side, side), source=Size(*source), field=layer.field, anchor=anchor)
    return upsampling.upsample(np.asarray(maps))


def unit_outlines(values: Iterable[npt.NDArray[np.float32]], threshold: float) -> list[str]:
    """Return an SVG path for each map of `unit_values`: where it exceeds the unit's threshold."""
    return [outline(plane, threshold) for plane in values]


def outline(values: npt.NDArray[np.generic], level: float, smallest: float = 0) -> str:
    """Follow the border of where values lie above a level.

    Parameters
    ----------
    values
        (H, W): values at the centers of the pixels of a picture.
    level
        Values above it are inside.
    smallest
        Lines around a smaller area are left out.

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
    plane = np.asarray(values, np.float64)
    outside = min(float(plane.min(initial=0)), level) - 1
    padded = np.pad(np.pad(plane, 1, mode="edge"), 1, constant_values=outside)
    down, right = (_centers(count) for count in plane.shape)
    lines = contour_generator(x=right, y=down, z=padded, line_type=LineType.Separate).lines(level)
    return "".join(_closed(np.asarray(line), smallest) for line in lines)


def _centers(count: int) -> npt.NDArray[np.float64]:
    inner = (np.arange(count) + 0.5) / count
    return SIDE * np.concatenate([[-BEYOND, 0], inner, [1, 1 + BEYOND]])


def _closed(line: npt.NDArray[np.float64], smallest: float) -> str:
    path = Path(line)
    path.simplify_threshold = TOLERANCE
    points = np.rint(np.asarray(path.cleaned(simplify=True).vertices)[:-1]).astype(int).clip(0, SIDE)
    moved = np.concatenate([[True], (np.diff(points, axis=0) != 0).any(axis=1)])
    kept = points[moved]
    if len(kept) > 1 and (kept[0] == kept[-1]).all():
        kept = kept[:-1]
    right, down = kept.T
    area = abs(int(right @ np.roll(down, -1) - down @ np.roll(right, -1))) / 2
    return f"M{' '.join(map(str, kept.ravel()))}Z" if len(kept) > 2 and area >= smallest else ""
