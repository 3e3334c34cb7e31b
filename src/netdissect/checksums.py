"""Checksums of written files, which detect flipped bits and truncation when they are read.

    checksum(parts) -> four bytes to append        strip_checksum(content) -> the content without them
    append_checksum(file), check_file(file)        the same for a file
    file_crc(file)                                 the CRC-32 itself

Every file from which a run resumes is checked: a wrong count cannot be recognized as such.
"""

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from typing import IO, Any

BYTES = 4
MISMATCH = "its checksum is another"
_STEP = 1 << 20


def checksum(parts: Iterable[Any]) -> bytes:
    """Return the CRC-32 of buffers that are written one after the other, 4 bytes, little-endian.

    >>> checksum([b"12345", b"6789"]).hex()
    '2639f4cb'
    """
    check = 0
    for part in parts:
        check = zlib.crc32(part, check)
    return check.to_bytes(BYTES, "little")


def strip_checksum(content: bytes) -> bytes:
    """Return the content before an appended checksum.

    Raises
    ------
    ValueError
        If the checksum does not agree.
    """
    if len(content) < BYTES or checksum([content[:-BYTES]]) != content[-BYTES:]:
        raise ValueError(MISMATCH)
    return content[:-BYTES]


def json_digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a JSON object without its key ``digest``, as it was written.

    >>> json_digest({"a": 1, "digest": "x"})[:8]
    '015abd7f'
    """
    from pydantic_core import to_json  # not there where activations are only computed and counted

    return hashlib.sha256(to_json({key: value for key, value in content.items() if key != "digest"})).hexdigest()


def file_crc(file: IO[bytes], size: int | None = None) -> int:
    """Return the CRC-32 of a file from its start: of `size` bytes, or of all."""
    left = file.seek(0, 2) if size is None else size
    file.seek(0)
    check = 0
    while left > 0 and (part := file.read(min(left, _STEP))):
        check, left = zlib.crc32(part, check), left - len(part)
    return check


def append_checksum(file: IO[bytes]) -> None:
    """Append the checksum of a file, which must be open for reading, too."""
    check = file_crc(file)
    file.write(check.to_bytes(BYTES, "little"))


def check_file(file: IO[bytes]) -> None:
    """Check a file against its appended checksum, and seek its start.

    Raises
    ------
    ValueError
        If the checksum does not agree.
    """
    size = file.seek(0, 2) - BYTES
    check = file_crc(file, size)
    if size < 0 or check.to_bytes(BYTES, "little") != file.read(BYTES):
        raise ValueError(MISMATCH)
    file.seek(0)
