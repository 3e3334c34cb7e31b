"""Images to train on and their labels: synthetic ones, or a folder."""

import hashlib
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netdissect.config import Progress
from netdissect.errors import ConfigError, ResultError, SourceError
from netdissect.paths import OTHER_FOLDER, writing
from netdissect.result.files import write_whole
from netdissect.synthetic import training_objects, training_set
from netdissect.training.choices import TASKS, TaskName
from netdissect.training.classification_data import LabeledImages, image_files, labeled_folder, pixel_batches
from netdissect.training.scene_net import Images, TrainConfig, preprocessing

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TaskImages:
    """Images in memory and their labels.

    Attributes
    ----------
    pixels
        uint8 (N, size, size, 3).
    classes
        int64 (N,); None: not labeled.
    objects
        bool (N, C): which objects each image has; None: not labeled.
    """

    pixels: Images
    classes: Ints | None = None
    objects: Bools | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 over pixels and labels."""
        digest = hashlib.sha256(repr(self.pixels.shape).encode())
        for values in (self.pixels, self.classes, self.objects):
            digest.update(b"-" if values is None else np.ascontiguousarray(values).data)
        return digest.hexdigest()

    def tasks(self) -> tuple[TaskName, ...]:
        """Return the tasks that these images have labels for."""
        unlabeled = {"scene": self.classes is None, "object": self.objects is None}
        return tuple(name for name in TASKS if not unlabeled.get(name, False))

    def labels(self, task: TaskName) -> Tensor | None:
        """Return the labels of a supervised task; None for the others."""
        if task == "scene" and self.classes is not None:
            return torch.from_numpy(self.classes)
        if task == "object" and self.objects is not None:
            return torch.from_numpy(self.objects.astype(np.float32))
        return None


def synthetic_images(
    train_config: TrainConfig, *, folder: str | Path | None = None, progress: Progress | None = None
) -> TaskImages:
    """Render the training images of a configuration, with their scenes and objects.

    Parameters
    ----------
    train_config
        Number, size and seed of the images.
    folder
        They are saved there as ``images-DIGEST.npz`` and reused; None: not saved.
    progress
        Receives images (``training set``, ``objects``).

    Raises
    ------
    ResultError
        If the saved file is damaged.
    """
    count = train_config.held_out + train_config.num_images
    name = hashlib.sha256(repr((count, train_config.size, train_config.data_seed)).encode()).hexdigest()[:16]
    path = None if folder is None else Path(folder) / f"images-{name}.npz"
    if path is not None and path.exists():
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return TaskImages(**arrays)
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ResultError(f"{path} is damaged ({error}). Remove it; the same command makes it again.") from error
    pixels, scenes = training_set(count, size=train_config.size, seed=train_config.data_seed, progress=progress)
    objects = training_objects(count, size=train_config.size, seed=train_config.data_seed, progress=progress)
    if path is not None:
        with writing(path, OTHER_FOLDER):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, lambda file: np.savez(file, pixels=pixels, classes=scenes, objects=objects))
    return TaskImages(pixels, scenes, objects)


def folder_images(folder: str | Path, size: int, *, limit: int | None = None, seed: int = 0) -> TaskImages:
    """Read images at any depth below a folder, stretched to a square.

    Parameters
    ----------
    folder
        If it clearly holds a folder for each class (see ``folders:``), these are the labels of ``scene``.
    size
        Pixels of the square.
    limit
        Draw this many by `seed`; all of them are kept in memory.

    Raises
    ------
    ConceptsError
        If there is no image, or one cannot be decoded.
    """
    root = Path(folder)
    files = image_files(root)
    if not files:
        raise ConfigError(f"{root} holds no image. Expected images, at any depth, to train on.")
    try:
        labeled = labeled_folder(root)
    except SourceError:  # no class folders, or it is not clear which
        labeled = LabeledImages((), np.zeros(len(files), np.int64), tuple(files))
    # In random order: the first are held out.
    drawn = labeled.subset(np.random.default_rng(seed).permutation(len(labeled))[:limit])
    batches = pixel_batches(drawn.paths, preprocessing(size))
    pixels = np.concatenate([batch.transpose(0, 2, 3, 1) for batch in batches])
    return TaskImages(pixels, drawn.labels if labeled.classes else None)
