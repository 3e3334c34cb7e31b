"""The best IoU of every concept in two runs."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from netdissect.config import Palette
from netdissect.plots.category_colors import category_colors
from netdissect.plots.point_labels import label_points
from netdissect.plots.style import FAINT, INK, TEXT, WIDTH, fitted, legend_above, new_figure, plain_axes, short
from netdissect.result import Result
from netdissect.result.queries import best_units, run_min_iou, run_names, run_quantile
from netdissect.result.result import check_is_run

NAMED_CONCEPTS = 20
MAX_SIDE = 5.0
"""Inches: the points of a wider figure keep this square."""
MARGIN = 90
"""Points of that side beside the axes."""


def concept_scatter(
    first: Result,
    second: Result,
    *,
    layer: str | None = None,
    quantile: float | None = None,
    min_iou: float | None = None,
    colors: Palette = "safe",
    names: Sequence[str] | None = None,
    width: float = WIDTH,
) -> Figure:
    """Draw, for every concept, the best IoU of any unit of one run against that of another.

    Concepts above and to the right of the dashed lines have a unit above the limit in both runs. The concepts that
    differ most are named, as far as their names have space.

    Parameters
    ----------
    first, second
        Two finished runs on the same concepts.
    layer
        A layer of both runs; None: of each concept, the best unit of any layer of the network.
    quantile, min_iou
        None: the first run's own; of its layers, the lowest.
    colors
        ``safe`` for color vision deficiencies, or ``paper``: as in the authors' graphs.
    names
        Titles of the two runs; None: the names of their networks.
    width
        Inches; type has the same size at any width.

    Returns
    -------
    matplotlib.figure.Figure
    """
    check_is_run(first, second)
    limit = min(run_min_iou(first, name, min_iou) for name in _layers(first, layer) or first.layers)
    left, right = (_best(each, quantile, layer) for each in (first, second))
    both = left.join(right, on=("concept", "category"), how="full", coalesce=True, suffix="-second").fill_null(0.0)
    side = min(width, MAX_SIDE)
    figure = new_figure(width, side + 0.4)
    axes = plain_axes(figure)
    largest = max([0.1, limit, *both["iou"], *both["iou-second"]]) * 1.08
    lines = _draw_lines(axes, limit, largest)
    categories = list(dict.fromkeys((*first.info.data.categories, *second.info.data.categories)))
    for category, ink in category_colors(categories, colors).items():
        part = both.filter(category=category)
        if len(part):
            axes.scatter(part["iou"], part["iou-second"], s=16, color=ink, label=category, linewidths=0)
    axes.set_xlim(0, largest)
    axes.set_ylim(0, largest)
    axes.set_aspect("equal")
    for axis, title in zip((axes.xaxis, axes.yaxis), run_names((first, second), names), strict=True):
        text = f"best IoU, {title}" if layer is None else f"best IoU, {title}, {layer}"
        axis.set_label_text(fitted(text, 72 * side - MARGIN, TEXT), color=INK, fontsize=TEXT, parse_math=False)
    legend_above(figure, *axes.get_legend_handles_labels())
    differing = both.filter(pl.max_horizontal("iou", "iou-second") >= limit).sort(
        (pl.col("iou") - pl.col("iou-second")).abs(), "concept", descending=[True, False]
    )
    named = differing.head(NAMED_CONCEPTS).select("concept", "iou", "iou-second").rows()
    points = both.select("iou", "iou-second").rows()
    label_points(axes, {short(name): (x, y) for name, x, y in named}, points, lines)
    return figure


def _draw_lines(axes: Axes, limit: float, largest: float) -> list[tuple[float, float]]:
    """Draw the diagonal and the limits, and return positions along them."""
    along, level = np.linspace(0, largest, 200), np.full(200, limit)
    axes.plot(along, along, color=FAINT, linewidth=0.8)
    for across, up in ((level, along), (along, level)):
        axes.plot(across, up, color=FAINT, linewidth=0.8, linestyle=(0, (4, 2)))
    return list(zip([*along, *level, *along], [*along, *along, *level], strict=True))


def _layers(result: Result, layer: str | None) -> list[str]:
    """Return a layer, or None: all layers of the network once, without other bases of them."""
    if layer is not None:
        return [result.layer(layer).info.name]
    return [name for name, each in result.layers.items() if each.info.basis_of is None and name not in result.same_as]


def _best(result: Result, quantile: float | None, layer: str | None) -> pl.DataFrame:
    """Return the best IoU of every concept in a layer, or over all: concept, category, iou."""
    quantile = run_quantile(result, quantile)
    layers = [best_units(result, name, quantile, 1).select("concept", "iou") for name in _layers(result, layer)]
    every = result.concepts.select("concept", "category")
    best = pl.concat(layers).group_by("concept").max() if layers else pl.DataFrame({"concept": [], "iou": []})
    return every.join(best, on="concept", how="left").fill_null(0.0)
