"""Detectors over training: counts by category against iterations, and what each unit detects over time."""

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from netdissect.counted import counted
from netdissect.experiments.counts import categories_of, has_null
from netdissect.experiments.figure_parts import bands, category_legend, deciding_rows
from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots import INK
from netdissect.plots.category_colors import category_colors
from netdissect.plots.style import STACKED, TEXT, WIDTH, name_ticks, new_figure, panels

BLANK = "#EEEEEA"
MARGIN = 40
"""Points of the width of a panel beside its axes."""
LINED = 200  # units that have a line between them


def draw(result: ExperimentResult, width: float = WIDTH) -> Figure:
    """Draw means over trainings with their intervals on the left; on the right a row for each unit of the first one."""
    rows = deciding_rows(result)
    stacked = width < STACKED
    figure = new_figure(width, 6.0 if stacked else 3.4)
    left, right = panels(figure, 2)
    steps = sorted(rows["step"].unique())
    positions = {step: position for position, step in enumerate(steps)}
    position = pl.col("step").replace_strict(positions, return_dtype=pl.Int64).alias("position")
    present = bands(left, rows.with_columns(position), "position")
    left.set_ylabel("unique detectors", color=INK, fontsize=TEXT)
    left.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    _units(right, result.extra_tables["units"], steps, categories_of(rows))
    # A column of the grid begins at its index, a point is at it.
    for axes, shift in ((left, 0.0), (right, 0.5)):
        space = (72 * width if stacked else 36 * width) - MARGIN
        name_ticks(axes, (np.arange(len(steps)) + shift).tolist(), [f"{step:,}" for step in steps], space)
        axes.set_xlabel("iterations", color=INK, fontsize=TEXT)
    category_legend(figure, present, total=True, null=has_null(rows))
    return figure


def _units(axes: Axes, units: pl.DataFrame, steps: list[int], categories: list[str]) -> None:
    """Draw the category of each unit that ever detects something, those that begin first on top."""
    own = units.filter(pl.col("seed") == units["seed"].min(), "detector")
    numbers = {name: index + 1 for index, name in enumerate(categories)}
    history: dict[int, npt.NDArray[np.int64]] = {}
    for unit, step, category in own.select("unit", "step", "category").rows():
        history.setdefault(unit, np.zeros(len(steps), np.int64))[steps.index(step)] = numbers[category]
    ordered = sorted(history.values(), key=lambda row: (-int(row[-1] > 0), int(row[-1]), int(np.argmax(row > 0))))
    colors = category_colors(categories)
    grid = np.stack(ordered) if ordered else np.zeros((1, len(steps)), np.int64)
    palette = ListedColormap([BLANK, *(colors[name] for name in categories)])
    edges = "white" if len(grid) <= LINED else "none"  # between many rows, lines would cover them
    axes.pcolormesh(grid, cmap=palette, vmin=-0.5, vmax=len(categories) + 0.5, edgecolors=edges, linewidth=0.3)
    axes.set_ylim(len(grid), 0)
    axes.set_ylabel(f"{counted(len(ordered), 'units')} that ever detect", color=INK, fontsize=TEXT)
    axes.set_yticks([])
