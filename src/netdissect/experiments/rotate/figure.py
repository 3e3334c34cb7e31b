"""Unique detectors against the share of a rotation, as in the paper, and in other bases."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from netdissect.experiments.counts import TOTAL, categories_of, has_null
from netdissect.experiments.figure_parts import (
    bands,
    category_legend,
    deciding_rows,
    mean_nulls,
    plain_text,
    short,
)
from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots import FAINT, INK
from netdissect.plots.category_colors import category_colors
from netdissect.plots.style import SMALL, STACKED, TEXT, WIDTH, beyond_mark, mark_null, new_figure, panels


def draw(result: ExperimentResult, width: float = WIDTH) -> Figure:
    """Draw means over rotations with their intervals on the left, and the whole of each basis on the right."""
    rows = deciding_rows(result)
    figure = new_figure(width, 5.4 if width < STACKED else 3.0)
    left, right = panels(figure, 2, width_ratios=(3, 2))
    turned = rows.filter(pl.col("alpha").is_not_null())
    present = bands(left, turned, "alpha")
    left.set_xlabel("share of the rotation, alpha", color=INK, fontsize=TEXT)
    left.set_ylabel("unique detectors", color=INK, fontsize=TEXT)
    left.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    _bases(right, rows)
    category_legend(figure, present, total=True, null=has_null(rows))
    return figure


def _bases(axes: Axes, rows: pl.DataFrame) -> None:
    whole = rows.filter((pl.col("alpha").is_null()) | pl.col("alpha").is_in([0.0, 1.0]))
    names = whole["basis"].unique(maintain_order=True).to_list()
    categories = categories_of(rows)
    colors = category_colors(categories)
    means = {
        (basis, category): float(unique)
        for basis, category, unique in whole.group_by("basis", "category").agg(pl.col("unique_detectors").mean()).rows()
    }
    nulls = mean_nulls(whole, "basis")
    longest = max([*(means[name, TOTAL] for name in names), *nulls.values(), 1])
    for position, name in enumerate(names):
        start = 0.0
        for category in categories:
            axes.barh(position, means[name, category], left=start, color=colors[category], height=0.7)
            start += means[name, category]
        axes.annotate(
            f"{means[name, TOTAL]:.3g}", (beyond_mark(start, nulls.get(name), longest), position), (8, 0),
            textcoords="offset points", va="center", color=INK, fontsize=SMALL,
        )  # fmt: skip
    mark_null(axes, list(nulls.values()), [names.index(name) for name in nulls])
    axes.set_yticks(range(len(names)), [short(name) for name in names], fontsize=SMALL, color=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, longest * 1.3)
    axes.set_xlabel("unique detectors (rotation: mean)", color=INK, fontsize=TEXT)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.grid(axis="x", color=FAINT, alpha=0.3, linewidth=0.6)
    plain_text(axes)
