"""Units that contribute most to the decision on an image: their masks, labels and contributions."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from netdissect.config import Protocol
from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots import INK
from netdissect.plots.example_images import read_image
from netdissect.plots.outlines import MaskGrid
from netdissect.plots.overlap import EDGE, draw_masked
from netdissect.plots.style import NAMES, WIDTH, fitted, new_figure
from netdissect.result import LayerInfo

TILE, MAX_TILE, CAPTIONS = 0.78, 1.35, 0.5
"""Inches: the smallest and largest width of an image, and the height of the lines above and below it."""


def draw(result: ExperimentResult, width: float = WIDTH) -> Figure:
    """Draw each explained image, followed by the masks, labels and contributions of its strongest units."""
    rows = result.table.filter(level="image")
    names = rows["image"].unique(maintain_order=True).to_list()
    count = 2 + int(rows["rank"].to_numpy().max(initial=0))
    across = min(count, int(width / TILE))
    lines, side = math.ceil(count / across), min(width / across, MAX_TILE)
    figure = new_figure(width, (side + CAPTIONS) * lines * len(names))
    grid = figure.subplots(lines * len(names), across, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for index, name in enumerate(names):
        tiles = grid[lines * index : lines * (index + 1)].flat
        _draw_image(result, rows.filter(image=name), list(tiles), 72 * width / across - 6)
    return figure


def _draw_image(result: ExperimentResult, rows: pl.DataFrame, tiles: Sequence[Axes], points: float) -> None:
    """Draw an image and its units, with captions of at most so many points."""
    folder, name = Path(str(result.context["root"])), rows["image"][0]
    image = read_image(folder, name, EDGE)
    tiles[0].imshow(np.full((1, 1, 3), 128, np.uint8) if image is None else image, interpolation="antialiased")
    _captions(tiles[0], fitted(rows["class"][0], points, NAMES), f"score {rows['score'][0]:.1f}")
    for axes, row in zip(tiles[1:], rows.iter_rows(named=True), strict=False):
        draw_masked(axes, image, _mask(result, name, row["rank"]))
        iou = f"\nIoU {row['iou']:.2f}" if row.get("iou") else ""
        label = fitted(f"{row['unit']} {row.get('label') or ''}".strip(), points, NAMES)
        _captions(axes, label, f"{row['contribution']:+.2f}{iou}")


def _mask(result: ExperimentResult, name: str, rank: int) -> npt.NDArray[np.bool_]:
    """Return the mask of a unit on an image, bool (sh, sw)."""
    cells = result.extra_tables["maps"].filter(image=name, rank=rank).sort("y", "x")
    layer = LayerInfo.model_validate(result.context["layer"])
    maps = cells["activation"].to_numpy().reshape(layer.height, layer.width)
    height, width = result.context["size"]
    masks = MaskGrid(layer, (int(height), int(width)), Protocol.model_validate(result.context["protocol"]))
    return masks.mask(maps, float(cells["threshold"][0]))


def _captions(axes: Axes, above: str, below: str) -> None:
    axes.set_title(above, fontsize=NAMES, color=INK, parse_math=False, pad=2)
    axes.annotate(below, (0.5, 0), (0, -2), xycoords="axes fraction", textcoords="offset points", ha="center", va="top",
                  fontsize=NAMES, color=INK)  # fmt: skip
