"""Download a published data set: fetch, check, unpack, validate, rename.

    download("broden1_224", "broden") -> .broden.downloading/archive.zip.part -> unzip.py -> broden

A connection may drop, and a mirror or an archive may be hostile. The folder of the data set appears only after its
content was validated. Until then the downloaded part is kept, and the next call resumes from it.
"""

import errno
import hashlib
import json
import logging
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from netdissect import checksums
from netdissect.concepts.broden_files import INDEX_COLUMNS, read_table
from netdissect.concepts.build.atomic_dir import publish, staging_dir
from netdissect.concepts.csv_numbers import whole_number
from netdissect.concepts.inspect.validate import DatasetTables, TableRow, check_row, check_tables
from netdissect.concepts.transfer.unzip import Archive
from netdissect.config import Progress
from netdissect.counted import size_text
from netdissect.errors import ConceptsError, ConfigError
from netdissect.extras import need
from netdissect.paths import check_name
from netdissect.progress import ShowProgress, shown

if TYPE_CHECKING:
    import httpx
else:
    httpx = need("httpx", "download", "Downloading a data set")

logger = logging.getLogger(__name__)

HOME = "http://netdissect.csail.mit.edu/data"
ARCHIVES = ("broden1_224", "broden1_227", "broden1_384")

ATTEMPTS = 4  # attempts in a row that bring less than a block of new bytes
PATIENCE = 1.0  # seconds before the second attempt; twice as long before each further one
BLOCK = 1 << 20
LARGEST = 16 << 30  # bytes of a response without a length; the published archives have 0.5 to 2.5 GB
TIMEOUT = httpx.Timeout(60.0, connect=20.0)
CHECKED_IMAGES = 64  # images that are read to validate a data set
HOPELESS = (httpx.HTTPStatusError, httpx.TooManyRedirects, httpx.UnsupportedProtocol, httpx.InvalidURL)
MISSING = 0.01  # share of files that may be missing: a data set with a few gaps is usable, and inspect lists them
UNSOUND = 0.5  # share of the checked images that may have problems


def download(
    name: str,
    out: str | Path,
    *,
    mirror: str | None = None,
    checksum: str | None = None,
    progress: ShowProgress = None,
) -> Path:
    """Download the published data set `name` into the new folder `out`.

    Parameters
    ----------
    name
        ``broden1_224``, ``broden1_227`` or ``broden1_384``.
    out
        The new folder. An archive ``NAME.zip`` in the same folder as `out` is used instead of the network.
    mirror
        Address of a folder with ``NAME.zip``, or of the archive itself; it may end in the archive's checksum:
        ``https://example.org/broden1_224.zip#sha256=...``. None: the address where the data sets were published.
    checksum
        ``sha256:HEX`` or ``md5:HEX`` of the archive. None: that of `mirror`, if any; the published archives have none.
    progress
        None: shown on a terminal or in a notebook. False: not. A function: called with the bytes downloaded and the
        files unpacked.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ConfigError
        If `name` is unknown or the checksum is malformed.
    ConceptsError
        If the archive cannot be downloaded, has another checksum, is unsafe or is not a valid data set, or the disk
        does not have enough space. The downloaded part is kept for the next attempt, unless it is known to be wrong.
    """
    out = Path(out)
    origin = _origin(name, mirror, checksum)
    with staging_dir(out, "downloading", keep=True) as folder, shown(progress) as display:
        placed = out.absolute().with_name(f"{name}.zip")
        path = placed if placed.is_file() else _fetch(origin, folder, placed, display)
        _check_sum(path, origin, is_ours=path != placed)
        new = folder / "set"
        shutil.rmtree(new, ignore_errors=True)
        try:
            Archive(path).unpack(new, display)
            _validate(new, path)
            publish(new, out, overwrite=False)
        except ConceptsError:
            if path != placed:
                path.unlink(missing_ok=True)
            raise
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return out


@dataclass(frozen=True, slots=True)
class _DownloadOrigin:
    url: str
    checksum: tuple[str, str] | None


