"""Pictures to train on, and what supervision says of them: drawn ones, or a folder of one's own."""

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
from netdissect.result.files import write_whole
from netdissect.synthetic import training_objects, training_set
from netdissect.training.choices import TASKS, TaskName
from netdissect.training.classification_data import LabeledImages, image_files, labeled_folder, pixel_batches
from netdissect.training.scene_net import Images, TrainConfig, preprocessing

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TaskImages:
    """Pictures in memory, and what supervision says of them.

    Attributes
    ----------
    pixels
        uint8 (N, size, size, 3).
    classes
        int64 (N,); None: not labeled.
    objects
        bool (N, C): which objects each shows; None: not labeled.
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
        """Return the tasks that these pictures can be used for."""
        missing = {"scene": self.classes is None, "object": self.objects is None}
        return tuple(name for name in TASKS if not missing.get(name, False))

    def labels(self, task: TaskName) -> Tensor | None:
        """Return what a supervised task is told; None for the others."""
        if task == "scene" and self.classes is not None:
            return torch.from_numpy(self.classes)
        if task == "object" and self.objects is not None:
            return torch.from_numpy(self.objects.astype(np.float32))
        return None


def synthetic_images(
    recipe: TrainConfig, *, folder: str | Path | None = None, progress: Progress | None = None
) -> TaskImages:
    """Draw the training pictures of a recipe, with their scenes and the objects that they show.

    Parameters
    ----------
    recipe
        Number, size and seed of the pictures.
    folder
        They are kept there, as ``pictures-DIGEST.npz``, and taken up; None: nowhere.
    progress
        Told of pictures (``training set``, ``objects``).

    Raises
    ------
    ResultError
        If what is there is damaged.
    """
    count = recipe.held_out + recipe.pictures
    name = hashlib.sha256(repr((count, recipe.size, recipe.world)).encode()).hexdigest()[:16]
    path = None if folder is None else Path(folder) / f"pictures-{name}.npz"
    if path is not None and path.exists():
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return TaskImages(**arrays)
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ResultError(f"{path} is damaged ({error}). Remove it; the same command makes it again.") from error
    pixels, scenes = training_set(count, size=recipe.size, seed=recipe.world, progress=progress)
    objects = training_objects(count, size=recipe.size, seed=recipe.world, progress=progress)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: np.savez(file, pixels=pixels, classes=scenes, objects=objects))
    return TaskImages(pixels, scenes, objects)


def folder_images(folder: str | Path, size: int, *, limit: int | None = None, seed: int = 0) -> TaskImages:
    """Read pictures at any depth below a folder, squashed to a square.

    Parameters
    ----------
    folder
        If it holds a folder for each class, without doubt (see ``folders:``), these are the labels of ``scene``.
    size
        Pixels of the square.
    limit
        Draw this many by `seed`; all of them lie in memory.

    Raises
    ------
    ConceptsError
        If there is no picture, or one cannot be decoded.
    """
    root = Path(folder)
    files = image_files(root)
    if not files:
        raise ConfigError(f"{root} holds no picture. Expected pictures, at any depth, to train on.")
    try:
        found = labeled_folder(root)
    except SourceError:  # no class folders, or it is in doubt which they are
        found = LabeledImages((), np.zeros(len(files), np.int64), tuple(files))
    # In random order: the first are kept back.
    drawn = found.taken(np.random.default_rng(seed).permutation(len(found))[:limit])
    batches = pixel_batches(drawn.paths, preprocessing(size))
    pixels = np.concatenate([batch.transpose(0, 2, 3, 1) for batch in batches])
    return TaskImages(pixels, drawn.labels if found.classes else None)
