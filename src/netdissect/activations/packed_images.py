"""Decoded images of one data set in one file of the cache, each of them present or absent.

    magic, note (JSON)     4,096 bytes
    entries                8 bytes an image: 0 if it is absent, else 2^32 + its checksum
    pixels                 uint8 (N, H, W, C), at a multiple of 4,096 bytes

Images are written as they are decoded, in any order and by any number of processes, and mapped into memory when they
are read. The checksum shows a half-written or damaged image, which counts as absent. What the file must be like follows
from the data set and the network: nothing that it says of itself is believed.
"""

import os
import shutil
import threading
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.caches.cache_folder import IMAGES, OTHER_FOLDER, make_room, new_part
from netdissect.caches.cache_note import CacheNote

Pixels = npt.NDArray[np.uint8]
Entries = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

MAGIC = b"netdissect packed images 1\n"
PAGE = 4096
PRESENT = 1 << 32
SHARE_OF_DISK = 0.9
"""No file is begun that would need more of the free space: the run's own files need some, too."""


class Kept(NamedTuple):
    """Images of a read: uint8 (B, H, W, C), and which of them the file holds whole, bool (B,)."""

    images: Pixels
    whole: Bools


@dataclass(frozen=True)
class PackedImages:
    """The file of the images of one data set for one format of input.

    Attributes
    ----------
    path
        Where it lies, or will lie once an image is written.
    shape
        Number of images, height, width and channels.
    note
        What lists of the cache show.
    """

    path: Path
    shape: tuple[int, int, int, int]
    note: CacheNote
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    _said: set[str] = field(default_factory=set, repr=False, compare=False)

    @property
    def refused(self) -> bool:
        """Whether the disk refused an image, after which none is written."""
        return "written" in self._said

    @property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return int(np.prod(self.shape[1:]))

    @property
    def bytes(self) -> int:
        """Bytes of the whole file."""
        return self._pixels_begin + self.shape[0] * self.image_bytes

    @property
    def _pixels_begin(self) -> int:
        return PAGE + -(-8 * self.shape[0] // PAGE) * PAGE

    def count(self) -> int:
        """Return how many images the file holds."""
        try:
            with self.path.open("rb") as file:
                return int(np.count_nonzero(self._entries(file, 0, self.shape[0]))) if self._is_own(file) else 0
        except OSError:
            return 0

    def remove_foreign(self) -> None:
        """Delete a file of this name that is damaged as a whole, and say so."""
        with self.path.open("rb") as file:
            if self._is_own(file):
                return
        self._say("its beginning or its size is another", "it is deleted, and images are decoded again")
        self.path.unlink(missing_ok=True)

    def read(self, rows: Sequence[int]) -> Kept | None:
        """Map images into memory; those of neighboring rows are not copied.

        The pixels may be written to, which does not change the file.

        Returns
        -------
        Kept or None
            None: the file holds none of them.
        """
        first, stop = min(rows), max(rows) + 1
        index = np.asarray(rows) - first
        try:
            with self.path.open("rb") as file:
                if not self._is_own(file):
                    return None
                entries = self._entries(file, first, stop)[index]
                if not entries.any():
                    return None
                begin = self._pixels_begin + first * self.image_bytes
                mapped = np.memmap(file, np.uint8, "c", begin, (stop - first, *self.shape[1:]))
        except OSError:
            return None
        images = np.asarray(mapped) if np.array_equal(index, np.arange(stop - first)) else np.asarray(mapped[index])
        whole = [
            entry != 0 and entry == _entry(row, image) for row, entry, image in zip(rows, entries, images, strict=True)
        ]
        damaged = np.count_nonzero(entries) - sum(whole)
        if damaged:
            self._say(f"the checksum of {damaged} of {len(rows)} images is another", "such images are decoded again")
        return Kept(images, np.array(whole, bool))

    def write(self, rows: Sequence[int], images: Pixels) -> None:
        """Write decoded images, uint8 (B, H, W, C); if the disk refuses, say so once, and write no more."""
        if self.refused:
            return
        try:
            with self._lock:
                if not self.path.exists():
                    self._create()
            with self.path.open("r+b") as file:
                if not self._is_own(file):
                    return
                for row, image in zip(rows, images, strict=True):
                    file.seek(self._pixels_begin + row * self.image_bytes)
                    file.write(np.ascontiguousarray(image).data)
                    file.seek(PAGE + 8 * row)
                    file.write(_entry(row, image).to_bytes(8, "little"))
        except OSError as error:
            self._warn("written", f"{self.path} cannot be written ({error.strerror}): images are not cached for the "
                                  f"next run. {OTHER_FOLDER}")  # fmt: skip

    def _create(self) -> None:
        """Make the file without images, unless another process is faster.

        Raises
        ------
        OSError
            If there is no room for it.
        """
        if self.bytes > IMAGES.max_bytes:
            raise OSError(0, f"it takes {_gb(self.bytes)}, more than the {_gb(IMAGES.max_bytes)} of all packed images")
        part = new_part(self.path)
        try:
            make_room(IMAGES, self.path.parent, self.bytes)
            free = shutil.disk_usage(part).free
            if self.bytes > SHARE_OF_DISK * free:
                raise OSError(0, f"it takes {_gb(self.bytes)}, and {_gb(free)} of the disk are free")
            with part.open("r+b") as file:
                file.write(MAGIC + self.note.written() + b"\n")
                file.truncate(self.bytes)  # the rest takes no space until it is written
            try:
                self.path.hardlink_to(part)
            except FileExistsError:
                pass
            except OSError:  # a file system without links
                part.replace(self.path)
        finally:
            part.unlink(missing_ok=True)

    def _is_own(self, file: BinaryIO) -> bool:
        return os.fstat(file.fileno()).st_size == self.bytes and file.read(len(MAGIC)) == MAGIC

    def _entries(self, file: BinaryIO, first: int, stop: int) -> Entries:
        file.seek(PAGE + 8 * first)
        return np.frombuffer(file.read(8 * (stop - first)), "<u8")

    def _say(self, reason: str, consequence: str) -> None:
        self._warn("damaged", f"{self.path} is damaged ({reason}): {consequence}.")

    def _warn(self, kind: str, text: str) -> None:
        """Warn once of a kind, also if several threads find it."""
        with self._lock:
            known = kind in self._said
            self._said.add(kind)
        if not known:
            warnings.warn(text, stacklevel=4)


def _entry(row: int, image: Pixels) -> int:
    """Return the entry of an image that is present; images that changed places do not have each other's."""
    return PRESENT + zlib.crc32(np.ascontiguousarray(image).data, row)


def _gb(count: int) -> str:
    return f"{count / 1e9:.3g} GB"
