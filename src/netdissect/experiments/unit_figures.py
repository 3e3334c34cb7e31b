"""Units at work: what speaks for a decision on a picture, and what it costs to switch units off."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from netdissect.config import Protocol
from netdissect.experiments.figure_parts import short
from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots import FAINT, INK, plain
from netdissect.plots.category_colors import CATEGORY_COLORS
from netdissect.plots.example_images import read_image
from netdissect.plots.outlines import MaskGrid
from netdissect.plots.unit_sheet import EDGE, draw_on, edge_of
from netdissect.result import LayerInfo

TILE = 1.35
"""Inches."""
KINDS = {
    "best": (CATEGORY_COLORS["part"], "those that matter most"),
    "random": (FAINT, "at random"),
    "worst": (CATEGORY_COLORS["object"], "those that matter least"),
    "others": (CATEGORY_COLORS["scene"], "all but those that matter most"),
}


def contribution(outcome: ExperimentResult) -> Figure:
    """Draw each explained picture, and beside it its strongest units' masks, labels and contributions."""
    rows = outcome.table.filter(scope="image")
    names = rows["image"].unique(maintain_order=True).to_list()
    across = 1 + int(rows["rank"].to_numpy().max(initial=0)) + 1
    figure = Figure(figsize=(TILE * across, (TILE + 0.42) * len(names)), layout="constrained")
    folder = Path(str(outcome.config["root"]))
    for line, name in zip(figure.subplots(len(names), across, squeeze=False), names, strict=True):
        for axes in line:
            axes.set_axis_off()
        here = rows.filter(image=name)
        picture = read_image(folder, name, EDGE)
        line[0].imshow(np.full((1, 1, 3), 128, np.uint8) if picture is None else picture, interpolation="antialiased")
        _words(line[0], here["class"][0], f"score {here['score'][0]:.1f}")
        for axes, row in zip(line[1:], here.iter_rows(named=True), strict=False):
            values, threshold = _values(outcome, name, row["rank"])
            draw_on(axes, read_image(folder, name, edge_of(values)), values, threshold)
            iou = f", IoU {row['iou']:.2f}" if row.get("iou") else ""
            _words(axes, f"{row['unit']} {row.get('label') or ''}".strip(), f"{row['contribution']:+.2f}{iou}")
    return figure


def ablate(outcome: ExperimentResult) -> Figure:
    """Draw the mean loss of balanced accuracy against the number of units, with quartiles over classes."""
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = plain(figure.add_subplot())
    classes = outcome.table.group_by("kind", "n", "class", maintain_order=True).agg(pl.col("drop").mean())
    drop = pl.col("drop")
    spread = classes.group_by("kind", "n", maintain_order=True).agg(
        mean=drop.mean(), low=drop.quantile(0.25, "linear"), high=drop.quantile(0.75, "linear")
    )
    sizes = spread["n"].unique().sort().to_list()
    for kind, (color, name) in KINDS.items():
        part = spread.filter(kind=kind).sort("n")
        places = [sizes.index(size) for size in part["n"]]
        axes.fill_between(places, part["low"], part["high"], color=color, alpha=0.15, linewidth=0)
        axes.plot(places, part["mean"], color=color, marker="o", markersize=4, linewidth=1.8, label=name)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_xlabel("n: units of the ranking", color=INK)
    axes.set_ylabel("loss of balanced accuracy", color=INK)
    axes.grid(axis="y", color=FAINT, alpha=0.3, linewidth=0.6)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9, labelcolor=INK)
    return figure


def _values(outcome: ExperimentResult, name: str, rank: int) -> tuple[npt.NDArray[np.float32], float]:
    """Return a unit's activations over a picture, float32 (sh, sw), and its threshold."""
    cells = outcome.further["maps"].filter(image=name, rank=rank).sort("y", "x")
    layer = LayerInfo.model_validate(outcome.config["layer"])
    maps = cells["activation"].to_numpy().reshape(layer.height, layer.width)
    height, width = outcome.config["size"]
    masks = MaskGrid(layer, (int(height), int(width)), Protocol.model_validate(outcome.config["protocol"]))
    return masks.values(maps), float(cells["threshold"][0])


def _words(axes: Axes, above: str, below: str) -> None:
    axes.set_title(short(above), fontsize=8, color=INK, parse_math=False)
    axes.text(0.5, -0.04, below, transform=axes.transAxes, ha="center", va="top", fontsize=7, color=INK)
