"""Matched units of two runs: a row for each pair, with the top images of both."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from netdissect.config import Palette
from netdissect.errors import ResultError
from netdissect.plots.category_colors import category_colors
from netdissect.plots.example_images import read_image
from netdissect.plots.matching.unit_matching import match_units
from netdissect.plots.overlap import EDGE, draw_masked
from netdissect.plots.style import FAINT, INK, SMALL, WIDTH, fitted, new_figure
from netdissect.plots.unit_sheet import UnitImages
from netdissect.result import Result
from netdissect.result.queries import layer_units, run_min_iou, run_names, run_quantile
from netdissect.scoring.number_text import iou_text

PAIRS, IMAGES = 6, 4
MIDDLE = 0.62
"""Inches between the images of two units: the correlation stands there."""
LINE, GAP, MIN_SIDE = 0.17, 0.12, 0.6
"""Inches: height of a line of text, distance between rows, and the smallest side of an image."""
NO_DETECTOR = "gray: the unit is no detector"
BETWEEN = 0.03
"""Inches between images."""


def matched_units(
    left: Result,
    right: Result,
    *,
    layer: str | Sequence[str] | None = None,
    pairs: int = PAIRS,
    count: int = IMAGES,
    data_root: str | Path | None = None,
    colors: Palette = "safe",
    names: Sequence[str] | None = None,
    width: float = WIDTH,
) -> Figure:
    """Draw the units of two runs that respond to the same images: each row is a pair with its top images.

    Between them stands Pearson's correlation of their maximum activations over the images that both runs used; see
    `netdissect.plots.matching.unit_matching.match_units`. Images are dark where the unit is not active.
    The labels of units that are no detectors are gray.

    Parameters
    ----------
    left, right
        Two finished runs on the same images.
    layer
        A layer of both runs, or one of each; None: the last layer of the network that both have.
    pairs
        How many are drawn: mutual ones, of highest correlation.
    count
        Images of each unit, as far as they fit.
    data_root
        The data set's folder, if it has moved since the runs.
    colors
        ``safe`` for color vision deficiencies, or ``paper``: as in the authors' graphs.
    names
        Titles of the two runs; None: the names of their networks.
    width
        Inches; type has the same size at any width.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ResultError
        If the runs used other images, kept no maximum activations, have no such layer, or no pair is mutual.
    """
    layers = _layers(left, right, layer)
    matching = match_units(left, layers[0], right, layers[1])
    mutual = [pair for pair in matching.pairs if pair.mutual][:pairs]
    if not mutual:
        raise ResultError(f"no unit of {layers[0]} and unit of {layers[1]} are each other's best match.")
    half = (width - MIDDLE) / 2
    count = max(1, min(count, int(half / MIN_SIDE)))
    side = half / count
    row = 2 * LINE + side + GAP
    tables = _units(left, layers[0]), _units(right, layers[1])
    shown = [tables[0][pair.left_unit] for pair in mutual], [tables[1][pair.right_unit] for pair in mutual]
    gray = any(not unit["detector"] for side in shown for unit in side)
    height = LINE + GAP + len(mutual) * row + (LINE if gray else 0)
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    titles = run_names((left, right), names)
    for start, result, name, title, units in (
        (0.0, left, layers[0], titles[0], shown[0]),
        (half + MIDDLE, right, layers[1], titles[1], shown[1]),
    ):
        _write(figure, (start, 0.5 * LINE), fitted(f"{title}, {name}", 72 * half, SMALL), color=FAINT)
        images = UnitImages(result, name, data_root, concepts=False)
        inks = category_colors(result.info.data.categories, colors)
        for index, unit in enumerate(units):
            top = LINE + GAP + index * row
            _write_label(figure, (start, top), unit, half, inks.get(str(unit["category"]), INK))
            _draw_images(figure, (start, top + 2 * LINE, side), images, unit, count)
    for index, pair in enumerate(mutual):
        top = LINE + GAP + index * row + 2 * LINE + side / 2
        _write(figure, (width / 2, top), f"r = {pair.correlation:.2f}", ha="center")
    if gray:
        _write(figure, (0.0, height - LINE / 2), NO_DETECTOR, color=FAINT)
    return figure


def _layers(left: Result, right: Result, layer: str | Sequence[str] | None) -> tuple[str, str]:
    if layer is None:
        shared = [name for name, each in left.layers.items() if name in right.layers and each.info.basis_of is None]
        if not shared:
            raise ResultError("the runs have no layer of the same name. Name one of each (--layer LEFT --layer RIGHT).")
        return shared[-1], shared[-1]
    each = [layer] if isinstance(layer, str) else list(layer)
    if len(each) > 2:
        raise ResultError(f"{len(each)} layers given. Expected a layer of both runs, or one of each.")
    return left.layer(each[0]).info.name, right.layer(each[-1]).info.name


def _units(result: Result, layer: str) -> list[dict[str, Any]]:
    """Return the row of each unit at the run's first quantile, with its limit."""
    limit = run_min_iou(result, layer)
    rows = layer_units(result, layer, run_quantile(result, None), limit).sort("unit").iter_rows(named=True)
    return [row | {"min_iou": limit} for row in rows]


def _write(figure: Figure, place: tuple[float, float], text: str, **style: Any) -> None:
    """Write at inches from the left and the top."""
    width, height = (float(inches) for inches in figure.get_size_inches())
    given: Any = {"fontsize": SMALL, "color": INK, "va": "center", "parse_math": False} | style
    figure.text(place[0] / width, 1 - place[1] / height, text, **given)


def _write_label(figure: Figure, place: tuple[float, float], unit: Mapping[str, Any], space: float, ink: str) -> None:
    """Write label, number and IoU of a unit in two lines, after the color of its category; gray: no detector."""
    left, top = place
    width, height = (float(inches) for inches in figure.get_size_inches())
    ends = [1 - (top + down) / height for down in (0.02, 2 * LINE - 0.05)]
    bar = ink if unit["detector"] else FAINT
    figure.add_artist(Line2D([(left + 0.02) / width] * 2, ends, color=bar, linewidth=2.5, solid_capstyle="butt"))
    label = fitted(str(unit["label"] or "no concept"), 72 * (space - 0.08), SMALL, "bold")
    weight, color = ("bold", INK) if unit["detector"] else ("normal", FAINT)
    _write(figure, (left + 0.08, top + LINE / 2), label, weight=weight, color=color)
    values = f"unit {unit['unit']}, IoU {iou_text(unit['iou'], unit['min_iou'])}"
    _write(figure, (left + 0.08, top + 1.45 * LINE), values)


def _draw_images(
    figure: Figure, corner: tuple[float, float, float], images: UnitImages, unit: Mapping[str, Any], count: int
) -> None:
    """Draw the top images of a unit in a row: left and top in inches, and the side of an image."""
    left, top, side = corner
    width, height = (float(inches) for inches in figure.get_size_inches())
    for index, (row, mask, _) in enumerate(images.of(unit, count)):
        start, inner = left + index * side, side - BETWEEN
        axes = figure.add_axes((start / width, 1 - (top + inner) / height, inner / width, inner / height))
        axes.set_axis_off()
        draw_masked(axes, read_image(images.folder, row["image"], EDGE), mask)
