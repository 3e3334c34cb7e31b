"""A contact sheet of units, and the IoU of one of them: top images with the masks of unit and concept."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from netdissect.concepts import Size
from netdissect.config import MaskMode, Palette
from netdissect.errors import ResultError
from netdissect.plots.category_colors import category_colors
from netdissect.plots.example_images import image_folder, open_data, read_image
from netdissect.plots.outlines import MaskGrid
from netdissect.plots.overlap import (
    EDGE,
    REGION_COLORS,
    ConceptMask,
    ConceptMasks,
    ImageConcept,
    Mask,
    draw_masked,
    iou_of_counts,
    region_handles,
)
from netdissect.plots.style import INK, SMALL, WIDTH, fitted, new_figure, text_width
from netdissect.result import Result
from netdissect.result.queries import active_top_images, layer_units, only_layer, run_min_iou, run_quantile
from netdissect.scoring.number_text import iou_text

IMAGES = 6
MAX_UNITS = 8
TITLE, BETWEEN = 0.24, 0.04
"""Inches: height of the line above a row of images, and distance between images."""
LINE, BAR = 0.2, 0.16
"""Inches: heights of a line of text, and of a bar."""
OVERLAP_IMAGES, OVERLAP_SIDE = 5, 0.95
"""Images whose overlap is drawn, and inches that one takes with its numbers."""
CENTERED: Any = {"fontsize": SMALL, "color": INK, "ha": "center", "va": "center", "parse_math": False}
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
    mask: MaskMode = "dim",
    colors: Palette = "safe",
    width: float = WIDTH,
) -> Figure:
    """Draw a row for each unit: its label and IoU, and its top images with its mask.

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
    mask
        ``dim``: dark outside of the mask. ``outline``: the outline of the mask. ``both``: what the mask and the concept
        share, the mask only and the concept only, in three colors.
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
        _check_unit(name, index, len(table))
    side = width / max(count, 1)
    height = (side + TITLE) * max(len(indices), 1) + (TITLE if mask == "both" else 0)
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    inks = category_colors(result.info.data.categories, colors)
    images = UnitImages(result, name, data_root, concepts=mask == "both")
    for row, index in enumerate(indices):
        unit = table.row(index, named=True)
        top, bottom = (1 - (side + TITLE) * each / height for each in (row, row + 1))
        _write_label(figure, top, unit, limit, inks.get(str(unit["category"]), INK))
        if not unit["dead"]:
            cells = [_cell(figure, (each * side / width, bottom, side)) for each in range(count)]
            _draw_images(cells, images, unit, mask)
    if mask == "both":
        figure.legend(handles=region_handles(), loc="lower left", ncols=3, borderpad=0, frameon=False, fontsize=SMALL)
    return figure


def overlap(
    result: Result,
    layer: str | None = None,
    unit: int | None = None,
    *,
    quantile: float | None = None,
    data_root: str | Path | None = None,
    count: int = OVERLAP_IMAGES,
    width: float = WIDTH,
) -> Figure:
    """Draw how the IoU of a unit and its concept comes about: what both cover, by the pixels of either.

    Parameters
    ----------
    result
        A finished run.
    layer
        One of its layers; None: the only one.
    unit
        Index of the unit, from 0; None: the one with the highest IoU.
    quantile
        Of label and masks; None: the run's first.
    data_root
        The data set's folder, if it has moved since the run.
    count
        Top images of the unit that are drawn, as far as they and their numbers fit.
    width
        Inches; type has the same size at any width.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ResultError
        If there is no such unit, it has no concept, or labels cannot be read.
    """
    name = only_layer(result, layer)
    quantile = run_quantile(result, quantile)
    limit = run_min_iou(result, name)
    table = layer_units(result, name, quantile, limit)
    index = table.sort("iou", "unit", descending=[True, False])["unit"][0] if unit is None else unit
    _check_unit(name, index, len(table))
    row = table.row(index, named=True)
    if row["dead"] or row["label"] is None:
        raise ResultError(
            f"unit {index} of layer {name} has no concept, so that there is no IoU to draw. Name another."
        )
    count = min(count, int(width / OVERLAP_SIDE))
    side = width / count
    height = 2 * TITLE + side + 2 * LINE + BAR
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    ink = category_colors(result.info.data.categories).get(str(row["category"]), INK)
    _write_label(figure, 1, row, limit, ink)
    images, counts = UnitImages(result, name, data_root, concepts=True), Counter[str]()
    for place, (top, mask, concept) in enumerate(images.of(row, count)):
        if concept is None:
            raise ResultError(
                f"the labels of {top['image']} cannot be read from {result.info.data.root}: an IoU compares masks with "
                "labels. Name the folder of the data set if it was moved (--data-root)."
            )
        axes = _cell(figure, (place * side / width, 1 - (TITLE + side) / height, side))
        draw_masked(axes, read_image(images.folder, top["image"], EDGE), mask, concept.pixels, "both")
        of_image = concept.contribution(mask)
        counts.update(of_image)
        union = sum(of_image.values())
        text = f"{of_image['overlap']:,} / {union:,}" if union else "does not count"
        figure.text((place + 0.5) * side / width, 1 - (TITLE + side + LINE / 2) / height, text, **CENTERED)
    _draw_sum(figure, {region: counts[region] for region in REGION_COLORS}, (BAR + TITLE) / height)
    figure.legend(handles=region_handles(), loc="lower left", ncols=3, borderpad=0, frameon=False, fontsize=SMALL)
    return figure


