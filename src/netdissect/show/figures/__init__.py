"""The figure of each experiment: a function from its outcome to a matplotlib figure, registered by name."""

from collections.abc import Callable

from matplotlib.figure import Figure

from netdissect.experiments.outcome import Outcome
from netdissect.show.figures.rotation import rotate
from netdissect.show.figures.stacks import layers

FIGURES: dict[str, Callable[[Outcome], Figure]] = {
    "rotate": rotate,
    "layers": layers,
}

__all__ = ["FIGURES"]
