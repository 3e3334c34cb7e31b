"""Mean gain of formulas over the layers of a network, and of a control with the same layers."""

import polars as pl
from matplotlib.figure import Figure

from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots.formulas.formula_gains import draw_gains
from netdissect.plots.style import WIDTH


def draw(result: ExperimentResult, width: float = WIDTH) -> Figure:
    """Draw the gain of each network by layer, with 95 % intervals of the mean over units."""
    layers = result.table.filter(pl.col("layer").is_not_null())
    names = layers["network"].unique(maintain_order=True)
    return draw_gains({name: layers.filter(network=name) for name in names}, width)
