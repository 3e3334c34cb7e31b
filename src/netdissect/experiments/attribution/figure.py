"""Units that contribute most to the decision on an image: their masks, labels and contributions."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from netdissect.config import Protocol
from netdissect.experiments.figure_parts import short
from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots import INK
from netdissect.plots.example_images import read_image
from netdissect.plots.outlines import MaskGrid
from netdissect.plots.unit_sheet import EDGE, draw_on, edge_of
from netdissect.result import LayerInfo

TILE = 1.35
"""Inches."""


def draw(result: ExperimentResult) -> Figure:
    """Draw each explained image, followed by the masks, labels and contributions of its strongest units."""
    rows = result.table.filter(level="image")
    names = rows["image"].unique(maintain_order=True).to_list()
    across = 1 + int(rows["rank"].to_numpy().max(initial=0)) + 1
    figure = Figure(figsize=(TILE * across, (TILE + 0.42) * len(names)), layout="constrained")
    folder = Path(str(result.context["root"]))
    for line, name in zip(figure.subplots(len(names), across, squeeze=False), names, strict=True):
        for axes in line:
            axes.set_axis_off()
        here = rows.filter(image=name)
        image = read_image(folder, name, EDGE)
        line[0].imshow(np.full((1, 1, 3), 128, np.uint8) if image is None else image, interpolation="antialiased")
        _captions(line[0], here["class"][0], f"score {here['score'][0]:.1f}")
        for axes, row in zip(line[1:], here.iter_rows(named=True), strict=False):
            values, threshold = _values(result, name, row["rank"])
            draw_on(axes, read_image(folder, name, edge_of(values)), values, threshold)
            iou = f", IoU {row['iou']:.2f}" if row.get("iou") else ""
            _captions(axes, f"{row['unit']} {row.get('label') or ''}".strip(), f"{row['contribution']:+.2f}{iou}")
    return figure


def _values(result: ExperimentResult, name: str, rank: int) -> tuple[npt.NDArray[np.float32], float]:
    """Return the activations of a unit over an image, float32 (sh, sw), and its threshold."""
    cells = result.extra_tables["maps"].filter(image=name, rank=rank).sort("y", "x")
    layer = LayerInfo.model_validate(result.context["layer"])
    maps = cells["activation"].to_numpy().reshape(layer.height, layer.width)
    height, width = result.context["size"]
    masks = MaskGrid(layer, (int(height), int(width)), Protocol.model_validate(result.context["protocol"]))
    return masks.values(maps), float(cells["threshold"][0])


def _captions(axes: Axes, above: str, below: str) -> None:
    axes.set_title(short(above), fontsize=8, color=INK, parse_math=False)
    axes.text(0.5, -0.04, below, transform=axes.transAxes, ha="center", va="top", fontsize=7, color=INK)
