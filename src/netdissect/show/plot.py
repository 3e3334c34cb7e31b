"""Charts of a result, as matplotlib figures that can go straight into a paper.

    bars(result)              unique detectors by category, a row for each layer
    concepts(result, layer)   how many units detect each concept: the paper's bar graph

Figures are made without pyplot: nothing global is changed, and no window or backend is needed.

Source: Bau et al. 2017 :cite:p:`bau2017network`, its bar graphs of unique detectors and of concepts.
"""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import matplotlib as mpl
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from netdissect.config import Rule
from netdissect.result import Result
from netdissect.score import Count
from netdissect.show.findings import detected_concepts, run_min_iou, run_quantile
from netdissect.show.palette import category_colors

INK = "#22262B"
FAINT = "#8A9099"
LONGEST_NAME = 22


def bars(
    result: Result,
    *,
    layers: Sequence[str] | None = None,
    rule: Rule = "top-label",
    quantile: float | None = None,
    min_iou: float | None = None,
) -> Figure:
    """Draw the number of unique detectors by category.

    Parameters
    ----------
    result
        A finished run.
    layers
        A stacked bar for each of these; None: all. A single layer is drawn with a bar for each category instead.
    rule
        How detectors are counted; see `netdissect.score.Count`.
    quantile, min_iou
        None: the run's own.

    Returns
    -------
    matplotlib.figure.Figure
    """
    quantile, level = run_quantile(result, quantile), run_min_iou(result, min_iou)
    names = list(result.layers) if layers is None else [result.layer(name).info.name for name in layers]
    counts = {entry.layer: entry.count for entry in result.detectors(rule, level) if entry.quantile == quantile}
    if len(names) == 1:
        return _category_rows(counts[names[0]], result.info.data.categories)
    return _layer_rows({name: counts[name] for name in names}, result.info.data.categories)


def concepts(
    result: Result,
    layer: str,
    *,
    quantile: float | None = None,
    min_iou: float | None = None,
) -> Figure:
    """Draw how many units of a layer detect each concept, grouped by category.

    Parameters
    ----------
    result
        A finished run.
    layer
        One of its layers.
    quantile, min_iou
        None: the run's own.

    Returns
    -------
    matplotlib.figure.Figure
        Wider the more concepts there are.
    """
    level = run_min_iou(result, min_iou)
    found = detected_concepts(result, layer, run_quantile(result, quantile), level)
    groups = [(str(name), part) for (name,), part in found.group_by("category", maintain_order=True)]
    slots = len(found) + max(len(groups) - 1, 0)
    figure = Figure(figsize=(max(5.0, 0.9 + 0.19 * slots), 4.0), layout="constrained")
    axes = plain_axes(figure)
    if found.is_empty():
        return _nothing(figure, axes, level)
    _concept_bars(axes, groups, category_colors(result.info.data.categories))
    # Few concepts keep bars of the usual width.
    axes.set_xlim(-0.8, max(slots, 22) - 0.2)
    axes.set_ylabel("units", color=INK)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure


def save_svg(figure: Figure, path: Path, ink: str = INK) -> None:
    """Write a figure as SVG: text stays text, the same figure gives the same bytes.

    Parameters
    ----------
    figure
        From this module.
    path
        File to write.
    ink
        Color of text and axes, as ``#RRGGBB``: a light one for dark pages.
    """
    with mpl.rc_context({"svg.hashsalt": "netdissect", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": "netdissect"})
    if ink != INK:
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(INK.lower(), ink.lower()), encoding="utf-8")


def _category_rows(count: Count, categories: Sequence[str]) -> Figure:
    figure = Figure(figsize=(5.6, 0.7 + 0.36 * max(len(categories), 1)), layout="constrained")
    axes = plain_axes(figure)
    if not count.unique["total"]:
        return _nothing(figure, axes, count.min_iou)
    colors = category_colors(categories)
    values = [count.unique[name] for name in categories]
    rows = range(len(categories))
    axes.barh(rows, values, color=[colors[name] for name in categories], height=0.68)
    for row, value in zip(rows, values, strict=True):
        axes.annotate(str(value), (value, row), (4, 0), textcoords="offset points", va="center", color=INK, fontsize=10)
    _name_rows(axes, categories)
    axes.set_xlabel("unique detectors", color=INK)
    axes.set_xlim(0, max(values) * 1.1)
    return figure


def _layer_rows(counts: dict[str, Count], categories: Sequence[str]) -> Figure:
    figure = Figure(figsize=(7.2, 1.2 + 0.42 * max(len(counts), 1)), layout="constrained")
    axes = plain_axes(figure)
    largest = max((count.unique["total"] for count in counts.values()), default=0)
    if not largest:
        return _nothing(figure, axes, next((count.min_iou for count in counts.values()), 0.0))
    colors = category_colors(categories)
    for row, count in enumerate(counts.values()):
        values = [count.unique[name] for name in categories]
        starts = accumulate(values[:-1], initial=0)
        for name, start, value in zip(categories, starts, values, strict=True):
            axes.barh(row, value, left=start, color=colors[name], height=0.68)
        total = count.unique["total"]
        axes.annotate(str(total), (total, row), (5, 0), textcoords="offset points", va="center", color=INK, fontsize=10)
    _name_rows(axes, list(counts))
    axes.set_xlabel("unique detectors", color=INK)
    axes.set_xlim(0, largest * 1.1)
    present = [name for name in categories if any(count.unique[name] for count in counts.values())]
    legend = figure.legend(
        [Patch(color=colors[name]) for name in present], present,
        loc="outside upper center", ncols=min(6, len(present)), frameon=False, fontsize=9, labelcolor=INK,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _concept_bars(axes: Axes, groups: list[tuple[str, pl.DataFrame]], colors: dict[str, str]) -> None:
    """Draw a group of bars for each category, with a slot between groups and the category's name above."""
    names: list[str] = []
    places: list[int] = []
    first = 0
    highest = max(len(units) for _, part in groups for units in part["units"])
    for category, part in groups:
        here = range(first, first + len(part))
        values = part["units"].list.len().to_list()
        axes.bar(here, values, color=colors[category], width=0.8)
        axes.annotate(
            f"{category} {len(part)}", (first - 0.4, highest), (0, 8), textcoords="offset points",
            color=INK, fontsize=9, weight="bold", parse_math=False, rotation=0 if len(part) > 3 else 30,
        )  # fmt: skip
        names += part["concept"].to_list()
        places += here
        first += len(part) + 1
    axes.set_ylim(0, highest * 1.02)
    axes.set_xticks(places, [_short(name) for name in names], rotation=90, fontsize=8, color=INK)
    for text in axes.get_xticklabels():
        text.set_parse_math(False)


def plain_axes(figure: Figure) -> Axes:
    """Add axes that are bare of everything but what is read: two thin lines and the numbers along them."""
    return plain(figure.add_subplot())


def plain(axes: Axes) -> Axes:
    """Strip axes of everything but what is read, and return them."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=INK, length=0, labelsize=9)
    axes.set_axisbelow(True)
    return axes


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [_short(name) for name in names], fontsize=10, color=INK)
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="x", color=FAINT, alpha=0.3, linewidth=0.6)


def _nothing(figure: Figure, axes: Axes, level: float) -> Figure:
    axes.set_axis_off()
    axes.text(0, 0.5, f"No unit is a detector at an IoU of {level:g}.", va="center", color=INK)
    figure.set_size_inches(5.0, 1.0)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
