"""A finished piece of a run on disk: partial statistics with what made them, and digests by which damage is found.

PIECE/piece.json   what made it and which batches it holds; written last: without it the piece is not finished
PIECE/*.npy        its arrays, read in place
PIECE/*.bin        files that are taken over as they are
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from netdissect.checksums import json_digest
from netdissect.errors import ResultError
from netdissect.paths import check_regular, contained, writing
from netdissect.result import RunInfo
from netdissect.result.files import CHANGED, write_whole

Array = npt.NDArray[Any]
Stage = Literal["first", "thresholds", "second"]

PIECE_FILE = "piece.json"
FULL = "What was finished is kept: free space, or give write access, and run the same command again."


class ShardResultInfo(BaseModel):
    """What ``piece.json`` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    stage: Stage = Field(
        description="first: the largest values and top images of some batches. thresholds: those of all, settled. "
        "second: counts of some batches."
    )
    run: RunInfo = Field(description="What made it: the run it is a piece of.")
    shards: tuple[str, ...] = Field(description="Which shards it holds, such as 3/8.")
    batches: tuple[tuple[int, int], ...] = Field(description="First batch and the one after the last, rising.")
    total: int = Field(description="Batches of the whole run.")
    thresholds: str = Field("", description="SHA-256 of the thresholds that the counts were made with.")
    files: dict[str, str] = Field(description="SHA-256 of each array's file.")
    digest: str = Field("", description="SHA-256 of all of this but this line.")


@dataclass(frozen=True)
class ShardResult(Mapping[str, Array]):
    """A piece, opened: its arrays by name, mapped into memory.

    Attributes
    ----------
    folder
        Where it lies.
    info
        What it is.
    """

    folder: Path
    info: ShardResultInfo

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a piece whose files are what was written.

        Raises
        ------
        ResultError
            If a file is missing, foreign or damaged.
        """
        path = folder / PIECE_FILE
        try:
            content = path.read_bytes()
            info = ShardResultInfo.model_validate_json(content)
        except (OSError, ValidationError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise _damaged(path, folder, reason) from error
        if info.digest != json_digest(json.loads(content)):
            raise _damaged(path, folder, CHANGED)
        for name, digest in info.files.items():
            file_path = contained(folder, name, path, ResultError)
            try:
                check_regular(file_path)
                with file_path.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise _damaged(file_path, folder, str(error)) from error
            if found != digest:
                raise _damaged(file_path, folder, CHANGED)
        return cls(folder, info)

    def __getitem__(self, name: str) -> Array:
        array: Array = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return array

    def __iter__(self) -> Iterator[str]:
        return (name.removesuffix(".npy") for name in self.info.files if name.endswith(".npy"))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def exists(folder: Path) -> bool:
    """Say whether a folder holds a finished piece."""
    return (folder / PIECE_FILE).is_file()


def write_shard_result(
    folder: Path, info: ShardResultInfo, arrays: Mapping[str, Array], files: Mapping[str, Path] | None = None
) -> ShardResult:
    """Write a piece: arrays and copies of `files`, by name. What `info` says of files is filled in.

    Raises
    ------
    ResultError
        If the folder cannot be written.
    """
    digests = {}
    with writing(folder, FULL):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PIECE_FILE).unlink(missing_ok=True)
        for name, array in arrays.items():
            with (folder / f"{name}.npy").open("wb") as file:
                np.save(file, array)
                digests[f"{name}.npy"] = _settled(file)
        for name, path in (files or {}).items():
            with path.open("rb") as source, (folder / name).open("wb") as file:
                shutil.copyfileobj(source, file)
                digests[name] = _settled(file)
        info = info.model_copy(update={"files": digests})
        info = info.model_copy(update={"digest": json_digest(info.model_dump(mode="json"))})
        text = info.model_dump_json(indent=2)
        write_whole(folder / PIECE_FILE, lambda file: file.write(text.encode()))
    return ShardResult(folder, info)


def _settled(file: BinaryIO) -> str:
    """Bring a file to the disk and return its SHA-256. Its name gets there with that of ``piece.json``."""
    file.flush()
    os.fsync(file.fileno())
    with Path(file.name).open("rb") as written:
        return hashlib.file_digest(written, "sha256").hexdigest()


def joined(spans: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Put spans of batches in order, those that touch as one."""
    result: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if result and result[-1][1] == start:
            result[-1] = (result[-1][0], stop)
        else:
            result.append((start, stop))
    return tuple(result)


def _damaged(path: Path, folder: Path, reason: str) -> ResultError:
    return ResultError(
        f"{path} is missing or damaged ({reason}). Remove the folder {folder} and run the command that wrote it again: "
        "that piece is computed once more, everything else is kept."
    )
