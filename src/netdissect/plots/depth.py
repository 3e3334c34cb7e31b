"""Unique detectors of runs by depth: a line for each run, with intervals and the permutation null."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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
BASIS_MARKS = "s^vPXh<>"
SHIFT, SPREAD = 0.1, 0.8
"""Distance between two intervals at the same layer, and of all of them together at most, in layers."""
HEIGHT = 2.6
"""Inches, without names of layers that are written vertically."""
MARGIN = 40
"""Points of the width of a figure beside its axes."""
OPEN = {"linestyle": "none", "markerfacecolor": PAPER}
_Point = tuple[float, LayerRow]


class _Series(NamedTuple):
    """What has one entry of the legend: the units of a run, or one of its bases."""

    run: int
    name: str
    rows: Sequence[LayerRow]
    style: Mapping[str, Any]


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
    rotated ones, are open marks next to their layer, of a color for each basis, or for each run of several. Runs whose
    layers have different names are drawn over their relative depth.

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
    layers = [list(dict.fromkeys(_network_layer(row) for row in rows)) for rows in runs]
    shared = layers[0] if all(own == layers[0] for own in layers) else None
    series = _series(run_names(each, names), runs)
    figure = new_figure(width, HEIGHT)
    axes = plain_axes(figure)
    handles: dict[str, Artist] = {}
    for slot, (run, name, rows, style) in enumerate(series):
        own = layers[run]
        step = 1.0 if shared else 1 / max(len(own) - 1, 1)
        start = min(SHIFT, SPREAD / len(series)) * step * (slot - (len(series) - 1) / 2)
        points = [(start + step * own.index(_network_layer(row)), row) for row in rows]
        handles[name] = _draw(axes, points, style)
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


def _series(names: Sequence[str], runs: Sequence[Sequence[LayerRow]]) -> list[_Series]:
    """Return the units of each run, and each of its bases, with a title and a style."""
    found = []
    for run, (name, rows) in enumerate(zip(names, runs, strict=True)):
        of_basis: dict[str, list[LayerRow]] = {}
        for row in rows:
            of_basis.setdefault(_basis(row), []).append(row)
        units = of_basis.pop("", None)
        if units:
            found.append(_Series(run, name, units, _style(run, RUN_MARKS[run % len(RUN_MARKS)])))
        for number, (basis, virtual) in enumerate(of_basis.items()):
            alone = len(runs) == 1
            style = _style(1 + number if alone else run, BASIS_MARKS[number % len(BASIS_MARKS)]) | OPEN
            found.append(_Series(run, basis if alone else f"{short(name)}: {basis}", virtual, style))
    return found


def _style(color: int, mark: str) -> dict[str, Any]:
    return {"color": RUN_COLORS[color % len(RUN_COLORS)], "marker": mark}


def _draw(axes: Axes, points: Sequence[_Point], style: Mapping[str, Any]) -> Artist:
    """Draw counts with their intervals and nulls at positions on the axis; return the entry of the legend."""
    for at, row in points:
        if row.interval:
            axes.vlines(at, *row.interval, color=style["color"], linewidth=1.2)
    nulls = [(at, row.null) for at, row in points if row.null is not None]
    mark_null(axes, [at for at, _ in nulls], [null for _, null in nulls])
    across, up = [at for at, _ in points], [row.unique for _, row in points]
    (line,) = axes.plot(across, up, **{"markersize": 4.5, "linewidth": 1.5, "zorder": 6} | dict(style))
    return line


def _network_layer(row: LayerRow) -> str:
    """Return a layer of the network: that of a row, or the one of which it is a basis."""
    return row.basis_of or row.entry.layer


def _basis(row: LayerRow) -> str:
    """Return which basis of its layer a virtual layer is, all rotations together; empty: units of the network."""
    if not row.basis_of:
        return ""
    name = row.entry.layer.removeprefix(f"{row.basis_of}@")
    kind = name.partition("-")[0]
    return f"{kind}s" if kind in ("rotation", "permutation") else name
