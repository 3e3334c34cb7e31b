"""The loss of balanced accuracy against the number of ablated units."""

import polars as pl
from matplotlib.figure import Figure

from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots import FAINT, INK
from netdissect.plots.category_colors import CATEGORY_COLORS
from netdissect.plots.style import TEXT, WIDTH, legend_above, new_figure, plain_axes

KINDS = {
    "best": (CATEGORY_COLORS["part"], "those that matter most"),
    "random": (FAINT, "at random"),
    "worst": (CATEGORY_COLORS["object"], "those that matter least"),
    "others": (CATEGORY_COLORS["scene"], "all but those that matter most"),
}


def draw(result: ExperimentResult, width: float = WIDTH) -> Figure:
    """Draw the mean loss of balanced accuracy against the number of units, with quartiles over classes."""
    figure = new_figure(width, 3.2)
    axes = plain_axes(figure)
    classes = result.table.group_by("kind", "set_size", "class", maintain_order=True).agg(pl.col("drop").mean())
    drop = pl.col("drop")
    spread = classes.group_by("kind", "set_size", maintain_order=True).agg(
        mean=drop.mean(), low=drop.quantile(0.25, "linear"), high=drop.quantile(0.75, "linear")
    )
    sizes = spread["set_size"].unique().sort().to_list()
    for kind, (color, name) in KINDS.items():
        part = spread.filter(kind=kind).sort("set_size")
        positions = [sizes.index(size) for size in part["set_size"]]
        axes.fill_between(positions, part["low"], part["high"], color=color, alpha=0.15, linewidth=0)
        axes.plot(positions, part["mean"], color=color, marker="o", markersize=4, linewidth=1.8, label=name)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_xlabel("n: units of the ranking", color=INK, fontsize=TEXT)
    axes.set_ylabel("loss of balanced accuracy", color=INK, fontsize=TEXT)
    axes.grid(axis="y", color=FAINT, alpha=0.3, linewidth=0.6)
    legend_above(figure, *axes.get_legend_handles_labels())
    return figure
