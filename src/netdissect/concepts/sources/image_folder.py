"""A folder for each class: the name of the folder is a label of the whole image.

    DIR/CLASS/*   or   DIR/images/CLASS/*
    DIR/train/CLASS/*, DIR/val/CLASS/*     the splits of the authors (also training, valid, validation, test, ...)
    DIR/a/abbey/*, DIR/a/apse/indoor/*     initial letters, as in SUN397 and Places: abbey, apse-indoor
    DIR/labels_joint_anno.txt   or   DIR/labels/labels_joint_anno.txt     optional

If images are more than one folder deep otherwise, it is ambiguous which folder is the class. This is an error unless
an option decides it.

Options:

- ``?class=path``: the class is the names of all folders, joined by a hyphen (``apse-indoor``);
- ``?class=last``: the class is the innermost folder (``dog`` for ``animals/dog``);
- ``?class=first``: the class is the outermost folder;
- ``?splits=no``: folders called ``train``, ``val``, ... are classes.

The joint list is that of the Describable Textures Dataset: each line has an image (``CLASS/FILE``) and all its classes,
the dominant one first. Lines of other images are ignored. An image without a line has the class of its folder.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from netdissect.concepts.build.sample import Sample
from netdissect.concepts.sources.source import find_files, find_folder, split_of
from netdissect.concepts.sources.spec import SourceSpec
from netdissect.config import Split
from netdissect.errors import SourceError

JOINT_LIST = "labels_joint_anno.txt"
CHOICES = ("path", "last", "first")
IMAGE_FOLDERS = frozenset({"image", "images", "img", "imgs", "jpegimages", "leftimg8bit", "photos", "pictures"})
MASK_FOLDERS = frozenset(
    {
        *("annotation", "annotations", "gt", "gtcoarse", "gtfine", "label", "labels", "labelids", "mask", "masks"),
        *("seg", "segs", "segmentation", "segmentationclass", "segmentationobject", "segmentations"),
    }
)


class ClassImage(NamedTuple):
    """An image in a class folder: its path below the folder, with forward slashes, its class and its split."""

    name: str
    path: Path
    label: str
    split: Split | None


@dataclass(frozen=True)
class FolderSource:
    """A folder for each class.

    Attributes
    ----------
    folder
        Folder with the class folders, or with ``images/`` that has the class folders.
    category
        Category of all classes.
    choice
        Folders that form the class if there are several: ``path``, ``last`` or ``first``; None: there is only one.
    splits
        Whether folders called ``train``, ``val``, ... are splits.
    """

    folder: Path
    category: str
    choice: str | None = None
    splits: bool = True

    @classmethod
    def parse(cls, spec: SourceSpec) -> "FolderSource":
        """Parse ``folders:FOLDER=CATEGORY[?class=...&splits=no]``.

        Raises
        ------
        SourceError
            If no category is given.
        """
        category = spec.check("class", "splits").category
        if category is None:
            raise SourceError(
                f"the source {spec.text!r} names no category. Expected what its folders stand for, "
                f"e.g. folders:{spec.location}=texture or folders:{spec.location}=scene."
            )
        return cls(spec.folder, category, spec.choice("class", CHOICES), spec.flag("splits", default=True))

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @property
    def text(self) -> str:
        """Specification on the command line."""
        options = {"class": self.choice} if self.choice else {}
        return SourceSpec(
            "folders", str(self.folder), self.category, options | ({} if self.splits else {"splits": "no"})
        ).text

    def samples(self, prefix: str) -> Iterator[Sample]:
        """Yield a sample for each image, class by class.

        Raises
        ------
        SourceError
            As `images`, or if the joint list cannot be read.
        """
        joint = _read_joint_list(self.folder)
        for image in self.images():
            listed = joint.get(image.name, ())
            labels = tuple(dict.fromkeys(listed if image.label in listed else (image.label, *listed)))
            name = PurePosixPath(image.name).with_suffix("").as_posix()
            yield Sample(f"{prefix}/{name}", image.path, {self.category: labels}, image.split)

    def images(self) -> Iterator[ClassImage]:
        """Yield each image with its class, class by class.

        Raises
        ------
        SourceError
            If the folder is missing or has no class, or it is ambiguous which folders are classes.
        """
        root = find_folder(self.folder, "a folder with a folder for each class")
        if _folders(root / "images"):
            masks = {name for name in _folders(root) if name.lower() in MASK_FOLDERS and find_files(root / name)}
            _check_no_masks(self.folder, {"images", *masks}, may_be_class=True)
            root = root / "images"
        if not _folders(root):
            raise SourceError(
                f"{root} holds no folder. Expected a folder for each class, with the images of the class in it."
            )
        paths = [path.relative_to(root) for path in find_files(root)]
        splits = self.splits and _are_splits(paths)
        folders = [path.parts[splits:-1] for path in paths]
        self._check_folders(root, folders, paths)
        letters = _are_letters(folders)
        names = [parts[letters:] for parts in folders]
        if self.choice is None and not letters:
            self._check_depth(root, names)
        for path, parts in zip(paths, names, strict=True):
            split = split_of(path.parts[0]) if splits else None
            yield ClassImage(path.as_posix(), root / path, self._class(parts), split)

    def _class(self, parts: Sequence[str]) -> str:
        return {"first": parts[0], "last": parts[-1]}.get(self.choice or "path", "-".join(parts))

    def _check_folders(self, root: Path, folders: Sequence[Sequence[str]], paths: Sequence[PurePath]) -> None:
        """Raise an error for images outside of class folders, and for folders of images and masks."""
        for parts, path in zip(folders, paths, strict=True):
            if not parts:
                where = root.joinpath(*path.parts[:-1], "CLASS", path.name)
                raise SourceError(
                    f"{root / path} lies in no class folder. Expected {where}; move it"
                    + (", or say ?splits=no if the folder is a class." if len(path.parts) > 1 else ".")
                )
        for level in range(max(map(len, folders), default=0)):
            names = {parts[level] for parts in folders if len(parts) > level}
            _check_no_masks(self.folder, names, may_be_class=level > 0 or self.choice is not None)

    def _check_depth(self, root: Path, names: Sequence[Sequence[str]]) -> None:
        deep = next((parts for parts in names if len(parts) > 1), None)
        if deep is None:
            return
        tops = {parts[0] for parts in names}
        inner = f", or folders:{root / deep[0]} if that folder holds the classes" if len(tops) == 1 else ""
        raise SourceError(
            f"{root} holds images more than one folder deep, e.g. in {'/'.join(deep)}, so that it is in doubt which "
            f"folder is the class. Expected a folder for each class; say ?class=last for {deep[-1]!r}, ?class=path for "
            f"{'-'.join(deep)!r}, or ?class=first for {deep[0]!r}{inner}."
        )


def _folders(root: Path) -> set[str]:
    if not root.is_dir():
        return set()
    return {path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}


def _check_no_masks(folder: Path, names: set[str], *, may_be_class: bool) -> None:
    """Refuse folders of images and masks: their names are no classes, without masks unless they may be."""
    images = sorted(name for name in names if name.lower() in IMAGE_FOLDERS)
    masks = sorted(name for name in names if name.lower() in MASK_FOLDERS)
    if not images or (may_be_class and not masks):
        return
    raise SourceError(
        f"{folder} holds the folder{'s' if masks else ''} {' and '.join((images[0], *masks[:1]))}: no names of "
        f"classes. Expected a folder for each class; masks:{folder} reads images with masks (images/, "
        f"masks/, classes.csv), labels:FILE.csv images with a table, and folders:{folder / images[0]} classes in "
        "that folder" + ("." if masks else "; say ?class=first if it is the name of a class.")
    )


def _are_splits(paths: Sequence[PurePath]) -> bool:
    """Return whether all outermost folders have names of splits and contain folders."""
    return bool(paths) and all(len(path.parts) > 1 and split_of(path.parts[0]) for path in paths)


def _are_letters(folders: Sequence[Sequence[str]]) -> bool:
    """Return whether the outermost folders are the initial letters of the folders in them."""
    return bool(folders) and all(
        len(parts) > 1 and len(parts[0]) == 1 and parts[0].isalpha() and parts[1][:1].lower() == parts[0].lower()
        for parts in folders
    )


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
                    f"{path}, line {number}: {line.strip()!r} names no class. Expected an image and its classes, "
                    "e.g. 'banded/banded_0002.jpg banded striped'."
                )
            joint[words[0]] = tuple(words[1:])
    return joint
