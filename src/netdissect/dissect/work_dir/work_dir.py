"""The run folder while a run is under way.

    RUN/work/identity.json   what is being dissected: another run may not go on from here
    RUN/work/plan.json       how it is carried out
    RUN/work/first.npz       the first look, up to some batch (absent: begin anew)
    RUN/work/second.npz      the second look
    RUN/work/<layer>.bin     activations that can matter
    RUN/work/<layer>.top     a layer's largest values, where they do not fit into memory
    RUN/work/lock            held by the process that works here; holder.json says who that is

Every file that a run goes on from holds checksums: a flipped bit or a cut is an error that names the file. `work/` is
removed when the result is written. What is removed or lost of it is computed again.
"""

import json
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
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
from netdissect.errors import ResultError
from netdissect.paths import writing
from netdissect.result.files import ASIDE, RUN_FILE, write_whole
from netdissect.result.folder_lock import hold

Arrays = Mapping[str, npt.NDArray[Any]]

IDENTITY = "identity.json"
MINUTE = 60.0  # never more work than this is lost
FULL = (
    "What was finished is kept: free space, or choose a run folder on a disk with space and write access, and run the "
    "same command again."
)


class WorkDir:
    """The folder `work/` of a run, and its checkpoints.

    Parameters
    ----------
    run
        The run folder; None: a temporary one.
    identity
        Everything that decides the result, as JSON values.
    every
        Seconds between checkpoints.
    wait
        Seconds to wait for another process that works here.
    log
        Told of what happens. None: nobody is.

    Attributes
    ----------
    log
        Where events go.

    Raises
    ------
    ResultError
        If another process works here, or the folder holds an unfinished run of something else, or cannot be written.
    """

    def __init__(
        self,
        run: Path | None,
        identity: Mapping[str, Any],
        every: float,
        wait: float = 0,
        log: RunLog | None = None,
    ) -> None:
        self.log = log or RunLog(None)
        self._every = self._pause = every
        self._last = time.monotonic()
        self._temporary = run is None
        self.path = Path(tempfile.mkdtemp(prefix="netdissect-")) if run is None else run / "work"
        with writing(self.path, FULL):
            self.path.mkdir(parents=True, exist_ok=True)
            self._refuse_other(identity)  # before the lock: a folder of something else is left as it is
            self._lock = hold(self.path, wait)
        try:
            self._claim(identity)
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

    def remove(self) -> None:
        """Remove the folder: nothing is left to go on from."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _refuse_other(self, identity: Mapping[str, Any]) -> None:
        path = self.path / IDENTITY
        if path.exists():
            refuse_other(self.path.parent, _read_json(path), json.loads(json.dumps(identity)))

    def _claim(self, identity: Mapping[str, Any]) -> None:
        path = self.path / IDENTITY
        self._refuse_other(identity)
        with writing(self.path, FULL):
            if not path.exists():
                _write_json(path, identity)

    def settled(self, plan: CostPlan) -> CostPlan:
        """Return the plan with the choices with which this work began, which its checkpoints and files follow."""
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
        """Return the last checkpoint of a stage; empty: none yet."""
        path = self.path / f"{stage}.npz"
        if not path.exists():
            return {}
        try:
            with path.open("rb") as file:
                checksums.check_file(file)
                with np.load(file, allow_pickle=False) as arrays:
                    self.log.event("resumed", look=stage, batches=int(arrays["batches"]))
                    return dict(arrays)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ResultError(
                f"{path} is damaged ({error}). Remove this file and run the same command again: the {stage} look "
                "begins anew, everything else is kept."
            ) from error

    def save(self, stage: str, state: Callable[[], Arrays], *, now: bool = False) -> None:
        """Write a checkpoint if it is due, or `now`."""
        if now or time.monotonic() - self._last >= self._pause:
            begin = time.monotonic()
            with writing(self.path, FULL):
                arrays: Any = dict(state())
                write_whole(self.path / f"{stage}.npz", lambda file: np.savez(file, **arrays), sealed=True)
            self._last = time.monotonic()
            size = sum(array.nbytes for array in arrays.values())
            self.log.event("checkpoint", look=stage, seconds=round(self._last - begin, 3), bytes=size)
            taken = self._last - begin
            # A large checkpoint is written less often, so that it costs no more than a twentieth of the time; but what
            # is lost, with the time of writing it once more, stays below a minute.
            self._pause = max(self._every, min(20 * taken, MINUTE - taken))


def clear_leftovers(run: Path, folders: Iterable[str] = ()) -> None:
    """Remove what a process left that was killed when its run was there already: work, and files that got no name.

    Parameters
    ----------
    run
        Folder of a finished run. Where another process works in it, or nobody may write, it is left as it is.
    folders
        Further ones in it that are of no use to a finished run.
    """
    with suppress(OSError, ResultError):
        if (run / "work").is_dir():
            lock = hold(run / "work")
            shutil.rmtree(run / "work", ignore_errors=True)
            lock.release()
        for name in folders:
            shutil.rmtree(run / name, ignore_errors=True)
        for aside in [path for path in run.rglob(".*.part") if ASIDE.fullmatch(path.name)]:
            aside.unlink()


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content)
    whole = json.dumps({"content": json.loads(text), "crc32": checksums.seal([text.encode()]).hex()}, indent=2)
    write_whole(path, lambda file: file.write(whole.encode()))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if checksums.seal([json.dumps(found["content"]).encode()]).hex() != found["crc32"]:
            raise ValueError(checksums.OTHER)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ResultError(
            f"{path} is damaged ({error}). Remove the folder {path.parent} to begin this run anew."
        ) from error
    return dict(found["content"])


def refuse_other(run: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to touch a run folder made by other inputs.

    Raises
    ------
    ResultError
        That names the first difference.
    """
    different = difference(found, wanted)
    if different is not None:
        name, old, new = different
        state = "a finished run" if (run / RUN_FILE).exists() else "an unfinished run"
        raise ResultError(
            f"{run} holds {state} of something else: its {name} is {old}, now {new} is asked for. "
            "Name another folder, or remove this one."
        )


def difference(found: Any, wanted: Any, name: str = "") -> tuple[str, str, str] | None:
    """Return the first difference of JSON values: its name, and both sides; None: there is none."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found.keys() | wanted.keys()):
            below = difference(found.get(key), wanted.get(key), f"{name}.{key}" if name else key)
            if below is not None:
                return below
        return None
    return None if found == wanted else (name, json.dumps(found), json.dumps(wanted))
