"""The run folder: files are written atomically and checked by digests when they are read.

RUN/run.json                    inputs, configuration, versions and digests; written last, so it marks a finished run
RUN/concepts.parquet
RUN/layers/<name>/thresholds.parquet, scores.parquet, units.parquet, units.csv, top.parquet, top_maps.npy
RUN/layers/<name>/statistics/*.parquet   confidence intervals, permutation test, extra metrics
RUN/bases/<name>.safetensors     how the units of a virtual layer are computed; see `netdissect.dissect.bases`
"""

import hashlib
import importlib.metadata
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Self
from urllib.parse import quote
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from netdissect.checksums import append_checksum, json_digest
from netdissect.concepts.array_file import read_array
from netdissect.errors import ResultError
from netdissect.paths import OTHER_FOLDER, check_regular, contained, writing
from netdissect.result.csv_frames import escaped_frame
from netdissect.result.result import SCHEMA_VERSIONS, LayerInfo, LayerResult, Result, RunInfo, RunOrigin
from netdissect.result.run_config import CONFIG_FILE, config_damage, config_of
from netdissect.result.schema import STATISTICS_FOLDER, check_concepts, check_layer
from netdissect.result.statistics_schema import ROW_GROUPS

RUN_FILE = "run.json"
BASES = "bases"
BLOCK_VALUES = 2**22  # of the maps of a layer, written at a time
FRAMES = ("thresholds", "units", "top")
CHANGED = "it is not what was written"
SYNCED_AT_ONCE = 4
"""Files that are synced, or read for their digests, at the same time."""
TEMPORARY_NAME = re.compile(r"\..+\.[0-9a-f]{12}\.part")
"""Name of a temporary file; see `write_whole`."""