def _origin(name: str, mirror: str | None, checksum: str | None) -> _DownloadOrigin:
    if name not in ARCHIVES:
        raise ConfigError(f"there is no published data set {name!r}. Expected one of {', '.join(ARCHIVES)}.")
    address, _, fragment = (mirror or HOME).partition("#")
    url = address if address.endswith(".zip") else f"{address.rstrip('/')}/{name}.zip"
    stated = checksum or fragment
    if not stated:
        return _DownloadOrigin(url, None)
    match = re.fullmatch(r"(?:(sha256)[:=]([0-9a-f]{64})|(md5)[:=]([0-9a-f]{32}))", stated.strip().lower())
    if match is None:
        raise ConfigError(f"the checksum {stated!r} cannot be read. Expected sha256:HEX or md5:HEX.")
    return _DownloadOrigin(url, (match[1] or match[3], match[2] or match[4]))


def _fetch(origin: _DownloadOrigin, folder: Path, placed: Path, progress: Progress | None) -> Path:
    """Download the archive, resuming an earlier attempt."""
    part = _DownloadedPart(folder / "archive.zip.part", origin.url)
    failures, reached = 0, part.size
    with httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:
        while not part.is_whole:
            try:
                part.fetch(client, progress)
            except HOPELESS as error:
                raise ConceptsError(_unreachable(origin.url, placed, part, error)) from error
            except (httpx.TransportError, httpx.StreamError) as error:
                # Slow servers, and servers that restart, get as many attempts as servers that do not respond.
                failures = failures + 1 if part.size < reached + BLOCK else 1
                reached = max(reached, part.size)
                if failures >= ATTEMPTS:
                    raise ConceptsError(_unreachable(origin.url, placed, part, error)) from error
                logger.info("the connection broke at %d bytes (%s); trying again", part.size, error)
                time.sleep(PATIENCE * 2 ** (failures - 1))
    return part.path


class _DownloadedPart:
    """The downloaded part of an archive, with the address and tag of the archive."""

    def __init__(self, path: Path, url: str) -> None:
        self.path, self._notes = path, path.with_suffix(".json")
        self._facts: dict[str, str | int | None] = {"url": url, "tag": None, "total": None}
        known = self._read_notes()
        if known.get("url") == url and path.is_file():
            self._facts = known
        else:
            path.unlink(missing_ok=True)

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def total(self) -> int | None:
        total = self._facts["total"]
        return int(total) if total is not None else None

    @property
    def is_whole(self) -> bool:
        return self.size > 0 and self.size == self.total

    def fetch(self, client: httpx.Client, progress: Progress | None) -> None:
        """Request the missing bytes and append them; restart if the server has another file or no range requests."""
        headers = {"Accept-Encoding": "identity"}
        if self.size:
            headers["Range"] = f"bytes={self.size}-"
            if self._facts["tag"]:
                headers["If-Range"] = str(self._facts["tag"])
        with client.stream("GET", str(self._facts["url"]), headers=headers) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                self.path.unlink(missing_ok=True)
                raise httpx.RemoteProtocolError("the server has no more than what is here, yet it is not whole")
            response.raise_for_status()
            start, total = self._range_of(response)
            self._note(response, total)
            self._check_free_space((total or 0) - start)
            with self.path.open("r+b" if start else "wb") as file:
                file.seek(start)
                file.truncate()
                for block in response.iter_raw():  # without a block size, because an incomplete block would be lost
                    file.write(block)
                    if total is None and file.tell() > LARGEST:
                        self.path.unlink()
                        raise ConceptsError(
                            f"{self._facts['url']} does not say how long it is and does not stop after {LARGEST} "
                            "bytes. Expected an archive of a few gigabytes; nothing was kept, name another mirror."
                        )
                    if progress:
                        progress("bytes", file.tell(), total)
        if total is None:
            self._note(response, self.size)  # without a stated length the received bytes count as all
        if not self.is_whole:
            raise httpx.RemoteProtocolError(f"the server stopped after {self.size} of {total or 'some'} bytes")

    def _read_notes(self) -> dict[str, str | int | None]:
        try:
            known: dict[str, str | int | None] = json.loads(checksums.strip_checksum(self._notes.read_bytes()))
        except (OSError, ValueError):
            return {}  # never written, torn by a kill, or damaged
        return known

    def _range_of(self, response: httpx.Response) -> tuple[int, int | None]:
        """Return the first byte of the response, and the length of the archive."""
        length = response.headers.get("Content-Length")
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            return 0, int(length) if length else None
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != self.size or (self.total and match[2] not in ("*", str(self.total))):
            self.path.unlink(missing_ok=True)
            raise httpx.RemoteProtocolError("the server answered with another part than it was asked for")
        return self.size, self.total if match[2] == "*" else int(match[2])

    def _note(self, response: httpx.Response, total: int | None) -> None:
        tag = response.headers.get("ETag", "")
        strong = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
        self._facts |= {"tag": strong, "total": total}
        text = json.dumps(self._facts).encode()
        self._notes.write_bytes(text + checksums.checksum([text]))

    def _check_free_space(self, missing: int) -> None:
        free = shutil.disk_usage(self.path.parent).free
        logger.info("downloading %s (%s are free)", size_text(missing), size_text(free))
        if missing > free:
            raise OSError(errno.ENOSPC, f"{size_text(missing)} are to be downloaded, but {size_text(free)} are free")


