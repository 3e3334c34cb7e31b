"""What was found of each unit, one JSON object a line, so that an interrupted search resumes with the next unit.

    RUN/formulas/formulas-DIGEST/units.log      a CRC-32 and an object on each line

A line that was cut short by a kill is removed; any other damage is an error.
"""

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netdissect.errors import ResultError
from netdissect.paths import writing

Record = Mapping[str, Any]


class UnitLog:
    """An append-only file of what was found.

    Parameters
    ----------
    path
        The file; created with the first record.

    Attributes
    ----------
    records
        All records, by their ``key``: a later one replaces an earlier one.

    Raises
    ------
    ResultError
        If a line is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.records = path, dict[tuple[Any, ...], Record]()
        if not path.exists():
            return
        with writing(path, "Make it a file that can be read and written, or remove it."):
            content = path.read_bytes()
            end = content.rfind(b"\n") + 1
            if end < len(content):
                with path.open("r+b") as file:
                    file.truncate(end)
        for index, line in enumerate(content[:end].splitlines()):
            record = _parsed(line)
            if record is None:
                raise ResultError(
                    f"{path} is damaged: its line {index + 1} is not what was written. Remove this file, and run the "
                    "same command again: the units are searched again."
                )
            self.records[tuple(record["key"])] = record

    def append(self, key: tuple[Any, ...], record: Record) -> None:
        """Write one record.

        Raises
        ------
        ResultError
            If the disk is full or cannot be written.
        """
        complete = {"key": list(key), **record}
        text = json.dumps(complete).encode()
        with writing(self.path, "What was found is kept: free space and run the same command again."):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(b"%08x %s\n" % (zlib.crc32(text), text))
                file.flush()
                os.fsync(file.fileno())
        self.records[key] = complete


def _parsed(line: bytes) -> Record | None:
    check, _, text = line.partition(b" ")
    if check != b"%08x" % zlib.crc32(text):
        return None
    found = json.loads(text)
    return found if isinstance(found, dict) and isinstance(found.get("key"), list) else None
