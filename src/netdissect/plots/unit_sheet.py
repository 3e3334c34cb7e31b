"""A contact sheet of units: their top images with the masks outlined."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from netdissect.concepts import Size
from netdissect.config import Palette
from netdissect.errors import ResultError
from netdissect.plots.category_colors import category_colors
from netdissect.plots.example_images import image_folder, read_image
from netdissect.plots.outlines import MaskGrid, enlarged, signed
from netdissect.plots.style import INK, SMALL, WIDTH, fitted, new_figure, text_width
from netdissect.result import LayerResult, Result
from netdissect.result.queries import layer_units, only_layer, run_min_iou, run_quantile
from netdissect.scoring.number_text import iou_text

IMAGES = 6
EDGE = 160
LINE = "#FFDD33"
DIMMED = 0.45
MAX_UNITS = 8
TITLE, BETWEEN = 0.24, 0.04
"""Inches: height of the line above a row of images, and distance between images."""
GAP = 5.0
"""Points between the color, the label and the numbers of a unit."""


def units(
    result: Result,
    layer: str | None = None,
    chosen: Sequence[int] | None = None,
    *,
    quantile: float | None = None,
    data_root: str | Path | None = None,
    count: int = IMAGES,
    colors: Palette = "safe",
    width: float = WIDTH,
) -> Figure:
    """Draw a row for each unit: its label and IoU, and its top images, dimmed outside the mask.

    Parameters
    ----------
    result
        A finished run.
    layer
        One of its layers; None: the only one.
    chosen
        Indices of units, from 0; None: the best unit of each of the eight concepts with the highest IoU.
    quantile
        Of labels and masks; None: the run's first.
    data_root
        The data set's folder, if it has moved since the run.
    count
        Images of each unit.
    colors
        ``safe`` for color vision deficiencies, or ``paper``: as in the authors' graphs.
    width
        Inches; type has the same size at any width.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ResultError
        If the layer has no such unit.
    """
    name = only_layer(result, layer)
    quantile, limit = run_quantile(result, quantile), run_min_iou(result, name)
    table = layer_units(result, name, quantile, limit)
    best = table.sort("iou", "unit", descending=[True, False]).unique("label", keep="first", maintain_order=True)
    indices = best["unit"].head(MAX_UNITS).to_list() if chosen is None else list(chosen)
    for index in indices:
        if not 0 <= index < len(table):
            raise ResultError(f"layer {name} has no unit {index}; its units are 0 to {len(table) - 1}.")
    side, number = width / max(count, 1), max(len(indices), 1)
    figure = new_figure(width, (side + TITLE) * number)
    figure.set_layout_engine("none")
    inks = category_colors(result.info.data.categories, colors)
    folder, masks = image_folder(result.info.data.root, data_root), MaskGrid.of(result.info, result.layers[name])
    for row, index in enumerate(indices):
        unit = table.row(index, named=True)
        _write_label(figure, 1 - row / number, unit, limit, inks.get(str(unit["category"]), INK))
        if not unit["dead"]:
            bottom = 1 - (row + 1) / number
            cells = [_cell(figure, (each * side / width, bottom, side)) for each in range(count)]
            _draw_images(cells, result.layers[name], masks, unit, folder)
    return figure


def _write_label(figure: Figure, top: float, unit: dict[str, Any], min_iou: float, ink: str) -> None:
    """Write a unit's label, number and IoU in a line whose upper end is at a height of the figure, after its color."""
    width, height = (72 * float(inches) for inches in figure.get_size_inches())
    values = f"unit {unit['unit']}, IoU {iou_text(unit['iou'], min_iou)}"
    space = width - text_width(values, SMALL) - 5 * GAP
    label = fitted("dead" if unit["dead"] else str(unit["label"] or "no concept"), space, SMALL, "bold")
    down = top - 36 * TITLE / height
    figure.add_artist(Line2D([GAP / 2 / width] * 2, [down - 5 / height, down + 5 / height], color=ink, linewidth=3))
    style: Any = {"fontsize": SMALL, "color": INK, "va": "center", "parse_math": False}
    figure.text(2 * GAP / width, down, label, weight="bold", **style)
    figure.text((3 * GAP + text_width(label, SMALL, "bold")) / width, down, values, **style)


def _cell(figure: Figure, corner: tuple[float, float, float]) -> Axes:
    """Add axes for one image: left, bottom as shares of the figure, and the side in inches."""
    left, bottom, side = corner
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left, bottom + BETWEEN / height, (side - BETWEEN) / width, (side - BETWEEN) / height))
    axes.set_axis_off()
    return axes


def _draw_images(
    cells: Sequence[Axes], tables: LayerResult, masks: MaskGrid, unit: dict[str, Any], folder: Path
) -> None:
    top = tables.top.filter(unit=unit["unit"]).sort("rank").head(len(cells))
    for axes, row in zip(cells, top.iter_rows(named=True), strict=False):
        labels = Size(row["label_height"], row["label_width"])
        values = masks.values(tables.top_maps[unit["unit"], row["rank"]], labels)
        draw_on(axes, read_image(folder, row["image"], edge_of(values)), values, unit["threshold"])


def edge_of(values: npt.NDArray[np.float32]) -> int:
    """Return the side of the square on which a mask is drawn, large enough for each of its pixels."""
    return int(max(EDGE, *values.shape))


def draw_on(axes: Axes, image: npt.NDArray[np.uint8] | None, values: npt.NDArray[np.float32], threshold: float) -> None:
    """Draw an image, dimmed outside a unit's mask, with the border of the mask.

    Parameters
    ----------
    axes
        The axes.
    image
        uint8 (E, E, 3), E by `edge_of`; None: gray.
    values
        float32 (sh, sw), the interpolated activations; see `netdissect.plots.outlines.MaskGrid.values`.
    threshold
        The unit's.
    """
    edge = edge_of(values)
    pixels = np.full((edge, edge, 3), 128, np.uint8) if image is None else image
    mask = values > np.float32(threshold)
    active = enlarged(mask, edge)[..., None]
    axes.imshow(np.where(active, pixels, (DIMMED * pixels).astype(np.uint8)), interpolation="antialiased")
    if mask.any() and not mask.all():
        down, right = ((np.arange(count) + 0.5) * edge / count - 0.5 for count in values.shape)
        axes.contour(right, down, signed(values, threshold), levels=[0], colors=LINE, linewidths=1.1)
