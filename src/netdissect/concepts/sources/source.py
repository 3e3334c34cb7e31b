"""What every source has: a name, a description that repeats it, and samples with raw concept names."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, Self

from netdissect.concepts.build.sample import Sample
from netdissect.concepts.sources.spec import SourceSpec
from netdissect.config import Split
from netdissect.errors import SourceError

SPLIT = re.compile(r"(train(ing)?|val(id(ation)?)?|dev|test(ing)?)(?![a-z])")

NO_IMAGES = frozenset({".txt", ".md", ".csv", ".json", ".xml", ".html", ".yml", ".yaml", ".ini", ".db", ".log"})
"""Extensions that are passed over; any other file must be an image."""


class ConceptSource(Protocol):
    """Labeled images in somebody's layout.

    Samples carry raw names, at any size and in any number of channels; merging, numbering, squashing and colors
    are common code. Reading of images and label maps is left to the worker (see `Sample`).
    """

    @property
    def name(self) -> str:
        """Short name, the first part of its samples' names."""

    @property
    def text(self) -> str:
        """The words that name it on the command line, e.g. ``masks:DIR=part``."""

    def samples(self, prefix: str) -> Iterator[Sample]:
        """Yield its samples, named ``prefix/...``, in an order that depends on nothing but the files.

        Raises
        ------
        SourceError
            If the layout is not there at all. What is wrong with a single image is raised when it is read.
        """


@dataclass(frozen=True)
class PublishedFolder:
    """What sources have in common that are named by their folder alone, ``NAME:DIR``.

    Attributes
    ----------
    name
        As in Broden.
    folder
        As it was unpacked.
    """

    name: ClassVar[str]

    folder: Path

    @classmethod
    def parse(cls, spec: SourceSpec) -> Self:
        """Make the source that the words name."""
        return cls(spec.check(category=False).folder)

    @property
    def text(self) -> str:
        """The words that name it on the command line."""
        return f"{self.name}:{self.folder}"


def find_folder(folder: Path, what: str) -> Path:
    """Return `folder`.

    Raises
    ------
    SourceError
        If it is no folder; `what` says what should be in it.
    """
    if not folder.is_dir():
        seen = "is not a folder" if folder.exists() else "does not exist"
        raise SourceError(f"{folder} {seen}. Expected {what}; correct the path.")
    return folder


def find_files(folder: Path) -> list[Path]:
    """List the images at any depth below `folder`, sorted by their path.

    Notes
    -----
    Passed over: hidden files and folders (a leading dot), and files of `NO_IMAGES`.
    Everything else counts as an image, so that a file that cannot be read is reported instead of missed.
    """
    found = []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if any(part.startswith(".") for part in parts) or path.suffix.lower() in NO_IMAGES:
            continue
        if path.is_file() or (path.is_symlink() and not path.is_dir()):
            found.append(path)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def split_of(name: str) -> Split | None:
    """Return the split that a folder or file stands for, by its name; None: drawn by name.

    Test images are for validation, because there is no third split.

    Examples
    --------
    >>> split_of("train2017"), split_of("valid"), split_of("Testing"), split_of("trains")
    ('train', 'val', 'val', None)
    """
    match = SPLIT.match(name.lower())
    return None if match is None else "train" if match[0].startswith("train") else "val"
