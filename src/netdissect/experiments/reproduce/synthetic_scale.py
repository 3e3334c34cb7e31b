"""The whole paper in miniature: every experiment on one bench.

`EXPERIMENTS` names them in the order of the paper; each takes a `Workspace` and returns its `ExperimentResult`.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import monotonic

from netdissect.experiments.ablate.experiment import ablate_synthetic
from netdissect.experiments.attribution.experiment import attribution_synthetic
from netdissect.experiments.compare.experiment import compare_synthetic
from netdissect.experiments.layer_profile.experiment import layer_profile_synthetic
from netdissect.experiments.linear_probe.experiment import linear_probe_synthetic
from netdissect.experiments.outcome import ExperimentResult
from netdissect.experiments.rotate.experiment import rotate_synthetic
from netdissect.experiments.supervision.experiment import supervision_synthetic
from netdissect.experiments.training_conditions.experiment import training_conditions
from netdissect.experiments.training_dynamics.experiment import training_dynamics_synthetic
from netdissect.result.files import write_whole
from netdissect.training.choices import CONDITIONS
from netdissect.training.workspace import Scale, Workspace

EXPERIMENTS: dict[str, Callable[[Workspace], ExperimentResult]] = {
    "rotate": rotate_synthetic,
    "layer-profile": layer_profile_synthetic,
    "compare": compare_synthetic,
    "training-dynamics": training_dynamics_synthetic,
    **{name: partial(training_conditions, name) for name in CONDITIONS},
    "supervision": supervision_synthetic,
    "linear-probe": linear_probe_synthetic,
    "attribution": attribution_synthetic,
    "ablate": ablate_synthetic,
}
"""Name -> experiment; it keeps its runs below ``bench.folder(name)``."""


def synthetic_plan(scale: Scale) -> Iterator[str]:
    """Say what a miniature will do, in lines to read before it starts."""
    recipe = scale.recipe
    training = recipe.pictures + recipe.held_out
    yield f"Draw {scale.images:,} pictures of {recipe.size} pixels to dissect, and {training:,} to train on."
    yield f"Train scene networks for {recipe.steps} steps, {scale.seeds} of each variant."
    yield f"Experiments: {', '.join(EXPERIMENTS)}. What is done is taken up when the same command runs again."


def reproduce_synthetic(bench: Workspace) -> Iterator[ExperimentResult]:
    """Run every experiment, one after the other; what is done is taken up.

    Parameters
    ----------
    bench
        The folder, and how large.

    Yields
    ------
    Outcome
        With the wall time of the whole experiment, over all sessions, as ``seconds["all"]``.
    """
    for done, (name, experiment) in enumerate(EXPERIMENTS.items()):
        if bench.progress:
            bench.progress("experiments", done, len(EXPERIMENTS))
        started = monotonic()
        outcome = experiment(bench)
        outcome.seconds["all"] = _all_sessions(bench.folder(name), monotonic() - started)
        yield outcome
    if bench.progress:
        bench.progress("experiments", len(EXPERIMENTS), len(EXPERIMENTS))


def _all_sessions(folder: Path, seconds: float) -> float:
    """Add this session's seconds to those of earlier ones: what is taken up was not free."""
    path = folder / "seconds.json"
    earlier = float(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else 0.0
    whole = round(earlier + seconds, 1)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: file.write(json.dumps(whole).encode()))
    return whole
