"""Bar graph: number of units of a layer that detect each concept, by either rule."""

from collections.abc import Mapping

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from netdissect.config import Palette, Rule
from netdissect.plots.category_colors import category_colors
from netdissect.plots.style import INK, StyledFigure, as_written, no_detectors, plain_axes, short
from netdissect.result import Result
from netdissect.result.queries import detected_concepts, only_layer, run_min_iou, run_quantile
from netdissect.result.statistics_schema import COUNTS, complete

LETTERS_A_SLOT = 2.3
"""Letters of a title over one bar; a title that would reach over the next one is slanted."""


def bars(
    result: Result,
    layer: str | None = None,
    *,
    rule: Rule = "top-label",
    quantile: float | None = None,
    min_iou: float | None = None,
    colors: Palette = "safe",
    links: Mapping[str, str] | None = None,
) -> Figure:
    """Draw the number of units of a layer that detect each concept, grouped by category.

    Behind the name of a category are its number of unique detectors and their mean under the permutation null.

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
    links
        URLs of concepts, for a figure in a page.

    Returns
    -------
    matplotlib.figure.Figure
        Wider the more concepts there are.
    """
    name, quantile = only_layer(result, layer), run_quantile(result, quantile)
    limit = run_min_iou(result, name, min_iou)
    detected = detected_concepts(result, name, quantile, limit, rule)
    groups = [(str(name), part) for (name,), part in detected.group_by("category", maintain_order=True)]
    slots = len(detected) + max(len(groups) - 1, 0)
    figure = StyledFigure(figsize=(max(5.0, 0.9 + 0.19 * slots), 3.4), layout="constrained")
    axes = plain_axes(figure)
    if detected.is_empty():
        return no_detectors(figure, axes, rule, limit)
    nulls = _nulls(result, name, quantile, rule) if limit == run_min_iou(result, name) else {}
    titles = {
        category: f"{category} {len(part)}" + (f" (null {nulls[category]:.1f})" if category in nulls else "")
        for category, part in groups
    }
    _draw(axes, groups, category_colors(result.info.data.categories, colors), titles, links or {})
    # With few concepts, bars keep the usual width.
    axes.set_xlim(-0.8, max(slots, 22) - 0.2)
    axes.set_ylabel("units", color=INK)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure


def _nulls(result: Result, layer: str, quantile: float, rule: Rule) -> dict[str, float]:
    """Return the mean unique detectors of each category under the null; empty: not measured."""
    statistics = result.layer(layer).statistics
    if "counts" not in statistics:
        return {}
    rows = complete(statistics["counts"].filter(quantile=quantile, rule=rule).collect(), COUNTS)
    return dict(rows.select("category", "null_unique_detectors").drop_nulls().rows())


def _draw(
    axes: Axes,
    groups: list[tuple[str, pl.DataFrame]],
    colors: dict[str, str],
    titles: Mapping[str, str],
    links: Mapping[str, str],
) -> None:
    """Draw a group of bars for each category, with a slot between groups and the category's title above."""
    names: list[str] = []
    positions: list[int] = []
    first = 0
    highest = max(len(units) for _, part in groups for units in part["units"])
    for category, part in groups:
        ticks = range(first, first + len(part))
        values = part["units"].list.len().to_list()
        drawn = axes.bar(ticks, values, color=colors[category], width=0.8)
        for bar, name in zip(drawn, part["concept"], strict=True):
            bar.set_url(links.get(name))
        axes.annotate(
            titles[category], (first - 0.4, highest), (0, 8), textcoords="offset points",
            color=INK, fontsize=9, weight="bold", parse_math=False,
            rotation=0 if len(titles[category]) < LETTERS_A_SLOT * (len(part) + 1) else 30,
        )  # fmt: skip
        names += part["concept"].to_list()
        positions += ticks
        first += len(part) + 1
    axes.set_ylim(0, highest * 1.02)
    axes.set_xticks(positions, [short(name) for name in names], rotation=90, fontsize=8, color=INK)
    as_written(axes.get_xticklabels())
