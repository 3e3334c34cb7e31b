"""`RUN/log.jsonl`: what happened, one JSON object a line: time, level, event, and the event's own fields.

The log of a run belongs to its folder. Nothing is configured for the process: a library user's logging stays as it is.
"""

import contextlib
import os
import socket
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, TextIO

import structlog

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
                getattr(_lines(file), level)(event, **self._fields, **fields)


def _lines(file: TextIO) -> Any:
    return structlog.wrap_logger(
        structlog.WriteLogger(file),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            _first_things_first,
            structlog.processors.JSONRenderer(default=str),
        ],
    )


def _first_things_first(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: fields.pop(name) for name in ("time", "level", "event")} | dict(fields)
