"""Bar graph: number of units of a layer that detect each concept, by either rule."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from netdissect.config import Palette, Rule
from netdissect.plots.category_colors import category_colors
from netdissect.plots.style import (
    INK,
    NAMES,
    TEXT,
    WIDTH,
    as_written,
    legend_above,
    new_figure,
    no_detectors,
    plain,
    plain_axes,
    short,
    text_width,
)
from netdissect.result import Result
from netdissect.result.queries import detected_concepts, only_layer, run_min_iou, run_quantile
from netdissect.result.statistics_schema import COUNTS, complete

SLOT = 1.28 * NAMES
"""Points from one bar to the next: the height of a name."""
MARGIN = 46
"""Points of the width of a figure beside its bars."""
ROW = 1.15
"""Height in inches of a row of bars, without their names."""
FEW = 22
"""Slots of a row with fewer bars: they keep the usual width."""


def bars(
    result: Result,
    layer: str | None = None,
    *,
    rule: Rule = "top-label",
    quantile: float | None = None,
    min_iou: float | None = None,
    colors: Palette = "safe",
    width: float = WIDTH,
    links: Mapping[str, str] | None = None,
) -> Figure:
    """Draw the number of units of a layer that detect each concept, grouped by category.

    The legend says the number of unique detectors of each category, and their mean under the permutation null.

    Parameters
    ----------
    result
        A finished run.
    layer
        One of its layers; None: the only one.
    rule
        How detectors are counted; the figures of Bau et al. 2017 :cite:p:`bau2017network` count ``per-category``. See
        `netdissect.scoring.DetectorCount`.
    quantile, min_iou
        None: the run's own.
    colors
        ``safe`` for color vision deficiencies, or ``paper``: as in the authors' graphs.
    width
        Inches; type has the same size at any width. Bars that do not fit into a row continue in the next one.
    links
        URLs of concepts, for a figure in a page.

    Returns
    -------
    matplotlib.figure.Figure
    """
    name, quantile = only_layer(result, layer), run_quantile(result, quantile)
    limit = run_min_iou(result, name, min_iou)
    detected = detected_concepts(result, name, quantile, limit, rule)
    figure = new_figure(width, 1.0)
    if detected.is_empty():
        return no_detectors(figure, plain_axes(figure), rule, limit)
    rows = _rows(detected, int((72 * width - MARGIN) / SLOT))
    names = max(text_width(short(concept), NAMES) for concept in detected["concept"])
    figure.set_figheight(0.5 + len(rows) * (ROW + names / 72))
    inks = category_colors(result.info.data.categories, colors)
    highest = max(map(len, detected["units"]))
    for axes, row in zip(figure.subplots(len(rows), squeeze=False).flat, rows, strict=True):
        _draw(plain(axes), row, inks, links or {})
        axes.set_xlim(-0.8, max(rows[0][-1][0] + 1, FEW) - 0.2)
        axes.set_ylim(0, highest * 1.02)
    nulls = _nulls(result, name, quantile, rule) if limit == run_min_iou(result, name) else {}
    counts = detected.group_by("category", maintain_order=True).len().rows()
    titles = [f"{each} {count}" + (f" (null {nulls[each]:.1f})" if each in nulls else "") for each, count in counts]
    legend_above(figure, [Patch(color=inks[each]) for each, _ in counts], titles)
    return figure


def _nulls(result: Result, layer: str, quantile: float, rule: Rule) -> dict[str, float]:
    """Return the mean unique detectors of each category under the null; empty: not measured."""
    statistics = result.layer(layer).statistics
    if "counts" not in statistics:
        return {}
    rows = complete(statistics["counts"].filter(quantile=quantile, rule=rule).collect(), COUNTS)
    return dict(rows.select("category", "null_unique_detectors").drop_nulls().rows())


def _rows(detected: pl.DataFrame, slots: int) -> list[list[tuple[int, dict[str, Any]]]]:
    """Split concepts into rows of so many slots, with a free slot between categories: slot and concept of each bar."""
    rows: list[list[tuple[int, dict[str, Any]]]] = [[]]
    for concept in detected.iter_rows(named=True):
        before = rows[-1][-1] if rows[-1] else None
        slot = 0 if before is None else before[0] + 1 + (before[1]["category"] != concept["category"])
        if slot >= slots:
            rows.append([(0, concept)])
        else:
            rows[-1].append((slot, concept))
    return rows


def _draw(
    axes: Axes, row: Sequence[tuple[int, dict[str, Any]]], colors: Mapping[str, str], links: Mapping[str, str]
) -> None:
    for slot, concept in row:
        (bar,) = axes.bar(slot, len(concept["units"]), color=colors[concept["category"]], width=0.8)
        bar.set_url(links.get(concept["concept"]))
    names = [short(concept["concept"]) for _, concept in row]
    axes.set_xticks([slot for slot, _ in row], names, rotation=90, fontsize=NAMES, color=INK)
    as_written(axes.get_xticklabels())
    axes.set_ylabel("units", color=INK, fontsize=TEXT)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
