"""A run on disk: written whole or not at all, read back as it was.

RUN/run.json                    what made it; written last: a folder without it is not finished
RUN/concepts.parquet
RUN/layers/<name>/thresholds.parquet, scores.parquet, units.parquet, units.csv, top.parquet, top_maps.npy
RUN/layers/<name>/evidence/*.parquet   what was measured beside IoU
"""

import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from tokenize import TokenError
from typing import IO, Self
from urllib.parse import quote
from uuid import uuid4

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from netdissect.checksums import json_digest, seal_file
from netdissect.errors import ResultError
from netdissect.paths import check_regular, contained, writing
from netdissect.result.csv_frames import escaped_frame
from netdissect.result.result import SCHEMA_VERSIONS, LayerInfo, LayerResult, Result, RunInfo, RunOrigin
from netdissect.result.run_config import CONFIG_FILE, config_damage, config_of
from netdissect.result.schema import EVIDENCE, check_concepts, check_layer

RUN_FILE = "run.json"
FRAMES = ("thresholds", "units", "top")
# NumPy evaluates the header of an array as Python text.
NO_ARRAY = (OSError, ValueError, EOFError, SyntaxError, TypeError, OverflowError, MemoryError, TokenError)
CHANGED = "it is not what was written"
ASIDE = re.compile(r"\..+\.[0-9a-f]{12}\.part")
"""What a file is called until it is whole; see `write_whole`."""


class _RunFile(BaseModel):
    """What ``run.json`` holds: the run, and digests by which damage is found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: RunInfo
    files: dict[str, str] = Field(description="SHA-256 of every other file of the run.")
    digest: str = Field(description="SHA-256 of all of this but this line.")

    @classmethod
    def seal(cls, run: RunInfo, files: dict[str, str]) -> Self:
        """Put a run, its files and its own digest together."""
        named = cls(run=run, files=files, digest="")
        return named.model_copy(update={"digest": json_digest(named.model_dump(mode="json"))})


def save_result(result: Result, folder: str | Path) -> Path:
    """Write a run into a folder that holds no finished run; see `write_result`."""
    return write_result(folder, result.info, result.concepts, result.layers.values())


def write_result(folder: str | Path, info: RunInfo, concepts: pl.DataFrame, layers: Iterable[LayerResult]) -> Path:
    """Write the parts of a run, one layer after the other, into a folder that holds no finished run.

    Raises
    ------
    ResultError
        If the folder holds a run already, or cannot be written.
    """
    folder = Path(folder)
    if (folder / RUN_FILE).exists():
        raise ResultError(
            f"{folder} already holds a finished run, which would be overwritten. Name another folder, or remove it."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / "concepts.parquet"]
        write_whole(written[0], concepts.write_parquet)
        for layer in layers:
            written += _save_layer(layer, layer_folder(folder, layer.info.name))
        digests = {path.relative_to(folder).as_posix(): digest_of_file(path) for path in written}
        text = _RunFile.seal(info, digests).model_dump_json(indent=2)
        write_whole(folder / RUN_FILE, lambda file: file.write(text.encode()))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ResultError(
            f"{folder} cannot be written ({error}). Nothing was finished there; free space or choose another folder."
        ) from error
    return folder


def load_result(folder: str | Path) -> Result:
    """Read a finished run.

    Raises
    ------
    ResultError
        If there is no finished run, or a file of it is missing, foreign or damaged.
    """
    folder = Path(folder)
    sealed = _read_run_file(folder)
    origin = RunOrigin.of(folder, [RUN_FILE, *sealed.files])
    if _read_run_file(folder) != sealed:
        raise ResultError(f"{folder} is being replaced by another run. Wait until that is done, and try again.")
    for name, reason in _damages(folder, sealed).items():
        raise _damaged(folder / name, reason)
    info = sealed.run
    concepts = _read(folder / "concepts.parquet")
    reason = check_concepts(concepts, info)
    if reason:
        raise _damaged(folder / "concepts.parquet", reason)
    layers = {layer.name: _load_layer(layer, folder, sealed, concepts) for layer in info.layers}
    result = Result(info, concepts, layers, origin)
    result.check_unchanged()
    return result


def corrupted_files(folder: str | Path) -> tuple[RunInfo, dict[str, str]]:
    """Say what made a run, and which of its files are missing or damaged: name within the folder -> reason.

    Raises
    ------
    ResultError
        If there is no finished run, or ``run.json`` itself, which holds the digests, is damaged.
    """
    sealed = _read_run_file(Path(folder))
    found = _damages(Path(folder), sealed)
    reason = config_damage(Path(folder), sealed.run)
    return sealed.run, found | ({CONFIG_FILE: reason} if reason else {})


def repair_file(folder: str | Path, source: str | Path, name: str) -> None:
    """Put a damaged file of a run back from another folder of the same run; its configuration from ``run.json``.

    Raises
    ------
    ResultError
        If the file there is not what was written either, or cannot be copied.
    """
    folder, source = Path(folder), Path(source)
    sealed = _read_run_file(folder)
    is_config = name == CONFIG_FILE
    reason = "" if is_config else _reason(source / name, sealed.files[name])
    if reason:
        raise ResultError(
            f"{folder / name} cannot be restored: computed once more it is not what was written ({reason}). Expected "
            f"the environment that the run recorded (torch {sealed.run.environment.torch}, "
            f"{sealed.run.environment.threads} threads); repeat the run in a new folder instead."
        )
    content = config_of(sealed.run).sealed_text() if is_config else (source / name).read_bytes()
    with writing(folder / name, "Free space or give write access."):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, lambda file: file.write(content))


def _read_run_file(folder: Path) -> _RunFile:
    path = folder / RUN_FILE
    if not path.is_file():
        state = "holds a run that is not finished" if (folder / "work").is_dir() else "is no run folder"
        raise ResultError(
            f"{folder} {state}: it has no {RUN_FILE}. Expected a folder written by 'netdissect run'; "
            "run the same command again to finish an interrupted run."
        )
    try:
        content = path.read_bytes()
        _check_version(path, content)
        sealed = _RunFile.model_validate_json(content)
    except (ValidationError, OSError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"msg": str(error), "loc": ()}
        raise ResultError(
            f"{path} is not a run description of this version of netdissect ({first['msg']} at "
            f"{'.'.join(map(str, first['loc'])) or 'the top'}). Restore the file or repeat the run."
        ) from error
    if sealed.digest != json_digest(json.loads(content)):
        raise _damaged(path, CHANGED)
    for name in sealed.files:
        contained(folder, name, path, ResultError)
    return sealed


def _check_version(path: Path, content: bytes) -> None:
    """Refuse a later version before anything of it is read: a reader of every earlier one stays forever."""
    try:
        run = json.loads(content)["run"]
        version = run["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return  # not a run description at all: what reads it says so
    if version not in SCHEMA_VERSIONS:
        known = " and ".join(map(str, SCHEMA_VERSIONS))
        writer = run.get("environment", {}).get("netdissect", "another version")
        raise ResultError(
            f"{path} has version {version} of the run format, written by netdissect {writer}; this is netdissect "
            f"{importlib.metadata.version('netdissect')}, which reads version {known}. Install that version or a later "
            "one to read it."
        )


def _damages(folder: Path, sealed: _RunFile) -> dict[str, str]:
    reasons = {name: _reason(folder / name, digest) for name, digest in sealed.files.items()}
    return {name: reason for name, reason in reasons.items() if reason}


def layer_folder(run: Path, name: str) -> Path:
    """Return where a layer's tables lie: its name, with what a file system could misread escaped."""
    spelled = quote(name, safe="")
    return run / "layers" / (spelled if spelled.strip(".") else spelled.replace(".", "%2E"))


