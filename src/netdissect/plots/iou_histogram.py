"""Distribution of IoU over the units of a layer."""

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from netdissect.config import Palette
from netdissect.plots.category_colors import category_colors
from netdissect.plots.style import FAINT, INK, SMALL, TEXT, WIDTH, legend_above, new_figure, plain_axes
from netdissect.result import Result
from netdissect.result.queries import layer_units, only_layer, run_min_iou, run_quantile

# With this step the limit of 0.04 is an edge between two bars.
STEP = 0.01
MAX_BARS = 60
NO_CONCEPT = "no concept"


def iou(
    result: Result,
    layer: str | None = None,
    *,
    quantile: float | None = None,
    min_iou: float | None = None,
    colors: Palette = "safe",
    width: float = WIDTH,
) -> Figure:
    """Draw the distribution of the IoU of the units' labels, by category, with the limit for detectors as a line.

    Parameters
    ----------
    result
        A finished run.
    layer
        One of its layers; None: the only one.
    quantile, min_iou
        None: the run's own.
    colors
        ``safe`` for color vision deficiencies, or ``paper``: as in the authors' graphs.
    width
        Inches; type has the same size at any width.

    Returns
    -------
    matplotlib.figure.Figure
    """
    name = only_layer(result, layer)
    limit = run_min_iou(result, name, min_iou)
    edges, counts = iou_counts(result, name, run_quantile(result, quantile), limit)
    figure = new_figure(width, 2.6)
    axes = plain_axes(figure)
    inks = category_colors(result.info.data.categories, colors)
    base = np.zeros(len(edges) - 1, np.int64)
    for name, count in counts.items():
        ink = inks.get(name, FAINT)
        axes.bar((edges[:-1] + edges[1:]) / 2, count, 0.86 * (edges[1] - edges[0]), base, color=ink, label=name)
        base += count
    axes.axvline(limit, color=INK, linewidth=1, linestyle=(0, (4, 2)))
    far = limit > 0.6 * edges[-1]
    axes.annotate(f"{limit:g}", (limit, 1), (-4 if far else 4, -2), xycoords=("data", "axes fraction"),
                  textcoords="offset points", ha="right" if far else "left", va="top", color=INK,
                  fontsize=SMALL)  # fmt: skip
    axes.set_xlim(0, edges[-1])
    axes.set_ylim(0, axes.get_ylim()[1] * 1.14)  # space for the number of the limit
    axes.set_xlabel("IoU of the label", color=INK, fontsize=TEXT)
    axes.set_ylabel("units", color=INK, fontsize=TEXT)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    legend_above(figure, *axes.get_legend_handles_labels())
    return figure


def iou_counts(
    result: Result, layer: str, quantile: float, min_iou: float
) -> tuple[npt.NDArray[np.float64], dict[str, npt.NDArray[np.int64]]]:
    """Count the units of a layer in intervals of the IoU of their labels.

    Returns
    -------
    edges
        float64 (n + 1,): ends of the intervals.
    counts
        int64 (n,) for each category with units, and for units without a label.
    """
    units = layer_units(result, layer, quantile, min_iou)
    largest = max([*units["iou"], min_iou, 0.1])
    step = STEP * max(1, int(np.ceil(largest / STEP / MAX_BARS)))
    edges = step * np.arange(int(largest / step) + 2, dtype=np.float64)
    parts = {name: units.filter(category=name) for name in result.info.data.categories}
    parts[NO_CONCEPT] = units.filter(units["category"].is_null())
    return edges, {name: np.histogram(part["iou"], edges)[0] for name, part in parts.items() if len(part)}
