"""Common parts of all figures: size, type, colors, axes, legends, names as plain text, and file formats.

Figures are drawn at the width at which they are printed, and type has its size in points at any width.
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.textpath import text_to_path

from netdissect.config import Rule
from netdissect.errors import ResultError
from netdissect.paths import OTHER_FOLDER, writing
from netdissect.scoring.detectors import limit_in_words

INK = "#22262B"
FAINT = "#8A9099"
PAPER = "#FFFFFF"
MAX_NAME = 22
WIDTH = 6.8
"""Inches: two columns of a paper; one column is 3.3."""
MIN_WIDTH, MAX_WIDTH = 3.0, 30.0
STACKED = 5.0
"""Below this width, in inches, panels are stacked."""
TEXT, SMALL, NAMES = 9.0, 8.0, 7.0
"""Type sizes in points: titles of axes; numbers and legends; names of many bars or points."""
FigureFormat = Literal["pdf", "svg", "png"]
FORMATS: tuple[FigureFormat, ...] = get_args(FigureFormat)
# Fonts are embedded as journals accept them (Type 42); text in SVG remains text.
SETTINGS: Any = {"svg.hashsalt": "netdissect", "svg.fonttype": "none", "pdf.fonttype": 42}
DOTS_PER_INCH = 300
NULL_LABEL = "permutation null"
MAX_LEGEND = 36
"""Letters of an entry of a legend."""
LEGEND_MARGIN = 8
"""Pixels of a figure beside its legend."""
_NULL_MARK: Any = {
    "marker": "D", "markersize": 5.5, "color": PAPER, "markeredgecolor": INK, "markeredgewidth": 1.2, "zorder": 5,
    "clip_on": False,
}  # fmt: skip


class StyledFigure(Figure):
    """A figure that a notebook shows as SVG on white."""

    def _repr_svg_(self) -> str:
        return rendered(self, "svg").decode()


def new_figure(width: float, height: float) -> StyledFigure:
    """Make an empty figure of a width and height in inches.

    Raises
    ------
    ResultError
        If the width is below 3 or above 30 inches.
    """
    if not MIN_WIDTH <= width <= MAX_WIDTH:
        raise ResultError(
            f"a figure of {width:g} inches was asked for. Expected {MIN_WIDTH:g} to {MAX_WIDTH:g} inches: "
            "3.3 is one column of a paper, 6.8 are two."
        )
    return StyledFigure(figsize=(width, height), layout="constrained")


def panels(figure: Figure, count: int, **options: Any) -> list[Axes]:
    """Add plain axes side by side, or stacked in a narrow figure.

    Parameters
    ----------
    figure
        Where they are added.
    count
        How many.
    **options
        Of `matplotlib.figure.Figure.subplots`, for axes side by side.
    """
    if figure.get_figwidth() < STACKED:
        return [plain(axes) for axes in figure.subplots(count, 1, squeeze=False).flat]
    return [plain(axes) for axes in figure.subplots(1, count, squeeze=False, **options).flat]


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure in the format that its name ends with: ``.pdf``, ``.svg`` or ``.png`` (300 dots an inch).

    The same figure gives the same bytes.

    Raises
    ------
    ResultError
        If the name ends otherwise, or the file cannot be written.
    """
    path = Path(path)
    form = path.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise ResultError(
            f"{path} does not name the format of the figure: it ends with {path.suffix!r}. "
            f"Name a file that ends with {', '.join('.' + name for name in FORMATS)}."
        )
    with writing(path, OTHER_FOLDER):
        path.write_bytes(rendered(figure, form))
    return path


def svg(figure: Figure) -> str:
    """Return a figure as SVG with a transparent background; the same figure gives the same text."""
    return rendered(figure, "svg", transparent=True).decode()


def rendered(figure: Figure, form: str, *, transparent: bool = False) -> bytes:
    """Return the bytes of a figure in one of `FORMATS`; the same figure gives the same bytes."""
    undated = {"svg": {"Date": None, "Creator": "netdissect"}, "pdf": {"CreationDate": None}, "png": None}[form]
    file = io.BytesIO()
    with mpl.rc_context(SETTINGS):
        figure.savefig(file, format=form, dpi=DOTS_PER_INCH, transparent=transparent, metadata=undated)
    return file.getvalue()


def plain_axes(figure: Figure) -> Axes:
    """Add axes without frame and ticks: two thin lines with numbers."""
    return plain(figure.add_subplot())


