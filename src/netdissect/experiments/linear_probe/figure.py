"""Accuracy of linear classifiers against the unique detectors of their layers."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from netdissect.experiments.figure_parts import short
from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots import FAINT, INK, plain
from netdissect.plots.category_colors import CATEGORY_COLORS, OTHER_COLORS

MAX_NUMBERED = 30  # more names do not fit next to the figure
MARKERS = {"paper": "o", "cross-validated": "D"}


def draw(result: ExperimentResult) -> Figure:
    """Draw a point for each layer: its unique detectors, and the mean accuracy with the range over splits."""
    category = str(result.config.get("category", "object"))
    color = CATEGORY_COLORS.get(category, OTHER_COLORS[0])
    figure = Figure(figsize=(8.4, 4.4), layout="constrained")
    axes = plain(figure.add_subplot())
    for selection, marker in MARKERS.items():
        points = result.table.filter(C_selection=selection).group_by("network", "layer", maintain_order=True).agg(
            pl.col("unique_detectors").first(), pl.col("accuracy").mean(),
            low=pl.col("accuracy").min(), high=pl.col("accuracy").max(),
        )  # fmt: skip
        if points.is_empty():
            continue
        filled = selection == "paper"
        name = f"C = {result.config['penalty']:g}" if filled else "C by cross-validation"
        axes.vlines(points["unique_detectors"], points["low"], points["high"], color=color, alpha=0.4, linewidth=1.2)
        axes.plot(
            points["unique_detectors"], points["accuracy"], marker, markersize=6 if filled else 5, color=color,
            markerfacecolor=color if filled else "white", linestyle="none", label=name,
        )  # fmt: skip
        if filled and len(points) <= MAX_NUMBERED:
            _name_points(figure, axes, points)
    axes.axhline(
        1 / max(int(result.context.get("classes", 1)), 1), color=FAINT, linewidth=0.8, linestyle=":", label="chance"
    )
    axes.set_xlabel(f"unique {category} detectors of the layer", color=INK)
    axes.set_ylabel("accuracy on the test half", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.margins(x=0.12, y=0.1)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="best")
    return figure


def _name_points(figure: Figure, axes: Axes, points: pl.DataFrame) -> None:
    """Give each point a number, and list their names next to the figure, since on the points they would overlap."""
    one_network, one_layer = (points[column].n_unique() == 1 for column in ("network", "layer"))
    names = []
    for number, row in enumerate(points.iter_rows(named=True), start=1):
        position = (row["unique_detectors"], row["accuracy"])
        axes.annotate(str(number), position, (5, -3), textcoords="offset points", fontsize=8, color=INK)
        whole = f"{row['network']} {row['layer']}"
        names.append(f"{number}  {short(row['layer'] if one_network else row['network'] if one_layer else whole)}")
    legend = figure.legend(
        [Line2D([], [], linestyle="none")] * len(names), names, loc="outside right upper", frameon=False, fontsize=7.5,
        labelcolor=INK, handlelength=0, handletextpad=0,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