def _draw_sum(figure: Figure, counts: Mapping[str, int], top: float) -> None:
    """Draw the pixels of the regions as a bar, with their quotient above it."""
    total, left = max(sum(counts.values()), 1), 0
    axes = figure.add_axes((0, TITLE / figure.get_figheight(), 1, top - TITLE / figure.get_figheight()))
    axes.set_axis_off()
    axes.set_xlim(0, total)
    for name, color in REGION_COLORS.items():
        axes.barh(0, counts[name], left=left, height=1, color=color)
        left += counts[name]
    axes.set_ylim(-0.5, 0.5)
    text = f"in these images {counts['overlap']:,} / {sum(counts.values()):,} = {iou_of_counts(counts):.3f}"
    figure.text(0, top + LINE / 2 / figure.get_figheight(), text, **CENTERED | {"ha": "left"})


def _check_unit(layer: str, index: int, count: int) -> None:
    if not 0 <= index < count:
        raise ResultError(f"layer {layer} has no unit {index}; its units are 0 to {count - 1}.")


class UnitImages:
    """The top images of the units of a layer with their masks.

    Parameters
    ----------
    result
        A finished run.
    layer
        Name of the layer.
    data_root
        The data set's folder, if it has moved since the run.
    concepts
        Whether masks of concepts are read from it, too.
    """

    def __init__(self, result: Result, layer: str, data_root: str | Path | None, *, concepts: bool) -> None:
        self._result, self._layer = result, result.layers[layer]
        self._grid = MaskGrid.of(result.info, self._layer)
        data, protocol = open_data(result.info, data_root) if concepts else None, result.info.config.protocol
        self._concepts = None if data is None else ConceptMasks(data, protocol.restriction)
        self.folder = image_folder(result.info.data.root, data_root)

    def of(self, unit: Mapping[str, Any], count: int) -> Iterator[tuple[dict[str, Any], Mask, ConceptMask | None]]:
        """Yield rows of the table of top images, the unit's mask, and its concept's; None: not known.

        Parameters
        ----------
        unit
            Its row in the table of units.
        count
            How many images at most.
        """
        top = active_top_images(self._layer).filter(unit=unit["unit"]).head(count).collect()
        for row in top.iter_rows(named=True):
            cells = self._layer.top_maps[unit["unit"], row["rank"]]
            mask = self._grid.mask(cells, unit["threshold"], Size(row["label_height"], row["label_width"]))
            concept = None
            if self._concepts is not None and unit["label"] is not None:
                label_id = self._result.concepts.filter(concept=unit["label"])["label_id"].item()
                concept = self._concepts.mask(ImageConcept(row["image_index"], label_id, Size(*mask.shape)))
            yield row, mask, concept


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


def _draw_images(cells: Sequence[Axes], images: UnitImages, unit: dict[str, Any], mode: MaskMode) -> None:
    for axes, (row, mask, concept) in zip(cells, images.of(unit, len(cells)), strict=False):
        shown = None if concept is None else concept.pixels
        draw_masked(axes, read_image(images.folder, row["image"], EDGE), mask, shown, mode)
