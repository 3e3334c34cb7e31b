"""What figures of experiments share: which rows of a table of counts they draw, legends, bands."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from netdissect.counted import counted
from netdissect.experiments.counts import TOTAL, categories_of, largest_unique
from netdissect.experiments.effect_sizes import band_range
from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots import FAINT, INK, style
from netdissect.plots.category_colors import category_colors
from netdissect.plots.style import (
    NULL_LABEL,
    SMALL,
    STACKED,
    TEXT,
    as_written,
    beyond_mark,
    legend_above,
    mark_null,
    new_figure,
    null_handle,
    panels,
)

short = partial(style.short, length=28)
"""Cut a long name."""


def deciding_rows(result: ExperimentResult) -> pl.DataFrame:
    """Return the rows of a table of counts at the deciding quantile and rule."""
    at = result.context["quantile"]
    # Published tables do not say at which quantile they were counted.
    quantile = pl.col("quantile").is_null() | (pl.col("quantile") == at)
    return result.table.filter(quantile, pl.col("rule") == result.config["rule"])


def category_legend(figure: Figure, categories: Sequence[str], total: bool = False, *, null: bool = False) -> None:
    """Name the colors of categories above the figure, the line of the total and the marks of the null if they exist."""
    colors = category_colors(categories)
    handles: list[Patch | Line2D] = [Patch(color=colors[name]) for name in categories]
    names = list(categories)
    if total:
        handles.insert(0, Line2D([], [], color=INK, linewidth=2))
        names.insert(0, TOTAL)
    if null:
        handles.append(null_handle())
        names.append(NULL_LABEL)
    legend_above(figure, handles, names)


def bands(axes: Axes, rows: pl.DataFrame, along: str) -> list[str]:
    """Draw each category's mean of unique detectors against a column, with a band of its 95 % interval.

    Parameters
    ----------
    axes
        To draw on.
    rows
        A table of counts: for each value of `along` and each category one row a seed, over which the interval is.
    along
        Column of the abscissa.

    Returns
    -------
    list of str
        The categories that are drawn: those with a count above 0 anywhere.
    """
    present = [name for name in categories_of(rows) if rows.filter(category=name)["unique_detectors"].sum()]
    colors = category_colors(categories_of(rows)) | {TOTAL: INK}
    for name in (*present, TOTAL):
        positions, middle, low, high = _summary(rows.filter(category=name), along, largest_unique(rows, name))
        axes.fill_between(positions, low, high, color=colors[name], alpha=0.15, linewidth=0)
        axes.plot(
            positions, middle, color=colors[name], linewidth=2.2 if name == TOTAL else 1.6, marker="o", markersize=3
        )
    nulls = mean_nulls(rows, along)
    mark_null(axes, list(nulls), list(nulls.values()))
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=FAINT, alpha=0.3, linewidth=0.6)
    return present


def mean_nulls(rows: pl.DataFrame, along: str, column: str = "unique_detectors") -> dict[Any, float]:
    """Return the mean of all counts under the permutation null at each value of a column, where it was measured."""
    name = f"null_{column}"
    if name not in rows.columns:  # of a published table
        return {}
    totals = rows.filter(category=TOTAL).group_by(along, maintain_order=True).agg(pl.col(name).mean())
    return dict(totals.drop_nulls(name).rows())


def _summary(rows: pl.DataFrame, along: str, most: int) -> tuple[list[float], ...]:
    """Return positions, means and the ends of intervals within 0 and `most`; a single row has no width."""
    columns: tuple[list[float], ...] = ([], [], [], [])
    for (position,), part in rows.sort(along).group_by(along, maintain_order=True):
        values = part["unique_detectors"].to_list()
        low, high = band_range(values, most)
        for column, number in zip(columns, (position, sum(values) / len(values), low, high), strict=True):
            column.append(float(number))
    return columns


def plain_text(axes: Axes) -> None:
    """Keep dollar signs in the names of rows and columns from becoming formulas."""
    as_written((*axes.get_xticklabels(), *axes.get_yticklabels()))


def stacks(rows: pl.DataFrame, column: str, width: float) -> Figure:
    """Draw two stacked bars for each value of a column: unique detectors, and detectors.

    Parameters
    ----------
    rows
        A table of counts, one row for each value of `column` and category.
    column
        Names the bars, which stand in the table's order.
    width
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    names = rows[column].unique(maintain_order=True).to_list()
    categories = categories_of(rows)
    stacked = width < STACKED
    figure = new_figure(width, 0.9 + (0.6 if stacked else 0.0) + 0.2 * max(len(names), 2) * (2 if stacked else 1))
    axes_of = panels(figure, 2, sharey=True)
    for axes, value in zip(axes_of, ("unique_detectors", "detectors"), strict=True):
        _stack(axes, rows, column, names, value)
        title = "unique detectors" if value == "unique_detectors" else "units that detect"
        axes.set_xlabel(title, color=INK, fontsize=TEXT)
        axes.set_yticks(range(len(names)), [short(str(name)) for name in names], fontsize=SMALL, color=INK)
        axes.set_ylim(len(names) - 0.4, -0.6)
        plain_text(axes)
    if not stacked:
        axes_of[1].tick_params(labelleft=False)
    present = [name for name in categories if rows.filter(pl.col("category") == name)["detectors"].sum()]
    category_legend(figure, present or categories, null=bool(mean_nulls(rows, column)))
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
    nulls = mean_nulls(rows, column, value)
    longest = max([*starts, *nulls.values(), 1])
    for position, name in enumerate(names):
        # Under per-category a unit counts in several categories: the bar is longer than the units.
        total = counts.get((name, TOTAL), starts[position])
        text = f"{total:,}" if total == starts[position] else counted(total, "units")
        axes.annotate(
            text, (beyond_mark(starts[position], nulls.get(name), longest), position), (8, 0),
            textcoords="offset points", va="center", color=INK, fontsize=SMALL,
        )  # fmt: skip
    mark_null(axes, list(nulls.values()), [names.index(name) for name in nulls])
    axes.set_xlim(0, longest * 1.22)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.grid(axis="x", color=FAINT, alpha=0.3, linewidth=0.6)
