"""Pooled features of a layer, and the accuracy of linear SVMs on them.

Subject + images -> cached_features -> probe_accuracies, one row for each split and choice of C
"""

import hashlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from netdissect.config import Progress
from netdissect.dissect.devices import choose_device, torch_device
from netdissect.errors import ResultError
from netdissect.extras import need
from netdissect.models import ActivationRecorder, Network, resolve_layers
from netdissect.paths import OTHER_FOLDER, writing
from netdissect.result import Result
from netdissect.result.files import write_whole
from netdissect.training.classification_data import LabeledImages

if TYPE_CHECKING:
    from netdissect.experiments.linear_probe.experiment import LinearProbeConfig

exceptions, model_selection, pipeline, preprocessing, linear = (
    need(f"sklearn.{module}", "experiments", "The linear probe")
    for module in ("exceptions", "model_selection", "pipeline", "preprocessing", "svm")
)

Features = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

PENALTY = "svm__C"
ITERATIONS = 1000  # of the solver; cross-validation uses what has not converged by then


@dataclass(frozen=True)
class Subject:
    """A layer of a network, and the dissection that counts its detectors."""

    network: Network
    layer: str
    result: Result


def pooled_features(
    network: Network, layer: str, images: LabeledImages, config: "LinearProbeConfig", progress: Progress | None = None
) -> Features:
    """Return the mean or maximum of each unit over each image, float32 (N, U)."""
    chosen, pooled = resolve_layers(network, [layer]), list[torch.Tensor]()
    with (
        network.prepared(torch_device(choose_device(config.device, network))),
        ActivationRecorder(network, chosen) as record,
    ):
        for pixels in images.batches(network.preprocessing, config.batch_size):
            maps = record(network.preprocessing(torch.from_numpy(pixels)).to(network.device))[chosen[0].name]
            pooled.append((maps.mean((2, 3)) if config.pool == "mean" else maps.amax((2, 3))).cpu())
            if progress:
                progress("features", min(len(pooled) * config.batch_size, len(images)), len(images))
    features: Features = torch.cat(pooled).numpy()
    return features


def cached_features(
    subject: Subject, images: LabeledImages, config: "LinearProbeConfig", folder: Path | None, progress: Progress | None
) -> Features:
    """Return the features of a subject, from the folder if they are there."""
    network = subject.network
    if folder is None:
        return pooled_features(network, subject.layer, images, config, progress)
    inputs = [network.digest, repr(network.preprocessing), subject.layer, images.digest, config.pool, config.batch_size]
    path = folder / f"{hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:24]}.npy"
    if path.exists():
        try:
            features: Features = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ResultError(f"{path} is damaged ({error}). Remove it; the same command makes it again.") from error
        return features
    features = pooled_features(network, subject.layer, images, config, progress)
    with writing(path, OTHER_FOLDER):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: np.save(file, features))
    return features


def classifier(penalty: float) -> Any:
    """Return a linear SVM on standardized features.

    Notes
    -----
    A larger C than those of `LinearProbeConfig.penalties` overfits such features and takes most of the time: with
    C = 1 the solver needs hundreds of iterations, with 0.01 it needs seven.
    """
    machine = linear.LinearSVC(C=penalty, dual="auto", max_iter=ITERATIONS, random_state=0)
    return pipeline.Pipeline([("scale", preprocessing.StandardScaler()), ("svm", machine)])


def halves(labels: Ints, config: "LinearProbeConfig") -> list[tuple[Ints, Ints]]:
    """Return the indices of training and test images of each split."""
    splitter = model_selection.StratifiedShuffleSplit(config.splits, test_size=0.5, random_state=config.seed)
    return list(splitter.split(np.zeros((len(labels), 1)), labels))


def probe_accuracies(features: Features, labels: Ints, config: "LinearProbeConfig") -> list[dict[str, Any]]:
    """Train and test SVMs on every split: rows of C_selection, split, C and accuracy."""
    rows = []
    for split, (train, test) in enumerate(halves(labels, config)):
        fixed = classifier(config.penalty)
        machines: dict[str, Any] = {"paper": fixed}
        if config.penalties:
            folds = model_selection.StratifiedKFold(config.folds, shuffle=True, random_state=config.seed)
            grid = {PENALTY: list(config.penalties)}
            machines["cross-validated"] = model_selection.GridSearchCV(fixed, grid, cv=folds)
        for selection, machine in machines.items():
            with warnings.catch_warnings():
                # With a large C the solver may stop early; cross-validation then uses what it has.
                warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
                machine.fit(features[train], labels[train])
            penalty = machine.best_params_[PENALTY] if selection == "cross-validated" else config.penalty
            accuracy = float(machine.score(features[test], labels[test]))
            rows.append({"C_selection": selection, "split": split, "C": penalty, "accuracy": accuracy})
    return rows
