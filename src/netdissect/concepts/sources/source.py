"""The interface of sources: a name, the specification, and samples with raw concept names."""

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
"""Extensions that are ignored; any other file must be an image."""


class ConceptSource(Protocol):
    """Labeled images in some layout.

    Samples have raw names, any size and any number of channels. Merging of names, label ids, resizing and colors are
    common code. Workers read the images and label maps (see `Sample`).
    """

    @property
    def name(self) -> str:
        """Short name, the first part of the names of its samples."""

    @property
    def text(self) -> str:
        """Specification on the command line, e.g. ``masks:DIR=part``."""

    def samples(self, prefix: str) -> Iterator[Sample]:
        """Yield its samples, named ``prefix/...``, in an order that depends on the files alone.

        Raises
        ------
        SourceError
            If the folder does not have the layout. Errors of a single image are raised when it is read.
        """


@dataclass(frozen=True)
class PublishedFolder:
    """Base of the sources that are specified by their folder alone, ``NAME:DIR``.

    Attributes
    ----------
    name
        Name in Broden.
    folder
        Folder of the unpacked data set.
    """

    name: ClassVar[str]

    folder: Path

    @classmethod
    def parse(cls, spec: SourceSpec) -> Self:
        """Parse ``NAME:DIR``."""
        return cls(spec.check(category=False).folder)

    @property
    def text(self) -> str:
        """Specification on the command line."""
        return f"{self.name}:{self.folder}"


def find_folder(folder: Path, what: str) -> Path:
    """Return `folder`.

    Raises
    ------
    SourceError
        If it is not a folder; `what` describes the expected content.
    """
    if not folder.is_dir():
        seen = "is not a folder" if folder.exists() else "does not exist"
        raise SourceError(f"{folder} {seen}. Expected {what}; correct the path.")
    return folder


def find_files(folder: Path) -> list[Path]:
    """List the images at any depth below `folder`, sorted by their path.

    Notes
    -----
    Hidden files and folders (a leading dot) and files with an extension in `NO_IMAGES` are ignored. Every other file
    counts as an image, so that an unreadable file is reported.
    """
    images = []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if any(part.startswith(".") for part in parts) or path.suffix.lower() in NO_IMAGES:
            continue
        if path.is_file() or (path.is_symlink() and not path.is_dir()):
            images.append(path)
    return sorted(images, key=lambda path: path.relative_to(folder).as_posix())


def split_of(name: str) -> Split | None:
    """Return the split that the name of a folder or file denotes; None if it denotes none.

    Test images belong to ``val``, because there is no third split.

    Examples
    --------
    >>> split_of("train2017"), split_of("valid"), split_of("Testing"), split_of("trains")
    ('train', 'val', 'val', None)
    """
    match = SPLIT.match(name.lower())
    return None if match is None else "train" if match[0].startswith("train") else "val"
