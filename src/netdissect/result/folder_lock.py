"""A lock for a folder: one process at a time; the error for a second one names the first.

The lock is one of the kernel (`flock`): it ends with its process, so no stale lock remains. Reading a finished run
takes no lock.
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
    """Lock a folder for this process until the lock is released or the process ends.

    Parameters
    ----------
    folder
        Folder of the lock and of the file that names its holder.
    wait
        Seconds to wait for another process to release the lock.

    Raises
    ------
    ResultError
        If another process holds the lock; names its host, process id, user and start.
    """
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=wait, poll_interval=0.2)
    except Timeout:
        raise ResultError(
            f"{folder.parent} is being written by {_holder(folder / HOLDER)}. Two processes on one folder would "
            "overwrite each other's files: wait for that process, stop it, or name another folder."
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
    except (KeyError, OSError):  # a user id without a name, as in containers
        return f"user {os.getuid()}"


def _holder(path: Path) -> str:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return f"process {found['pid']} of {found['user']} on {found['host']} since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