class _RunFile(BaseModel):
    """The content of ``run.json``: the run, and digests against damage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: RunInfo
    files: dict[str, str] = Field(description="SHA-256 of every other file of the run.")
    digest: str = Field(description="SHA-256 of all other fields.")

    @classmethod
    def with_digest(cls, run: RunInfo, files: dict[str, str]) -> Self:
        """Add the digest of a run and its files."""
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
        written += sorted((folder / BASES).glob("*.safetensors"))
        names = [path.relative_to(folder).as_posix() for path in written]
        with ThreadPoolExecutor(SYNCED_AT_ONCE) as threads:
            digests = dict(zip(names, threads.map(digest_of_file, written), strict=True))
        text = _RunFile.with_digest(info, digests).model_dump_json(indent=2)
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
    if not isinstance(folder, (str, os.PathLike)):
        raise ResultError(
            f"The run folder is a {type(folder).__name__}. Expected the path of a folder that 'netdissect run' or "
            "netdissect.dissect(out=...) wrote; what dissect returns is a Result already."
        )
    return _load(Path(folder), check=True)


def open_written(folder: Path) -> Result:
    """Open a run that this process has just written: its tables are not read to check them."""
    return _load(folder, check=False)


def _load(folder: Path, *, check: bool) -> Result:
    run_file = _read_run_file(folder)
    origin = RunOrigin.of(folder, [RUN_FILE, *run_file.files])
    if _read_run_file(folder) != run_file:
        raise ResultError(f"{folder} is being replaced by another run. Wait until that is done, and try again.")
    for name, reason in _damaged_files(folder, run_file).items() if check else ():
        raise _damage_error(folder / name, reason)
    info = run_file.run
    concepts = _read(folder / "concepts.parquet")
    reason = check_concepts(concepts, info)
    if reason:
        raise _damage_error(folder / "concepts.parquet", reason)
    layers = {layer.name: _load_layer(layer, folder, run_file) for layer in info.layers}
    for layer in layers.values() if check else ():
        for name, reason in check_layer(layer, info, concepts).items():
            raise _damage_error(layer_folder(folder, layer.info.name) / name, reason)
    result = Result(info, concepts, layers, origin)
    result.check_unchanged()
    return result


def corrupted_files(folder: str | Path) -> tuple[RunInfo, dict[str, str]]:
    """Return the info of a run, and its missing or damaged files: name in the folder -> reason.

    Raises
    ------
    ResultError
        If there is no finished run, or ``run.json`` itself, which holds the digests, is damaged.
    """
    run_file = _read_run_file(Path(folder))
    found = _damaged_files(Path(folder), run_file)
    reason = config_damage(Path(folder), run_file.run)
    return run_file.run, found | ({CONFIG_FILE: reason} if reason else {})


def repair_file(folder: str | Path, source: str | Path, name: str) -> None:
    """Restore a damaged file of a run from another folder of the same run, or its configuration from ``run.json``.

    Raises
    ------
    ResultError
        If the other file has another digest too, or cannot be copied.
    """
    folder, source = Path(folder), Path(source)
    run_file = _read_run_file(folder)
    is_config = name == CONFIG_FILE
    reason = "" if is_config else _reason(source / name, run_file.files[name])
    if reason:
        raise ResultError(
            f"{folder / name} cannot be restored: the recomputed file has another digest ({reason}). Expected "
            f"the environment that the run recorded (torch {run_file.run.environment.torch}, "
            f"{run_file.run.environment.threads} threads); repeat the run in a new folder instead."
        )
    content = config_of(run_file.run).text_with_digest() if is_config else (source / name).read_bytes()
    with writing(folder / name, "Free space or give write access."):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, lambda file: file.write(content))


def _found_in_place_of_run(folder: Path) -> tuple[str, str]:
    """Return what a folder without ``run.json`` is, and what to do."""
    remedy = "run the same command again to finish an interrupted run"
    if folder.is_file():
        is_inside = (folder.parent / RUN_FILE).is_file()
        return f"is no run folder: it is a file, and a run is a folder with {RUN_FILE}", (
            f"name the folder {folder.parent}" if is_inside else "name the folder of the run"
        )
    if (folder / "work").is_dir() or (folder / CONFIG_FILE).is_file():
        return f"holds a run that is not finished: it has no {RUN_FILE}", remedy
    missing = f"it has no {RUN_FILE}" if folder.is_dir() else f"there is no such folder, and so no {RUN_FILE}"
    state = f"is no run folder: {missing}"
    if (folder / "index.csv").is_file():
        return f"{state}; it is a data set", "name the folder that was given as --out"
    runs = sorted(path.parent.name for path in folder.glob(f"*/{RUN_FILE}"))[:5]
    return state, f"it holds the runs {', '.join(runs)}: name one" if runs else remedy


def _read_run_file(folder: Path) -> _RunFile:
    path = folder / RUN_FILE
    if not path.is_file():
        found, remedy = _found_in_place_of_run(folder)
        raise ResultError(f"{folder} {found}. Expected a folder written by 'netdissect run'; {remedy}.")
    try:
        content = path.read_bytes()
        _check_version(path, content)
        run_file = _RunFile.model_validate_json(content)
    except (ValidationError, OSError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"msg": str(error), "loc": ()}
        raise ResultError(
            f"{path} is not a run description of this version of netdissect ({first['msg']} at "
            f"{'.'.join(map(str, first['loc'])) or 'the top'}). Restore the file or repeat the run."
        ) from error
    if run_file.digest != json_digest(json.loads(content)):
        raise _damage_error(path, CHANGED)
    for name in run_file.files:
        contained(folder, name, path, ResultError)
    return run_file


def _check_version(path: Path, content: bytes) -> None:
    """Refuse a later version of the run format before anything else is read."""
    try:
        run = json.loads(content)["run"]
        version = run["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return  # not a run description at all: validation reports it
    if version not in SCHEMA_VERSIONS:
        known = " and ".join(map(str, SCHEMA_VERSIONS))
        writer = run.get("environment", {}).get("netdissect", "another version")
        raise ResultError(
            f"{path} has version {version} of the run format, written by netdissect {writer}; this is netdissect "
            f"{importlib.metadata.version('netdissect')}, which reads version {known}. Install that version or a later "
            "one to read it."
        )


def _damaged_files(folder: Path, run_file: _RunFile) -> dict[str, str]:
    reasons = {name: _reason(folder / name, digest) for name, digest in run_file.files.items()}
    return {name: reason for name, reason in reasons.items() if reason}


def layer_folder(run: Path, name: str) -> Path:
    """Return the folder of the tables of a layer: its name, escaped for file systems."""
    spelled = quote(name, safe="")
    return run / "layers" / (spelled if spelled.strip(".") else spelled.replace(".", "%2E"))


def write_csv(table: pl.DataFrame, path: str | Path) -> Path:
    """Write a table as a CSV file by itself, whose texts no spreadsheet takes for formulas.

    Raises
    ------
    ResultError
        If it cannot be written.
    """
    with writing(path, OTHER_FOLDER):
        write_whole(Path(path), escaped_frame(table).write_csv)
    return Path(path)


def write_whole(path: Path, write: Callable[[IO[bytes]], object], *, checksum: bool = False) -> None:
    """Write a file atomically: to a temporary file, which is synced and renamed.

    Shards of one run may write a file at the same time: each has a temporary file of its own.

    Parameters
    ----------
    path
        The file.
    write
        Writes the content.
    checksum
        Whether to append a checksum, for `netdissect.checksums.check_file`.
    """

    def content(file: IO[bytes]) -> None:
        write(file)
        if checksum:
            append_checksum(file)

    write_together({path: content})


def write_together(writers: Mapping[Path, Callable[[IO[bytes]], object]]) -> None:
    """Write files one after the other, sync them together, and rename them; see `write_whole`.

    The disk syncs several files in the time of one: 100 files of 100 kB take 0.03 s in place
    of 0.63 s, two thirds of which were syncs of their folder.
    """
    temporary = {path: path.with_name(f".{path.name}.{uuid4().hex[:12]}.part") for path in writers}
    try:
        for path, write in writers.items():
            with temporary[path].open("w+b") as file:
                write(file)
        with ThreadPoolExecutor(min(SYNCED_AT_ONCE, len(writers))) as threads:
            list(threads.map(_sync_file, temporary.values()))
        for path in writers:
            temporary[path].replace(path)
        # The directory entries must be on the disk, too, before anything depends on them.
        for parent in {path.parent for path in writers}:
            folder = os.open(parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)


def _sync_file(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _save_layer(layer: LayerResult, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    writers: dict[str, Callable[[IO[bytes]], object]] = {
        "thresholds.parquet": layer.thresholds.write_parquet,
        "units.parquet": layer.units.write_parquet,
        "units.csv": escaped_frame(layer.units).write_csv,
        # May not fit into memory, nor may per-image counts. At a higher level it takes a fifth longer, for 5 % less.
        "scores.parquet": partial(layer.lazy_scores.sink_parquet, compression_level=1),
        "top.parquet": layer.top.write_parquet,
        "top_maps.npy": partial(_write_maps, layer.top_maps),
    }
    for name, table in layer.statistics.items():
        writers[f"{STATISTICS_FOLDER}/{name}.parquet"] = partial(
            table.sink_parquet, row_group_size=ROW_GROUPS.get(name)
        )
        (folder / STATISTICS_FOLDER).mkdir(exist_ok=True)
    write_together({folder / name: write for name, write in writers.items()})
    return [folder / name for name in writers]


def _write_maps(maps: npt.NDArray[np.float32], file: IO[bytes]) -> None:
    """Write maps as `numpy.save` does, some units at a time: those of a sparse layer are no array."""
    shape = maps.shape
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    step = max(1, BLOCK_VALUES // max(1, math.prod(shape[1:])))
    for first in range(0, len(maps), step):
        file.write(np.ascontiguousarray(maps[first : first + step], "<f4").data)


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(path: Path, digest: str) -> str:
    """Return why a file is damaged; empty if its digest agrees."""
    try:
        check_regular(path)
        return "" if digest_of_file(path) == digest else CHANGED
    except OSError as error:
        return str(error)


def _load_layer(layer: LayerInfo, run: Path, run_file: _RunFile) -> LayerResult:
    folder = layer_folder(run, layer.name)
    frames = {name: _read(folder / f"{name}.parquet") for name in FRAMES}
    path = folder / "top_maps.npy"
    try:
        maps = read_array(path)
    except (OSError, ValueError, EOFError) as error:
        raise _damage_error(path, str(error)) from error
    scores = folder / "scores.parquet"
    _read(scores, rows=0)
    paths = sorted(path for name in run_file.files if (path := run / name).parent == folder / STATISTICS_FOLDER)
    statistics = {path.stem: pl.scan_parquet(path) for path in paths}
    return LayerResult(info=layer, lazy_scores=pl.scan_parquet(scores), top_maps=maps, statistics=statistics, **frames)


def _read(path: Path, rows: int | None = None) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, n_rows=rows)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise _damage_error(path, str(error)) from error


def _damage_error(path: Path, reason: str) -> ResultError:
    reason = reason.partition("\n")[0]
    return ResultError(
        f"{path} is missing or damaged ({reason}). Expected the file as 'netdissect run' wrote it; recompute what "
        "is damaged with 'netdissect verify RUN --repair', restore it, or repeat the run."
    )
