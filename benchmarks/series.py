"""Records of a long series of measurements: JSON lines, appended as soon as something is measured."""

import json
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

Record = dict[str, Any]


@cache
def commit() -> str:
    """Return the commit of this checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@cache
def machine() -> str:
    """Return the processor's name, its cores, and what it has beyond AVX2."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    flags = next(line for line in lines if line.startswith("flags")).split()
    cores = sum(line.startswith("processor") for line in lines)
    wide = [flag for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{name}, {cores} cores, {' '.join(wide) or 'without AVX-512'}"


def read(file: Path, kind: str) -> list[Record]:
    """Return the records of one kind."""
    if not file.exists():
        return []
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [record for record in records if record["kind"] == kind]


def append(file: Path, kind: str, record: Record) -> None:
    """Add a record, with when, where and of which commit."""
    stamp = {"kind": kind, "commit": commit(), "machine": machine(), "when": f"{datetime.now(UTC):%Y-%m-%d %H:%M}"}
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(stamp | record) + "\n")


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Return the lines of a table."""
    yield f"| {' | '.join(columns)} |"
    yield f"{'|---' * len(columns)}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
