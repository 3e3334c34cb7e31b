"""Read tables and annotations from untrusted files: every fault is a `SourceError` that names the file."""

import codecs
import csv
import io
import json
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import scipy.io

from netdissect.errors import SourceError
from netdissect.paths import check_regular

LARGEST_JSON = 4 << 30
LARGEST_MAT = 1 << 30
SURPLUS = "surplus fields"  # key of the fields beyond the header
COMPRESSED = 15  # miCOMPRESSED of a MATLAB 5 file
MAT_HEADER = 128
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
DELIMITERS = (",", ";", "\t")


def read_text(path: Path, what: str) -> str:
    """Read UTF-8 text, or UTF-16 with a byte-order mark; other files are read as Latin-1.

    Raises
    ------
    SourceError
        If the file is missing or cannot be read; `what` describes the expected content.
    """
    try:
        check_regular(path)
        data = path.read_bytes()
    except FileNotFoundError:
        raise SourceError(f"{path} does not exist. Expected {what}; restore it or correct the folder.") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror or error}). Expected {what}.") from error
    try:
        return data.decode("utf-16" if data.startswith(UTF_16) else "utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def read_json(path: Path, what: str, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises
    ------
    SourceError
        If the file is missing, larger than `largest` bytes, not JSON or not an object; `what` describes the expected
        content.
    """
    content = read_any_json(path, what, largest)
    if not isinstance(content, dict):
        raise SourceError(f"{path} holds a JSON {type(content).__name__}. Expected {what}; restore the file.")
    return content


def read_any_json(path: Path, what: str, largest: int = LARGEST_JSON) -> Any:
    """Read a JSON file.

    Raises
    ------
    SourceError
        If the file is missing, larger than `largest` bytes or not JSON; `what` describes the expected content.
    """
    _check_size(path, what, largest)
    try:
        return json.loads(read_text(path, what))
    except (ValueError, RecursionError, MemoryError) as error:
        raise SourceError(f"{path} is no JSON ({error or 'too large'}). Expected {what}; restore the file.") from error


def read_bytes(path: Path, what: str, largest: int) -> bytes:
    """Read a file of at most `largest` bytes.

    Raises
    ------
    SourceError
        If the file is missing, larger or cannot be read; `what` describes the expected content.
    """
    _check_size(path, what, largest)
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror or error}). Expected {what}.") from error


def _check_size(path: Path, what: str, largest: int) -> None:
    if path.is_file() and path.stat().st_size > largest:
        raise SourceError(
            f"{path} has {path.stat().st_size:,} bytes. Expected {what} of at most {largest:,}; restore the file."
        )


def read_table(path: Path, columns: Sequence[str], what: str, *, whole: bool = False) -> list[dict[str, str]]:
    """Read a CSV file with a header; missing fields at the end of a row are empty, unless rows must be `whole`.

    Fields are separated by commas; if the header has none, by semicolons or tabs, as spreadsheets write in much of
    Europe. Names of columns are returned in lower case. Rows whose fields are all empty are ignored.

    Raises
    ------
    SourceError
        If the file is missing, not CSV, lacks one of `columns` or has any column twice, or a row has more fields than
        the header; `what` describes the expected content.
    """
    text = read_text(path, what)
    first = text.lstrip().partition("\n")[0]
    mark = next((mark for mark in DELIMITERS if mark in first), ",")
    lines = io.StringIO(text, newline="")
    try:
        reader = csv.DictReader(lines, restkey=SURPLUS, restval=None, skipinitialspace=True, delimiter=mark)
        header = list(reader.fieldnames or [])
        reader.fieldnames = [name.strip().lower() for name in header]
        rows = []
        for row in reader:
            if any("".join(field or "").strip() for field in row.values()):
                _check_fields(row, path, reader, whole=whole)
                rows.append(row)
    except csv.Error as error:
        raise SourceError(f"{path} is no table ({error}). Expected {what}; restore the file.") from error
    seen = f"its header is {mark.join(header)!r}. Expected {what}"
    if double := [name for name in reader.fieldnames if name and reader.fieldnames.count(name) > 1]:
        raise SourceError(f"{path} has more than one column {double[0]!r}; {seen}; rename or remove one.")
    if missing := [column for column in columns if column not in reader.fieldnames]:
        raise SourceError(f"{path} lacks the column {missing[0]!r}; {seen} with the columns {','.join(columns)}.")
    return rows


def _check_fields(row: dict[str, Any], path: Path, reader: "csv.DictReader[str]", *, whole: bool) -> None:
    """Raise an error for a row that is longer than the header: an unquoted comma shifts the fields after it."""
    if absent := [name for name, text in row.items() if text is None]:
        if whole:
            raise SourceError(
                f"{path}, line {reader.line_num} has no field {absent[0]!r}. Expected a field for each column of the "
                "header, which may be empty; correct the line."
            )
        row.update(dict.fromkeys(absent, ""))
    if surplus := row.pop(SURPLUS, []):
        header = list(reader.fieldnames or [])
        raise SourceError(
            f"{path}, line {reader.line_num}: {','.join([*row.values(), *surplus])!r} has {len(header) + len(surplus)} "
            f"fields, but the header {','.join(header)!r} has {len(header)}. Expected quotes around a field that holds "
            'a comma, e.g. "door, sliding"; correct the line.'
        )


def read_mat(path: Path, variable: str, what: str, largest: int = LARGEST_MAT) -> Any:
    """Read a variable of a MATLAB 5 file: arrays of at least two dimensions, structs as objects with attributes.

    Raises
    ------
    SourceError
        If the file is missing, damaged, states that it unpacks to more than `largest` bytes, is of another type, or
        lacks the variable; `what` describes the expected content.

    Notes
    -----
    SciPy's reader trusts the file: one wrong byte can end the process. Compressed elements have a checksum, which is
    checked first. A file with other elements is first read in a subprocess.
    """
    try:
        if not _check_elements(path, largest):
            _read_in_subprocess(path)
        content = scipy.io.loadmat(path, struct_as_record=False, variable_names=[variable])
    except SourceError:
        raise
    except FileNotFoundError:
        raise SourceError(f"{path} does not exist. Expected {what}; restore it or correct the folder.") from None
    except Exception as error:  # a damaged file may raise any error
        reason = str(error) or type(error).__name__
        raise SourceError(
            f"{path} cannot be read as a MATLAB file ({reason}). Expected {what}, saved by MATLAB before version 7.3; "
            "restore the file."
        ) from error
    if variable not in content:
        raise SourceError(f"{path} holds no variable {variable!r}. Expected {what}; restore the file.")
    return content[variable]


def _check_elements(path: Path, largest: int) -> bool:
    """Unpack every compressed element piece by piece to check it; return whether all elements are compressed.

    A small file may unpack to more than the memory, so that the stated sizes of its elements are added up first.
    """
    total, compressed = 0, True
    with path.open("rb") as file:
        header = file.read(MAT_HEADER)
        order = ">" if header[126:128] == b"MI" else "<"
        while len(tag := file.read(8)) == 8:
            element_type, size = struct.unpack(f"{order}II", tag)
            offset = file.tell()
            if element_type == COMPRESSED:
                start = zlib.decompressobj().decompress(file.read(min(size, 64)), 8)
                total += struct.unpack(f"{order}II", start)[1] if len(start) == 8 else 0
            else:
                total, compressed = total + size, False
            if total > largest:
                raise SourceError(
                    f"{path} says that it unpacks to {total:,} bytes. Expected at most {largest:,}; restore the file."
                )
            if element_type == COMPRESSED:
                file.seek(offset)
                _check_stream(file.read(size))
            file.seek(offset + size)
    return compressed


def _check_stream(content: bytes) -> None:
    """Unpack a zlib stream to its checksum, a megabyte at a time."""
    unpacking = zlib.decompressobj()
    while content and not unpacking.eof:
        unpacking.decompress(content, 1 << 20)
        content = unpacking.unconsumed_tail
    if not unpacking.eof:
        raise EOFError("a compressed element ends early")


def _read_in_subprocess(path: Path) -> None:
    """Read a file in another process, and raise an error if that process is killed."""
    program = "import sys, scipy.io; scipy.io.loadmat(sys.argv[1], struct_as_record=False)"
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, check=False)  # noqa: S603
    if done.returncode < 0:
        raise ValueError(f"reading it ends a process with {signal.Signals(-done.returncode).name}")
