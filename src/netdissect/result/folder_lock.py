"""One process at a time in a folder: a second one is told who works there.

The lock is the kernel's (`flock`), so that of a killed process is gone with it and nothing stale can block.
Reading a finished run takes no lock.
"""

import getpass
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from netdissect.errors import ResultError
from netdissect.result.files import write_whole

LOCK, HOLDER = "lock", "holder.json"


def lock_folder(folder: Path, wait: float = 0) -> FileLock:
    """Take a folder for this process until the lock is released, or the process ends.

    Parameters
    ----------
    folder
        Where the lock lies, beside the name of its holder.
    wait
        Seconds to wait for another process to let go.

    Raises
    ------
    ResultError
        If another process holds it: with that one's host, number, user and time.
    """
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=wait, poll_interval=0.2)
    except Timeout:
        raise ResultError(
            f"{folder.parent} is being written by {_holder(folder / HOLDER)}. Two processes on one folder would spoil "
            "each other's files: wait for that one, stop it, or name another folder."
        ) from None
    me = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "user": _user(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_whole(folder / HOLDER, lambda file: file.write(json.dumps(me).encode()))
    return lock


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as containers have it
        return f"user {os.getuid()}"


def _holder(path: Path) -> str:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return f"process {found['pid']} of {found['user']} on {found['host']} since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process that has not said its name yet"
