"""Distribution of IoU over the units of a layer."""

import numpy as np
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
    units = layer_units(result, name, run_quantile(result, quantile), limit)
    largest = max([*units["iou"], limit, 0.1])
    step = STEP * max(1, int(np.ceil(largest / STEP / MAX_BARS)))
    edges = step * np.arange(int(largest / step) + 2)
    figure = new_figure(width, 2.6)
    axes = plain_axes(figure)
    inks = category_colors(result.info.data.categories, colors)
    present = [name for name in inks if (units["category"] == name).any()]
    values = [units.filter(category=name)["iou"].to_numpy() for name in present]
    values.append(units.filter(units["category"].is_null())["iou"].to_numpy())
    axes.hist(values, bins=edges.tolist(), stacked=True, color=[*(inks[name] for name in present), FAINT], rwidth=0.86,
              label=[*present, "no concept"])  # fmt: skip
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
    handles, labels = axes.get_legend_handles_labels()
    shown = len(present) + bool(len(values[-1]))
    legend_above(figure, handles[:shown], labels[:shown])
    return figure
