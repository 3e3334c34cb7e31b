"""The largest values of each unit in a memory-mapped file, for layers whose values do not fit in memory.

StreamingTopK(file=...) -> MemmapTopK.values, released a few units at a time -> save, restore
"""

import glob
import mmap
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from netdissect import checksums
from netdissect.errors import ResultError
from netdissect.paths import writing

MAPPED_BYTES = 128 * 2**20  # of a file of values, in memory at a time

DISK_FULL_REMEDY = (
    "What was finished is kept: free space, or allow more memory for the largest values (Execution.memory_mb), and run "
    "the same command again."
)


class MemmapTopK:
    """Values of all units in a memory-mapped file.

    Parameters
    ----------
    file
        Created or overwritten.
    shape
        Number of units, and of values of each.

    Attributes
    ----------
    values
        float32, mapped from the file.
    """

    def __init__(self, file: Path, shape: tuple[int, int]) -> None:
        self._path = file
        with writing(file, DISK_FULL_REMEDY):
            _allocate(file, 4 * shape[0] * shape[1])
            self.values = np.memmap(file, np.float32, "r+", shape=shape)

    @property
    def units_at_once(self) -> int:
        """Number of units that may be used before `release`."""
        return max(1, MAPPED_BYTES // (4 * int(self.values.shape[1])))

    def release(self) -> None:
        """Release the mapped memory; the file keeps the values."""
        self.values._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]

    def save(self, seen: int) -> int:
        """Copy the file, named by the number of values seen; the previous copy is kept until the next one.

        Returns
        -------
        int
            CRC-32 of the copy.

        Raises
        ------
        ResultError
            If the disk is full or cannot be written.
        """
        copy = self._copy(seen)
        with writing(copy, DISK_FULL_REMEDY):
            shutil.copyfile(self._path, copy)
            with copy.open("rb") as written:
                os.fsync(written.fileno())
                check = checksums.file_crc(written)
        copies = sorted(
            self._path.parent.glob(f"{glob.escape(self._path.name)}.*"), key=lambda path: int(path.suffix[1:])
        )
        for old in copies[:-2]:
            old.unlink()
        return check

    def restore(self, seen: int, check: int) -> "np.memmap[Any, np.dtype[np.float32]]":
        """Continue from a copy.

        Parameters
        ----------
        seen, check
            Number of values seen, and the return value of `save`.

        Raises
        ------
        ResultError
            If the copy is damaged or cannot be read.
        """
        copy = self._copy(seen)
        try:
            with copy.open("rb") as file:
                intact = copy.stat().st_size == self.values.nbytes and checksums.file_crc(file) == check
            if not intact:
                raise ResultError(
                    f"{copy} is damaged: it is not the {self.values.nbytes} bytes of largest values that were written. "
                    "Remove the run folder's 'work' folder, and run again: the pass begins anew."
                )
            with copy.open("rb") as file:
                for unit_values in self.values:
                    unit_values[:] = np.frombuffer(file.read(unit_values.nbytes), np.float32)
                    self.release()
        except OSError as error:
            raise ResultError(
                f"{copy} is missing or cannot be read ({error}). Remove the run folder's 'work' folder, and run again: "
                "the pass begins anew."
            ) from error
        return self.values

    def _copy(self, seen: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{seen}")


def _allocate(file: Path, size: int) -> None:
    """Create a file of zeros with all its disk blocks allocated.

    A full disk is an error here. Later, at a mapped page without a block, a signal would end the process.
    """
    with file.open("wb") as output:
        if hasattr(os, "posix_fallocate") and size:
            os.posix_fallocate(output.fileno(), 0, size)
            return
        zeros = bytes(min(size, 1 << 20))
        for start in range(0, size, len(zeros) or 1):
            output.write(zeros[: size - start])
