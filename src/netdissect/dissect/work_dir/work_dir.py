"""The folder of an unfinished run.

    RUN/work/fingerprint.json    inputs and versions of the run: a run with others cannot resume from here
    RUN/work/plan.json           store and engine of the run
    RUN/work/thresholds.npz      checkpoint of the threshold pass (absent: it starts from the first batch)
    RUN/work/counting.npz        checkpoint of the counting pass
    RUN/work/extra-metrics.npz   checkpoint of the pass for extra metrics
    RUN/work/<layer>.bin         stored activations
    RUN/work/<layer>.top         largest values of a layer that do not fit into memory
    RUN/work/lock                held by the process that works here; holder.json names it

Every file from which a run resumes has a checksum: a flipped bit or a truncated file is an error that names the file.
`work/` is removed when the result is written. Files of it that are removed or lost are computed again.
"""

import json
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from netdissect import checksums
from netdissect.dissect.cost_plan import CostPlan
from netdissect.dissect.work_dir.run_log import RunLog
from netdissect.errors import ConfigError, ResultError
from netdissect.paths import writing
from netdissect.result.files import RUN_FILE, TEMPORARY_NAME, write_whole
from netdissect.result.folder_lock import lock_folder

Arrays = Mapping[str, npt.NDArray[Any]]

FINGERPRINT = "fingerprint.json"
MAX_LOST_SECONDS = 60.0  # work that an interruption may cost at most
FULL = (
    "Finished work is kept: free space, or choose a run folder on a disk with space and write access, and run the same "
    "command again."
)


