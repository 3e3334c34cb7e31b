"""The functions of all experiments, each made when it is first used; ``functions.pyi`` is for type checkers."""

from collections.abc import Callable

from netdissect.close_matches import did_you_mean
from netdissect.experiments.make_function import experiment_function
from netdissect.experiments.outcome import ExperimentResult
from netdissect.experiments.registry import REGISTRY

NAMES = {name.replace("-", "_"): name for name in REGISTRY}
"""Name of the function -> name of the command."""


def __getattr__(name: str) -> Callable[..., ExperimentResult]:
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{did_you_mean(name, NAMES)}", name=name)
    return experiment_function(NAMES[name])
