"""`RUN/log.jsonl`: what happened, one JSON object a line: time, level, event, and the event's own fields.

The log of a run belongs to its folder. Nothing is configured for the process: a library user's logging stays as it is.
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
        Said with every event, beside host and process, such as which shard.
    """

    def __init__(self, folder: Path | None, **fields: Any) -> None:
        self._folder, self._fields = folder, {"host": socket.gethostname(), "pid": os.getpid(), **fields}

    def event(self, event: str, *, level: str = "info", **fields: Any) -> None:
        """Write one line. A log that cannot be written ends no run: what cannot be done without its file says so."""
        if self._folder is None:
            return
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            # Opened for each of the few events, and appended in one write: shards of many processes share the file.
            with (self._folder / LOG_FILE).open("a", encoding="utf-8") as file:
                time = datetime.now(UTC).isoformat().replace("+00:00", "Z")
                line = {"time": time, "level": level, "event": event, **self._fields, **fields}
                file.write(json.dumps(line, default=str) + "\n")


@contextlib.contextmanager
def timed(stage: str, seconds: dict[str, float], log: RunLog | None = None) -> Iterator[None]:
    """Add the wall time of what is done inside to `seconds[stage]`, and note its end in a log."""
    start = monotonic()
    yield
    seconds[stage] = round(seconds.get(stage, 0.0) + monotonic() - start, 3)
    if log is not None:
        log.event("finished stage", stage=stage, seconds=seconds[stage])
