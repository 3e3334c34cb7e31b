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
    layer: str | None = None,
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
    layer
        A layer of both runs; None: of each concept, the best unit of any layer of the network.
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
    limit = min(run_min_iou(first, name, min_iou) for name in _layers(first, layer) or first.layers)
    left, right = (_best(each, quantile, layer) for each in (first, second))
    both = left.join(right, on=("concept", "category"), how="full", coalesce=True, suffix="-second").fill_null(0.0)
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
    titles = [title if layer is None else f"{title}, {layer}" for title in run_names((first, second), names)]
    axes.set_xlabel(f"best IoU, {titles[0]}", color=INK, parse_math=False)
    axes.set_ylabel(f"best IoU, {titles[1]}", color=INK, parse_math=False)
    legend = figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8.5, labelcolor=INK)
    as_written(legend.get_texts())
    return figure


def _layers(result: Result, layer: str | None) -> list[str]:
    """Return a layer, or None: all layers of the network, without other bases of them."""
    if layer is not None:
        return [result.layer(layer).info.name]
    return [name for name, each in result.layers.items() if each.info.basis_of is None]


def _best(result: Result, quantile: float | None, layer: str | None) -> pl.DataFrame:
    """Return the best IoU of every concept in a layer, or over all: concept, category, iou."""
    quantile = run_quantile(result, quantile)
    layers = [best_units(result, name, quantile, 1).select("concept", "iou") for name in _layers(result, layer)]
    every = result.concepts.select("concept", "category")
    best = pl.concat(layers).group_by("concept").max() if layers else pl.DataFrame({"concept": [], "iou": []})
    return every.join(best, on="concept", how="left").fill_null(0.0)
