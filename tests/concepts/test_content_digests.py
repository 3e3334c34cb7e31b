"""What files hold, told by every byte, and remembered as long as nobody touched them."""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from netdissect.caches.cache_folder import DIGESTS
from netdissect.concepts import content_digests as contents_module
from netdissect.concepts.content_digests import ContentDigests

NAMES = ("a.png", "deep/b.png", "c.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(name.encode() * 100)
    return tmp_path / "images"


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files be written long ago: within the same tick of the clock they might be written again."""
    monkeypatch.setattr("time.time_ns", lambda: 2**62)


def reading(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which files are read."""
    seen: list[str] = []
    read = contents_module._digest_of

    def noted(path: str) -> bytes:
        seen.append(path)
        return read(path)

    monkeypatch.setattr(contents_module, "_digest_of", noted)
    return seen


def test_the_digest_is_that_of_the_digests_of_all_files(root: Path) -> None:
    parts = [hashlib.sha256((root / name).read_bytes()).digest() for name in NAMES]
    assert ContentDigests(root, NAMES).digest() == hashlib.sha256(b"".join(parts)).hexdigest()
    assert ContentDigests(root, NAMES[::-1]).digest() != ContentDigests(root, NAMES).digest()


def test_files_are_read_once_by_one_object_and_by_processes_with_a_cache(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: None
) -> None:
    seen = reading(monkeypatch)
    one = ContentDigests(root, NAMES, tmp_path / "cache")
    assert {one.digest(), one.digest(), ContentDigests(root, NAMES, tmp_path / "cache").digest()} == {one.read()}
    assert len(seen) == 2 * len(NAMES)  # by the first call, and by `read`, which is there for that
    ContentDigests(root, NAMES).digest()
    assert len(seen) == 3 * len(NAMES)


def rewritten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])


def rewritten_in_its_time(path: Path) -> None:
    facts = path.stat()
    rewritten(path)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def replaced_in_its_time(path: Path) -> None:
    facts, aside = path.stat(), path.with_suffix(".new")
    aside.write_bytes(path.read_bytes()[::-1])
    os.utime(aside, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    aside.replace(path)


def removed(path: Path) -> None:
    path.unlink()


def made_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [rewritten, rewritten_in_its_time, replaced_in_its_time, removed, made_a_pipe])
def test_a_changed_file_is_noticed_whatever_its_size_and_times_say(
    root: Path, tmp_path: Path, later: None, change: Callable[[Path], None]
) -> None:
    if change is made_a_pipe and not hasattr(os, "mkfifo"):
        pytest.skip("has no pipes with names")
    one = ContentDigests(root, NAMES, tmp_path / "cache")
    before = one.digest()
    time.sleep(0.02)  # the clock of a file system ticks every few milliseconds
    change(root / NAMES[1])
    assert one.digest() != before
    assert ContentDigests(root, NAMES, tmp_path / "cache").digest() == ContentDigests(root, NAMES).read() != before


def test_equal_sizes_and_times_in_another_folder_are_not_taken_for_the_same(
    root: Path, tmp_path: Path, later: None
) -> None:
    other = tmp_path / "other"
    for name in NAMES:
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_bytes((root / name).read_bytes()[::-1])
        os.utime(other / name, ns=((root / name).stat().st_atime_ns, (root / name).stat().st_mtime_ns))
    cache = tmp_path / "cache"
    assert ContentDigests(root, NAMES, cache).digest() != ContentDigests(other, NAMES, cache).digest()


def test_files_that_were_written_just_now_are_not_remembered(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = max((root / name).stat().st_ctime_ns for name in NAMES)
    seen = reading(monkeypatch)
    for seconds, read in ((1, 1), (2, 2), (4, 3), (5, 3)):
        monkeypatch.setattr("time.time_ns", lambda now=last + seconds * 10**9: now)
        ContentDigests(root, NAMES, tmp_path / "cache").digest()
        assert len(seen) == read * len(NAMES)


@pytest.mark.parametrize("content", ["", "0" * 64, "nonsense \xff", "{flipped}"])
def test_a_damaged_memory_is_forgotten(root: Path, tmp_path: Path, later: None, content: str) -> None:
    expected = ContentDigests(root, NAMES, tmp_path / "cache").digest()
    (path,) = (tmp_path / "cache").iterdir()
    digest, seal = path.read_text().partition("\n")[0].split()
    flipped = f"{'1' if digest[0] == '0' else '0'}{digest[1:]} {seal}"
    path.write_text(content.format(flipped=flipped))
    assert ContentDigests(root, NAMES, tmp_path / "cache").digest() == expected
    assert path.read_text().partition("\n")[0].split() == [digest, seal]


def test_a_cache_that_cannot_be_written_is_done_without(root: Path, tmp_path: Path, later: None) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert ContentDigests(root, NAMES, tmp_path / "cache").digest() == ContentDigests(root, NAMES).digest()


def test_only_the_latest_digests_are_remembered(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: None
) -> None:
    monkeypatch.setattr(contents_module, "DIGESTS", replace(DIGESTS, max_files=2))
    for number in range(4):
        ContentDigests(root, (*NAMES, str(number)), tmp_path / "cache").digest()
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_progress_tells_of_files_that_are_read_and_of_none_that_is_remembered(
    root: Path, monkeypatch: pytest.MonkeyPatch, later: None
) -> None:
    monkeypatch.setattr(contents_module, "PATIENCE", 0.0)
    told: list[tuple[str, int, int | None]] = []
    one = ContentDigests(root, NAMES)
    for _ in range(2):
        one.digest(lambda *report: told.append(report))
    assert told == [("reading files", 3, 3)]