def plain(axes: Axes) -> Axes:
    """Remove frame and ticks of axes, and return them."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
        axes.spines[side].set_linewidth(0.7)
    axes.tick_params(colors=INK, length=0, labelsize=SMALL)
    axes.tick_params(axis="x", pad=5)  # beyond the lowest number of the other axis
    axes.set_axisbelow(True)
    return axes


def legend_above(
    figure: Figure, handles: Sequence[Artist], names: Sequence[str], title: str = "", *, below: bool = False
) -> Legend:
    """Draw a legend above the axes (or below), in as many columns as fit."""
    names = [short(name, MAX_LEGEND) for name in names]
    loc: Literal["outside lower center", "outside upper center"]
    loc = "outside lower center" if below else "outside upper center"
    for columns in range(max(len(names), 1), 0, -1):
        legend = figure.legend(
            handles, names, title=title or None, loc=loc, ncols=columns, frameon=False,
            fontsize=SMALL, title_fontsize=SMALL, labelcolor=INK, handlelength=1.2, handletextpad=0.5,
            columnspacing=1.4, borderaxespad=0.2,
        )  # fmt: skip
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width - LEGEND_MARGIN:
            break
        legend.remove()
    legend.get_title().set_color(INK)
    as_written(legend.get_texts())
    return legend


def name_ticks(axes: Axes, positions: Sequence[float], names: Sequence[str], points: float) -> float:
    """Name positions on the horizontal axis: upright if the names have space, otherwise as many as fit vertically.

    Parameters
    ----------
    axes
        Axes whose horizontal axis has a width of about `points`.
    positions, names
        Evenly spaced positions, and their names.
    points
        See above.

    Returns
    -------
    float
        Height in inches that vertical names take.
    """
    shown = [short(name) for name in names]
    widest = max((text_width(name, SMALL) for name in shown), default=0.0)
    space = points / max(len(shown), 1)
    upright = widest < space - 4
    every = 1 if upright else math.ceil(1.3 * SMALL / space)
    axes.set_xticks(positions[::every], shown[::every], rotation=0 if upright else 90, fontsize=SMALL, color=INK)
    as_written(axes.get_xticklabels())
    return 0.0 if upright else widest / 72


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of a text in points."""
    font = FontProperties(size=size, weight=weight)
    width, _height, _descent = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width)


def fitted(text: str, points: float, size: float, weight: str = "normal") -> str:
    """Cut a text that is wider than so many points at a type size."""
    if text_width(text, size, weight) <= points:
        return text
    length = next((n for n in range(len(text) - 1, 0, -1) if text_width(text[:n] + "…", size, weight) <= points), 0)
    return text[:length].rstrip() + "…"


def as_written(texts: Sequence[Text]) -> None:
    """Draw names as plain text: a dollar sign does not begin a formula."""
    for text in texts:
        text.set_parse_math(False)


def mark_null(axes: Axes, across: Sequence[float], up: Sequence[float]) -> None:
    """Mark means under the permutation null with open diamonds; see `null_handle`."""
    if len(across):
        axes.plot(across, up, linestyle="none", label=NULL_LABEL, **_NULL_MARK)


def beyond_mark(end: float, null: float | None, longest: float) -> float:
    """Return where the number of a horizontal bar is written: at its end, or at the mark of a null next to the end.

    >>> beyond_mark(6, 1.1, 20), beyond_mark(0, 0.24, 6), beyond_mark(6, None, 6)
    (6, 0.24, 6)
    """
    return end if null is None or not end <= null <= end + 0.08 * longest else null


def null_handle() -> Line2D:
    """Return the entry of a legend for the marks of `mark_null`."""
    return Line2D([], [], linestyle="none", label=NULL_LABEL, **_NULL_MARK)


def no_detectors(figure: Figure, axes: Axes, rule: Rule, limit: float) -> Figure:
    """Draw a sentence in place of a figure without detectors."""
    axes.set_axis_off()
    axes.text(0, 0.5, f"No unit has an IoU {limit_in_words(rule, limit)}.", va="center", color=INK, fontsize=TEXT)
    figure.set_size_inches(figure.get_figwidth(), 1.0)
    return figure


def short(name: str, length: int = MAX_NAME) -> str:
    """Cut a name that is too long for an axis."""
    return name if len(name) <= length else name[: length - 1] + "…"
