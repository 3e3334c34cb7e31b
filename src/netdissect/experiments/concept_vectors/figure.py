"""The mean IoU of each method by layer, the best unit of each concept against several units, and TCAV of classes."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from netdissect.experiments.concept_vectors.tcav import SIGNIFICANT
from netdissect.experiments.figure_parts import plain_text, short
from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots.style import FAINT, INK, SMALL, STACKED, TEXT, WIDTH, legend_above, new_figure, plain

COLORS = {
    "unit": INK, "net2vec-1": FAINT, "net2vec-8": "#56b4e9", "net2vec-all": "#0072b2", "fastcav": "#e69f00",
    "lda": "#d55e00", "ridge": "#009e73",
}  # fmt: skip
ROW = 0.3  # inches of one layer


def draw(result: ExperimentResult, width: float = WIDTH) -> Figure:
    """Draw the mean held-out IoU with its 95 % interval by layer and method; and each concept, one unit or several.

    With TCAV, also the score of each concept for the classes, in the last layer.
    """
    layers = result.table["layer"].unique(maintain_order=True).to_list()
    tests = _tests_of_last_layer(result)
    heights = [max(2.8, 1.4 + ROW * len(layers))]
    heights *= 2 if width < STACKED else 1
    if tests is not None:
        heights.append(0.9 + ROW * tests["class"].n_unique())
    figure = new_figure(width, sum(heights))
    grid = figure.add_gridspec(len(heights), 1 if width < STACKED else 2, height_ratios=heights)
    left, right = (plain(figure.add_subplot(grid[at])) for at in (0, 1))
    if tests is not None:
        _classes(plain(figure.add_subplot(grid[-1, :])), tests)
    for at, layer in enumerate(layers):
        _layer(left, at, result.table.filter(layer=layer))
    left.set_yticks(range(len(layers)), [short(name) for name in layers], fontsize=SMALL, color=INK)
    left.set_ylim(len(layers) - 0.5, -0.5)
    left.set_xlim(left=0)
    _plain(left, "IoU on held-out images")
    _concepts(right, result.extra_tables["concepts"])
    handles = [left.plot([], [], "o", color=color, markersize=4)[0] for color in COLORS.values()]
    legend_above(figure, handles, list(COLORS))
    return figure


def _layer(axes: Axes, at: int, rows: pl.DataFrame) -> None:
    for index, (method, color) in enumerate(COLORS.items()):
        for row in rows.filter(method=method).iter_rows(named=True):
            place = at + 0.7 * (index / (len(COLORS) - 1) - 0.5)
            if row["iou_ci_low"] is not None:
                axes.hlines(place, max(row["iou_ci_low"], 0), row["iou_ci_high"], color=color, linewidth=1)
            axes.plot([row["iou"]], [place], "o", color=color, markersize=3.5)


def _concepts(axes: Axes, found: pl.DataFrame) -> None:
    """Draw for each layer and concept the IoU of the best unit, and of the ridge regression of all units."""
    wide = found.filter(pl.col("method").is_in(["unit", "ridge"])).pivot(
        on="method", index=["layer", "concept", "category"], values="heldout_iou"
    )
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8)
    axes.plot(wide["unit"], wide["ridge"], ".", color=COLORS["ridge"], markersize=4)
    most = 1.05 * max(*wide["unit"].to_list(), *wide["ridge"].to_list(), 0.05)
    axes.set_xlim(0, most)
    axes.set_ylim(0, most)
    axes.set_ylabel("ridge", color=INK, fontsize=TEXT)
    _plain(axes, "best unit")


def _tests_of_last_layer(result: ExperimentResult) -> pl.DataFrame | None:
    tests = result.extra_tables.get("tcav")
    return None if tests is None or tests.is_empty() else tests.filter(layer=tests["layer"][-1])


def _classes(axes: Axes, tests: pl.DataFrame) -> None:
    """Draw for each class the TCAV score of every concept; those that differ from random sets have a color.

    A gray bar spans the middle 95 % of the scores of random images in place of those with a concept.
    """
    names = tests["class"].unique(maintain_order=True).to_list()
    axes.axvline(0.5, color=FAINT, linewidth=0.8)
    for at, name in enumerate(names):
        null = tests.filter(pl.col("class") == name)["null_tcav"].to_numpy()
        axes.hlines(at, *np.quantile(null, (0.025, 0.975)), color=FAINT, alpha=0.4, linewidth=6)
        for differs, color in ((False, FAINT), (True, COLORS["net2vec-all"])):
            rows = tests.filter((pl.col("class") == name) & ((pl.col("adjusted_p_value") < SIGNIFICANT) == differs))
            axes.plot(rows["tcav"], [at] * len(rows), "|", color=color, markersize=7)
    axes.set_yticks(range(len(names)), [short(name, length=20) for name in names], fontsize=SMALL, color=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    _plain(axes, f"TCAV, {short(tests['layer'][0], length=14)}")


def _plain(axes: Axes, label: str) -> None:
    axes.set_xlabel(label, color=INK, fontsize=TEXT)
    axes.tick_params(labelsize=SMALL)
    axes.grid(color=FAINT, alpha=0.3, linewidth=0.6)
    plain_text(axes)
