"""`RUN/log.jsonl`: the events of a run, one JSON object a line: time, level, event and the fields of the event.

Every run folder has its own log. The logging configuration of the process is not changed.
"""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

LOG_FILE = "log.jsonl"


class RunLog:
    """The log of a run folder.

    Parameters
    ----------
    folder
        Made if absent. None: nothing is written.
    fields
        Fields of every event, in addition to host and process, such as the shard.
    """

    def __init__(self, folder: Path | None, **fields: Any) -> None:
        self._folder, self._fields = folder, {"host": socket.gethostname(), "pid": os.getpid(), **fields}

    def event(self, event: str, *, level: str = "info", **fields: Any) -> None:
        """Write one line. A log that cannot be written does not stop the run."""
        if self._folder is None:
            return
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            # Opened for each event and appended in one write: processes of several shards share the file.
            with (self._folder / LOG_FILE).open("a", encoding="utf-8") as file:
                time = datetime.now(UTC).isoformat().replace("+00:00", "Z")
                line = {"time": time, "level": level, "event": event, **self._fields, **fields}
                file.write(json.dumps(line, default=str) + "\n")


@contextlib.contextmanager
def timed(stage: str, seconds: dict[str, float], log: RunLog | None = None) -> Iterator[None]:
    """Add the wall time of the block to `seconds[stage]`, and log its end."""
    start = monotonic()
    yield
    seconds[stage] = round(seconds.get(stage, 0.0) + monotonic() - start, 3)
    if log is not None:
        log.event("finished stage", stage=stage, seconds=seconds[stage])
