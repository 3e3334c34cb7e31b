"""The figure of each experiment: a function from its outcome to a matplotlib figure, registered by name."""

from collections.abc import Callable

from matplotlib.figure import Figure

from netdissect.experiments.names import VARIANTS
from netdissect.experiments.outcome import Outcome
from netdissect.show.figures.rotation import rotate
from netdissect.show.figures.scatter import agreement, transfer
from netdissect.show.figures.stacks import compare, layers
from netdissect.show.figures.timeline import snapshots
from netdissect.show.figures.training import tasks
from netdissect.show.figures.units import ablate, contribution
from netdissect.show.figures.variants import variants

FIGURES: dict[str, Callable[[Outcome], Figure]] = {
    "rotate": rotate,
    "layer-profile": layers,
    "compare": compare,
    "training-dynamics": snapshots,
    **dict.fromkeys(VARIANTS, variants),
    "supervision": tasks,
    "linear-probe": transfer,
    "rater-agreement": agreement,
    "attribution": contribution,
    "ablate": ablate,
}

__all__ = ["FIGURES"]
