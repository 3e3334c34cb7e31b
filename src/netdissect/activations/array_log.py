"""Append-only files of checksummed records: batches of arrays, masks of images, activations.

    append -> append -> append -> sync, and the offsets into a checkpoint       after a kill: truncate -> append

Every record ends with a CRC-32, so a flipped bit is found when it is read. What an interruption left behind the last
checkpoint is cut off, so a file always holds what its offsets say. Records are read in any order, one at a time.
"""

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netdissect import checksums
from netdissect.errors import ResultError
from netdissect.paths import writing

Arrays = tuple[npt.NDArray[Any], ...]


class AppendOnlyFile:
    """An append-only file of records of bytes.

    Parameters
    ----------
    path
        The file; made when the first record is written. Empty until then, or until `truncate`.

    Attributes
    ----------
    offsets
        Where each record begins, and where the last ends, in bytes.
    """

    remedy = "Remove the run folder's 'work' folder, and run again: the pass begins anew."
    """What to do about a damaged file."""
    disk_full_remedy = ""
    """What else to do about a full disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offsets = [0]

    @property
    def records(self) -> int:
        """How many records there are."""
        return len(self.offsets) - 1

    def write(self, parts: Sequence[Any]) -> None:
        """Write one record: buffers, one after the other.

        Raises
        ------
        ResultError
            If the disk is full or cannot be written.
        """
        remedy = f"What was finished is kept: free space and run the same command again{self.disk_full_remedy}."
        with writing(self.path, remedy), self.path.open("ab" if self.offsets[-1] else "wb") as file:
            file.writelines([*parts, checksums.seal(parts)])
            end = file.tell()
        self.offsets.append(end)

    def record(self, number: int) -> bytes:
        """Return what was written as record `number`.

        Raises
        ------
        ResultError
            If it is not what was written.
        """
        start, stop = self.offsets[number : number + 2]
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                return checksums.opened(file.read(stop - start))
        except (OSError, ValueError) as error:
            raise self._damaged(number, error) from error

    def truncate(self, offsets: Sequence[int]) -> None:
        """Go on after the records of an earlier session.

        Raises
        ------
        ResultError
            If the file is shorter than it was.
        """
        self.offsets = list(offsets)
        if self.offsets[-1] > 0 and (not self.path.is_file() or self.path.stat().st_size < self.offsets[-1]):
            raise ResultError(
                f"{self.path} should hold {self.offsets[-1]} bytes but was cut short or removed. {self.remedy}"
            )
        with self.path.open("ab") as file:
            file.truncate(self.offsets[-1])

    def sync(self) -> None:
        """Bring the file to the disk, so that recorded offsets outlive a crash."""
        if self.records:
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def _damaged(self, number: int, error: Exception) -> ResultError:
        return ResultError(
            f"{self.path} is damaged: its record {number} is not what was written ({error}). {self.remedy}"
        )


class AppendOnlyArrayFile(AppendOnlyFile):
    """An append-only file of arrays of whole numbers, each written in the smallest type that holds it.

    Parameters
    ----------
    path
        As for `AppendOnlyFile`.
    """

    def append(self, arrays: Sequence[npt.NDArray[Any]]) -> None:
        """Write one record of arrays, none of whose numbers is below 0.

        Raises
        ------
        ResultError
            If the disk is full or cannot be written.
        """
        content = io.BytesIO()
        for array in arrays:
            np.save(content, array.astype(np.min_scalar_type(int(array.max(initial=0)))), allow_pickle=False)
        self.write([content.getbuffer()])

    def read(self, number: int) -> Arrays:
        """Return the arrays of record `number`.

        Raises
        ------
        ResultError
            If the file was cut short or changed.
        """
        content, arrays = io.BytesIO(self.record(number)), []
        try:
            while content.tell() < len(content.getbuffer()):
                arrays.append(np.load(content, allow_pickle=False))
        except (ValueError, EOFError) as error:
            raise self._damaged(number, error) from error
        return tuple(arrays)

    def __iter__(self) -> Iterator[Arrays]:
        """Read all records back, in order."""
        return map(self.read, range(self.records))