def write_whole(path: Path, write: Callable[[IO[bytes]], object], *, sealed: bool = False) -> None:
    """Write a file aside, bring it to the disk and rename it: it appears whole or not at all.

    Shards of one run write some files at the same moment, on one machine or on several: each has an aside of its own.

    Parameters
    ----------
    path
        The file.
    write
        Writes it.
    sealed
        Put a checksum behind it, for `netdissect.checksums.check_file`.
    """
    aside = path.with_name(f".{path.name}.{uuid4().hex[:12]}.part")
    try:
        with aside.open("w+b") as file:
            write(file)
            if sealed:
                seal_file(file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        # The new name too must be on the disk before anything is built on it.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        aside.unlink(missing_ok=True)


def _save_layer(layer: LayerResult, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    writers: dict[str, Callable[[IO[bytes]], object]] = {
        "thresholds.parquet": layer.thresholds.write_parquet,
        "units.parquet": layer.units.write_parquet,
        "units.csv": escaped_frame(layer.units).write_csv,
        "scores.parquet": layer.scores.write_parquet,
        "top.parquet": layer.top.write_parquet,
        "top_maps.npy": lambda file: np.save(file, layer.top_maps),
    }
    for name, table in layer.evidence.items():
        # Counts of single images would not fit into memory: part by part.
        writers[f"{EVIDENCE}/{name}.parquet"] = table.sink_parquet
        (folder / EVIDENCE).mkdir(exist_ok=True)
    for name, write in writers.items():
        write_whole(folder / name, write)
    return [folder / name for name in writers]


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(path: Path, digest: str) -> str:
    """Say what is wrong with a file; nothing if it is what was written."""
    try:
        check_regular(path)
        return "" if digest_of_file(path) == digest else CHANGED
    except OSError as error:
        return str(error)


def _load_layer(layer: LayerInfo, run: Path, sealed: _RunFile, concepts: pl.DataFrame) -> LayerResult:
    folder = layer_folder(run, layer.name)
    frames = {name: _read(folder / f"{name}.parquet") for name in FRAMES}
    path = folder / "top_maps.npy"
    try:
        maps = np.load(path, mmap_mode="r", allow_pickle=False)
    except NO_ARRAY as error:
        raise _damaged(path, str(error)) from error
    scores = folder / "scores.parquet"
    _read(scores, rows=0)
    further = sorted(path for name in sealed.files if (path := run / name).parent == folder / EVIDENCE)
    evidence = {path.stem: pl.scan_parquet(path) for path in further}
    read = LayerResult(info=layer, lazy_scores=pl.scan_parquet(scores), top_maps=maps, evidence=evidence, **frames)
    for name, reason in check_layer(read, sealed.run, concepts).items():
        raise _damaged(folder / name, reason)
    return read


def _read(path: Path, rows: int | None = None) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, n_rows=rows)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> ResultError:
    reason = reason.partition("\n")[0]
    return ResultError(
        f"{path} is missing or damaged ({reason}). Expected the file as 'netdissect run' wrote it; recompute what "
        "is damaged with 'netdissect verify RUN --repair', restore it, or repeat the run."
    )
