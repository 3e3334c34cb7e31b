"""Small drawings on a unit's page: the histogram of its activations, and its firing map."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_rgb
from PIL import Image

from netdissect.plots.outlines import enlarged
from netdissect.report.layer_tables import LayerTables

WIDTH, HEIGHT = 480, 108
BARS = 60
MAP_SIDE = 48
LEVELS = 16


@dataclass(frozen=True)
class HistogramSvg:
    """Bars of equal width between the smallest and the largest activation, as SVG paths.

    Attributes
    ----------
    below, above
        Paths of the bars below and above the threshold.
    threshold
        Its position on the axis, in the drawing's units.
    low, high
        Ends of the axis.
    zeros, total
        Values that are exactly 0, and all.
    """

    below: str
    above: str
    threshold: float
    low: float
    high: float
    zeros: int
    total: int


@dataclass(frozen=True)
class FiringMapSvg:
    """Where in the image a unit is active, over all images.

    Attributes
    ----------
    image
        A PNG as a data URL: the unit's color, denser where it is active more often.
    largest
        Number of images in which the densest cell is active.
    location
        Location of that cell, in words.
    """

    image: str
    largest: int
    location: str


def histogram_svg(bins: Sequence[Mapping[str, Any]], threshold: float) -> HistogramSvg | None:
    """Draw a histogram of bins of any width (low, high, count); None without two different values.

    The values of a bin are assumed to be spread evenly over it.
    """
    if not bins:
        return None
    low, high = bins[0]["bin_low"], bins[-1]["bin_high"]
    if not high > low:
        return None
    lows, highs, values = np.array([(each["bin_low"], each["bin_high"], each["count"]) for each in bins]).T
    edges, wide = np.linspace(low, high, BARS + 1), highs > lows
    lower, width = lows[wide, None], (highs - lows)[wide, None]
    counts = values[wide] @ np.diff(np.clip((edges - lower) / width, 0, 1), axis=1)
    bar = np.minimum(np.searchsorted(edges, lows[~wide], side="right") - 1, BARS - 1)
    np.add.at(counts, bar, values[~wide])
    heights = np.log1p(counts) / np.log1p(counts.max()) * HEIGHT
    position = float(np.clip((threshold - low) / (high - low), 0, 1)) * WIDTH
    zeros = sum(each["count"] for each in bins if each["bin_low"] == each["bin_high"] == 0)
    total = sum(each["count"] for each in bins)
    return HistogramSvg(
        _bars(heights, 0, position), _bars(heights, position, WIDTH), round(position, 1), low, high, zeros, total
    )


def _bars(heights: npt.NDArray[np.float64], start: float, stop: float) -> str:
    """Return the outline of the bars between two positions."""
    step = WIDTH / len(heights)
    base = HEIGHT + 4
    parts = []
    for index, height in enumerate(heights):
        right = min((index + 1) * step, stop)
        if right > max(index * step, start):
            parts.append(f"V{base - height:.4g}H{right:.4g}")
    return f"M{start:.4g} {base}{''.join(parts)}V{base}Z" if parts else ""


def firing_map_svg(tables: LayerTables, firing_map: Sequence[Sequence[int]], color: str) -> FiringMapSvg | None:
    """Draw the firing map of a unit; None if it was not measured or the unit is never active."""
    counts = np.asarray(firing_map, np.float32)
    if counts.size < 2 or counts.max() <= 0:
        return None
    spread = enlarged(tables.masks.values(counts), MAP_SIDE)
    url = _png(np.rint((LEVELS - 1) * spread / spread.max()).astype(np.uint8), color)
    row, column = np.unravel_index(int(spread.argmax()), spread.shape)
    vertical, horizontal = (3 * int(pixel) // MAP_SIDE for pixel in (row, column))
    location = f"the {('top', 'middle', 'bottom')[vertical]}, {('left', 'center', 'right')[horizontal]}"
    return FiringMapSvg(url, int(counts.max()), location)


def _png(levels: npt.NDArray[np.uint8], color: str) -> str:
    """Return levels, uint8 (side, side), as a PNG of one color that is opaque at the highest level."""
    image = Image.fromarray(levels, "P")
    image.putpalette([round(255 * part) for part in to_rgb(color)] * LEVELS)
    opacity = bytes(255 * level // (LEVELS - 1) for level in range(LEVELS))
    file = io.BytesIO()
    image.save(file, "PNG", transparency=opacity, optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
