"""A folder for each class; its name labels the whole picture.

    DIR/images/CLASS/*   or   DIR/CLASS/*
    DIR/labels_joint_anno.txt   or   DIR/labels/labels_joint_anno.txt     optional

The joint list is that of the Describable Textures Dataset: a line names a picture (``CLASS/FILE``) and every
class that annotators saw in it, the dominant first. Lines of pictures that are not here are ignored;
a picture without a line has its folder's class alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from netdissect.concepts.sample import Sample
from netdissect.concepts.sources.source import find_files, find_folder
from netdissect.concepts.sources.words import SourceWords
from netdissect.errors import SourceError

JOINT_LIST = "labels_joint_anno.txt"


@dataclass(frozen=True)
class FolderSource:
    """A folder for each class.

    Attributes
    ----------
    folder
        Holds the class folders, or ``images/`` with the class folders.
    category
        Of every class.
    """

    folder: Path
    category: str

    @classmethod
    def parse(cls, words: SourceWords) -> "FolderSource":
        """Make the source that ``folders:FOLDER=CATEGORY`` names.

        Raises
        ------
        SourceError
            If no category is given.
        """
        category = words.check().category
        if category is None:
            raise SourceError(
                f"the source {words.text!r} names no category. Expected what its folders stand for, "
                f"e.g. {words.text}=texture or {words.text}=scene."
            )
        return cls(words.folder, category)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @property
    def text(self) -> str:
        """The words that name it on the command line."""
        return f"folders:{self.folder}={self.category}"

    def samples(self, prefix: str) -> Iterator[Sample]:
        """Yield a sample for each picture, class by class.

        Raises
        ------
        SourceError
            If the folder is missing, holds no class, or the joint list cannot be read.
        """
        root = find_folder(self.folder, "a folder with a folder for each class")
        if _class_folders(root / "images"):
            root = root / "images"
        classes = _class_folders(root)
        if not classes:
            raise SourceError(
                f"{root} holds no folder. Expected a folder for each class, with the pictures of the class in it."
            )
        joint = _read_joint_list(self.folder)
        for path in find_files(root):
            place = path.relative_to(root)
            name = f"{prefix}/{place.with_suffix('').as_posix()}"
            if len(place.parts) == 1:
                raise SourceError(f"{path} lies in no class folder. Expected {root / 'CLASS' / path.name}; move it.")
            own = place.parts[0]
            listed = joint.get(place.as_posix(), ())
            yield Sample(name, path, {self.category: tuple(dict.fromkeys(listed if own in listed else (own, *listed)))})


def _class_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _read_joint_list(folder: Path) -> dict[str, tuple[str, ...]]:
    for path in (folder / JOINT_LIST, folder / "labels" / JOINT_LIST):
        if path.is_file():
            break
    else:
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(
            f"{path} cannot be read ({error}). Expected lines such as 'banded/banded_0002.jpg banded striped'."
        ) from error
    joint: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, start=1):
        if words := line.split():
            if len(words) < 2:
                raise SourceError(
                    f"{path}, line {number}: {line.strip()!r} names no class. Expected a picture and its classes, "
                    "e.g. 'banded/banded_0002.jpg banded striped'."
                )
            joint[words[0]] = tuple(words[1:])
    return joint
