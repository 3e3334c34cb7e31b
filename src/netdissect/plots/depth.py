"""Unique detectors of runs by depth: a line for each run, with intervals and the permutation null."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from netdissect.config import Rule
from netdissect.plots.category_colors import OTHER_COLORS
from netdissect.plots.style import (
    FAINT,
    INK,
    NULL_LABEL,
    PAPER,
    SMALL,
    TEXT,
    WIDTH,
    legend_above,
    mark_null,
    name_ticks,
    new_figure,
    null_handle,
    plain_axes,
    short,
)
from netdissect.plots.unique_counts import LayerRow, unique_counts
from netdissect.result import Result
from netdissect.result.queries import run_names
from netdissect.result.result import runs_given

# Unlike those of categories.
RUN_COLORS = (INK, *OTHER_COLORS)
RUN_MARKS = "osv^Dp"
SHIFT = 0.1
"""Distance between the intervals of two runs at the same layer, in layers."""
HEIGHT = 2.6
"""Inches, without names of layers that are written vertically."""
MARGIN = 40
"""Points of the width of a figure beside its axes."""
OPEN = {"linestyle": "none", "markerfacecolor": PAPER}
_Point = tuple[float, LayerRow]


def depth(
    results: Result | Sequence[Result],
    *,
    rule: Rule = "top-label",
    quantile: float | None = None,
    min_iou: float | None = None,
    names: Sequence[str] | None = None,
    width: float = WIDTH,
) -> Figure:
    """Draw unique detectors over the layers of each run, in order of execution.

    Vertical lines are 95 % confidence intervals, diamonds means under the permutation null. Virtual layers, such as
    rotated ones, are open marks at the depth of their layer. Runs whose layers have different names are drawn over
    their relative depth.

    Parameters
    ----------
    results
        One run, or several side by side.
    rule
        How detectors are counted; see `netdissect.scoring.DetectorCount`.
    quantile, min_iou
        None: each run's own. Interval and null are drawn at the run's own limit.
    names
        Titles of the runs; None: the names of their networks.
    width
        Inches; type has the same size at any width.

    Returns
    -------
    matplotlib.figure.Figure
    """
    each = runs_given(results)
    runs = [unique_counts(result, rule, quantile, min_iou) for result in each]
    layers = [list(dict.fromkeys(row.basis_of or row.entry.layer for row in rows)) for rows in runs]
    shared = layers[0] if all(own == layers[0] for own in layers) else None
    figure = new_figure(width, HEIGHT)
    axes = plain_axes(figure)
    handles: dict[str, Artist] = {}
    for index, (name, rows, own) in enumerate(zip(run_names(each, names), runs, layers, strict=True)):
        step = 1.0 if shared else 1 / max(len(own) - 1, 1)
        start = SHIFT * step * (index - (len(each) - 1) / 2)
        points = [(start + step * own.index(row.basis_of or row.entry.layer), row) for row in rows]
        style = {"color": RUN_COLORS[index % len(RUN_COLORS)], "marker": RUN_MARKS[index % len(RUN_MARKS)]}
        handles |= _draw(axes, {name: [(at, row) for at, row in points if not row.basis_of]}, style)
        virtual = [(at + SHIFT * step * len(each), row) for at, row in points if row.basis_of]
        handles |= _draw(axes, {f"{short(name)}: {_basis(virtual)}": virtual}, style | OPEN)
    if any(row.null is not None for rows in runs for row in rows):
        handles[NULL_LABEL] = null_handle()
    if shared:
        figure.set_figheight(HEIGHT + name_ticks(axes, range(len(shared)), shared, 72 * width - MARGIN))
    else:
        axes.set_xticks([0, 1], ["first layer", "last layer"], fontsize=SMALL)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("unique detectors", color=INK, fontsize=TEXT)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="y", color=FAINT, alpha=0.3, linewidth=0.6)
    legend_above(figure, list(handles.values()), list(handles))
    return figure


def _draw(axes: Axes, named: Mapping[str, Sequence[_Point]], style: Mapping[str, Any]) -> dict[str, Artist]:
    """Draw counts with their intervals and nulls at positions on the axis; return the entries of the legend."""
    handles: dict[str, Artist] = {}
    for name, points in named.items():
        if not points:
            continue
        for at, row in points:
            if row.interval:
                axes.vlines(at, *row.interval, color=style["color"], linewidth=1.2)
        nulls = [(at, row.null) for at, row in points if row.null is not None]
        mark_null(axes, [at for at, _ in nulls], [null for _, null in nulls])
        across, up = [at for at, _ in points], [row.unique for _, row in points]
        (handles[name],) = axes.plot(across, up, **{"markersize": 4.5, "linewidth": 1.5, "zorder": 6} | dict(style))
    return handles


def _basis(points: Sequence[_Point]) -> str:
    """Return what virtual layers are, by their names: ``conv5@rotation-0`` is a rotation."""
    words = {row.entry.layer.removeprefix(f"{row.basis_of}@").partition("-")[0] for _, row in points}
    return words.pop() if len(words) == 1 else "virtual layers"
