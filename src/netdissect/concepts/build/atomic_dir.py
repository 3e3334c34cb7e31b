"""Write a data set atomically: it appears complete or not at all, also after an interruption.

    .NAME.building/    lock, journal of finished samples, and the new data set
    .NAME.replaced/    the old data set, while the new one is renamed

Only the holder of the lock changes these folders. A killed process leaves them; the next one resumes from them, and
restores the old data set if the new one was not renamed.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from netdissect.errors import ConceptsError

LOCK = "lock"


def check_target(out: Path, *, overwrite: bool) -> None:
    """Check that a data set may be written at `out`.

    Raises
    ------
    ConceptsError
        If `out` exists and must not be replaced.
    """
    if not (out.exists() or out.is_symlink()):
        return
    if not out.is_dir() or out.is_symlink():
        raise ConceptsError(f"{out} is in the way: it is no folder. Expected a free name; choose another.")
    finished = (out / "index.csv").is_file() and (out / "category.csv").is_file()
    if finished and not overwrite:
        raise ConceptsError(
            f"{out} already holds a finished data set. Expected a free name; choose another, or say that it may "
            "be replaced (--overwrite, overwrite=True)."
        )
    if not finished and any(out.iterdir()):
        raise ConceptsError(
            f"{out} is not empty and holds no finished data set, so it is never replaced. Expected a free name; "
            "choose another or clear the folder yourself."
        )


@contextmanager
def staging_dir(out: Path, word: str, *, overwrite: bool = False, keep: bool = False) -> Iterator[Path]:
    """Yield the hidden folder ``.NAME.word`` beside `out`, locked; the caller writes into it and calls `publish`.

    Parameters
    ----------
    out
        Folder of the data set.
    word
        Name of the activity: ``building``.
    overwrite
        See `check_target`.
    keep
        Keep the folder after an error, so that the next attempt resumes. After an interrupt or a kill it is always
        kept, after success never.

    Raises
    ------
    ConceptsError
        If `out` must not be replaced, another process writes it, or the disk cannot be written.
    """
    out = absolute(out)
    folder = out.with_name(f".{out.name}.{word}")
    with reported(out, keep=keep):
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder, out):
            _recover(out)
            try:
                check_target(out, overwrite=overwrite)
                yield folder
            except Exception:
                if not keep:
                    _clear(folder)
                raise
            else:
                _clear(folder)
            # After an interrupt nothing is cleared: the next attempt resumes.


@contextmanager
def reported(out: Path, *, keep: bool) -> Iterator[None]:
    """Turn an error of the disk into a `ConceptsError` that says what was kept."""
    try:
        yield
    except OSError as error:
        raise ConceptsError(
            f"writing the data set {out} failed: {error.strerror or error}"
            + (f" ({error.filename})" if error.filename else "")
            + (". What is done was kept" if keep else ". Nothing was left behind")
            + "; make room or choose a folder that can be written, and run again."
        ) from error


@contextmanager
def _locked(folder: Path, out: Path) -> Iterator[None]:
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConceptsError(
            f"another process is writing the data set {out}. Expected to be alone; wait for it or choose another name."
        ) from None
    try:
        yield
    finally:
        lock.release()
        if all(path.name == LOCK for path in folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, out: Path, *, overwrite: bool) -> None:
    """Give the finished data set in `folder` the name `out`.

    Raises
    ------
    ConceptsError
        If `out` exists by now and must not be replaced.
    """
    out = absolute(out)
    check_target(out, overwrite=overwrite)
    old = _replaced(out)
    if not out.exists():
        folder.rename(out)
        return
    out.rename(old)
    try:
        folder.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def absolute(path: Path) -> Path:
    """Return the absolute path; `resolve` would follow a symbolic link to another disk."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _replaced(out: Path) -> Path:
    return out.with_name(f".{out.name}.replaced")


def _recover(out: Path) -> None:
    old = _replaced(out)
    if not old.is_dir():
        return
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()
    if out.exists():  # the new data set was renamed before the kill
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.rename(out)


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LOCK:  # some systems cannot delete an open file
            path.unlink(missing_ok=True)
