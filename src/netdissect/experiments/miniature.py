"""The whole paper in miniature: every experiment on one bench.

`EXPERIMENTS` names them in the order of the paper; each takes a `Bench` and returns its `Outcome`.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import monotonic

from netdissect.experiments.ablation import ablate_in_miniature
from netdissect.experiments.bench import Bench, Scale
from netdissect.experiments.comparison import compare_in_miniature
from netdissect.experiments.contributions import contribution_in_miniature
from netdissect.experiments.layerwise import layers_in_miniature
from netdissect.experiments.names import VARIANTS
from netdissect.experiments.outcome import Outcome
from netdissect.experiments.rotations import rotate_in_miniature
from netdissect.experiments.supervision import tasks_in_miniature
from netdissect.experiments.svm import transfer_in_miniature
from netdissect.experiments.timeline import snapshots_in_miniature
from netdissect.experiments.trainings import variants
from netdissect.result.files import write_whole

EXPERIMENTS: dict[str, Callable[[Bench], Outcome]] = {
    "rotate": rotate_in_miniature,
    "layer-profile": layers_in_miniature,
    "compare": compare_in_miniature,
    "training-dynamics": snapshots_in_miniature,
    **{name: partial(variants, name) for name in VARIANTS},
    "supervision": tasks_in_miniature,
    "linear-probe": transfer_in_miniature,
    "attribution": contribution_in_miniature,
    "ablate": ablate_in_miniature,
}
"""Name -> experiment; it keeps its runs below ``bench.folder(name)``."""


def miniature_plan(scale: Scale) -> Iterator[str]:
    """Say what a miniature will do, in lines to read before it starts."""
    recipe = scale.recipe
    training = recipe.pictures + recipe.held_out
    yield f"Draw {scale.images:,} pictures of {recipe.size} pixels to dissect, and {training:,} to train on."
    yield f"Train scene networks for {recipe.steps} steps, {scale.seeds} of each variant."
    yield f"Experiments: {', '.join(EXPERIMENTS)}. What is done is taken up when the same command runs again."


def paper(bench: Bench) -> Iterator[Outcome]:
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
