"""Unique detectors by category, a row for each layer of each run."""

from collections.abc import Mapping, Sequence

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
    SMALL,
    TEXT,
    WIDTH,
    as_written,
    beyond_mark,
    fitted,
    legend_above,
    mark_null,
    new_figure,
    no_detectors,
    null_handle,
    plain_axes,
    short,
    text_width,
)
from netdissect.plots.unique_counts import LayerRow, unique_counts
from netdissect.result import Result
from netdissect.result.queries import run_names
from netdissect.result.result import runs_given

MARGIN = 16
"""Points of the width of a figure beside its bars and the names of layers."""


def layers(
    results: Result | Sequence[Result],
    *,
    rule: Rule = "top-label",
    quantile: float | None = None,
    min_iou: float | None = None,
    colors: Palette = "safe",
    names: Sequence[str] | None = None,
    width: float = WIDTH,
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
    width
        Inches; type has the same size at any width.

    Returns
    -------
    matplotlib.figure.Figure
    """
    each = runs_given(results)
    titles = run_names(each, names)
    rows = [
        (title if len(each) > 1 and not index else "", row)
        for title, result in zip(titles, each, strict=True)
        for index, row in enumerate(unique_counts(result, rule, quantile, min_iou))
    ]
    lines = len(rows) + (len(each) if len(each) > 1 else 0)
    figure = new_figure(width, 0.9 + 0.2 * max(lines, 2))
    axes = plain_axes(figure)
    if not any(row.unique for _, row in rows):
        return no_detectors(figure, axes, rule, rows[0][1].entry.count.min_iou if rows else 0.0)
    categories = list(dict.fromkeys(name for result in each for name in result.info.data.categories))
    inks = category_colors(categories, colors)
    space = 72 * width - MARGIN - max(text_width(short(row.entry.layer), SMALL) for _, row in rows)
    _draw(axes, [(fitted(title, space, SMALL, "bold"), row) for title, row in rows], inks)
    present = [name for name in categories if any(row.entry.count.unique_detectors.get(name) for _, row in rows)]
    handles: list[Artist] = [Patch(color=inks[name]) for name in present]
    if any(row.null is not None for _, row in rows):
        handles, present = [*handles, null_handle()], [*present, NULL_LABEL]
    legend_above(figure, handles, present)
    return figure


def _draw(axes: Axes, rows: Sequence[tuple[str, LayerRow]], inks: Mapping[str, str]) -> None:
    position, positions = 0.0, []
    nulls = [row.null for _, row in rows]
    longest = max([row.unique for _, row in rows] + [null or 0.0 for null in nulls])
    for title, row in rows:
        if title:  # a new run: its title is above its layers
            axes.annotate(title, (0, position), (0, -2), textcoords="offset points", color=INK, fontsize=SMALL,
                          weight="bold", parse_math=False, va="center")  # fmt: skip
            position += 1
        start = 0
        for category, ink in inks.items():
            value = row.entry.count.unique_detectors.get(category, 0)
            if value:
                axes.barh(position, value, left=start, color=ink, height=0.68)
            start += value
        end = beyond_mark(row.unique, row.null, longest)
        axes.annotate(f"{row.unique:,}", (end, position), (8, 0), textcoords="offset points", va="center",
                      color=INK, fontsize=SMALL)  # fmt: skip
        positions.append(position)
        position += 1
    axes.set_yticks(positions, [short(row.entry.layer) for _, row in rows], fontsize=SMALL, color=INK)
    as_written(axes.get_yticklabels())
    axes.set_ylim(position - 0.4, -0.6)
    marked = [(null, at) for null, at in zip(nulls, positions, strict=True) if null is not None]
    mark_null(axes, [null for null, _ in marked], [at for _, at in marked])
    axes.set_xlim(0, longest * 1.1)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.grid(axis="x", color=FAINT, alpha=0.3, linewidth=0.6)
    axes.set_xlabel("unique detectors", color=INK, fontsize=TEXT)