class WorkDir:
    """The folder `work/` of a run, and its checkpoints.

    Parameters
    ----------
    run
        The run folder; None: a temporary one.
    identity
        Everything that determines the result, as JSON values.
    every
        Seconds between checkpoints.
    wait
        Seconds to wait for another process that works here.
    log
        Receives events. None: they are dropped.

    Attributes
    ----------
    log
        Receives events.

    Raises
    ------
    ResultError
        If another process holds the folder, it holds an unfinished run of other inputs, or it cannot be written.
    """

    def __init__(
        self,
        run: Path | None,
        fingerprint: Mapping[str, Any],
        every: float,
        wait: float = 0,
        log: RunLog | None = None,
    ) -> None:
        self.log = log or RunLog(None)
        self._every = self._pause = every
        self._last = time.monotonic()
        self._begins, self._ends, self._earlier = dict[str, float](), dict[str, float](), dict[str, float]()
        self._temporary = run is None
        self.path = Path(tempfile.mkdtemp(prefix="netdissect-")) if run is None else run / "work"
        with writing(self.path, FULL):
            self.path.mkdir(parents=True, exist_ok=True)
            self._refuse_other(fingerprint)  # before the lock: a folder of another run is left unchanged
            self._lock = lock_folder(self.path, wait)
        try:
            self._write_fingerprint(fingerprint)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        self.log.event("began", netdissect=version("netdissect"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if kind is None:
            self.log.event("ended")
        elif issubclass(kind, Exception):
            self.log.event("failed", level="error", error=kind.__name__, message=str(error))
        else:
            self.log.event("interrupted", level="warning", by=kind.__name__)
        if self._temporary:
            self.remove()
        self._lock.release()

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time a stage, once in a process, and log its end."""
        self._begins[stage] = time.monotonic()
        yield
        self._ends[stage] = time.monotonic()
        self.log.event("finished stage", stage=stage, seconds=self.seconds[stage])

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time of each stage, with that of earlier processes up to the checkpoint from which this one resumed."""
        now = time.monotonic()
        here = {stage: self._ends.get(stage, now) - begin for stage, begin in self._begins.items()}
        return {stage: round(self._earlier.get(stage, 0.0) + here.get(stage, 0.0), 3) for stage in self._earlier | here}

    def remove(self) -> None:
        """Remove the folder and all checkpoints."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _refuse_other(self, fingerprint: Mapping[str, Any]) -> None:
        path = self.path / FINGERPRINT
        if path.exists():
            refuse_other(self.path.parent, _read_json(path), json.loads(json.dumps(fingerprint)))

    def _write_fingerprint(self, fingerprint: Mapping[str, Any]) -> None:
        path = self.path / FINGERPRINT
        self._refuse_other(fingerprint)
        with writing(self.path, FULL):
            if not path.exists():
                _write_json(path, fingerprint)

    def resume_plan(self, plan: CostPlan) -> CostPlan:
        """Return the plan with the choices with which the run began: its checkpoints and files depend on them."""
        path = self.path / "plan.json"
        if path.exists():
            choices = _read_json(path)
            return replace(plan, **choices | {"spilled": frozenset(choices["spilled"])})
        with writing(self.path, FULL):
            _write_json(path, {"store": plan.store, "tensor": plan.tensor, "spilled": sorted(plan.spilled)})
        return plan

    def file(self, layer: str, suffix: str) -> Path:
        """Return a file of one layer."""
        return self.path / f"{quote(layer, safe='')}.{suffix}"

    def load(self, stage: str) -> dict[str, npt.NDArray[Any]]:
        """Return the last checkpoint of a stage; empty if there is none."""
        path = self.path / f"{stage}.npz"
        if not path.exists():
            return {}
        try:
            with path.open("rb") as file:
                checksums.check_file(file)
                with np.load(file, allow_pickle=False) as saved:
                    arrays = dict(saved)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ResultError(
                f"{path} is damaged ({error}). Remove this file and run the same command again: the stage "
                f"{stage!r} starts again, everything else is kept."
            ) from error
        # The checkpoint of another stage may be older, where the activations of this one were lost and computed again.
        for earlier, seconds in json.loads(str(arrays.pop("seconds"))).items():
            self._earlier[earlier] = max(seconds, self._earlier.get(earlier, 0.0))
        self.log.event("resumed", stage=stage, batches=int(arrays["batches"]))
        return arrays

    def save(self, stage: str, state: Callable[[], Arrays], *, now: bool = False) -> None:
        """Write a checkpoint if one is due, or if `now`."""
        if now or time.monotonic() - self._last >= self._pause:
            begin = time.monotonic()
            with writing(self.path, FULL):
                arrays: Any = {**state(), "seconds": np.array(json.dumps(self.seconds))}
                write_whole(self.path / f"{stage}.npz", lambda file: np.savez(file, **arrays), checksum=True)
            self._last = time.monotonic()
            size = sum(array.nbytes for array in arrays.values())
            self.log.event("checkpoint", stage=stage, seconds=round(self._last - begin, 3), bytes=size)
            taken = self._last - begin
            # A large checkpoint is written less often, so that it takes at most a twentieth of the time; but the work
            # that an interruption costs, including the checkpoint itself, stays below MAX_LOST_SECONDS.
            self._pause = max(self._every, min(20 * taken, MAX_LOST_SECONDS - taken))


def clear_leftovers(run: Path, folders: Iterable[str] = ()) -> None:
    """Remove leftovers of a process that was killed after its run was finished: `work/` and temporary files.

    Parameters
    ----------
    run
        Folder of a finished run. It is left unchanged if another process holds it or it is read-only.
    folders
        Further folders in it that a finished run does not need.
    """
    with suppress(OSError, ResultError):
        if (run / "work").is_dir():
            lock = lock_folder(run / "work")
            shutil.rmtree(run / "work", ignore_errors=True)
            lock.release()
        for name in folders:
            shutil.rmtree(run / name, ignore_errors=True)
        for temporary in [path for path in run.rglob(".*.part") if TEMPORARY_NAME.fullmatch(path.name)]:
            temporary.unlink()


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content)
    with_checksum = json.dumps(
        {"content": json.loads(text), "crc32": checksums.checksum([text.encode()]).hex()}, indent=2
    )
    write_whole(path, lambda file: file.write(with_checksum.encode()))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if checksums.checksum([json.dumps(found["content"]).encode()]).hex() != found["crc32"]:
            raise ValueError(checksums.MISMATCH)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ResultError(
            f"{path} is damaged ({error}). Remove the folder {path.parent} to start this run again."
        ) from error
    return dict(found["content"])


def run_folder(out: object) -> Path:
    """Return the run folder that was named.

    Raises
    ------
    ConfigError
        If it is no path.
    ResultError
        If a file is in the way, or a data set is there.
    """
    if not isinstance(out, (str, os.PathLike)):
        raise ConfigError(f"out is {out!r}. Expected the path of a run folder, or None to keep nothing.")
    folder = Path(out)
    existing = next((path for path in (folder, *folder.absolute().parents) if path.exists()), folder)
    if existing.is_file():
        raise ResultError(
            f"the run folder {folder} cannot be made, because {existing} is a file. Expected a folder that is new, or "
            "that of the same run; name another."
        )
    if (folder / "index.csv").is_file():
        raise ResultError(
            f"{folder} is the folder of a data set, where no run is written. Expected a folder that is new, or that of "
            "the same run; name another."
        )
    return folder


def refuse_other(run: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise if a run folder belongs to other inputs.

    Raises
    ------
    ResultError
        Names the first difference.
    """
    first_difference = difference(found, expected)
    if first_difference is not None:
        name, old, new = first_difference
        state = "a finished run" if (run / RUN_FILE).exists() else "an unfinished run"
        raise ResultError(
            f"{run} holds {state} of something else: its {name} is {old}, now {new} is asked for. "
            "Name another folder, or remove this one."
        )


def difference(found: Any, expected: Any, name: str = "") -> tuple[str, str, str] | None:
    """Return name and both values of the first difference of JSON values; None if there is none."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys()):
            inner = difference(found.get(key), expected.get(key), f"{name}.{key}" if name else key)
            if inner is not None:
                return inner
        return None
    return None if found == expected else (name, json.dumps(found), json.dumps(expected))
