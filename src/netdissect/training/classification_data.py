"""Pictures with one class each, for experiments that ask how well a network tells classes apart.

a folder for each class, or the whole-picture labels of a data set -> LabeledPictures -> batches of pixels
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
    """Picture files, each of one class.

    Attributes
    ----------
    classes
        Names, C of them.
    labels
        int64 (N,): index of each picture's class.
    paths
        The files, N of them.
    as_stored
        Whether they are those of a data set, whose pictures no one turns; others are turned upright as EXIF says.
    """

    classes: tuple[str, ...]
    labels: Ints
    paths: tuple[Path, ...]
    as_stored: bool = False

    def __len__(self) -> int:
        """Count the pictures."""
        return len(self.paths)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names, classes and sizes of the files; pixels are not read."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for path, label in zip(self.paths, self.labels.tolist(), strict=True):
            digest.update(repr((path.parent.name, path.name, path.stat().st_size, label)).encode())
        return digest.hexdigest()

    def batches(self, preprocessing: Preprocessing, size: int = 64, workers: int = 2) -> Iterator[Pixels]:
        """Yield the pictures as a network wants them, uint8 (B, C, H, W), in order.

        Raises
        ------
        ConceptsError
            If one cannot be decoded.
        """
        yield from pixel_batches(self.paths, preprocessing, size, workers, as_stored=self.as_stored)

    def taken(self, chosen: Ints) -> "LabeledImages":
        """Return only the pictures at these places."""
        return replace(self, labels=self.labels[chosen], paths=tuple(self.paths[i] for i in chosen.tolist()))

    def drawn(self, limit: int | None, seed: int = 0) -> "LabeledImages":
        """Return `limit` of the pictures, drawn by seed, in order; all where there are no more."""
        if limit is None or limit >= len(self):
            return self
        return self.taken(np.sort(np.random.default_rng(seed).choice(len(self), limit, replace=False)))

    def frequent(self, least: int) -> "LabeledImages":
        """Return only the pictures of classes that have at least so many, and only these classes."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        kept = np.flatnonzero(counts >= least)
        rows = np.flatnonzero(np.isin(self.labels, kept))
        numbers = np.searchsorted(kept, self.labels[rows]).astype(np.int64)
        classes = tuple(self.classes[i] for i in kept.tolist())
        return replace(self, classes=classes, labels=numbers, paths=tuple(self.paths[i] for i in rows.tolist()))

    def named(self, classes: Sequence[str]) -> "LabeledImages":
        """Return them with labels that count in the order of `classes`, as a classifier's outputs do.

        Capital letters, and underscores in place of spaces, make no difference.

        Raises
        ------
        ConfigError
            If a class is not among them.
        """
        places = {_plain(name): index for index, name in reversed(list(enumerate(one_or_more(classes))))}
        unknown = [name for name in self.classes if _plain(name) not in places]
        if unknown:
            raise ConfigError(
                f"the pictures' class {unknown[0]!r} is not among the network's {len(classes)} classes "
                f"({', '.join(classes[:4])}, ...). Expected the same names; give the network's classes in the order of "
                "its outputs."
            )
        numbers = np.array([places[_plain(name)] for name in self.classes], np.int64)
        return replace(self, classes=tuple(classes), labels=numbers[self.labels])


def pixel_batches(
    paths: Sequence[Path], preprocessing: Preprocessing, size: int = 64, workers: int = 2, *, as_stored: bool = False
) -> Iterator[Pixels]:
    """Yield picture files as a network wants them, uint8 (B, C, H, W), in order; they are decoded ahead.

    They are turned upright as EXIF says, unless they are those of a data set (`as_stored`).

    Raises
    ------
    ConceptsError
        If one cannot be decoded.
    """
    decoded = prefetch(lambda path: read_image(path, preprocessing, upright=not as_stored), paths, workers, 2 * size)
    for start in range(0, len(paths), size):
        yield np.stack([next(decoded) for _ in range(min(size, len(paths) - start))]).transpose(0, 3, 1, 2)


def image_files(path: str | Path) -> list[Path]:
    """Return a picture file itself, or the pictures at any depth below a folder, sorted.

    Raises
    ------
    SourceError
        If there is no such file or folder.
    """
    path = Path(path)
    return [path] if path.is_file() else find_files(find_folder(path, "a picture, or a folder of pictures"))


def labeled_folder(folder: str | Path) -> LabeledImages:
    """Read a folder that holds a folder of pictures for each class, as ``folders:`` does.

    Raises
    ------
    SourceError
        If it holds no class folder, or leaves in doubt what a class is.
    ConceptsError
        If it holds no picture.
    """
    found = [(one.label, one.path) for one in FolderSource(Path(folder), "class").images()]
    return _of_pairs(found, Path(folder))


def labeled_by(data: ConceptData, category: str = "scene") -> LabeledImages:
    """Take the pictures of a data set that bear exactly one whole-picture label of a category.

    Parameters
    ----------
    data
        In Broden's layout.
    category
        The classes lose the ``-s`` with which names of scenes end there.

    Raises
    ------
    ConceptsError
        If there is no such picture.
    """
    found = []
    for row, entry in enumerate(data.rows):
        names = {data.by_number[number].name for number in entry.whole if data.by_number[number].category == category}
        if len(names) == 1:
            found.append((names.pop().removesuffix(SCENE_SUFFIX), data.image_path(row)))
    return replace(_of_pairs(found, data.root), as_stored=True)


def balanced_halves(labels: Ints, seed: int) -> tuple[Ints, Ints]:
    """Split places at random into two halves that hold half of each class, both in order."""
    rng = np.random.default_rng(seed)
    first = [
        rng.permutation(np.flatnonzero(labels == label))[: (count + index % 2) // 2]
        for index, (label, count) in enumerate(sorted(Counter(labels.tolist()).items()))
    ]
    chosen = np.sort(np.concatenate(first))
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)


def _plain(name: str) -> str:
    return name.replace("_", " ").casefold()


def _of_pairs(found: Sequence[tuple[str, Path]], root: Path) -> LabeledImages:
    if not found:
        raise ConceptsError(
            f"{root} holds no picture of a class. Expected a folder for each class with pictures in it, or a data set "
            "whose pictures bear one label of the category as a whole."
        )
    classes = tuple(sorted({name for name, _ in found}))
    labels = np.array([classes.index(name) for name, _ in found], np.int64)
    return LabeledImages(classes, labels, tuple(path for _, path in found))
