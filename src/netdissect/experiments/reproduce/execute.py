"""Run all experiments, one after the other, at synthetic scale or on one's own networks and data.

reproduce_synthetic(workspace) -> results                          every experiment, on small trained networks
reproduce(networks, concepts, config, out=...) -> results          every experiment for which nothing is missing
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import monotonic

from netdissect.config import Progress
from netdissect.experiments.outcome import ExperimentResult
from netdissect.experiments.registry import REGISTRY, load_experiment
from netdissect.experiments.reproduce.reproduce_config import ReproduceConfig
from netdissect.experiments.reproduce.schedule import make_job
from netdissect.models import Network
from netdissect.paths import OTHER_FOLDER, writing
from netdissect.result.files import write_whole
from netdissect.training.workspace import Scale, Workspace


def reproduce(
    networks: Sequence[Network],
    concepts: str | Path,
    config: ReproduceConfig,
    *,
    out: str | Path,
    progress: Progress | None = None,
) -> Iterator[ExperimentResult]:
    """Run the experiments for which nothing is missing.

    Yields
    ------
    ExperimentResult
        With the wall time of the whole experiment, over all sessions, as ``seconds["all"]``; its dissections are kept
        in ``OUT/NAME/runs``.
    """
    job = make_job(networks, concepts, config, out, progress)
    yield from _execute({name: part.run for name, part in job.schedule().items()}, Path(out), progress)


def synthetic_plan(scale: Scale) -> Iterator[str]:
    """Say in lines to read beforehand what happens at synthetic scale."""
    config = scale.train_config
    training = config.num_images + config.held_out
    yield f"Render {scale.images:,} images of {config.size} pixels to dissect, and {training:,} to train on."
    yield f"Train scene networks for {config.steps} steps, {scale.seeds} under each condition."
    yield f"Experiments: {', '.join(_synthetic())}. An interrupted command resumes when it is run again."


def reproduce_synthetic(workspace: Workspace) -> Iterator[ExperimentResult]:
    """Run every experiment at synthetic scale; what is in the workspace is reused.

    Yields
    ------
    ExperimentResult
        As `reproduce` does.
    """
    runs = {name: partial(run, workspace) for name, run in _synthetic().items()}
    yield from _execute(runs, workspace.root, workspace.progress)


def _synthetic() -> dict[str, Callable[[Workspace], ExperimentResult]]:
    runs = {name: load_experiment(name).run_synthetic for name in REGISTRY}
    return {name: run for name, run in runs.items() if run is not None}


def _execute(
    runs: Mapping[str, Callable[[], ExperimentResult] | None], out: Path, progress: Progress | None
) -> Iterator[ExperimentResult]:
    for done, (name, run) in enumerate(runs.items()):
        if progress:
            progress("experiments", done, len(runs))
        if run is None:
            continue
        started = monotonic()
        result = run()
        result.seconds["all"] = _all_sessions(out / name, monotonic() - started)
        yield result
    if progress:
        progress("experiments", len(runs), len(runs))


def _all_sessions(folder: Path, seconds: float) -> float:
    """Add the seconds of this session to those of earlier ones, whose work is reused."""
    path = folder / "seconds.json"
    earlier = float(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else 0.0
    total = round(earlier + seconds, 1)
    with writing(path, OTHER_FOLDER):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: file.write(json.dumps(total).encode()))
    return total