def _unreachable(url: str, placed: Path, part: _DownloadedPart, error: Exception) -> str:
    kept = f" {part.size} bytes are kept, and the next attempt goes on from there." if part.size else ""
    return (
        f"{url} cannot be downloaded ({error or type(error).__name__}).{kept} Try again later, name a mirror "
        f"(--mirror, mirror=...), or fetch the archive by other means and place it at {placed}: it is used instead."
    )


def _check_sum(path: Path, origin: _DownloadOrigin, *, is_ours: bool) -> None:
    if origin.checksum is None:
        return
    algorithm, expected = origin.checksum
    with path.open("rb") as file:
        seen = hashlib.file_digest(file, algorithm).hexdigest()
    if seen != expected:
        if is_ours:
            path.unlink()
        raise ConceptsError(
            f"the archive {path if not is_ours else origin.url} has the {algorithm} {seen}. Expected {expected}; "
            + ("it was removed; " if is_ours else "")
            + "name another mirror or correct the checksum."
        )


def _validate(folder: Path, archive: Path) -> None:
    """Check that `folder` is a data set: valid tables, files present, a sample of images readable."""
    if not (folder / "index.csv").is_file():
        raise ConceptsError(
            f"the archive {archive} holds no index.csv, so it is no data set in Broden's layout. Name another mirror."
        )
    rows = read_table(folder / "index.csv", INDEX_COLUMNS)
    tables = check_tables(folder, tuple(rows[0]) if rows else None)
    for row in rows:  # a few missing files are accepted, but no path that leads out of the data set
        for name in _named(row, tables.categories):
            check_name(name, folder / "images", folder / "index.csv")
    problems = [f"{problem.file} {problem.message}" for problem in tables.problems]
    if not rows:
        problems.append("index.csv has no row.")
    if not problems:
        problems = _missing_files(folder, rows, tables.categories) or _unsound_images(folder, rows, tables)
    if problems:
        raise ConceptsError(
            f"the archive {archive} unpacks to a data set with {len(problems)} problems, the first: {problems[0]} "
            "Expected a published data set as it was; name another mirror."
        )


def _missing_files(folder: Path, rows: Sequence[TableRow], categories: Sequence[str]) -> list[str]:
    there = {path.relative_to(folder / "images").as_posix() for path in (folder / "images").rglob("*")}
    named = [name for row in rows for name in _named(row, categories)]
    missing = [f"images/{name} is missing." for name in named if name not in there]
    return _worst(missing, len(named), MISSING)


def _unsound_images(folder: Path, rows: Sequence[TableRow], tables: DatasetTables) -> list[str]:
    known = {category: frozenset(codes) for category, codes in tables.label_stats.items()}
    checked = rows[:: max(1, len(rows) // CHECKED_IMAGES)]
    found = [check_row(row, folder, known).problems for row in checked]
    unsound = [f"{problems[0].file} {problems[0].message}" for problems in found if problems]
    return _worst(unsound, len(checked), UNSOUND)


def _worst(problems: list[str], among: int, allowed: float) -> list[str]:
    if problems and len(problems) <= allowed * among:
        logger.warning(
            "%d of %d, the first: %s 'netdissect concepts inspect' lists all", len(problems), among, problems[0]
        )
        return []
    return problems


def _named(row: TableRow, categories: Sequence[str]) -> list[str]:
    items = (item.strip() for category in categories for item in (row[category] or "").split(";"))
    return [row["image"], *(item for item in items if item and whole_number(item) is None)]
