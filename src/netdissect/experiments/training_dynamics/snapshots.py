"""Snapshots of a training: dissected checkpoints, runs that a callback made, or a training that is run here."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import nn

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Progress
from netdissect.dissect import dissect
from netdissect.errors import ResultError
from netdissect.experiments.inputs import caching
from netdissect.models import Network
from netdissect.result import Result, load_result
from netdissect.result.files import RUN_FILE
from netdissect.training.scene_net import TrainConfig, TrainedSceneNet, load_trained, save_trained
from netdissect.training.workspace import Workspace

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")


class Snapshot(NamedTuple):
    """The dissection after some steps of one training."""

    step: int
    result: Result
    seed: int = 0


def checkpoint_steps(folder: str | Path) -> dict[int, Path]:
    """Return the checkpoints of a folder by iteration: the last number in each file's name.

    Raises
    ------
    ResultError
        If there are none, or two of one iteration.
    """
    files = sorted(path for path in Path(folder).glob("*") if path.suffix in SUFFIXES)
    return _by_step(files, Path(folder), f"checkpoint files ({', '.join(SUFFIXES)})")


def _by_step(paths: Sequence[Path], folder: Path, what: str) -> dict[int, Path]:
    by_step: dict[int, Path] = {}
    for path in paths:
        numbers = re.findall(r"\d+", path.stem if path.is_file() else path.name)
        if not numbers:
            continue
        step = int(numbers[-1])
        if step in by_step:
            raise ResultError(
                f"{by_step[step].name} and {path.name} in {folder} are both of iteration {step}: the last number in a "
                "name is the iteration. Rename or move one of them."
            )
        by_step[step] = path
    if not by_step:
        raise ResultError(
            f"{folder} holds no {what} with a number in their names. Expected one for each snapshot of the training, "
            "such as step-1000.pt."
        )
    return dict(sorted(by_step.items()))


def dissected_checkpoints(
    load: Callable[[Path], Network],
    folder: str | Path,
    concepts: ConceptData | str | Path,
    config: DissectConfig,
    *,
    out: str | Path,
    progress: Progress | None = None,
) -> Iterator[Snapshot]:
    """Dissect a network with the weights of each checkpoint in a folder.

    Parameters
    ----------
    load
        Makes the network with the weights of a file.
    folder
        See `checkpoint_steps`.
    concepts, config
        Data set, and how it is dissected.
    out
        Runs are kept in ``OUT/runs/step-N``.
    progress
        Receives every stage.
    """
    files = checkpoint_steps(folder)
    for done, (step, path) in enumerate(files.items()):
        if progress:
            progress("snapshots", done, len(files))
        run = Path(out) / "runs" / f"step-{step:08}"
        result = dissect(load(path), concepts, config=config, execution=caching(out), out=run, progress=progress)
        yield Snapshot(step, result)
    if progress:
        progress("snapshots", len(files), len(files))


def dissected_runs(folder: str | Path) -> list[Snapshot]:
    """Open the runs that a callback made: ``FOLDER/step-N``.

    Raises
    ------
    ResultError
        If there are none, or one is damaged.
    """
    runs = sorted(path.parent for path in Path(folder).glob(f"*/{RUN_FILE}"))
    return [Snapshot(step, load_result(path)) for step, path in _by_step(runs, Path(folder), "finished runs").items()]


def trained_snapshots(workspace: Workspace, train_config: TrainConfig) -> dict[int, Network]:
    """Train once more and save the network at steps whose distance doubles, so that every command can load it."""
    count = workspace.scale.snapshots
    steps = sorted({round(train_config.steps * (2.0**index - 1) / (2.0 ** (count - 1) - 1)) for index in range(count)})
    folder = workspace.folder("training-dynamics") / "weights" / f"seed-{train_config.seed}"
    files = {step: folder / f"step-{step}.safetensors" for step in steps}

    def save(step: int, module: nn.Sequential) -> None:
        if step in files:
            save_trained(TrainedSceneNet(module, train_config, math.nan, (), math.nan), files[step])

    if not all(path.exists() for path in files.values()):
        workspace.train(train_config, save)
    return {step: load_trained(path).network(f"scene network, {step} steps") for step, path in files.items()}
