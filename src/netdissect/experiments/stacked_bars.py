"""Stacked bars of unique detectors and of detectors by category, as in the paper's figures."""

from collections.abc import Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from netdissect.experiments.counts import TOTAL, categories_of
from netdissect.experiments.figure_parts import category_legend, drawn_rows, plain_text, short
from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots import FAINT, INK, plain
from netdissect.plots.category_colors import category_colors


def layers(outcome: ExperimentResult) -> Figure:
    """Draw a pair of stacked bars for each layer, the first layer on top."""
    return stacks(drawn_rows(outcome), "layer")


def compare(outcome: ExperimentResult) -> Figure:
    """Draw a pair of stacked bars for each network, most unique detectors on top, published ones marked."""
    rows = drawn_rows(outcome)
    mixed = rows["source"].n_unique() > 1
    published = pl.lit(mixed) & (pl.col("source") == "published")
    marked = pl.when(published).then(pl.col("network") + " (published)").otherwise("network")
    totals = rows.filter(category=TOTAL).select("network", "source", pl.col("unique_detectors").alias("order"))
    ordered = rows.join(totals, on=["network", "source"], maintain_order="left").sort(
        "order", descending=True, maintain_order=True
    )
    return stacks(ordered.with_columns(marked.alias("network")), "network")


def stacks(rows: pl.DataFrame, column: str) -> Figure:
    """Draw two stacked bars for each value of a column: unique detectors, and detectors.

    Parameters
    ----------
    rows
        A table of counts, one row for each value of `column` and category.
    column
        Names the bars, which stand in the table's order.

    Returns
    -------
    matplotlib.figure.Figure
    """
    names = rows[column].unique(maintain_order=True).to_list()
    categories = categories_of(rows)
    figure = Figure(figsize=(9.0, 1.4 + 0.3 * max(len(names), 2)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, value in ((left, "unique_detectors"), (right, "detectors")):
        _stack(plain(axes), rows, column, names, value)
        axes.set_xlabel("unique detectors" if value == "unique_detectors" else "units that detect", color=INK)
    left.set_yticks(range(len(names)), [short(str(name)) for name in names], fontsize=9, color=INK)
    left.set_ylim(len(names) - 0.4, -0.6)
    plain_text(left)
    right.tick_params(labelleft=False)
    present = [name for name in categories if rows.filter(pl.col("category") == name)["detectors"].sum()]
    category_legend(figure, present or categories)
    return figure


def _stack(axes: Axes, rows: pl.DataFrame, column: str, names: Sequence[object], value: str) -> None:
    categories = categories_of(rows)
    colors = category_colors(categories)
    counts = {(row[column], row["category"]): row[value] for row in rows.iter_rows(named=True)}
    starts = [0] * len(names)
    for category in categories:
        widths = [counts.get((name, category), 0) for name in names]
        axes.barh(range(len(names)), widths, left=starts, color=colors[category], height=0.72)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    for place, name in enumerate(names):
        # Under per-category a unit counts in several categories: the bar is longer than the units.
        total = counts.get((name, TOTAL), starts[place])
        text = f"{total:,}" if total == starts[place] else f"{total:,} units"
        axes.annotate(
            text, (starts[place], place), (4, 0), textcoords="offset points", va="center", color=INK, fontsize=8
        )
    axes.set_xlim(0, max([*starts, 1]) * 1.22)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="x", color=FAINT, alpha=0.3, linewidth=0.6)
