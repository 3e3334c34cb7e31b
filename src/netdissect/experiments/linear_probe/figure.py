"""Accuracy of linear classifiers against the unique detectors of their layers."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots import FAINT, INK
from netdissect.plots.category_colors import CATEGORY_COLORS, OTHER_COLORS
from netdissect.plots.point_labels import label_points
from netdissect.plots.style import TEXT, WIDTH, legend_above, new_figure, plain_axes

MAX_NUMBERED = 30  # more names do not fit below the figure
MARKERS = {"paper": "o", "cross-validated": "D"}


def draw(result: ExperimentResult, width: float = WIDTH) -> Figure:
    """Draw a point for each layer: its unique detectors, and the mean accuracy with the range over splits."""
    category = str(result.config.get("category", "object"))
    color = CATEGORY_COLORS.get(category, OTHER_COLORS[0])
    figure = new_figure(width, 3.2)
    axes = plain_axes(figure)
    for selection, marker in MARKERS.items():
        points = _points(result, selection)
        filled = selection == "paper"
        if points.is_empty():
            continue
        name = f"C = {result.config['penalty']:g}" if filled else "C by cross-validation"
        axes.vlines(points["unique_detectors"], points["low"], points["high"], color=color, alpha=0.4, linewidth=1.2)
        axes.plot(
            points["unique_detectors"], points["accuracy"], marker, markersize=5 if filled else 4, color=color,
            markerfacecolor=color if filled else "white", linestyle="none", label=name,
        )  # fmt: skip
    axes.axhline(
        1 / max(int(result.context.get("classes", 1)), 1), color=FAINT, linewidth=0.8, linestyle=":", label="chance"
    )
    axes.set_xlabel(f"unique {category} detectors of the layer", color=INK, fontsize=TEXT)
    axes.set_ylabel("accuracy on the test half", color=INK, fontsize=TEXT)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.margins(x=0.12, y=0.1)
    legend_above(figure, *axes.get_legend_handles_labels())
    _name_points(figure, axes, _points(result, "paper"))
    return figure


def _points(result: ExperimentResult, selection: str) -> pl.DataFrame:
    return result.table.filter(C_selection=selection).group_by("network", "layer", maintain_order=True).agg(
        pl.col("unique_detectors").first(), pl.col("accuracy").mean(),
        low=pl.col("accuracy").min(), high=pl.col("accuracy").max(),
    )  # fmt: skip


def _name_points(figure: Figure, axes: Axes, points: pl.DataFrame) -> None:
    """Give each point a number, and list their names below the figure, since on the points they would overlap."""
    if not 0 < len(points) <= MAX_NUMBERED:
        return
    one_network, one_layer = (points[column].n_unique() == 1 for column in ("network", "layer"))
    positions, names = {}, []
    for number, row in enumerate(points.iter_rows(named=True), start=1):
        positions[str(number)] = (float(row["unique_detectors"]), float(row["accuracy"]))
        both = f"{row['network']} {row['layer']}"
        names.append(f"{number}  {row['layer'] if one_network else row['network'] if one_layer else both}")
    legend = legend_above(figure, [Line2D([], [], linestyle="none")] * len(names), names, below=True)
    figure.set_figheight(figure.get_figheight() + legend.get_window_extent().height / figure.dpi)
    label_points(axes, positions, list(positions.values()))
