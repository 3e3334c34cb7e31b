"""The units of a layer in two dimensions, colored by the category of their labels."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from netdissect.config import Palette
from netdissect.plots.category_colors import category_colors
from netdissect.plots.point_labels import label_points
from netdissect.plots.style import FAINT, INK, TEXT, WIDTH, legend_above, new_figure, plain_axes, short
from netdissect.result import Result
from netdissect.result.queries import layer_units, live_unit_maxima, only_layer, run_min_iou, run_quantile
from netdissect.scoring.co_activation import map_units

OTHERS = "no detector"
NAMED_UNITS = 20
MAX_SIDE = 5.0
"""Inches: the points of a wider figure keep this square."""


def unit_map(
    result: Result,
    layer: str | None = None,
    *,
    quantile: float | None = None,
    min_iou: float | None = None,
    colors: Palette = "safe",
    width: float = WIDTH,
) -> Figure:
    """Draw the units of a layer as points: near units respond to the same images.

    The axes are the first two principal components (PC) of the units' maximum activations over images; see
    `netdissect.scoring.co_activation.map_units`. Detectors have the color of their label's category, and other units
    are open circles. The best unit of each concept is named, as far as names have space. Dead units, and those
    whose maximum is the same on all images, are left out.

    Parameters
    ----------
    result
        A finished run.
    layer
        One of its layers; None: the only one.
    quantile, min_iou
        Of labels and detectors; None: the run's first and its own.
    colors
        ``safe`` for color vision deficiencies, or ``paper``: as in the authors' graphs.
    width
        Inches; type has the same size at any width.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ResultError
        If the run has no such layer or quantile, or kept no maximum activations.
    """
    layer = only_layer(result, layer)
    maxima = live_unit_maxima(result, layer).maxima
    points, explained = map_units(maxima)
    units = _labeled(result, layer, run_quantile(result, quantile), run_min_iou(result, layer, min_iou))
    units = units.with_columns(pl.Series("x", points[:, 0]), pl.Series("y", points[:, 1]))
    units = units.filter(pl.Series(np.ptp(maxima, axis=1) > 0))
    side = min(width, MAX_SIDE)
    figure = new_figure(width, side + 0.4)
    axes = plain_axes(figure)
    for category, ink in {OTHERS: FAINT, **category_colors(result.info.data.categories, colors)}.items():
        part = units.filter(category=category)
        if len(part):
            face = "none" if category == OTHERS else ink
            axes.scatter(part["x"], part["y"], s=16, facecolors=face, edgecolors=ink, linewidths=0.8, label=category)
    axes.margins(0.08)
    axes.set_aspect("equal", adjustable="datalim")
    for axis, number, share in zip((axes.xaxis, axes.yaxis), (1, 2), explained, strict=True):
        axis.set_label_text(f"PC {number}, {share:.0%} of the variance", color=INK, fontsize=TEXT)
    legend_above(figure, *axes.get_legend_handles_labels())
    best = units.filter(pl.col("category") != OTHERS).sort("iou", "unit", descending=[True, False])
    named = best.unique("label", keep="first", maintain_order=True).head(NAMED_UNITS).select("label", "x", "y").rows()
    label_points(axes, {short(name): (x, y) for name, x, y in named}, units.select("x", "y").rows())
    return figure


def _labeled(result: Result, layer: str, quantile: float, limit: float) -> pl.DataFrame:
    """Return unit, label, category and IoU of each unit; the category of one that is no detector is `OTHERS`."""
    category = pl.when("detector").then("category").otherwise(pl.lit(OTHERS)).alias("category")
    return layer_units(result, layer, quantile, limit).select("unit", "label", category, "iou")
