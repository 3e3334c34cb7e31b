"""Small drawings on pages: a unit's histogram of activations and firing map, and the map of a layer's units."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.colors import to_rgb
from PIL import Image

from netdissect.plots.outlines import enlarged
from netdissect.report import urls
from netdissect.report.drawing.chart_values import Columns, firing_values, histogram_values, map_values
from netdissect.report.layer_tables import LayerTables

WIDTH, HEIGHT = 480, 108
BARS = 60
MAP_SIDE = 48
LEVELS = 16
MAP_WIDTH = 640.0
MAX_POINTS = 2048
"""Units on the map of a layer."""


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
    values
        Of the bars, for the copy menu; see `netdissect.report.drawing.chart_values`.
    """

    below: str
    above: str
    threshold: float
    low: float
    high: float
    zeros: int
    total: int
    values: Columns


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
    values
        Of all cells, for the copy menu; see `netdissect.report.drawing.chart_values`.
    """

    image: str
    largest: int
    location: str
    values: Columns


@dataclass(frozen=True)
class MapPoint:
    """One unit on the map of its layer; url: of its page, None if it has none."""

    x: float
    y: float
    unit: int
    label: str | None
    url: str | None


@dataclass(frozen=True)
class UnitMapSvg:
    """The units of a layer in two dimensions: near units respond to the same images.

    Attributes
    ----------
    width, height
        Of the drawing.
    detectors
        Category -> its detectors.
    others
        Units that are no detectors.
    explained
        Share of the variance that each axis explains.
    units, varying
        Units that are drawn, and all that could be.
    images
        Images over which they are compared.
    left_out
        Units that are dead or have the same maximum on all images.
    values
        Of the units that are drawn, for the copy menu; see `netdissect.report.drawing.chart_values`.
    """

    width: float
    height: float
    detectors: Mapping[str, tuple[MapPoint, ...]]
    others: tuple[MapPoint, ...]
    explained: tuple[float, float]
    units: int
    varying: int
    images: int
    left_out: int
    values: Columns


def unit_map_svg(tables: LayerTables) -> UnitMapSvg | None:
    """Draw the map of a layer; None if its image maxima were not kept or fewer than two units vary.

    Of a layer of more than `MAX_POINTS` units, those of highest IoU are drawn.
    """
    co_activation = tables.run.co_activation
    if not co_activation.is_known(tables.name):
        return None
    points, explained = co_activation.map_of(tables.name)
    varies = np.asarray(points.any(axis=1))
    if varies.sum() < 2:
        return None
    # Equal scales of both axes: distances are those of the plane.
    low = points[varies].min(axis=0)
    scale = MAP_WIDTH / max(float((points[varies, 0] - low[0]).max()), 1e-9)
    placed = ((points - low) * scale).round(1)
    height = float(placed[varies, 1].max())
    pages = tables.units_with_page
    drawn: dict[str, list[MapPoint]] = {}
    frame = tables.labels.filter(pl.Series(varies)).sort("iou", "unit", descending=[True, False]).head(MAX_POINTS)
    for row in frame.iter_rows(named=True):
        unit = row["unit"]
        url = urls.unit(tables.run.index, tables.index, unit) if unit in pages else None
        point = MapPoint(float(placed[unit, 0]), round(height - float(placed[unit, 1]), 1), unit, row["label"], url)
        drawn.setdefault(row["category"] if row["detector"] else "", []).append(point)
    others = tuple(drawn.pop("", ()))
    detectors = {name: tuple(drawn[name]) for name in tables.run.result.info.data.categories if name in drawn}
    return UnitMapSvg(
        MAP_WIDTH, height, detectors, others, (float(explained[0]), float(explained[1])), len(frame), int(varies.sum()),
        co_activation.images(tables.name), int((~varies).sum()), map_values(frame, points),
    )  # fmt: skip


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
        _bars(heights, 0, position), _bars(heights, position, WIDTH), round(position, 1), low, high, zeros, total,
        histogram_values(edges, counts),
    )  # fmt: skip


def _bars(heights: npt.NDArray[np.float64], start: float, stop: float) -> str:
    """Return the outline of the bars between two positions."""
    step = WIDTH / len(heights)
    base = HEIGHT + 4
    parts = []
    for index, height in enumerate(heights):
        right = min((index + 1) * step, stop)
        if right > max(index * step, start):
            parts.append(f"V{base - height:.3g}H{right:.4g}")
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
    return FiringMapSvg(url, int(counts.max()), location, firing_values(firing_map))


def _png(levels: npt.NDArray[np.uint8], color: str) -> str:
    """Return levels, uint8 (side, side), as a PNG of one color that is opaque at the highest level."""
    image = Image.fromarray(levels, "P")
    image.putpalette([round(255 * part) for part in to_rgb(color)] * LEVELS)
    opacity = bytes(255 * level // (LEVELS - 1) for level in range(LEVELS))
    file = io.BytesIO()
    image.save(file, "PNG", transparency=opacity, optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
