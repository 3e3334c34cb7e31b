"""Append-only files of checksummed records: batches of arrays, masks of images, activations.

    append -> append -> append -> sync, and the offsets into a checkpoint       after a kill: truncate -> append

Each record ends with a CRC-32, so a flipped bit is detected when it is read. After an interruption the file is
truncated to the offsets of the last checkpoint. Records are read one at a time, in any order.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, takewhile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netdissect import checksums
from netdissect.errors import ResultError
from netdissect.paths import writing

Arrays = tuple[npt.NDArray[Any], ...]

SHAPE = np.dtype("<u8")


class AppendOnlyFile:
    """An append-only file of records of bytes.

    Parameters
    ----------
    path
        The file; created when the first record is written.
    offsets
        Of the records that it holds already; see the attribute.

    Attributes
    ----------
    offsets
        Start of each record, and the end of the last, in bytes.
    """

    remedy = "Remove the run folder's 'work' folder, and run again: the pass begins anew."
    """What to do about a damaged file."""
    disk_full_remedy = ""
    """What else to do about a full disk."""

    def __init__(self, path: Path, offsets: Sequence[int] = (0,)) -> None:
        self.path = path
        self.offsets = list(offsets)

    @property
    def records(self) -> int:
        """Number of records."""
        return len(self.offsets) - 1

    def write(self, parts: Sequence[Any]) -> None:
        """Write one record: the concatenated buffers.

        Raises
        ------
        ResultError
            If the disk is full or cannot be written.
        """
        remedy = f"What was finished is kept: free space and run the same command again{self.disk_full_remedy}."
        with writing(self.path, remedy), self.path.open("ab" if self.offsets[-1] else "wb") as file:
            file.writelines([*parts, checksums.checksum(parts)])
            end = file.tell()
        self.offsets.append(end)

    def record(self, index: int) -> bytes:
        """Return the bytes of a record.

        Raises
        ------
        ResultError
            If the record is missing or fails its checksum.
        """
        start, stop = self.offsets[index : index + 2]
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                return checksums.strip_checksum(file.read(stop - start))
        except (OSError, ValueError) as error:
            raise self._damaged(index, error) from error

    def truncate(self, offsets: Sequence[int]) -> None:
        """Continue after the records of an earlier session.

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

    def resume(self, sizes: Iterable[int]) -> None:
        """Continue after the whole records of an interrupted session, whose sizes in bytes are known.

        Raises
        ------
        ResultError
            If the file cannot be read or written.
        """
        with writing(self.path, "Make it writable, or remove it."):
            length = self.path.stat().st_size if self.path.is_file() else 0
            ends = accumulate((size + checksums.BYTES for size in sizes), initial=0)
            self.truncate(list(takewhile(lambda end: end <= length, ends)))

    def sync(self) -> None:
        """Flush the file to the disk, so that saved offsets survive a crash."""
        if self.records:
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def _damaged(self, index: int, error: Exception) -> ResultError:
        return ResultError(
            f"{self.path} is damaged: its record {index} is not what was written ({error}). {self.remedy}"
        )


class AppendOnlyArrayFile(AppendOnlyFile):
    """An append-only file of arrays of non-negative integers, each written in the smallest type that holds it.

    Parameters
    ----------
    path, offsets
        As for `AppendOnlyFile`.
    """

    def append(self, arrays: Sequence[npt.NDArray[Any]]) -> None:
        """Write one record of arrays of non-negative integers.

        Raises
        ------
        ResultError
            If the disk is full or cannot be written.
        """
        self.write([part for array in arrays for part in _packed(array)])

    def read(self, index: int) -> Arrays:
        """Return the arrays of a record.

        Raises
        ------
        ResultError
            If the record is missing or damaged.
        """
        content, arrays, start = self.record(index), [], 0
        try:
            while start < len(content):
                array, start = _unpacked(content, start)
                arrays.append(array)
        except (ValueError, TypeError, IndexError) as error:
            raise self._damaged(index, error) from error
        return tuple(arrays)

    def __iter__(self) -> Iterator[Arrays]:
        """Read all records, in order."""
        return map(self.read, range(self.records))


def _packed(array: npt.NDArray[Any]) -> tuple[bytes, bytes]:
    """Return an array of non-negative integers as bytes: item size, dimensions, shape; and the integers."""
    smallest = np.min_scalar_type(int(array.max(initial=0))).newbyteorder("<")
    header = bytes([smallest.itemsize, array.ndim]) + np.array(array.shape, SHAPE).tobytes()
    return header, array.astype(smallest).tobytes()


def _unpacked(content: bytes, start: int) -> tuple[npt.NDArray[Any], int]:
    """Return the array that begins at a byte, and where it ends."""
    item_size, dimensions = content[start], content[start + 1]
    start += 2
    shape = np.frombuffer(content, SHAPE, dimensions, start).tolist()
    start += dimensions * SHAPE.itemsize
    count = prod(shape)
    array = np.frombuffer(content, f"<u{item_size}", count, start).reshape(shape)
    return array.astype(array.dtype.newbyteorder("=")), start + count * item_size
