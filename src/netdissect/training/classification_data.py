"""Images with one class each, for experiments that measure classification.

a folder for each class, or the image-level labels of a data set -> LabeledImages -> batches of pixels
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from netdissect.activations.image_batches import prefetch, read_image
from netdissect.concepts import ConceptData
from netdissect.concepts.sources.image_folder import FolderSource
from netdissect.concepts.sources.source import find_files, find_folder
from netdissect.config import one_or_more
from netdissect.errors import ConceptsError, ConfigError
from netdissect.models import Preprocessing

Ints = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]

SCENE_SUFFIX = "-s"


@dataclass(frozen=True)
class LabeledImages:
    """Image files, each of one class.

    Attributes
    ----------
    classes
        Names, C of them.
    labels
        int64 (N,): index of the class of each image.
    paths
        The files, N of them.
    as_stored
        Whether they are images of a data set, which are used as stored; others are rotated upright as EXIF says.
    """

    classes: tuple[str, ...]
    labels: Ints
    paths: tuple[Path, ...]
    as_stored: bool = False

    def __len__(self) -> int:
        """Count the images."""
        return len(self.paths)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names, classes and sizes of the files, without their pixels."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for path, label in zip(self.paths, self.labels.tolist(), strict=True):
            digest.update(repr((path.parent.name, path.name, path.stat().st_size, label)).encode())
        return digest.hexdigest()

    def batches(self, preprocessing: Preprocessing, size: int = 64, workers: int = 2) -> Iterator[Pixels]:
        """Yield the images resized for a network, uint8 (B, C, H, W), in order.

        Raises
        ------
        ConceptsError
            If one cannot be decoded.
        """
        yield from pixel_batches(self.paths, preprocessing, size, workers, as_stored=self.as_stored)

    def subset(self, indices: Ints) -> "LabeledImages":
        """Return only the images at these indices."""
        return replace(self, labels=self.labels[indices], paths=tuple(self.paths[i] for i in indices.tolist()))

    def sample(self, limit: int | None, seed: int = 0) -> "LabeledImages":
        """Return `limit` of the images, drawn by seed, in order; all if there are no more."""
        if limit is None or limit >= len(self):
            return self
        return self.subset(np.sort(np.random.default_rng(seed).choice(len(self), limit, replace=False)))

    def frequent(self, least: int) -> "LabeledImages":
        """Return only the images of classes that have at least so many, and only these classes."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        kept = np.flatnonzero(counts >= least)
        indices = np.flatnonzero(np.isin(self.labels, kept))
        labels = np.searchsorted(kept, self.labels[indices]).astype(np.int64)
        classes = tuple(self.classes[i] for i in kept.tolist())
        return replace(self, classes=classes, labels=labels, paths=tuple(self.paths[i] for i in indices.tolist()))

    def relabeled(self, classes: Sequence[str]) -> "LabeledImages":
        """Return the images with labels that are indices of `classes`, as the outputs of a classifier.

        Case, and underscores for spaces, are ignored.

        Raises
        ------
        ConfigError
            If a class is not among them.
        """
        indices = {_plain(name): index for index, name in reversed(list(enumerate(one_or_more(classes))))}
        unknown = [name for name in self.classes if _plain(name) not in indices]
        if unknown:
            raise ConfigError(
                f"the class {unknown[0]!r} of the images is not among the network's {len(classes)} classes "
                f"({', '.join(classes[:4])}, ...). Expected the same names; give the network's classes in the order of "
                "its outputs."
            )
        labels = np.array([indices[_plain(name)] for name in self.classes], np.int64)
        return replace(self, classes=tuple(classes), labels=labels[self.labels])


def pixel_batches(
    paths: Sequence[Path], preprocessing: Preprocessing, size: int = 64, workers: int = 2, *, as_stored: bool = False
) -> Iterator[Pixels]:
    """Yield image files resized for a network, uint8 (B, C, H, W), in order; decoding runs ahead.

    They are rotated upright as EXIF says, unless they belong to a data set (`as_stored`).

    Raises
    ------
    ConceptsError
        If one cannot be decoded.
    """
    decoded = prefetch(lambda path: read_image(path, preprocessing, upright=not as_stored), paths, workers, 2 * size)
    for start in range(0, len(paths), size):
        yield np.stack([next(decoded) for _ in range(min(size, len(paths) - start))]).transpose(0, 3, 1, 2)


def image_files(path: str | Path) -> list[Path]:
    """Return an image file itself, or the images at any depth below a folder, sorted.

    Raises
    ------
    SourceError
        If there is no such file or folder.
    """
    path = Path(path)
    return [path] if path.is_file() else find_files(find_folder(path, "an image, or a folder of images"))


def labeled_folder(folder: str | Path) -> LabeledImages:
    """Read a folder that holds a folder of images for each class, as ``folders:`` does.

    Raises
    ------
    SourceError
        If it holds no class folder, or it is not clear what a class is.
    ConceptsError
        If it holds no image.
    """
    pairs = [(image.label, image.path) for image in FolderSource(Path(folder), "class").images()]
    return _of_pairs(pairs, Path(folder))


def labeled_data(data: ConceptData, category: str = "scene") -> LabeledImages:
    """Return the images of a data set that have exactly one image-level label of a category.

    Parameters
    ----------
    data
        In Broden's layout.
    category
        Names of scenes lose their suffix ``-s``.

    Raises
    ------
    ConceptsError
        If there is no such image.
    """
    pairs = []
    for index, entry in enumerate(data.rows):
        names = {
            data.by_label_id[number].name
            for number in entry.image_level
            if data.by_label_id[number].category == category
        }
        if len(names) == 1:
            pairs.append((names.pop().removesuffix(SCENE_SUFFIX), data.image_path(index)))
    return replace(_of_pairs(pairs, data.root), as_stored=True)


def balanced_halves(labels: Ints, seed: int) -> tuple[Ints, Ints]:
    """Split indices at random into two halves that hold half of each class, both sorted."""
    rng = np.random.default_rng(seed)
    first = [
        rng.permutation(np.flatnonzero(labels == label))[: (count + index % 2) // 2]
        for index, (label, count) in enumerate(sorted(Counter(labels.tolist()).items()))
    ]
    chosen = np.sort(np.concatenate(first))
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)


def _plain(name: str) -> str:
    return name.replace("_", " ").casefold()


def _of_pairs(pairs: Sequence[tuple[str, Path]], root: Path) -> LabeledImages:
    if not pairs:
        raise ConceptsError(
            f"{root} holds no image of a class. Expected a folder for each class with images in it, or a data set "
            "whose images have one image-level label of the category."
        )
    classes = tuple(sorted({name for name, _ in pairs}))
    labels = np.array([classes.index(name) for name, _ in pairs], np.int64)
    return LabeledImages(classes, labels, tuple(path for _, path in pairs))
