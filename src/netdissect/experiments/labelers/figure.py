"""Mean correlation of predicted and measured activation by layer, and the planted units that each labeler recovers."""

from collections.abc import Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from netdissect.experiments.figure_parts import plain_text, short
from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots.style import FAINT, INK, SMALL, STACKED, TEXT, WIDTH, legend_above, new_figure, panels

COLORS = (INK, "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#f0e442")
MARKS = "osv^DpX*"
ROW = 0.17  # inches of one labeler
ALL = "all layers"


def draw(result: ExperimentResult, width: float = WIDTH) -> Figure:
    """Draw a point with its 95 % interval over units for each labeler: correlation by layer, and recovered units."""
    table = result.table.with_columns(pl.col("layer").fill_null(ALL))
    names = table["labeler"].unique(maintain_order=True).to_list()
    networks = table["network"].unique(maintain_order=True).to_list()
    of_first, planted = table.filter(network=networks[0]), table.filter(pl.col("recovered").is_not_null(), layer=ALL)
    groups = of_first["layer"].unique(maintain_order=True).to_list()
    if len(groups) == 2:  # one layer: all layers are the same
        of_first, groups = of_first.filter(layer=ALL), [groups[1]]
        of_first = of_first.with_columns(pl.lit(groups[0]).alias("layer"))
    drawn = [(of_first, groups, "correlation", "correlation on held-out images")]
    if len(planted):
        shown = planted.with_columns(pl.col("network").alias("layer"))
        drawn.append((shown, planted["network"].unique().to_list(), "recovered", "planted units recovered"))
    rows = max(len(each[1]) for each in drawn) * (len(names) + 1)
    stacked = len(drawn) > 1 and width < STACKED
    total = sum(len(each[1]) for each in drawn) * (len(names) + 1) if stacked else rows
    figure = new_figure(width, 1.0 + (0.6 if stacked else 0) + ROW * total)
    all_axes = panels(figure, len(drawn)) if len(drawn) > 1 else [figure.add_subplot()]
    for axes, (rows_of, labels, column, title) in zip(all_axes, drawn, strict=True):
        _points(axes, rows_of, labels, names, column)
        axes.set_xlabel(title, color=INK, fontsize=TEXT)
    handles = [
        all_axes[0].plot([], [], color=COLORS[index % len(COLORS)], marker=MARKS[index % len(MARKS)], markersize=4.5,
                         linestyle="none")[0]
        for index in range(len(names))
    ]  # fmt: skip
    legend_above(figure, handles, [short(name) for name in names])
    return figure


def _points(axes: Axes, rows: pl.DataFrame, groups: Sequence[str], names: Sequence[str], column: str) -> None:
    """Draw points with intervals: a group of labelers for each layer, below each other."""
    step = len(names) + 1
    axes.axvline(0, color=FAINT, linewidth=0.8)
    for row in rows.iter_rows(named=True):
        if row[column] is None:
            continue
        index = names.index(row["labeler"])
        color, at = COLORS[index % len(COLORS)], groups.index(row["layer"]) * step + index
        if row[f"{column}_low"] is not None:
            axes.hlines(at, row[f"{column}_low"], row[f"{column}_high"], color=color, linewidth=1.2)
        axes.plot([row[column]], [at], color=color, marker=MARKS[index % len(MARKS)], markersize=4.5)
    middles = [index * step + (len(names) - 1) / 2 for index in range(len(groups))]
    axes.set_yticks(middles, [short(name) for name in groups], fontsize=SMALL, color=INK)
    axes.set_ylim(len(groups) * step - 1 + 0.2, -1.2)
    axes.tick_params(axis="x", labelsize=SMALL)
    axes.grid(axis="x", color=FAINT, alpha=0.3, linewidth=0.6)
    plain_text(axes)
