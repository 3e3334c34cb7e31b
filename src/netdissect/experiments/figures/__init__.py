"""The figure of each experiment: a function from its outcome to a matplotlib figure, registered by name."""

from collections.abc import Callable

from matplotlib.figure import Figure

from netdissect.experiments.outcome import ExperimentResult
from netdissect.experiments.rotate.figure import rotate
from netdissect.experiments.scatter_figures import agreement, transfer
from netdissect.experiments.stacked_bars import compare, layers
from netdissect.experiments.supervision.figure import tasks
from netdissect.experiments.training_conditions.figure import variants
from netdissect.experiments.training_dynamics.figure import snapshots
from netdissect.experiments.unit_figures import ablate, contribution
from netdissect.training.choices import CONDITIONS

FIGURES: dict[str, Callable[[ExperimentResult], Figure]] = {
    "rotate": rotate,
    "layer-profile": layers,
    "compare": compare,
    "training-dynamics": snapshots,
    **dict.fromkeys(CONDITIONS, variants),
    "supervision": tasks,
    "linear-probe": transfer,
    "rater-agreement": agreement,
    "attribution": contribution,
    "ablate": ablate,
}

__all__ = ["FIGURES"]
