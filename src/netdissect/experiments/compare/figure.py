"""Stacked bars of unique detectors and of detectors by category, for each network."""

import polars as pl
from matplotlib.figure import Figure

from netdissect.experiments.counts import TOTAL
from netdissect.experiments.figure_parts import deciding_rows, stacks
from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots.style import WIDTH


def draw(result: ExperimentResult, width: float = WIDTH) -> Figure:
    """Draw a pair of stacked bars for each network, most unique detectors on top, published ones marked."""
    rows = deciding_rows(result)
    mixed = rows["source"].n_unique() > 1
    published = pl.lit(mixed) & (pl.col("source") == "published")
    marked = pl.when(published).then(pl.col("network") + " (published)").otherwise("network")
    totals = rows.filter(category=TOTAL).select("network", "source", pl.col("unique_detectors").alias("order"))
    ordered = rows.join(totals, on=["network", "source"], maintain_order="left").sort(
        "order", descending=True, maintain_order=True
    )
    return stacks(ordered.with_columns(marked.alias("network")), "network", width)
