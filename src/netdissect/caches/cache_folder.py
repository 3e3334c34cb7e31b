"""Files of the cache folder: their kinds, names, bounds and removal.

    path = LABELS.path(folder, inputs)      named by the digest of what makes it
    part = new_part(path)                   written here, then renamed: complete or absent
    make_room(LABELS, folder)               the least recently used files are deleted

Any file may be deleted at any time: what it held is read and computed again.
"""

import hashlib
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Literal, NamedTuple

from netdissect.paths import check_regular

DAY = 24 * 60 * 60.0
PART = ".part"
KindName = Literal["labels", "images", "digests", "graphs", "embeddings", "loops"]
OTHER_FOLDER = (
    "Name a cache folder of your own (--cache-folder, in Python Execution.cache_folder), or run without one "
    "(--cache-folder none)."
)


@dataclass(frozen=True)
class CacheKind:
    """One kind of cached file.

    Attributes
    ----------
    name
        As ``netdissect cache clear --kind`` takes it.
    title
        What its files hold.
    pattern
        Their names below the cache folder; the star is the digest.
    max_bytes, max_files
        Of all files together. The least recently used are deleted.
    """

    name: KindName
    title: str
    pattern: str
    max_bytes: int
    max_files: int

    def path(self, folder: Path, inputs: tuple[object, ...]) -> Path:
        """Return the file that is made from these inputs, by the digest of how they are written."""
        return folder / self.pattern.replace("*", hashlib.sha256(repr(inputs).encode()).hexdigest()[:32])

    def files(self, folder: Path) -> Iterator["CachedFile"]:
        """Yield the finished files of this kind, in no order."""
        for path in folder.glob(self.pattern):
            with suppress(OSError):  # removed meanwhile
                facts = path.stat()
                if path.suffix != PART and path.is_file():
                    yield CachedFile(self, path, facts.st_size, facts.st_mtime)


class CachedFile(NamedTuple):
    """A file of the cache: kind, path, bytes, and when it was last used (seconds since 1970)."""

    kind: CacheKind
    path: Path
    bytes: int
    last_used: float


LABELS = CacheKind("labels", "label maps, packed", "labels-*.zip", 4 * 2**30, 10_000)
IMAGES = CacheKind("images", "decoded, resized images", "images-*.bin", 10 * 10**9, 10_000)
DIGESTS = CacheKind("digests", "digests of the files of data sets", "digests-*.txt", 2**20, 100)
GRAPHS = CacheKind("graphs", "networks exported for ONNX Runtime and OpenVINO", "graph-*.onnx", 4 * 2**30, 10_000)
EMBEDDINGS = CacheKind("embeddings", "embeddings of images", "embeddings-*.npy", 4 * 2**30, 10_000)
KINDS = (LABELS, IMAGES, DIGESTS, GRAPHS, EMBEDDINGS)


def is_readable(path: Path, instead: str) -> bool:
    """Return whether a cached file exists; warn if this user cannot read it, and say what is done `instead`."""
    try:
        check_regular(path)
        with path.open("rb"):
            return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        warnings.warn(f"{path} cannot be read ({error.strerror}): {instead}. {OTHER_FOLDER}", stacklevel=3)
        return False


def mark_used(path: Path) -> None:
    """Note that a file was used just now."""
    with suppress(OSError):  # in a folder that is read-only for this user
        os.utime(path)


def new_part(path: Path) -> Path:
    """Make an empty file beside a path, to be written and renamed to it.

    Raises
    ------
    OSError
        If the folder cannot be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=path.stem, suffix=PART, delete=False) as file:
        return Path(file.name)


def make_room(kind: CacheKind, folder: Path, needed: int = 0) -> None:
    """Delete the least recently used files of a kind until the rest and `needed` more bytes are within its bounds.

    What processes that were killed left half written is deleted, too, once it is a day old.

    Raises
    ------
    OSError
        If a file cannot be deleted.
    """
    used = needed
    for number, file in enumerate(sorted(kind.files(folder), key=lambda file: file.last_used, reverse=True), 1):
        used += file.bytes
        if used > kind.max_bytes or number > kind.max_files:
            file.path.unlink(missing_ok=True)
    for leftover in folder.glob(kind.pattern.rpartition("*")[0] + f"*{PART}"):
        with suppress(FileNotFoundError):
            if leftover.stat().st_mtime < time.time() - DAY:
                leftover.unlink()
