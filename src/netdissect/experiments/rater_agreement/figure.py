"""The labels that raters accept: their share by layer, and acceptance against IoU."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots import FAINT, INK
from netdissect.plots.category_colors import CATEGORY_COLORS
from netdissect.plots.style import STACKED, TEXT, WIDTH, name_ticks, new_figure, panels

MARGIN = 50
"""Points of the width of a panel beside its axes."""


def draw(result: ExperimentResult, width: float = WIDTH) -> Figure:
    """Draw the share of labels that raters accept by layer, and acceptance against IoU."""
    stacked = width < STACKED
    figure = new_figure(width, 5.0 if stacked else 3.0)
    left, right = panels(figure, 2, width_ratios=(2, 3))
    layers = result.table[:-1]
    positions = range(len(layers))
    spans = [
        (layers["accepted_share"] - layers["accepted_share_ci_low"]).to_list(),
        (layers["accepted_share_ci_high"] - layers["accepted_share"]).to_list(),
    ]
    left.bar(positions, layers["accepted_share"], color=CATEGORY_COLORS["object"], width=0.65)
    left.errorbar(
        positions, layers["accepted_share"], yerr=np.abs(spans), fmt="none", ecolor=INK, elinewidth=1.2, capsize=3
    )
    space = 72 * width * (1 if stacked else 0.4) - MARGIN
    figure.set_figheight(figure.get_figheight() + name_ticks(left, positions, layers["layer"].to_list(), space))
    left.set_ylim(0, 1.02)
    left.yaxis.set_major_formatter(PercentFormatter(1.0))
    left.set_ylabel("labels that raters accept", color=INK, fontsize=TEXT)
    _acceptance(right, result.extra_tables["labels"])
    return figure


def _acceptance(axes: Axes, labels: pl.DataFrame) -> None:
    shares = (labels["yes"] / labels["raters"]).to_numpy()
    shifts = np.random.default_rng(0).uniform(-0.02, 0.02, len(labels))  # equal shares would overlap
    colors = [CATEGORY_COLORS["scene"] if accepted else CATEGORY_COLORS["part"] for accepted in labels["accepted"]]
    axes.scatter(labels["iou"].to_numpy(), shares + shifts, s=16, c=colors, alpha=0.7, linewidths=0)
    axes.set_xlabel("IoU of the label", color=INK, fontsize=TEXT)
    axes.set_ylabel("raters who accept it", color=INK, fontsize=TEXT)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(-0.05, 1.05)
    axes.set_xlim(left=0)
    axes.grid(color=FAINT, alpha=0.3, linewidth=0.6)
