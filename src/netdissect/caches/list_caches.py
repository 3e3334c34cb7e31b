"""What lies in the cache folder: kind, data set, size and last use; and its removal.

Compiled loops are listed with it, wherever Numba keeps them.
"""

import hashlib
import zipfile
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from netdissect.caches.cache_folder import KINDS, LABELS, KindName, make_room
from netdissect.caches.cache_note import CacheNote

LOOPS: KindName = "loops"
LOOPS_TITLE = "compiled loops"
NOTE_BYTES = 4096
PACKAGE = Path(__file__).parents[1]


class CacheEntry(BaseModel):
    """A file of the cache, or all compiled loops in one place.

    Attributes
    ----------
    kind, title
        What it is.
    path
        The file, or the folder above all files.
    files, bytes
        How many, and their size.
    last_used
        Time in UTC.
    data, images, detail
        Data set, number of its images, and what else the file says of itself.
    """

    model_config = ConfigDict(frozen=True)

    kind: KindName
    title: str
    path: Path
    files: int
    bytes: int
    last_used: datetime
    data: str | None = None
    images: int | None = None
    detail: str | None = None


class CacheList(BaseModel):
    """What ``netdissect cache list --json`` prints, and ``cache clear --json`` of what it removed.

    Attributes
    ----------
    folder
        The cache folder.
    bytes
        Of all entries.
    entries
        By kind, the last used first.
    """

    model_config = ConfigDict(frozen=True)

    folder: Path
    bytes: int
    entries: tuple[CacheEntry, ...]


def list_caches(folder: Path, loop_folders: Sequence[Path] = ()) -> CacheList:
    """List what a cache folder holds.

    Parameters
    ----------
    folder
        The cache folder, which may be missing.
    loop_folders
        Folders in which Numba keeps compiled loops where it may not write beside the package.
    """
    entries = [
        CacheEntry(
            kind=kind.name, title=kind.title, path=file.path, files=1, bytes=file.bytes,
            last_used=datetime.fromtimestamp(file.last_used, UTC), **_note(file.path, kind.name).model_dump(),
        )
        for kind in KINDS
        for file in sorted(kind.files(folder), key=lambda file: file.last_used, reverse=True)
    ]  # fmt: skip
    for place, files in _loops(loop_folders).items():
        facts = [file.stat() for file in files]
        used = max(max(each.st_atime, each.st_mtime) for each in facts)
        entries.append(
            CacheEntry(
                kind=LOOPS, title=LOOPS_TITLE, path=place, files=len(files),
                bytes=sum(each.st_size for each in facts), last_used=datetime.fromtimestamp(used, UTC),
            )
        )  # fmt: skip
    return CacheList(folder=folder, bytes=sum(entry.bytes for entry in entries), entries=tuple(entries))


def clear_caches(folder: Path, kinds: Collection[KindName], loop_folders: Sequence[Path] = ()) -> CacheList:
    """Delete what a cache folder holds of some kinds, and return what it was.

    Raises
    ------
    OSError
        If a file cannot be deleted.
    """
    listed = list_caches(folder, loop_folders)
    entries = tuple(entry for entry in listed.entries if entry.kind in kinds)
    loops = _loops(loop_folders)
    for entry in entries:
        for path in loops.get(entry.path, []) if entry.kind == LOOPS else [entry.path]:
            path.unlink(missing_ok=True)
    for kind in KINDS:
        if kind.name in kinds:
            make_room(kind, folder)  # also what was left half written
    return CacheList(folder=folder, bytes=sum(entry.bytes for entry in entries), entries=entries)


def _loops(loop_folders: Sequence[Path]) -> dict[Path, list[Path]]:
    """Return the files of compiled loops below the package, and in each of the other folders, if there are any."""
    found: dict[Path, list[Path]] = {place: [] for place in (PACKAGE, *loop_folders)}
    for package in (PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir() and path.name != "__pycache__")):
        found[PACKAGE] += (package / "__pycache__").glob("*.nb[ci]")
        # Numba's name for the loops of a folder's modules.
        name = f"{package.name}_{hashlib.sha1(str(package).encode(), usedforsecurity=False).hexdigest()}"
        for folder in loop_folders:
            found[folder] += (folder / name).glob("*.nb[ci]")
    return {place: files for place, files in found.items() if files}


def _note(path: Path, kind: str) -> CacheNote:
    """Return what a file says of itself; nothing if it is damaged."""
    read: Callable[[Path], bytes] = _comment if kind == LABELS.name else _second_line
    with suppress(OSError, zipfile.BadZipFile, ValueError):
        return CacheNote.read(read(path))
    return CacheNote()


def _comment(path: Path) -> bytes:
    with zipfile.ZipFile(path) as file:
        return file.comment


def _second_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return b"".join(file.read(NOTE_BYTES).split(b"\n")[1:2])
