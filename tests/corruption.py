"""Damage done to files: what a broken disk, a careless hand or an attacker may leave behind.

    wound = draw(wounds())          # which file, and what happens to it
    inflict(folder, wound)          # the same wound does the same damage

`survives` says what is allowed to follow: success, or one of netdissect's own errors.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hypothesis import Phase
from hypothesis import strategies as st

from netdissect.errors import NetdissectError

# For `hypothesis.settings`: what fails is small already, and shrinking it would take minutes.
FAST = {"phases": (Phase.explicit, Phase.reuse, Phase.generate)}

KINDS = ("flip", "cut", "insert", "remove", "repeat", "replace", "link")

SNIPPETS = (
    b"", b"\x00", b"\xff\xfe", b"\n", b"\r\n", b",", b";", b'"', b"'", b"-1", b"0", b"1e309", b"nan", b"inf",
    b"999999999999999999999", b"99999999", b"../../../../etc/passwd", b"/etc/passwd", b"..\\..\\x", b"C:\\x",
    b"\xed\xa0\x80", "ｅ́🦓".encode(), b"<script>alert(1)</script>", b"%s%n", b"{}", b"[]", b"null", b"a" * 5000,
    b"," * 20000, b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"\x80\x04K\x01.",
)  # fmt: skip


@dataclass(frozen=True)
class Wound:
    """One damage: which file (modulo how many there are), where (a share of its length), and what.

    A case that fuzzing found is pinned by the end of the file's name and the bytes before which it happens, so that it
    stays the same case when files change; where there is no such file or no such place, the first is damaged.
    """

    file: int | str
    kind: str
    place: float | bytes
    length: int
    content: bytes


def png_of(width: int, height: int) -> bytes:
    """Return a PNG of a hundred bytes that claims to be of this size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


REPLACEMENTS = (
    b"", b"\x00" * 64, b"no such thing", png_of(50_000, 50_000), png_of(0, 0), png_of(12_000, 10_000),
    b"a," * 200_000 + b"\n", b"[" * 50_000, b"{" * 50_000,
    b"GIF89a\xff\xff\xff\xff", b"\xff\xd8\xff\xe0" + b"\x00" * 32,
    b"\xef\xbb\xbfimage,split\n",
)  # fmt: skip


@st.composite
def wounds(draw: st.DrawFn) -> Wound:
    """Draw a wound."""
    kind = draw(st.sampled_from(KINDS))
    pool = REPLACEMENTS if kind == "replace" else SNIPPETS
    return Wound(
        draw(st.integers(0, 2**16)),
        kind,
        draw(st.floats(0, 1)),
        draw(st.sampled_from((1, 2, 8, 100))),
        draw(st.one_of(st.sampled_from(pool), st.binary(max_size=20))),
    )


def inflict(folder: Path, wound: Wound, outside: Path, only: Callable[[Path], bool] = lambda _: True) -> Path:
    """Damage one file below `folder`; a link leads to the file `outside`. Returns the file's path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and only(path))
    if isinstance(wound.file, str):
        path = next((path for path in files if path.as_posix().endswith(wound.file)), files[0])
    else:
        path = files[wound.file % len(files)]
    content = path.read_bytes()
    place = wound.place
    at = max(content.find(place), 0) if isinstance(place, bytes) else int(place * len(content))
    before, hit, after = content[:at], content[at : at + wound.length], content[at + wound.length :]
    match wound.kind:
        case "flip":
            changed = before + bytes(byte ^ (wound.content or b"\x01")[0] for byte in hit) + after
        case "cut":
            changed = before
        case "insert":
            changed = before + wound.content + hit + after
        case "remove":
            changed = before + after
        case "repeat":
            changed = before + hit * 50 + after
        case "replace":
            changed = wound.content
        case _:
            path.unlink()
            path.symlink_to(outside)
            return path
    path.write_bytes(changed)
    return path


def survives(action: Callable[[], object]) -> None:
    """Allow success, and netdissect's own errors with one paragraph of advice: nothing else may come out."""
    said = ""
    try:
        action()
    except NetdissectError as error:
        said = str(error)
    assert not said or (len(said) > 40 and "Traceback" not in said)


def snapshot(folder: Path) -> dict[str, bytes | str]:
    """Return every file below a folder with its content, links by where they lead."""
    return {
        path.relative_to(folder).as_posix(): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }
