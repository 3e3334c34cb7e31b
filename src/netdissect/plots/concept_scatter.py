"""The best IoU of every concept in two runs."""

from collections.abc import Sequence

import polars as pl
from matplotlib.figure import Figure

from netdissect.config import Palette
from netdissect.plots.category_colors import category_colors
from netdissect.plots.style import FAINT, INK, StyledFigure, as_written, plain_axes, short
from netdissect.result import Result
from netdissect.result.queries import best_units, run_min_iou, run_names, run_quantile
from netdissect.result.result import check_is_run

NAMED_CONCEPTS = 14


def concept_scatter(
    first: Result,
    second: Result,
    *,
    quantile: float | None = None,
    min_iou: float | None = None,
    colors: Palette = "safe",
    names: Sequence[str] | None = None,
) -> Figure:
    """Draw, for every concept, the best IoU of any unit of one run against that of another.

    Concepts above and to the right of the dashed lines have a unit above the limit in both runs. The concepts that
    differ most are named.

    Parameters
    ----------
    first, second
        Two finished runs on the same concepts.
    quantile, min_iou
        None: the first run's own; of its layers, the lowest.
    colors
        ``safe`` for color vision deficiencies, or ``paper``: as in the authors' graphs.
    names
        Titles of the two runs; None: the names of their networks.

    Returns
    -------
    matplotlib.figure.Figure
    """
    check_is_run(first, second)
    limit = min(run_min_iou(first, layer, min_iou) for layer in first.layers)
    both = _best(first, quantile).join(_best(second, quantile), on=("concept", "category"), how="full", coalesce=True,
                                       suffix="-second").fill_null(0.0)  # fmt: skip
    figure = StyledFigure(figsize=(5.2, 5.6), layout="constrained")
    axes = plain_axes(figure)
    largest = max([0.1, limit, *both["iou"], *both["iou-second"]]) * 1.08
    axes.plot([0, largest], [0, largest], color=FAINT, linewidth=0.8)
    axes.axvline(limit, color=FAINT, linewidth=0.8, linestyle=(0, (4, 2)))
    axes.axhline(limit, color=FAINT, linewidth=0.8, linestyle=(0, (4, 2)))
    categories = list(dict.fromkeys((*first.info.data.categories, *second.info.data.categories)))
    for category, ink in category_colors(categories, colors).items():
        part = both.filter(category=category)
        if len(part):
            axes.scatter(part["iou"], part["iou-second"], s=22, color=ink, label=category, linewidths=0)
    apart = both.filter(pl.max_horizontal("iou", "iou-second") >= limit).with_columns(
        gap=(pl.col("iou") - pl.col("iou-second")).abs()
    )
    for row in apart.sort("gap", "concept", descending=[True, False]).head(NAMED_CONCEPTS).iter_rows(named=True):
        axes.annotate(short(row["concept"]), (row["iou"], row["iou-second"]), (4, 3), textcoords="offset points",
                      fontsize=7.5, color=INK, parse_math=False)  # fmt: skip
    axes.set_xlim(0, largest)
    axes.set_ylim(0, largest)
    axes.set_aspect("equal")
    titles = run_names((first, second), names)
    axes.set_xlabel(f"best IoU, {titles[0]}", color=INK, parse_math=False)
    axes.set_ylabel(f"best IoU, {titles[1]}", color=INK, parse_math=False)
    legend = figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8.5, labelcolor=INK)
    as_written(legend.get_texts())
    return figure


def _best(result: Result, quantile: float | None) -> pl.DataFrame:
    """Return the best IoU of every concept over all layers: concept, category, iou."""
    quantile = run_quantile(result, quantile)
    layers = [best_units(result, name, quantile, 1).select("concept", "iou") for name in result.layers]
    every = result.concepts.select("concept", "category")
    best = pl.concat(layers).group_by("concept").max() if layers else pl.DataFrame({"concept": [], "iou": []})
    return every.join(best, on="concept", how="left").fill_null(0.0)
