"""An image segmented by the units of a layer: each pixel gets the concept of its most active detector.

segment_image(maps, detectors, masks) -> Segmentation        numbers and outlines, also for pages
segmented_image(pixels, {layer: segmentation}) -> Figure     for papers: segments in named colors, with a legend
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from netdissect.concepts import Size
from netdissect.plots.outlines import MaskGrid, mask_path
from netdissect.plots.style import INK, SMALL, STACKED, TEXT, WIDTH, as_written, new_figure, short
from netdissect.result import Result
from netdissect.result.queries import layer_units, run_min_iou, run_quantile
from netdissect.scoring.segmentation.most_active import NOWHERE, ActiveDetectors, DetectorLevels, most_active

Maps = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int32]
Pixels = npt.NDArray[np.uint8]
Concept = tuple[str, str]
"""Label and category."""

SEGMENT_COLORS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D3322C",
    "sky blue": "#56B4E9",
    "yellow": "#F0E442",
    "pink": "#CC79A7",
    "purple": "#6A3D9A",
    "brown": "#8C564B",
    "lime": "#9ACD32",
    "navy": "#1B2A6B",
    "peach": "#FFB78A",
}
"""Colors of the concepts with the largest segments; the first eight can be told apart with any color vision."""
OTHER = ("gray", "#9A9A9A")
"""Color of all further concepts."""
OPACITY = 0.62
LINE = 0.18  # inches of a line of a legend
FADED = 0.35  # of the colors of the photograph behind the segments


@dataclass(frozen=True)
class Segment:
    """One concept in a segmented image.

    Attributes
    ----------
    concept, category
        Label of its detectors.
    units
        Its detectors that are active in the image, ascending.
    color, color_name
        ``#RRGGBB``, and its name.
    share
        Share of the image that is its segment.
    active_share
        Share of the image in which at least one of its detectors is active: the union of their masks.
    path
        The segment as an SVG path; see `netdissect.plots.outlines.mask_path`.
    union_path
        The union of the masks as an SVG path.
    """

    concept: str
    category: str
    units: tuple[int, ...]
    color: str
    color_name: str
    share: float
    active_share: float
    path: str
    union_path: str


@dataclass(frozen=True)
class Segmentation:
    """An image segmented by the detectors of one layer.

    Attributes
    ----------
    units
        int32 (sh, sw), on the grid on which the run scores masks: the detector whose concept a pixel gets; -1 where no
        detector is active.
    labels
        int32 (sh, sw): index into `segments`; -1 where no detector is active.
    segments
        The concepts of these detectors, largest share first.
    """

    units: Indices
    labels: Indices
    segments: tuple[Segment, ...]


def detectors(result: Result, layer: str, quantile: float | None = None) -> pl.DataFrame:
    """Return the detectors of a layer at one of the run's quantiles.

    Returns
    -------
    DataFrame
        unit, label, category, threshold, max_activation (over the data set); by unit.
    """
    quantile = run_quantile(result, quantile)
    units = layer_units(result, layer, quantile, run_min_iou(result, layer)).filter("detector")
    largest = result.layer(layer).thresholds.filter(pl.col("quantile") == quantile).select("unit", "max_activation")
    return units.join(largest, on="unit", how="left", maintain_order="left").select(
        "unit", pl.col("label", "category").cast(pl.String), "threshold", "max_activation"
    )


def segment_image(maps: Maps, detectors: pl.DataFrame, masks: MaskGrid, label_size: Size | None = None) -> Segmentation:
    """Segment an image by the detectors of a layer: each pixel has its most active detector.

    See `netdissect.scoring.segmentation.most_active.most_active`.

    Parameters
    ----------
    maps
        float32 (U, h, w): activation maps of the layer's units on the image.
    detectors
        unit, label, category, threshold (of the masks) and max_activation (over the data set); see `detectors`.
    masks
        How the run makes masks of activation maps.
    label_size
        Size of the image's label maps; None: it has none.
    """
    columns = detectors.sort("unit")
    active = most_active(maps, detector_levels(columns), masks.upsampler(label_size))
    units_of: dict[Concept, list[int]] = {}
    for unit, label, category in columns.select("unit", "label", "category").iter_rows():
        if unit in active.masks:
            units_of.setdefault((label, category), []).append(unit)
    return _segmentation(active, units_of)


def detector_levels(detectors: pl.DataFrame) -> DetectorLevels:
    """Return the levels of detectors that are sorted by unit; see `detectors`."""
    units = detectors["unit"].to_numpy().astype(np.int64)
    thresholds, largest = (detectors[name].to_numpy().astype(np.float32) for name in ("threshold", "max_activation"))
    return DetectorLevels(units, thresholds, largest)


def _segmentation(active: ActiveDetectors, units_of: Mapping[Concept, list[int]]) -> Segmentation:
    units = active.units
    shares = {concept: float(np.isin(units, own).mean()) for concept, own in units_of.items()}
    order = sorted(shares, key=lambda concept: (-shares[concept], concept))
    colors = segment_colors(order)
    labels, segments = np.full(units.shape, NOWHERE, np.int32), []
    for index, concept in enumerate(order):
        region = np.isin(units, units_of[concept])
        union = np.logical_or.reduce([active.masks[unit] for unit in units_of[concept]])
        labels[region] = index
        segments.append(
            Segment(
                concept=concept[0],
                category=concept[1],
                units=tuple(units_of[concept]),
                color=colors[concept][1],
                color_name=colors[concept][0],
                share=shares[concept],
                active_share=float(union.mean()),
                path=mask_path(region),
                union_path=mask_path(union),
            )
        )
    return Segmentation(units, labels, tuple(segments))


def segment_colors(concepts: Sequence[Concept]) -> dict[Concept, tuple[str, str]]:
    """Return name and value of the color of each concept (label, category), in order of importance.

    A concept has the same color in most images and layers: that of its name, or the next that is free.

    >>> segment_colors([("car", "object")]) == segment_colors([("car", "object"), ("sky", "object")][:1])
    True
    """
    free, chosen = list(SEGMENT_COLORS.items()), {}
    for concept in concepts:
        if not free:
            chosen[concept] = OTHER
            continue
        wanted = crc32("\0".join(concept).encode()) % len(SEGMENT_COLORS)
        names = list(SEGMENT_COLORS)
        chosen[concept] = min(free, key=lambda color: (names.index(color[0]) - wanted) % len(names))
        free.remove(chosen[concept])
    return chosen


def segmented_image(image: Image.Image, segmentations: Mapping[str, Segmentation], width: float = WIDTH) -> Figure:
    """Draw an image beside its segmentation by each layer, with a legend.

    Parameters
    ----------
    image
        RGB.
    segmentations
        By the name of the layer.
    width
        Inches; type has the same size at any width. A narrow figure shows the segments alone.

    Returns
    -------
    matplotlib.figure.Figure
    """
    pixels = np.asarray(image.convert("RGB"))
    columns = 2 if width < STACKED else 3
    lines = max(_lines(segmentation) for segmentation in segmentations.values())
    height = max(width / columns * len(pixels) / pixels.shape[1], lines * LINE)
    figure = new_figure(width, height * len(segmentations))
    grid = figure.subplots(len(segmentations), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    if columns == 3:
        grid[0, 0].imshow(pixels, interpolation="antialiased")
    for row, (layer, segmentation) in zip(grid, segmentations.items(), strict=True):
        draw_segments(row[-2], pixels, segmentation)
        _draw_legend(row[-1], layer, segmentation)
    return figure


def _lines(segmentation: Segmentation) -> int:
    """Return the number of lines of a legend, at most: the title, the named colors and the others."""
    return 2 + min(len(segmentation.segments), len(SEGMENT_COLORS) + 1)


def draw_segments(axes: Axes, pixels: Pixels, segmentation: Segmentation) -> None:
    """Draw an image, faded, with its segments in their colors: whole pixels of the grid of the masks."""
    height, width = pixels.shape[:2]
    gray = pixels.mean(axis=2, keepdims=True)
    axes.imshow((FADED * pixels + (1 - FADED) * gray).astype(np.uint8), interpolation="antialiased")
    colors = np.array([to_rgb(segment.color) for segment in segmentation.segments]).reshape(-1, 3)
    shown = segmentation.labels != NOWHERE
    overlay = np.zeros((*shown.shape, 4))
    overlay[shown] = np.concatenate([colors, np.full((len(colors), 1), OPACITY)], axis=1)[segmentation.labels[shown]]
    axes.imshow(overlay, extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="nearest")


def percent(share: float) -> str:
    """Format a share of an image.

    >>> percent(0.123), percent(0.001)
    ('12%', '<1%')
    """
    return "<1%" if 0 < share < 0.01 else f"{share:.0%}"


def _draw_legend(axes: Axes, layer: str, segmentation: Segmentation) -> None:
    shown = [segment for segment in segmentation.segments if segment.share > 0]
    named = [segment for segment in shown if segment.color_name != OTHER[0]]
    others = shown[len(named) :]
    handles = [Patch(color=segment.color, alpha=OPACITY) for segment in named]
    texts = [f"{short(segment.concept)}  {percent(segment.share)}" for segment in named]
    if others:
        handles.append(Patch(color=OTHER[1], alpha=OPACITY))
        texts.append(f"{len(others)} other concepts  {percent(sum(segment.share for segment in others))}")
    if not handles:
        text = f"{layer}\nno detector is active\nin this image"
        axes.text(0, 0.5, text, va="center", color=INK, fontsize=SMALL)
        return
    legend = axes.legend(
        handles, texts, loc="center left", frameon=False, fontsize=SMALL, title=layer, title_fontsize=TEXT,
        alignment="left", borderaxespad=0, handlelength=1.2, handleheight=1.0, labelspacing=0.35,
    )  # fmt: skip
    as_written([*legend.get_texts(), legend.get_title()])
