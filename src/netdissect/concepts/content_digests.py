"""What the files of a data set hold, as one digest: read once, and remembered as long as no file was touched.

    stamp     names, sizes and times            a look at each file, some microseconds
    contents  SHA-256 of what the files hold    every byte is read

Sizes and times of modification alone do not tell: rsync, tar and `cp -p` keep them. The time at which a file was last
changed in any way (ctime) cannot be set: as long as it, the inode, size and time of modification stay the same, so does
what a file holds. Windows has no such time: a change that keeps the others is found by `netdissect verify --data` only.
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

from netdissect.config import Progress

CHUNK = 200  # files that a thread takes at once
THREADS = 4
PIECE = 2**20  # bytes read at once
SETTLED = 3 * 10**9  # ns: two changes that are farther apart have different times on all file systems
KEPT = 100  # remembered digests
READING = "reading files"
"""The stage that is reported."""
PATIENCE = 2.0  # seconds that need no report


@dataclass(frozen=True)
class ContentDigests:
    """Files below a folder, told apart by what they hold.

    Attributes
    ----------
    root
        The folder.
    names
        Of the files below it, in a fixed order.
    cache
        Folder in which digests are remembered from process to process. None: they are not.
    """

    root: Path
    names: Sequence[str]
    cache: Path | None = None
    _known: dict[str, str] = field(default_factory=dict)

    def stamp(self) -> str:
        """Return a digest of sizes and times of modification: another one, and a file was written."""
        return self._stat_files()[0]

    def digest(self, progress: Progress | None = None) -> str:
        """Return the SHA-256 of what all files hold; a file that is missing or unreadable counts as such.

        Parameters
        ----------
        progress
            Called with the number of files read and in all, if reading them takes seconds.
        """
        _, touched, last = self._stat_files()
        # A file that was written just now may be written again within the same tick of the clock.
        settled = time.time_ns() - last > SETTLED
        found = self.recall(touched)
        if found is None:
            found = self.read(progress)
            if settled and self._stat_files()[1] == touched:
                self._remember(touched, found)
        return found

    def read(self, progress: Progress | None = None) -> str:
        """Do the same, and read every file, whatever is remembered."""
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
        """Return the digest that was remembered for a stamp; None: nothing, or nothing that can be trusted."""
        if stamp not in self._known and self.cache is not None:
            with suppress(OSError, ValueError):
                found, seal = (self.cache / "contents" / stamp).read_text(encoding="ascii").split()
                if seal == _seal(stamp, found):
                    self._known[stamp] = found
        return self._known.get(stamp)

    def _remember(self, stamp: str, digest: str) -> None:
        self._known[stamp] = digest
        if self.cache is None:
            return
        folder = self.cache / "contents"
        part = folder / f"{stamp}.{os.getpid()}.part"
        with suppress(OSError):  # a full or read-only disk: the files are read again next time
            folder.mkdir(parents=True, exist_ok=True)
            try:
                part.write_text(f"{digest} {_seal(stamp, digest)}\n", encoding="ascii")
                part.replace(folder / stamp)
            finally:
                part.unlink(missing_ok=True)
            for old in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT]:
                old.unlink()

    def _stat_files(self) -> tuple[str, str, int]:
        """Return the stamp, one that also knows times of change and inodes, and when a file was touched last (ns)."""
        written, touched, last = hashlib.sha256(), hashlib.sha256(str(self.root.resolve()).encode()), 0
        for name in self.names:
            try:
                facts = os.stat(f"{self.root}/{name}")  # noqa: PTH116 - a Path takes longer than the answer
            except OSError:
                text = more = "missing"
            else:
                text, more = f"{facts.st_size} {facts.st_mtime_ns}", f"{facts.st_ino} {facts.st_ctime_ns}"
                last = max(last, facts.st_ctime_ns, facts.st_mtime_ns)
            written.update(f"{name}\n{text}\n".encode())
            touched.update(f"{name}\n{text}\n{more}\n".encode())
        return written.hexdigest(), touched.hexdigest(), last

    def _read_chunk(self, names: Sequence[str]) -> bytes:
        return b"".join(_digest_of(f"{self.root}/{name}") for name in names)


def _digest_of(path: str) -> bytes:
    """Return the SHA-256 of one file; zeros if it is no file that can be read, which using it will tell."""
    digest = hashlib.sha256()
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - a pipe would wait for somebody to write
            return bytes(digest.digest_size)
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a Path takes longer
            while piece := file.read(PIECE):
                digest.update(piece)
    except OSError:
        return bytes(digest.digest_size)
    return digest.digest()


def _seal(stamp: str, digest: str) -> str:
    """Return what a flipped bit in a remembered digest would not agree with."""
    return hashlib.sha256(f"{stamp} {digest}".encode()).hexdigest()[:16]
