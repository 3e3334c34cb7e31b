"""Accuracy of linear classifiers against unique detectors, and the labels that raters accept."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from netdissect.experiments.figure_parts import plain_text, short
from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots import FAINT, INK, plain
from netdissect.plots.category_colors import CATEGORY_COLORS, OTHER_COLORS

NAMED = 30  # points that get a number; more names do not fit beside the figure
SELECTIONS = {"paper": "o", "cross-validated": "D"}


def transfer(outcome: ExperimentResult) -> Figure:
    """Draw a point for each layer: its unique detectors, and the mean accuracy with the range over splits."""
    category = str(outcome.config.get("category", "object"))
    color = CATEGORY_COLORS.get(category, OTHER_COLORS[0])
    figure = Figure(figsize=(8.4, 4.4), layout="constrained")
    axes = plain(figure.add_subplot())
    for selection, marker in SELECTIONS.items():
        points = outcome.table.filter(selection=selection).group_by("network", "layer", maintain_order=True).agg(
            pl.col("unique_detectors").first(), pl.col("accuracy").mean(),
            low=pl.col("accuracy").min(), high=pl.col("accuracy").max(),
        )  # fmt: skip
        if points.is_empty():
            continue
        filled = selection == "paper"
        name = f"C = {outcome.config['penalty']:g}" if filled else "C by cross-validation"
        axes.vlines(points["unique_detectors"], points["low"], points["high"], color=color, alpha=0.4, linewidth=1.2)
        axes.plot(
            points["unique_detectors"], points["accuracy"], marker, markersize=6 if filled else 5, color=color,
            markerfacecolor=color if filled else "white", linestyle="none", label=name,
        )  # fmt: skip
        if filled and len(points) <= NAMED:
            _name_points(figure, axes, points)
    axes.axhline(
        1 / max(int(outcome.config.get("classes", 1)), 1), color=FAINT, linewidth=0.8, linestyle=":", label="chance"
    )
    axes.set_xlabel(f"unique {category} detectors of the layer", color=INK)
    axes.set_ylabel("accuracy on the test half", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.margins(x=0.12, y=0.1)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="best")
    return figure


def agreement(outcome: ExperimentResult) -> Figure:
    """Draw the share of labels that raters accept by layer, and acceptance against IoU."""
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    left, right = (plain(axes) for axes in figure.subplots(1, 2, width_ratios=(2, 3)))
    layers = outcome.table[:-1]
    places = range(len(layers))
    spans = [(layers["share"] - layers["low"]).to_list(), (layers["high"] - layers["share"]).to_list()]
    left.bar(places, layers["share"], color=CATEGORY_COLORS["object"], width=0.65)
    left.errorbar(places, layers["share"], yerr=np.abs(spans), fmt="none", ecolor=INK, elinewidth=1.2, capsize=3)
    left.set_xticks(list(places), [short(name) for name in layers["layer"]], rotation=30 if len(layers) > 4 else 0)
    left.set_ylim(0, 1.02)
    left.yaxis.set_major_formatter(PercentFormatter(1.0))
    left.set_ylabel("labels that raters accept", color=INK)
    plain_text(left)
    _acceptance(right, outcome.further["labels"])
    return figure


def _acceptance(axes: Axes, labels: pl.DataFrame) -> None:
    shares = (labels["yes"] / labels["raters"]).to_numpy()
    shifts = np.random.default_rng(0).uniform(-0.02, 0.02, len(labels))  # equal shares would hide one another
    colors = [CATEGORY_COLORS["scene"] if one else CATEGORY_COLORS["part"] for one in labels["accepted"]]
    axes.scatter(labels["iou"].to_numpy(), shares + shifts, s=16, c=colors, alpha=0.7, linewidths=0)
    axes.set_xlabel("IoU of the label", color=INK)
    axes.set_ylabel("share of raters who accept it", color=INK)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(-0.05, 1.05)
    axes.set_xlim(left=0)
    axes.grid(color=FAINT, alpha=0.3, linewidth=0.6)


def _name_points(figure: Figure, axes: Axes, points: pl.DataFrame) -> None:
    """Give each point a number, and list their names beside the figure: on the points they would cover one another."""
    one_network, one_layer = (points[column].n_unique() == 1 for column in ("network", "layer"))
    names = []
    for number, row in enumerate(points.iter_rows(named=True), start=1):
        place = (row["unique_detectors"], row["accuracy"])
        axes.annotate(str(number), place, (5, -3), textcoords="offset points", fontsize=8, color=INK)
        whole = f"{row['network']} {row['layer']}"
        names.append(f"{number}  {short(row['layer'] if one_network else row['network'] if one_layer else whole)}")
    legend = figure.legend(
        [Line2D([], [], linestyle="none")] * len(names), names, loc="outside right upper", frameon=False, fontsize=7.5,
        labelcolor=INK, handlelength=0, handletextpad=0,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
