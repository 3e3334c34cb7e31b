"""One digest of the contents of a data set's files, cached until a file changes.

    stamp     names, sizes and times          one stat call a file, some microseconds
    contents  SHA-256 of the file contents    reads every byte

Size and modification time are not enough: rsync, tar and ``cp -p`` keep them. The change time (ctime) cannot be set by
a program. If ctime, inode, size and modification time are unchanged, the content is taken as unchanged. Windows has no
ctime; there only `netdissect verify --data` finds a change that keeps size and modification time.
"""

import hashlib
import os
import stat
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from netdissect.caches.cache_folder import DIGESTS, make_room, mark_used, new_part
from netdissect.config import Progress

CHUNK = 200  # files in one task of a thread
THREADS = 4
PIECE = 2**20  # bytes read at once
SETTLED = 3 * 10**9  # ns: changes that are farther apart have different times on all file systems
READING = "reading files"
"""Name of the stage in progress reports."""
PATIENCE = 2.0  # seconds before progress is reported


@dataclass(frozen=True)
class ContentDigests:
    """Digests of the contents of files below a folder.

    Attributes
    ----------
    root
        The folder.
    names
        Paths of the files below it, in a fixed order.
    cache
        Folder in which digests are kept between processes. None: no cache.
    """

    root: Path
    names: Sequence[str]
    cache: Path | None = None
    _known: dict[str, str] = field(default_factory=dict)

    def stamp(self) -> str:
        """Return a digest of sizes and modification times; it changes when a file is written."""
        return self._stat_files()[0]

    def digest(self, progress: Progress | None = None) -> str:
        """Return the SHA-256 of the contents of all files; missing and unreadable files count as such.

        Parameters
        ----------
        progress
            Called with the number of files read and in all, if reading takes seconds.
        """
        _, change_stamp, last = self._stat_files()
        # A file that was written just now may be written again within the same tick of the clock.
        settled = time.time_ns() - last > SETTLED
        digest = self.recall(change_stamp)
        if digest is None:
            digest = self.read(progress)
            if settled and self._stat_files()[1] == change_stamp:
                self._remember(change_stamp, digest)
        return digest

    def read(self, progress: Progress | None = None) -> str:
        """Return the same digest without the cache: read every file."""
        digest, begin = hashlib.sha256(), time.monotonic()
        chunks = [self.names[start : start + CHUNK] for start in range(0, len(self.names), CHUNK)]
        with ThreadPoolExecutor(THREADS, thread_name_prefix="netdissect-read") as pool:
            try:
                for done, part in enumerate(pool.map(self._read_chunk, chunks), 1):
                    digest.update(part)
                    if progress and time.monotonic() - begin >= PATIENCE:
                        progress(READING, min(done * CHUNK, len(self.names)), len(self.names))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return digest.hexdigest()

    def recall(self, stamp: str) -> str | None:
        """Return the cached digest of a stamp; None: there is none, or its checksum is wrong."""
        if stamp not in self._known and self.cache is not None:
            with suppress(OSError, ValueError):
                path = DIGESTS.path(self.cache, (stamp,))
                digest, seal = path.read_text(encoding="utf-8").partition("\n")[0].split()
                if seal == _seal(stamp, digest):
                    self._known[stamp] = digest
                    mark_used(path)
        return self._known.get(stamp)

    def _remember(self, stamp: str, digest: str) -> None:
        self._known[stamp] = digest
        if self.cache is None:
            return
        path = DIGESTS.path(self.cache, (stamp,))
        with suppress(OSError):  # on a full or read-only disk the files are read again next time
            part = new_part(path)
            try:
                from netdissect.caches.cache_note import CacheNote  # needs pydantic, which reading does not

                note = CacheNote(data=str(self.root.parent.resolve()), detail=f"{len(self.names):,} files").written()
                part.write_bytes(f"{digest} {_seal(stamp, digest)}\n".encode() + note)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
            make_room(DIGESTS, self.cache)

    def _stat_files(self) -> tuple[str, str, int]:
        """Return the stamp, a stamp that includes change times and inodes, and the time of the last change (ns)."""
        written, changed, last = hashlib.sha256(), hashlib.sha256(str(self.root.resolve()).encode()), 0
        for name in self.names:
            try:
                facts = os.stat(f"{self.root}/{name}")  # noqa: PTH116 - making a Path takes longer than the call
            except OSError:
                text = more = "missing"
            else:
                text, more = f"{facts.st_size} {facts.st_mtime_ns}", f"{facts.st_ino} {facts.st_ctime_ns}"
                last = max(last, facts.st_ctime_ns, facts.st_mtime_ns)
            written.update(f"{name}\n{text}\n".encode())
            changed.update(f"{name}\n{text}\n{more}\n".encode())
        return written.hexdigest(), changed.hexdigest(), last

    def _read_chunk(self, names: Sequence[str]) -> bytes:
        return b"".join(_digest_of(f"{self.root}/{name}") for name in names)


def _digest_of(path: str) -> bytes:
    """Return the SHA-256 of one file; zeros if it cannot be read, which is reported when the file is used."""
    digest = hashlib.sha256()
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - reading a pipe would block
            return bytes(digest.digest_size)
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - making a Path takes longer
            while piece := file.read(PIECE):
                digest.update(piece)
    except OSError:
        return bytes(digest.digest_size)
    return digest.digest()


def _seal(stamp: str, digest: str) -> str:
    """Return a checksum of a cache entry, which finds flipped bits."""
    return hashlib.sha256(f"{stamp} {digest}".encode()).hexdigest()[:16]
