"""An append-only file of arrays, batch by batch, a checksum behind each.

What an interruption left behind the last checkpoint is cut off, so the file always holds what its offsets say.
Arrays of whole numbers are written in the smallest type that holds them.
"""

import io
import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netdissect import checksums
from netdissect.errors import ResultError

Arrays = tuple[npt.NDArray[Any], ...]


class BatchFile:
    """An append-only file of arrays, batch by batch.

    Parameters
    ----------
    path
        The file; made when the first batch is appended.

    Attributes
    ----------
    offsets
        Where each batch begins, and where the last ends, in bytes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offsets = [0]

    def append(self, arrays: Sequence[npt.NDArray[Any]]) -> None:
        """Write one batch of arrays of whole numbers, none below 0.

        Raises
        ------
        ResultError
            If the disk is full or cannot be written.
        """
        content = io.BytesIO()
        for array in arrays:
            np.save(content, array.astype(np.min_scalar_type(int(array.max(initial=0)))), allow_pickle=False)
        try:
            with self.path.open("ab" if self.offsets[-1] else "wb") as file:
                file.writelines([content.getbuffer(), checksums.seal([content.getbuffer()])])
        except OSError as error:
            raise ResultError(
                f"{self.path} cannot be written ({error}). What was finished is kept: free space and run the same "
                "command again."
            ) from error
        self.offsets.append(self.offsets[-1] + content.tell() + checksums.BYTES)

    def __iter__(self) -> Iterator[Arrays]:
        """Read the batches back, in order.

        Raises
        ------
        ResultError
            If the file was cut short or changed.
        """
        if len(self.offsets) == 1:
            return
        try:
            with self.path.open("rb") as file:
                for start, stop in pairwise(self.offsets):
                    batch = checksums.opened(file.read(stop - start))
                    content, arrays = io.BytesIO(batch), []
                    while content.tell() < len(batch):
                        arrays.append(np.load(content, allow_pickle=False))
                    yield tuple(arrays)
        except (OSError, ValueError, EOFError) as error:
            raise ResultError(
                f"{self.path} is damaged ({error}). Remove the run folder's 'work' folder, and run again: the pass "
                "begins anew."
            ) from error

    def cut(self, offsets: Sequence[int]) -> None:
        """Go on after the batches of an earlier session.

        Raises
        ------
        ResultError
            If the file is shorter than it was.
        """
        self.offsets = list(offsets)
        if self.offsets[-1] > 0 and (not self.path.is_file() or self.path.stat().st_size < self.offsets[-1]):
            raise ResultError(
                f"{self.path} should hold {self.offsets[-1]} bytes but was cut short or removed. Remove the run "
                "folder's 'work' folder, and run again: the pass begins anew."
            )
        with self.path.open("ab") as file:
            file.truncate(self.offsets[-1])

    def sync(self) -> None:
        """Bring the file to the disk, so that a recorded offset outlives a crash."""
        if self.offsets[-1]:
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
