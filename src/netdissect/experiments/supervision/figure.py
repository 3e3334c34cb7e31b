"""Unique detectors of networks that were trained on different tasks: means over seeds, and each seed."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from netdissect.experiments.counts import TOTAL, categories_of, has_null
from netdissect.experiments.figure_parts import category_legend, deciding_rows, mean_nulls, plain_text, short
from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots import FAINT, INK
from netdissect.plots.category_colors import category_colors
from netdissect.plots.style import SMALL, TEXT, WIDTH, mark_null, new_figure, plain_axes

GAP = 0.5
"""Gap between supervised, self-supervised and random."""


def draw(result: ExperimentResult, width: float = WIDTH) -> Figure:
    """Draw a stacked bar for each task, the mean over seeds; the total of each seed is a dot."""
    rows = deciding_rows(result)
    rows = rows.filter(layer=rows["layer"][-1])
    kinds = rows.select("task", "kind").unique(maintain_order=True).rows()
    positions: dict[str, float] = {}
    for (task, kind), before in zip(kinds, [None, *(kind for _, kind in kinds)], strict=False):
        positions[task] = max(positions.values(), default=-1) + 1 + (GAP if before not in (None, kind) else 0)
    figure = new_figure(width, 0.9 + 0.24 * (max(positions.values()) + 1))
    axes = plain_axes(figure)
    _bars(axes, rows, positions)
    axes.set_yticks(list(positions.values()), [short(name) for name in positions], fontsize=SMALL, color=INK)
    axes.set_ylim(max(positions.values()) + 0.6, -0.6)
    axes.set_xlabel("unique detectors; dots: each seed", color=INK, fontsize=TEXT)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.grid(axis="x", color=FAINT, alpha=0.3, linewidth=0.6)
    plain_text(axes)
    category_legend(
        figure,
        [name for name in categories_of(rows) if rows.filter(category=name)["unique_detectors"].sum()],
        null=has_null(rows),
    )
    return figure


def _bars(axes: Axes, rows: pl.DataFrame, positions: dict[str, float]) -> None:
    colors = category_colors(categories_of(rows))
    means = rows.group_by("task", "category").agg(pl.col("unique_detectors").mean()).rows()
    values = {(task, category): float(mean or 0) for task, category, mean in means}
    for task, position in positions.items():
        start = 0.0
        for category in categories_of(rows):
            axes.barh(position, values[task, category], left=start, color=colors[category], height=0.7)
            start += values[task, category]
        seeds = rows.filter(task=task, category=TOTAL)["unique_detectors"].to_list()
        axes.plot(seeds, [position] * len(seeds), "o", markersize=4, color=INK, markeredgecolor="white", zorder=3)
    nulls = mean_nulls(rows, "task")
    mark_null(axes, list(nulls.values()), [positions[task] for task in nulls])
    axes.set_xlim(0, max(float(rows["unique_detectors"].to_numpy().max()), *nulls.values(), 1.0) * 1.08)
