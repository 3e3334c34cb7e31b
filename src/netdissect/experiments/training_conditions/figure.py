"""Unique detectors under several conditions of training: seeds, means and their intervals, by category."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from netdissect.experiments.counts import TOTAL, categories_of, has_null, largest_unique
from netdissect.experiments.effect_sizes import band_range
from netdissect.experiments.figure_parts import category_legend, deciding_rows, mean_nulls
from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots import FAINT, INK
from netdissect.plots.category_colors import category_colors
from netdissect.plots.style import STACKED, TEXT, WIDTH, mark_null, name_ticks, new_figure, panels

MARGIN = 40
"""Points of the width of a panel beside its axes."""


def draw(result: ExperimentResult, width: float = WIDTH) -> Figure:
    """Draw the totals of the conditions on the left, and their categories on the right."""
    rows = deciding_rows(result)
    names = [str(name) for name in rows["condition"].unique(maintain_order=True)]
    stacked = width < STACKED
    figure = new_figure(width, 5.0 if stacked else 3.0)
    left, right = panels(figure, 2, width_ratios=(1, 1.4))
    _dots(left, rows, TOTAL, 0.0, INK)
    nulls = mean_nulls(rows, "condition")
    mark_null(left, [names.index(name) for name in nulls], list(nulls.values()))
    categories = categories_of(rows)
    present = [name for name in categories if rows.filter(category=name)["unique_detectors"].sum()]
    for index, category in enumerate(present):
        shift = (index - (len(present) - 1) / 2) * 0.7 / max(len(present), 1)
        _dots(right, rows, category, shift, category_colors(categories)[category])
    for axes, share in ((left, 1 if stacked else 1 / 2.4), (right, 1 if stacked else 1.4 / 2.4)):
        higher = name_ticks(axes, range(len(names)), names, 72 * width * share - MARGIN)
        figure.set_figheight(figure.get_figheight() + (higher if stacked or axes is left else 0.0))
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(axis="y", color=FAINT, alpha=0.3, linewidth=0.6)
    left.set_ylabel("unique detectors", color=INK, fontsize=TEXT)
    right.set_ylabel("by category", color=INK, fontsize=TEXT)
    category_legend(figure, present or categories, null=has_null(rows))
    return figure


def _dots(axes: Axes, rows: pl.DataFrame, category: str, shift: float, color: str) -> None:
    """Draw a dot for each seed, and the mean with its interval as a line."""
    most = largest_unique(rows, category)
    for position, name in enumerate(rows["condition"].unique(maintain_order=True)):
        values = rows.filter(condition=name, category=category)["unique_detectors"].to_list()
        low, high = band_range(values, most)
        axes.plot([position + shift - 0.03] * len(values), values, "o", color=color, markersize=4, alpha=0.45, mew=0)
        if len(values) > 1:
            axes.plot([position + shift + 0.03] * 2, [low, high], color=color, linewidth=1.4)
        axes.plot([position + shift + 0.03], [sum(values) / len(values)], "D", color=color, markersize=5, mew=0)
