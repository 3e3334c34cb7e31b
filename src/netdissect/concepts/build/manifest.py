"""A journal of the samples that a build has written, so that a killed build resumes.

    folder/journal.jsonl: a line with the build's key, then a line for each sample, in the order of the build

A line is written after the files of its sample, and begins with its checksum; a truncated or changed line is ignored. A
sample is reused if its inputs (path, size and times of files; content of arrays) and its written files are unchanged.
The journal of another build is deleted.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from netdissect import checksums
from netdissect.concepts.build.rendered import Folders, MapFile, Rendered
from netdissect.concepts.build.sample import Sample

FILE = "journal.jsonl"
Fact = list[int] | None

LARGE = 64  # mappings of at least this many entries are shared by many samples: their digest is cached


class InputHasher:
    """Digests of the inputs of samples."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, bytes]] = {}

    def stamp(self, sample: Sample) -> str:
        """Return the digest of the sample's name, split, image and labels, without reading files."""
        digest = hashlib.sha256()
        for part in self._parts((sample.name, sample.split, sample.image, sample.labels)):
            digest.update(part + b"\0")
        return digest.hexdigest()

    def _parts(self, value: Any) -> Iterator[bytes]:
        if value is None or isinstance(value, str | int | float | bytes | np.generic):
            yield repr(value).encode()
        elif isinstance(value, Path):
            yield _file(value)
        elif isinstance(value, np.ndarray):
            yield f"{value.dtype} {value.shape}".encode()
            yield hashlib.sha256(np.ascontiguousarray(value).data).digest()
        elif isinstance(value, Image.Image):
            yield f"{value.mode} {value.size}".encode()
            yield hashlib.sha256(value.tobytes()).digest()
        elif isinstance(value, functools.partial):
            yield from self._parts((value.func, value.args, value.keywords))
        elif isinstance(value, Mapping):
            yield self._mapping(value)
        elif isinstance(value, list | tuple):
            yield b"("
            for item in value:
                yield from self._parts(item)
            yield b")"
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield type(value).__qualname__.encode()
            for field in dataclasses.fields(value):
                yield from self._parts(getattr(value, field.name))
        elif callable(value):
            yield f"{value.__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}".encode()
            yield from self._parts(getattr(value, "__self__", None))
        else:
            yield type(value).__qualname__.encode()  # does not depend on its content

    def _mapping(self, mapping: Mapping[Any, Any]) -> bytes:
        known = self._known.get(id(mapping))
        if known is not None and known[0] is mapping:
            return known[1]
        digest = hashlib.sha256()
        for key, value in mapping.items():
            for part in self._parts((key, value)):
                digest.update(part + b"\0")
        if len(mapping) >= LARGE and len(self._known) < LARGE:
            self._known[id(mapping)] = mapping, digest.digest()
        return digest.digest()


class BuildManifest:
    """The journal of one build.

    Parameters
    ----------
    folder
        Folder of the journal.
    folders
        Folders of the samples' files.
    key
        Digest of everything but the samples that affects the written files.
    """

    def __init__(self, folder: Path, folders: Folders, key: str) -> None:
        self._path, self._folders = folder / FILE, folders
        self._finished: dict[str, tuple[Rendered, list[Fact]]] = {}
        lines = _read_lines(self._path)
        self.is_ours = bool(lines) and lines[0] == {"key": key}
        if self.is_ours:
            self._finished = {line["stamp"]: (_decode(line["rendered"]), line["files"]) for line in lines[1:]}
        self._start = [{"key": key}, *lines[1:]] if self.is_ours else [{"key": key}]

    def __len__(self) -> int:
        """Count the samples that an earlier process finished."""
        return len(self._finished)

    def __enter__(self) -> Self:
        whole = self._path.with_suffix(".new")
        whole.write_text("".join(map(_line, self._start)), encoding="utf-8")
        whole.replace(self._path)
        self._file = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def find(self, stamp: str) -> Rendered | None:
        """Return the record of the sample with this stamp if its files are unchanged, otherwise None."""
        if stamp not in self._finished:
            return None
        rendered, facts = self._finished[stamp]
        return rendered if self._facts(rendered) == facts else None

    def add(self, stamp: str, rendered: Rendered) -> None:
        """Add the record of a written sample."""
        self._file.write(_line({"stamp": stamp, "rendered": _encode(rendered), "files": self._facts(rendered)}))
        self._file.flush()

    def _facts(self, rendered: Rendered) -> list[Fact]:
        paths = (self._folders.images / rendered.image, *(self._folders.drafts / m.path for m in rendered.maps))
        return [_content(path) for path in paths]


def _file(path: Path) -> bytes:
    try:
        facts = path.stat()
    except (OSError, ValueError):  # a null character in a name is a ValueError
        return f"{path} missing".encode(errors="surrogateescape")
    # A program can set the modification time, as cp -p does, but not the change time (ctime).
    return f"{path} {facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}".encode(errors="surrogateescape")


def _content(path: Path) -> Fact:
    """Return a file's size and checksum; None if there is none."""
    try:
        with path.open("rb") as file:
            return [path.stat().st_size, checksums.file_crc(file)]
    except OSError:
        return None


def _line(content: Mapping[str, Any]) -> str:
    text = json.dumps(content)
    return f"{checksums.checksum([text.encode()]).hex()} {text}\n"


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines: list[dict[str, Any]] = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        check, _, line = text.partition(" ")
        # Otherwise the line is truncated, because the process was killed while writing it, or changed.
        if checksums.checksum([line.encode()]).hex() == check:
            lines.append(json.loads(line))
    return lines


def _encode(one: Rendered) -> dict[str, Any]:
    items = {category: [_encode_item(item) for item in carried] for category, carried in one.items.items()}
    return {"image": one.image, "split": one.split, "items": items, "pixels": one.pixels, "turned": one.turned}


def _encode_item(item: MapFile | str) -> Any:
    return item if isinstance(item, str) else [item.path, list(item.names)]


def _decode(facts: Mapping[str, Any]) -> Rendered:
    items = {category: tuple(_decode_items(carried)) for category, carried in facts["items"].items()}
    return Rendered(facts["image"], facts["split"], items, facts["pixels"], facts["turned"])


def _decode_items(carried: Iterable[Any]) -> Iterator[MapFile | str]:
    for item in carried:
        yield item if isinstance(item, str) else MapFile(item[0], tuple(item[1]))
