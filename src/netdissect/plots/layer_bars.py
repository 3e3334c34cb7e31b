"""Unique detectors by category, a row for each layer of each run."""

from collections.abc import Sequence
from itertools import accumulate

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from netdissect.config import Palette, Rule
from netdissect.plots.category_colors import category_colors
from netdissect.plots.style import (
    FAINT,
    INK,
    NULL_LABEL,
    StyledFigure,
    as_written,
    beyond_mark,
    mark_null,
    no_detectors,
    null_handle,
    plain_axes,
    short,
)
from netdissect.result import LayerCount, Result
from netdissect.result.queries import run_names, run_quantile
from netdissect.result.result import runs_given
from netdissect.result.summary import measured_count


def layers(
    results: Result | Sequence[Result],
    *,
    rule: Rule = "top-label",
    quantile: float | None = None,
    min_iou: float | None = None,
    colors: Palette = "safe",
    names: Sequence[str] | None = None,
) -> Figure:
    """Draw the number of unique detectors by category as a stacked bar for each layer; a diamond is their null.

    Parameters
    ----------
    results
        One run, or several side by side.
    rule
        How detectors are counted; see `netdissect.scoring.DetectorCount`.
    quantile, min_iou
        None: each run's own.
    colors
        ``safe`` for color vision deficiencies, or ``paper``: as in the authors' graphs.
    names
        Titles of the runs; None: the names of their networks.

    Returns
    -------
    matplotlib.figure.Figure
    """
    each = runs_given(results)
    titles = run_names(each, names)
    rows = [
        (title if len(each) > 1 and not index else "", entry)
        for title, result in zip(titles, each, strict=True)
        for index, entry in enumerate(_counts(result, rule, quantile, min_iou))
    ]
    figure = StyledFigure(figsize=(7.2, 1.0 + 0.36 * max(len(rows) + len(each), 2)), layout="constrained")
    axes = plain_axes(figure)
    nulls = [null for result in each for null in _nulls(result, _counts(result, rule, quantile, min_iou), rule)]
    largest = max((entry.count.unique_detectors["total"] for _, entry in rows), default=0)
    if not largest:
        return no_detectors(figure, axes, rule, rows[0][1].count.min_iou if rows else 0.0)
    categories = list(dict.fromkeys(name for result in each for name in result.info.data.categories))
    inks = category_colors(categories, colors)
    _draw(axes, rows, inks, nulls)
    present = [name for name in categories if any(entry.count.unique_detectors.get(name) for _, entry in rows)]
    handles: list[Artist] = [Patch(color=inks[name]) for name in present]
    if any(null is not None for null in nulls):
        handles, present = [*handles, null_handle()], [*present, NULL_LABEL]
    legend = figure.legend(
        handles, present, loc="outside upper center", ncols=min(6, len(present)), frameon=False, fontsize=9,
        labelcolor=INK,
    )  # fmt: skip
    as_written(legend.get_texts())
    return figure


def _counts(result: Result, rule: Rule, quantile: float | None, min_iou: float | None) -> list[LayerCount]:
    quantile = run_quantile(result, quantile)
    return [entry for entry in result.detectors(rule, min_iou) if entry.quantile == quantile]


def _nulls(result: Result, entries: Sequence[LayerCount], rule: Rule) -> list[float | None]:
    """Return the mean unique detectors of each layer under the null; None: not measured at this limit."""
    return [
        measured_count(result, entry.layer, entry.quantile, rule).null
        if entry.quantile is not None and entry.count.min_iou == result.info.min_iou(entry.layer)
        else None
        for entry in entries
    ]


def _draw(
    axes: Axes, rows: Sequence[tuple[str, LayerCount]], inks: dict[str, str], nulls: Sequence[float | None]
) -> None:
    position, positions = 0.0, []
    longest = max([entry.count.unique_detectors["total"] for _, entry in rows] + [null or 0.0 for null in nulls])
    for (title, entry), null in zip(rows, nulls, strict=True):
        if title:  # a new run: its title is above its layers
            axes.annotate(title, (0, position), (0, -3), textcoords="offset points", color=INK, fontsize=9.5,
                          weight="bold", parse_math=False, va="center")  # fmt: skip
            position += 1
        values = [entry.count.unique_detectors.get(category, 0) for category in inks]
        starts = accumulate(values[:-1], initial=0)
        for category, start, value in zip(inks, starts, values, strict=True):
            if value:
                axes.barh(position, value, left=start, color=inks[category], height=0.68)
        total = entry.count.unique_detectors["total"]
        at = beyond_mark(total, null, longest)
        axes.annotate(str(total), (at, position), (8, 0), textcoords="offset points", va="center", color=INK,
                      fontsize=9.5)  # fmt: skip
        positions.append(position)
        position += 1
    axes.set_yticks(positions, [short(entry.layer) for _, entry in rows], fontsize=9.5, color=INK)
    as_written(axes.get_yticklabels())
    axes.set_ylim(position - 0.4, -0.6)
    marked = [(null, at) for null, at in zip(nulls, positions, strict=True) if null is not None]
    mark_null(axes, [null for null, _ in marked], [at for _, at in marked])
    axes.set_xlim(0, longest * 1.1)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="x", color=FAINT, alpha=0.3, linewidth=0.6)
    axes.set_xlabel("unique detectors", color=INK)
