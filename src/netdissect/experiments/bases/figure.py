"""Unique detectors, held-out average precision and monosemanticity of each basis, layer by layer."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from netdissect.experiments.figure_parts import plain_text, short
from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots.style import (
    FAINT,
    INK,
    NULL_LABEL,
    SMALL,
    STACKED,
    TEXT,
    WIDTH,
    legend_above,
    mark_null,
    new_figure,
    null_handle,
    panels,
)

TITLES = {"unique_detectors": "unique detectors", "map": "held-out mAP", "monosemanticity": "monosemanticity"}
UNITS, OTHER = INK, "#0072b2"
ROW = 0.19  # inches of one basis


def draw(result: ExperimentResult, width: float = WIDTH) -> Figure:
    """Draw what was measured of each basis with its 95 % interval; the units of each layer are black."""
    rows = result.table
    names = [name for name in TITLES if name in rows.columns]
    layers = rows["layer"].rle_id().to_list()
    places = [index + 0.6 * layer for index, layer in enumerate(layers)]  # a gap between layers
    height = 1.0 + ROW * (places[-1] + 1)
    stacked = width < STACKED
    figure = new_figure(width, (height - 0.3) * len(names) + 0.4 if stacked else height)
    for index, (axes, name) in enumerate(zip(panels(figure, len(names), sharey=True), names, strict=True)):
        _panel(axes, rows, places, name)
        if index and not stacked:
            axes.tick_params(labelleft=False)
    if rows["null_unique_detectors"].null_count() < len(rows):
        legend_above(figure, [null_handle()], [NULL_LABEL])
    return figure


def _panel(axes: Axes, rows: pl.DataFrame, places: list[float], name: str) -> None:
    first = rows["layer"].is_first_distinct()
    for place, units, row in zip(places, first, rows.iter_rows(named=True), strict=True):
        if row[name] is None:
            continue
        color = UNITS if units else OTHER
        if row[f"{name}_ci_low"] is not None:
            axes.hlines(place, row[f"{name}_ci_low"], row[f"{name}_ci_high"], color=color, linewidth=1.2)
        axes.plot([row[name]], [place], "o", color=color, markersize=4)
    if name == "unique_detectors":
        nulls = rows.with_columns(pl.Series("place", places)).drop_nulls("null_unique_detectors")
        mark_null(axes, nulls["null_unique_detectors"].to_list(), nulls["place"].to_list())
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    labels = [f"{short(row['layer'])}: {row['basis']}" if units else short(row["basis"])
              for units, row in zip(first, rows.iter_rows(named=True), strict=True)]  # fmt: skip
    axes.set_yticks(places, labels, fontsize=SMALL, color=INK)
    axes.set_ylim(places[-1] + 0.6, -0.6)
    axes.set_xlim(left=min(0, axes.get_xlim()[0]) if name == "monosemanticity" else 0)
    axes.set_xlabel(TITLES[name], color=INK, fontsize=TEXT)
    axes.tick_params(labelsize=SMALL)
    axes.grid(axis="x", color=FAINT, alpha=0.3, linewidth=0.6)
    plain_text(axes)
