"""Predictions of a classifier while sets of units are ablated, saved one by one.

    predictions(classifier, images, sets, batch_size, folder=FOLDER) -> Predictions

Batches have fixed limits and each prediction is written at once: after an interruption only what is missing is
computed.
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
from netdissect.models.checkpoints import refuse_missing_weights
from netdissect.models.surgery.unit_ablation import UnitAblator
from netdissect.result.files import write_whole
from netdissect.training.classification_data import LabeledImages, pixel_batches

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Stored = npt.NDArray[Any]
Units = tuple[int, ...]

# 0: not computed yet; otherwise the predicted class, counted from 1.
PREDICTION = np.dtype([("predicted", np.int32), ("log_probability", np.float64)])


class Predictions(NamedTuple):
    """For S sets of units and N images.

    Attributes
    ----------
    predicted
        int64 (S, N): class with the highest score.
    log_probabilities
        float64 (S, N): of the class of the image.
    """

    predicted: Ints
    log_probabilities: Floats


class Classifier(NamedTuple):
    """A network, and the way to ablate units of one of its layers."""

    network: Network
    layer: str
    ablator: UnitAblator


def predictions(
    classifier: Classifier,
    images: LabeledImages,
    sets: Sequence[Units],
    batch_size: int,
    *,
    folder: Path | None = None,
    progress: tuple[str, Progress] | None = None,
) -> Predictions:
    """Predict the classes of images with each set of units ablated.

    Parameters
    ----------
    classifier
        The network.
    images
        N of them, with labels that are indices of its outputs.
    sets
        S of them.
    batch_size
        Images in a forward pass.
    folder
        Where predictions are saved, in a file named by the digest of their inputs; None: not saved.
    progress
        Name of the stage, and what receives it; one step is a set and a batch.

    Raises
    ------
    ResultError
        If the file is damaged, or cannot be written.
    ConfigError
        If the network has another number of outputs than there are classes.
    CheckpointError
        If the checkpoint of the network lacked weights.
    """
    refuse_missing_weights(classifier.network.name, classifier.network.module)
    table = np.zeros((len(sets), len(images)), PREDICTION)
    if folder is not None:
        table = _opened(folder / f"{_digest(classifier, images, sets, batch_size)}.npy", table)
    starts, done = range(0, len(images), batch_size), 0
    for start in starts:
        batch = slice(start, start + batch_size)
        missing = np.flatnonzero((table["predicted"][:, batch] == 0).any(axis=1)).tolist()
        done += len(sets) - len(missing)
        outputs = _scores(classifier, images, batch, [sets[index] for index in missing])
        for index, scores in zip(missing, outputs, strict=True):
            own = torch.from_numpy(images.labels[batch])[:, None]
            table["log_probability"][index, batch] = scores.double().log_softmax(1).gather(1, own)[:, 0].numpy()
            table["predicted"][index, batch] = scores.argmax(1).numpy() + 1  # last: it marks the entry as complete
            done += 1
            if progress:
                progress[1](progress[0], done, len(sets) * len(starts))
    return Predictions(table["predicted"].astype(np.int64) - 1, table["log_probability"].astype(np.float64))


def _scores(classifier: Classifier, images: LabeledImages, batch: slice, sets: Sequence[Units]) -> Iterator[Tensor]:
    """Yield the scores of a batch with each set of units ablated; without sets no image is read."""
    if not sets:
        return
    network, paths = classifier.network, images.paths[batch]
    (pixels,) = pixel_batches(paths, network.preprocessing, len(paths), as_stored=images.as_stored)
    for scores in class_scores(classifier, pixels, sets):
        if scores.shape[1] != len(images.classes):
            raise ConfigError(
                f"Network {network.name!r} has {scores.shape[1]} outputs, and there are names for "
                f"{len(images.classes)}. Expected the name of each output, in order; see LabeledImages.relabeled."
            )
        yield scores


def class_scores(classifier: Classifier, pixels: npt.NDArray[np.uint8], sets: Sequence[Units]) -> Iterator[Tensor]:
    """Yield the scores of images, uint8 (B, C, H, W), with each set of units ablated: float32 (B, classes)."""
    network = classifier.network
    inputs = network.preprocessing(torch.from_numpy(pixels)).to(network.device)
    yield from classifier.ablator.scores(inputs, sets)


def _digest(classifier: Classifier, images: LabeledImages, sets: Sequence[Units], batch_size: int) -> str:
    network, mode = classifier.network, classifier.ablator.mode
    inputs = [network.digest, repr(network.preprocessing), classifier.layer, mode, images.digest, batch_size, sets]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:24]


def _opened(path: Path, empty: Stored) -> Stored:
    """Open the file of predictions for writing in place; an empty one is made if there is none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_whole(path, lambda file: np.save(file, empty))
        np.load(path, mmap_mode="r", allow_pickle=False)  # refuses a short file, which r+ would extend
        table: Stored = np.load(path, mmap_mode="r+", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ResultError(f"{path} cannot be used ({error}). Remove it; the same command makes it again.") from error
    if (table.shape, table.dtype) != (empty.shape, empty.dtype):
        raise ResultError(
            f"{path} holds {table.dtype} {table.shape}, not {empty.shape} predictions. Remove it; the same command "
            "makes it again."
        )
    return table
