"""What a classifier says of pictures while sets of units are off, kept as it is found.

    answers(asked, pictures, sets, batch_size, folder=FOLDER) -> Answers

Batches are cut at fixed places and each answer is written to the file at once: after an interruption, only what is
missing is asked.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netdissect.config import Progress
from netdissect.errors import ConfigError, ResultError
from netdissect.models import Network
from netdissect.models.surgery.unit_ablation import UnitAblator
from netdissect.result.files import write_whole
from netdissect.training.classification_data import LabeledImages, pixel_batches

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Kept = npt.NDArray[Any]
Units = tuple[int, ...]

# 0: not asked yet; otherwise the class that is named, counted from 1.
ANSWER = np.dtype([("named", np.int32), ("chance", np.float64)])


class Predictions(NamedTuple):
    """For S sets of units and N pictures.

    Attributes
    ----------
    named
        int64 (S, N): class with the highest score.
    chances
        float64 (S, N): log probability of the picture's own class.
    """

    named: Ints
    chances: Floats


class Classifier(NamedTuple):
    """Who is asked: a network, and the way to switch units of one of its layers off."""

    network: Network
    layer: str
    board: UnitAblator


def answers(
    asked: Classifier,
    pictures: LabeledImages,
    sets: Sequence[Units],
    batch_size: int,
    *,
    folder: Path | None = None,
    progress: tuple[str, Progress] | None = None,
) -> Predictions:
    """Ask what a classifier says of pictures with each set of units off.

    Parameters
    ----------
    asked
        The classifier.
    pictures
        N of them, with labels that count as its outputs do.
    sets
        S of them.
    batch_size
        Pictures in a forward pass.
    folder
        Where answers are kept, in a file named by what made them; None: nowhere.
    progress
        Name of the stage, and who is told of answers, a set and a batch each.

    Raises
    ------
    ResultError
        If the file is damaged, or cannot be written.
    ConfigError
        If the network has another number of outputs than there are classes.
    """
    sizes = (len(sets), len(pictures))
    found = np.zeros(sizes, ANSWER)
    if folder is not None:
        found = _opened(folder / f"{_digest(asked, pictures, sets, batch_size)}.npy", found)
    starts, done = range(0, len(pictures), batch_size), 0
    for start in starts:
        rows = slice(start, start + batch_size)
        missing = np.flatnonzero((found["named"][:, rows] == 0).any(axis=1)).tolist()
        done += len(sets) - len(missing)
        for place, scores in zip(missing, _scores(asked, pictures, rows, [sets[one] for one in missing]), strict=True):
            own = torch.from_numpy(pictures.labels[rows])[:, None]
            found["chance"][place, rows] = scores.double().log_softmax(1).gather(1, own)[:, 0].numpy()
            found["named"][place, rows] = scores.argmax(1).numpy() + 1  # last: it says that the answer is whole
            done += 1
            if progress:
                progress[1](progress[0], done, len(sets) * len(starts))
    return Predictions(found["named"].astype(np.int64) - 1, found["chance"].astype(np.float64))


def _scores(asked: Classifier, pictures: LabeledImages, rows: slice, sets: Sequence[Units]) -> Iterator[Tensor]:
    """Yield the scores of a few pictures with each set of units off; without sets no picture is read."""
    if not sets:
        return
    preprocessing = asked.network.preprocessing
    paths = pictures.paths[rows]
    (pixels,) = pixel_batches(paths, preprocessing, len(paths), as_stored=pictures.as_stored)
    images = preprocessing(torch.from_numpy(pixels)).to(asked.network.device)
    for scores in asked.board.scores(images, sets):
        if scores.shape[1] != len(pictures.classes):
            raise ConfigError(
                f"Network {asked.network.name!r} has {scores.shape[1]} outputs, and there are names for "
                f"{len(pictures.classes)}. Expected the name of each output, in order; see LabeledPictures.named."
            )
        yield scores


def _digest(asked: Classifier, pictures: LabeledImages, sets: Sequence[Units], batch_size: int) -> str:
    network, mode = asked.network, asked.board.mode
    made = [network.digest, repr(network.preprocessing), asked.layer, mode, pictures.digest, batch_size, sets]
    return hashlib.sha256(json.dumps(made).encode()).hexdigest()[:24]


def _opened(path: Path, empty: Kept) -> Kept:
    """Open the file of answers to be written in place; one without answers is made if there is none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_whole(path, lambda file: np.save(file, empty))
        np.load(path, mmap_mode="r", allow_pickle=False)  # refuses a short file, which r+ would fill up
        found: Kept = np.load(path, mmap_mode="r+", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ResultError(f"{path} cannot be used ({error}). Remove it; the same command makes it again.") from error
    if (found.shape, found.dtype) != (empty.shape, empty.dtype):
        raise ResultError(
            f"{path} holds {found.dtype} {found.shape}, not {empty.shape} answers. Remove it; the same command makes "
            "it again."
        )
    return found
