"""What units of a generator do: the change of areas with controls, and where in the image insertion works."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from netdissect.plots.style import (
    FAINT,
    INK,
    PAPER,
    SMALL,
    STACKED,
    TEXT,
    WIDTH,
    as_written,
    legend_above,
    new_figure,
    panels,
    short,
)

MOST_ROWS = 20
ROW = 0.22  # inches
EFFECT, RANDOM, MATCHED = INK, "#0072b2", "#d55e00"
TITLES = ("these units", "random sets", "equal activation")
COLORS = LinearSegmentedColormap.from_list("change", ["#0072b2", PAPER, "#d55e00"])


def shown_effects(table: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of an intervention that are drawn, at most twenty.

    Of several sets of units, the effects on the concept that was asked for, the largest first; of one set, that on this
    concept, then those on others, the largest first.
    """
    asked = (pl.col("concept") == table["concept"][0]) & (pl.col("category") == table["category"][0])
    by_size = pl.col("effect").abs()
    if table["set"].n_unique() > 1:
        return table.filter(asked).sort(by_size, "set", descending=[True, False]).head(MOST_ROWS)
    rest = table.filter(~asked).sort(by_size, "concept", descending=[True, False])
    return pl.concat([table.filter(asked), rest]).head(MOST_ROWS)


def intervention(
    table: pl.DataFrame,
    insertion_map: pl.DataFrame | None = None,
    *,
    names: Sequence[str] = (),
    width: float = WIDTH,
) -> Figure:
    """Draw how areas of concepts change where units of a generator are ablated or inserted.

    Points are mean changes over samples, in % of the image, lines their 95 % intervals; diamonds are those of random
    sets of as many other units, squares those of other units of equal activation. The map has the change where the
    units are inserted at each place; a dot marks an interval that excludes 0.

    Parameters
    ----------
    table
        Of an `Intervention`; see `shown_effects` for the rows.
    insertion_map
        Its map; None or empty: there is none.
    names
        Of the sets of units, if there are several; (): their numbers.
    width
        Inches; type has the same size at any width.

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = shown_effects(table)
    several = table["set"].n_unique() > 1
    labels = [names[number] if names else f"set {number}" for number in rows["set"]] if several else [*rows["concept"]]
    mapped = insertion_map is not None and not insertion_map.is_empty()
    height = max(2.2, 1.1 + ROW * len(rows))
    figure = new_figure(width, height + 2.6 if mapped and width < STACKED else max(height, 2.9 if mapped else 0))
    axes = panels(figure, 2 if mapped else 1)
    handles = _effects(axes[0], rows, labels)
    legend_above(figure, handles, TITLES)
    if insertion_map is not None and mapped:
        _map(figure, axes[1], insertion_map)
    return figure


def _effects(axes: Axes, rows: pl.DataFrame, labels: Sequence[str]) -> list[Line2D]:
    axes.axvline(0, color=FAINT, linewidth=0.8)
    for at, row in enumerate(rows.iter_rows(named=True)):
        for name, prefix, color, mark, shift in (
            ("matched_effect", "matched", MATCHED, "s", 0.22), ("control_effect", "control", RANDOM, "D", -0.22),
            ("effect", "ci", EFFECT, "o", 0.0),
        ):  # fmt: skip
            axes.hlines(at + shift, 100 * row[f"{prefix}_low"], 100 * row[f"{prefix}_high"], color=color, linewidth=1.2)
            axes.plot([100 * row[name]], [at + shift], color=color, marker=mark, markersize=4 if shift == 0 else 3)
    axes.set_yticks(range(len(rows)), [short(str(label)) for label in labels], fontsize=SMALL, color=INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("change, % of the image", color=INK, fontsize=TEXT)
    axes.tick_params(axis="x", labelsize=SMALL)
    axes.grid(axis="x", color=FAINT, alpha=0.3, linewidth=0.6)
    as_written(axes.get_yticklabels())
    return [
        Line2D([], [], color=color, marker=mark, markersize=size, linewidth=1.2)
        for color, mark, size in ((EFFECT, "o", 4), (RANDOM, "D", 3), (MATCHED, "s", 3))
    ]


def _map(figure: Figure, axes: Axes, cells: pl.DataFrame) -> None:
    """Draw the effect of insertion at each place, as large as in the image."""
    rows, columns = (sorted(cells[name].unique()) for name in ("row", "column"))
    grid = np.full((len(rows), len(columns)), np.nan)
    for cell in cells.iter_rows(named=True):
        at = rows.index(cell["row"]), columns.index(cell["column"])
        grid[at] = 100 * cell["effect"]
        if cell["ci_low"] > 0 or cell["ci_high"] < 0:
            axes.plot([at[1]], [at[0]], color=INK, marker=".", markersize=3, linestyle="none")
    largest = float(np.nanmax(np.abs(grid))) or 1.0
    shown: Any = axes.imshow(grid, cmap=COLORS, vmin=-largest, vmax=largest, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("change if inserted here", color=INK, fontsize=TEXT)
    bar = figure.colorbar(shown, ax=axes, fraction=0.05)
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)
