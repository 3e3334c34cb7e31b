"""What formulas gain over single concepts on held-out images, by layer and by the length of the formula."""

from collections.abc import Mapping

import polars as pl
from matplotlib.figure import Figure

from netdissect.errors import ResultError
from netdissect.plots.style import FAINT, INK, SMALL, TEXT, WIDTH, legend_above, name_ticks, new_figure, plain_axes
from netdissect.result.formulas.formula_result import Formulas

COLORS = (INK, "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00")
MARKS = "osv^Dp"
HEIGHT = 2.6
SHIFT = 0.12
"""Distance between the points of two series at the same layer, in layers."""
MARGIN = 40


def formula_gains(formulas: Formulas, *, width: float = WIDTH) -> Figure:
    """Draw the mean gain of the units of each layer: of all, and of those whose formula has two, three, ... concepts.

    Vertical lines are 95 % intervals of the mean over units.

    Parameters
    ----------
    formulas
        Of a run.
    width
        Inches; type has the same size at any width.

    Raises
    ------
    ResultError
        If no unit has a formula.
    """
    gains = formulas.gains()
    if not gains.height:
        raise ResultError("no unit has a formula, so there is no gain to draw. Compose other layers or units.")
    lengths = sorted(gains["length"].drop_nulls().unique())
    series = {"all units": gains.filter(pl.col("length").is_null())}
    series |= {f"{length} concept{'s' if length > 1 else ''}": gains.filter(length=length) for length in lengths}
    return draw_gains(series, width)


def draw_gains(series: Mapping[str, pl.DataFrame], width: float) -> Figure:
    """Draw mean gains of named series, each with columns layer, gain, gain_low and gain_high, over the layers."""
    layers = list(dict.fromkeys(layer for table in series.values() for layer in table["layer"]))
    figure = new_figure(width, HEIGHT)
    axes, handles = plain_axes(figure), {}
    axes.axhline(0, color=FAINT, linewidth=0.8)
    for index, (name, table) in enumerate(series.items()):
        color, marker = COLORS[index % len(COLORS)], MARKS[index % len(MARKS)]
        across = [layers.index(layer) + SHIFT * (index - (len(series) - 1) / 2) for layer in table["layer"]]
        for at, low, high in zip(across, table["gain_low"], table["gain_high"], strict=True):
            if low is not None:
                axes.vlines(at, low, high, color=color, linewidth=1.2)
        up, line = table["gain"].to_list(), "-" if index == 0 else ":"
        (handles[name],) = axes.plot(
            across, up, color=color, marker=marker, markersize=4.5, linewidth=1.2, linestyle=line
        )
    axes.set_xlim(-0.5, len(layers) - 0.5)
    figure.set_figheight(HEIGHT + name_ticks(axes, range(len(layers)), layers, 72 * width - MARGIN))
    axes.set_ylabel("gain in held-out IoU", color=INK, fontsize=TEXT)
    axes.tick_params(axis="y", labelsize=SMALL)
    axes.grid(axis="y", color=FAINT, alpha=0.3, linewidth=0.6)
    legend_above(figure, list(handles.values()), list(handles))
    return figure
