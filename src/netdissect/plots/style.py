"""Common parts of all figures: colors, axes, names as plain text, and file formats."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from netdissect.config import Rule
from netdissect.errors import ResultError
from netdissect.paths import writing
from netdissect.scoring.detectors import limit_in_words

INK = "#22262B"
FAINT = "#8A9099"
MAX_NAME = 22
FORMATS = ("pdf", "svg", "png")
# Fonts are embedded as journals accept them (Type 42); text in SVG remains text.
SETTINGS: Any = {"svg.hashsalt": "netdissect", "svg.fonttype": "none", "pdf.fonttype": 42}
DOTS_PER_INCH = 300
NULL_LABEL = "permutation null"
_NULL_MARK: Any = {
    "marker": "D", "markersize": 5.5, "color": "white", "markeredgecolor": INK, "markeredgewidth": 1.2, "zorder": 5,
    "clip_on": False,
}  # fmt: skip


class StyledFigure(Figure):
    """A figure that a notebook shows as SVG on white."""

    def _repr_svg_(self) -> str:
        return _rendered(self, "svg").decode()


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
    with writing(path, "Choose a folder that exists and has space."):
        path.write_bytes(_rendered(figure, form))
    return path


def svg(figure: Figure) -> str:
    """Return a figure as SVG with a transparent background; the same figure gives the same text."""
    return _rendered(figure, "svg", transparent=True).decode()


def _rendered(figure: Figure, form: str, *, transparent: bool = False) -> bytes:
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
    axes.tick_params(colors=INK, length=0, labelsize=9)
    axes.set_axisbelow(True)
    return axes


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
    axes.text(0, 0.5, f"No unit has an IoU {limit_in_words(rule, limit)}.", va="center", color=INK)
    figure.set_size_inches(5.0, 1.0)
    return figure


def short(name: str, length: int = MAX_NAME) -> str:
    """Cut a name that is too long for an axis."""
    return name if len(name) <= length else name[: length - 1] + "…"
