"""The correlation of IoU with effect by layer, and every unit."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from netdissect.experiments.figure_parts import plain_text, short
from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots.style import FAINT, INK, SMALL, STACKED, TEXT, WIDTH, legend_above, new_figure, panels

KINDS = {
    "matches and causes": ("#0072b2", "o"),
    "matches alone": ("#d55e00", "X"),
    "does not match": (FAINT, "."),
}
"""Color and mark of units, in the order of the legend."""
ROW = 0.22  # inches of one layer
ALL = "all layers"


def draw(result: ExperimentResult, width: float = WIDTH) -> Figure:
    """Draw correlations with 95 % intervals by layer; and for each unit what its ablation removes against its IoU."""
    table = result.table.with_columns(pl.col("layer").fill_null(ALL))
    height = max(2.6, 1.2 + ROW * len(table))
    figure = new_figure(width, height * 2 if width < STACKED else height)
    left, right = panels(figure, 2)
    _correlations(left, table)
    handles = _units(right, result.extra_tables["units"])
    legend_above(figure, handles, list(KINDS))
    return figure


def _correlations(axes: Axes, table: pl.DataFrame) -> None:
    axes.axvline(0, color=FAINT, linewidth=0.8)
    for at, row in enumerate(table.iter_rows(named=True)):
        if row["correlation"] is not None:
            axes.hlines(at, row["correlation_low"], row["correlation_high"], color=INK, linewidth=1.2)
            axes.plot([row["correlation"]], [at], color=INK, marker="o", markersize=4.5)
    axes.set_yticks(range(len(table)), [short(name) for name in table["layer"]], fontsize=SMALL, color=INK)
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xlim(-1.05, 1.05)
    axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    axes.set_xlabel("correlation with the effect", color=INK, fontsize=TEXT)
    axes.tick_params(axis="x", labelsize=SMALL)
    axes.grid(axis="x", color=FAINT, alpha=0.3, linewidth=0.6)
    plain_text(axes)


def _units(axes: Axes, units: pl.DataFrame) -> list[Line2D]:
    """Draw all units whose effect is known, and return the handles of the legend."""
    measured = units.filter(pl.col("removed").is_not_null())
    matches, causes = measured["matches"], measured["causes"]
    parts = (measured.filter(matches & causes), measured.filter(matches & ~causes), measured.filter(~matches))
    axes.axhline(0, color=FAINT, linewidth=0.8)
    handles: list[Line2D] = []
    for part, (color, mark) in zip(parts, KINDS.values(), strict=True):
        handles += axes.plot(
            part["iou"], 100 * part["removed"], color=color, marker=mark, markersize=5, linestyle="none"
        )
    axes.set_xlabel("IoU", color=INK, fontsize=TEXT)
    axes.set_ylabel("% of the label removed", color=INK, fontsize=TEXT)
    axes.tick_params(labelsize=SMALL)
    axes.grid(color=FAINT, alpha=0.3, linewidth=0.6)
    return handles
