"""Unpack an archive that may be hostile.

No file is written outside the folder, and no link is made. At most the bytes that the archive's directory states are
written, and their number is checked beforehand.
"""

import errno
import logging
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from netdissect.config import Progress
from netdissect.counted import size_text
from netdissect.errors import ConceptsError
from netdissect.paths import LEADS_OUT

logger = logging.getLogger(__name__)

INFLATION = 50  # largest ratio of unpacked to packed bytes; images have about 1 and tables about 5
SMALL = 64 << 20  # bytes that may come out of any archive, however small
FILES = 2_000_000  # broden1 has about 400,000
ENCRYPTED = 0x1
COPIED = 1 << 20
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, RuntimeError)


class Archive:
    """A zip archive of one data set, whose files may be in one top folder.

    Parameters
    ----------
    path
        The archive.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def unpack(self, folder: Path, progress: Progress | None = None) -> None:
        """Write the archive's files below the new folder `folder`.

        Raises
        ------
        ConceptsError
            If it is incomplete, not an archive, or unsafe.
        OSError
            If the disk lacks room or cannot be written.
        """
        for done, files in self._unpacked(folder):
            if progress:
                progress("files", done, files)

    def _unpacked(self, folder: Path) -> Iterator[tuple[int, int]]:
        """Write file by file, and yield how many are done and how many there are."""
        try:
            with zipfile.ZipFile(self._path) as archive:
                members = self._members(archive)
                total = self._check_size(members)
                self._check_free_space(folder.parent, total, len(members))
                for done, (name, member) in enumerate(members.items(), start=1):
                    self._write(archive, member, folder / name)
                    yield done, len(members)
        except DAMAGED as error:
            raise ConceptsError(self._no_archive(error)) from error

    def _members(self, archive: zipfile.ZipFile) -> dict[PurePosixPath, zipfile.ZipInfo]:
        """Return the files by their path below the data set's folder."""
        found: dict[PurePosixPath, zipfile.ZipInfo] = {}
        seen_names: set[str] = set()
        infos = archive.infolist()
        if len(infos) > FILES:
            raise self._unsafe(f"it lists {len(infos)} files, more than {FILES}")
        for info in infos:
            path = self._checked_path(info)
            if info.is_dir():
                continue
            if path.as_posix().casefold() in seen_names:
                raise self._unsafe(f"it holds {info.filename!r} twice")
            seen_names.add(path.as_posix().casefold())
            found[path] = info
        roots = {path.parts[0] for path in found}
        if len(roots) == 1 and PurePosixPath("index.csv") not in found:
            found = {PurePosixPath(*path.parts[1:]): info for path, info in found.items() if len(path.parts) > 1}
        return found

    def _checked_path(self, info: zipfile.ZipInfo) -> PurePosixPath:
        name = info.orig_filename
        path = PurePosixPath(name)
        # A backslash or colon within a name is harmless on one system and leads out on another.
        if LEADS_OUT.search(name) or "\\" in name or ":" in name or not path.parts:
            raise self._unsafe(f"its member {name!r} would be written outside the folder")
        file_type = stat.S_IFMT(info.external_attr >> 16)
        if file_type not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise self._unsafe(f"its member {name!r} is a link or a device")
        if info.flag_bits & ENCRYPTED:
            raise self._unsafe(f"its member {name!r} is encrypted")
        return path

    def _check_size(self, members: dict[PurePosixPath, zipfile.ZipInfo]) -> int:
        total = sum(info.file_size for info in members.values())
        packed = self._path.stat().st_size
        if total > SMALL + INFLATION * packed:
            raise self._unsafe(f"its {packed} bytes would become {total}, more than {INFLATION} times as many")
        return total

    def _check_free_space(self, disk: Path, total: int, files: int) -> None:
        free = shutil.disk_usage(disk).free
        logger.info("unpacking %d files, %s (%s are free)", files, size_text(total), size_text(free))
        if total > free:
            raise OSError(errno.ENOSPC, f"unpacking takes {size_text(total)}, but {size_text(free)} are free")

    def _write(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as packed, path.open("xb") as file:
            shutil.copyfileobj(packed, file, COPIED)  # zipfile stops at the announced size and checks the sum
            written = file.tell()
        if written != member.file_size:
            raise zipfile.BadZipFile(f"{member.filename} has {written} bytes, not {member.file_size}")

    def _unsafe(self, what: str) -> ConceptsError:
        return ConceptsError(
            f"the archive {self._path} is not safe to unpack: {what}. Expected images and tables below one folder; "
            "do not trust where it came from."
        )

    def _no_archive(self, error: Exception) -> str:
        with self._path.open("rb") as file:
            start = file.read(24)
        return (
            f"{self._path} ({self._path.stat().st_size} bytes, beginning with {start!r}) cannot be unpacked ({error}). "
            "Expected a whole zip archive; download it again or name another mirror."
        )
