"""The number of detectors as a function of quantile and IoU limit."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from netdissect.config import Rule
from netdissect.errors import ResultError
from netdissect.plots.style import INK, STACKED, TEXT, WIDTH, legend_above, mark_null, new_figure, panels
from netdissect.result import Result
from netdissect.result.queries import only_layer, run_min_iou
from netdissect.result.statistics_schema import COUNTS, complete

# From light to dark: few pixels to many.
RAMP = ("#A3C6E2", "#78ABD6", "#4A8AC2", "#2C6FA8", "#1A5288", "#0B3158")


def sensitivity(result: Result, layer: str | None = None, *, rule: Rule = "top-label", width: float = WIDTH) -> Figure:
    """Draw detectors and unique detectors as functions of the IoU limit, a line for each quantile.

    Diamonds are their means under the permutation null, which are measured at the limit of the run.

    Parameters
    ----------
    result
        A finished run with ``netdissect run --sensitivity``.
    layer
        One of its layers; None: the only one.
    rule
        See `netdissect.scoring.DetectorCount`.
    width
        Inches; type has the same size at any width.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ResultError
        If the run did not measure it.
    """
    name = only_layer(result, layer)
    statistics = result.layer(name).statistics
    if "sensitivity" not in statistics:
        raise ResultError(
            f"the run did not count the detectors of {name} at several quantiles. Repeat it with --sensitivity."
        )
    table = statistics["sensitivity"].filter(rule=rule, category="total").collect()
    figure = new_figure(width, 4.6 if width < STACKED else 2.8)
    left, right = panels(figure, 2)
    quantiles = sorted(table["quantile"].unique())
    for axes, column, title in ((left, "detectors", "detectors"), (right, "unique_detectors", "unique detectors")):
        for index, quantile in enumerate(quantiles):
            line = table.filter(quantile=quantile).sort("min_iou")
            ink = RAMP[round(index * (len(RAMP) - 1) / max(len(quantiles) - 1, 1))]
            own = quantile == result.info.config.protocol.quantiles[0]
            axes.plot(line["min_iou"], line[column], color=ink, linewidth=2.4 if own else 1.3, label=f"{quantile:g}")
        _mark_nulls(axes, result, name, rule, f"null_{column}")
        _finish(axes, run_min_iou(result, name), title)
    handles, labels = left.get_legend_handles_labels()
    legend_above(figure, handles, labels, title="quantile")
    return figure


def _mark_nulls(axes: Axes, result: Result, layer: str, rule: Rule, column: str) -> None:
    """Mark the counts under the null at the quantiles of the run, if they were measured."""
    statistics = result.layer(layer).statistics
    if "counts" not in statistics:
        return
    rows = complete(statistics["counts"].filter(rule=rule, category="total").collect(), COUNTS)
    nulls = rows[column].drop_nulls().to_list()
    mark_null(axes, [run_min_iou(result, layer)] * len(nulls), nulls)


def _finish(axes: Axes, limit: float, title: str) -> None:
    axes.axvline(limit, color=INK, linewidth=1, linestyle=(0, (4, 2)))
    axes.set_xlim(0, max(0.2, limit) * 1.02)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("IoU of at least", color=INK, fontsize=TEXT)
    axes.set_ylabel(title, color=INK, fontsize=TEXT)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
