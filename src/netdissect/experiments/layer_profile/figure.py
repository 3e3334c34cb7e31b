"""Stacked bars of unique detectors and of detectors by category, over the layers of a network."""

from matplotlib.figure import Figure

from netdissect.experiments.figure_parts import deciding_rows, stacks
from netdissect.experiments.outcome import ExperimentResult
from netdissect.plots.style import WIDTH


def draw(result: ExperimentResult, width: float = WIDTH) -> Figure:
    """Draw a pair of stacked bars for each layer, the first layer on top."""
    return stacks(deciding_rows(result), "layer", width)
