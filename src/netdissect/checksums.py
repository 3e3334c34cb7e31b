"""Checksums of what is written, by which a flipped bit or a cut is found when it is read again.

    seal(parts) -> four bytes to be written behind them        opened(content) -> what lies before its four bytes
    seal_file(file), check_file(file)                          the same of a whole file
    file_crc(file) -> the number itself, to be kept elsewhere

A file that a run goes on from is trusted only through here: disks flip bits, and a count that is wrong looks like any.
"""

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from typing import IO, Any

from pydantic_core import to_json

BYTES = 4
OTHER = "its checksum is another"
_STEP = 1 << 20


def seal(parts: Iterable[Any]) -> bytes:
    """Return the CRC-32 of buffers that are written one after the other, 4 bytes, little-endian.

    >>> seal([b"12345", b"6789"]).hex()
    '2639f4cb'
    """
    check = 0
    for part in parts:
        check = zlib.crc32(part, check)
    return check.to_bytes(BYTES, "little")


def opened(content: bytes) -> bytes:
    """Return what was sealed, without its seal.

    Raises
    ------
    ValueError
        If it is not what was written.
    """
    if len(content) < BYTES or seal([content[:-BYTES]]) != content[-BYTES:]:
        raise ValueError(OTHER)
    return content[:-BYTES]


def json_digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what a JSON object says, but its ``digest``; an older version may have written less.

    >>> json_digest({"a": 1, "digest": "x"})[:8]
    '015abd7f'
    """
    return hashlib.sha256(to_json({key: value for key, value in content.items() if key != "digest"})).hexdigest()


def file_crc(file: IO[bytes], size: int | None = None) -> int:
    """Return the CRC-32 of a file from its start: of `size` bytes, or of all."""
    left = file.seek(0, 2) if size is None else size
    file.seek(0)
    check = 0
    while left > 0 and (part := file.read(min(left, _STEP))):
        check, left = zlib.crc32(part, check), left - len(part)
    return check


def seal_file(file: IO[bytes]) -> None:
    """Write the seal of a whole file behind it; the file is open for reading, too."""
    check = file_crc(file)
    file.write(check.to_bytes(BYTES, "little"))


def check_file(file: IO[bytes]) -> None:
    """Hold a file against its seal, and go back to its start.

    Raises
    ------
    ValueError
        If it is not what was written.
    """
    size = file.seek(0, 2) - BYTES
    check = file_crc(file, size)
    if size < 0 or check.to_bytes(BYTES, "little") != file.read(BYTES):
        raise ValueError(OTHER)
    file.seek(0)
