"""The result of one pass over one shard on disk: partial statistics, what made them, and digests against damage.

FOLDER/shard.json   run, shards, batches and digests; written last: without it the result is not finished
FOLDER/*.npy        arrays, memory-mapped when read
FOLDER/*.bin        files that are copied byte by byte
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
ShardStage = Literal["thresholds", "merged-thresholds", "counting", "permutations"]

SHARD_FILE = "shard.json"
FULL = "What was finished is kept: free space, or give write access, and run the same command again."


class ShardResultInfo(BaseModel):
    """The content of ``shard.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[2] = 2
    stage: ShardStage = Field(
        description="thresholds: largest values and top images of some batches. merged-thresholds: thresholds and top "
        "images of all batches. counting: counts of some batches."
    )
    run: RunInfo = Field(description="The run that the shards belong to.")
    shards: tuple[str, ...] = Field(description="Its shards, such as 3/8.")
    batches: tuple[tuple[int, int], ...] = Field(
        description="Ascending ranges of batches, without their ends; of permutations where the stage is permutations."
    )
    total: int = Field(description="Batches of the whole run.")
    thresholds: str = Field("", description="SHA-256 of the thresholds at which was counted.")
    files: dict[str, str] = Field(description="SHA-256 of each array's file.")
    digest: str = Field("", description="SHA-256 of all other fields.")


@dataclass(frozen=True)
class ShardResult(Mapping[str, Array]):
    """The result of some shards, opened: arrays by name, memory-mapped.

    Attributes
    ----------
    folder
        Its folder.
    info
        Content of ``shard.json``.
    """

    folder: Path
    info: ShardResultInfo

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a result and check the digests of its files.

        Raises
        ------
        ResultError
            If a file is missing, belongs to something else or is damaged.
        """
        path = folder / SHARD_FILE
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
    """Return whether a folder holds a finished result."""
    return (folder / SHARD_FILE).is_file()


def write_shard_result(
    folder: Path, info: ShardResultInfo, arrays: Mapping[str, Array], files: Mapping[str, Path] | None = None
) -> ShardResult:
    """Write a result: arrays and copies of `files`, by name. Digests are filled into `info`.

    Raises
    ------
    ResultError
        If the folder cannot be written.
    """
    digests = {}
    with writing(folder, FULL):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SHARD_FILE).unlink(missing_ok=True)
        for name, array in arrays.items():
            with (folder / f"{name}.npy").open("wb") as file:
                np.save(file, array)
                digests[f"{name}.npy"] = _sync_and_digest(file)
        for name, path in (files or {}).items():
            with path.open("rb") as source, (folder / name).open("wb") as file:
                shutil.copyfileobj(source, file)
                digests[name] = _sync_and_digest(file)
        info = info.model_copy(update={"files": digests})
        info = info.model_copy(update={"digest": json_digest(info.model_dump(mode="json"))})
        text = info.model_dump_json(indent=2)
        write_whole(folder / SHARD_FILE, lambda file: file.write(text.encode()))
    return ShardResult(folder, info)


def _sync_and_digest(file: BinaryIO) -> str:
    """Sync a file and return its SHA-256. Its directory entry is synced with that of ``shard.json``."""
    file.flush()
    os.fsync(file.fileno())
    with Path(file.name).open("rb") as written:
        return hashlib.file_digest(written, "sha256").hexdigest()


def merge_ranges(ranges: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Sort ranges of batches and join adjacent ones."""
    result: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if result and result[-1][1] == start:
            result[-1] = (result[-1][0], stop)
        else:
            result.append((start, stop))
    return tuple(result)


def _damaged(path: Path, folder: Path, reason: str) -> ResultError:
    return ResultError(
        f"{path} is missing or damaged ({reason}). Remove the folder {folder} and run the command that wrote it again: "
        "only this result is computed again."
    )
