"""Fetching a published data set from a server that drops, lies or serves an attack."""

import hashlib
import io
import re
import shutil
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from netdissect.concepts import ConceptData
from netdissect.concepts.build.sample import Channel, Sample
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.concepts.build.writer import write_dataset
from netdissect.concepts.inspect.inspect import inspect_dataset
from netdissect.concepts.transfer import download as download_module
from netdissect.concepts.transfer.download import download
from netdissect.concepts.transfer.unzip import Archive
from netdissect.errors import ConceptsError, ConfigError

NAME = "broden1_224"


@dataclass
class Server:
    """A loopback server of one file, with the habits that a test gives it."""

    content: bytes = b""
    drop_after: list[int] = field(default_factory=list)  # bytes of the answers that are cut off, one an answer
    knows_ranges: bool = True
    says_length: bool = True
    shifted: bool = False
    leads_to: str | None = None
    status: int = 200
    tag: str = '"one"'
    asked: list[str | None] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        asked = handler.headers.get("Range")
        self.asked.append(asked)
        if self.status != 200:
            handler.send_error(self.status)
            return
        if self.leads_to is not None:
            handler.send_response(302)
            handler.send_header("Location", self.leads_to)
            handler.end_headers()
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.knows_ranges else 0
        if handler.headers.get("If-Range", self.tag) != self.tag:
            start = 0
        if start and start >= len(self.content):
            handler.send_error(416)
            return
        body = self.content[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("ETag", self.tag)
        if start:
            first = start - 1 if self.shifted else start
            handler.send_header("Content-Range", f"bytes {first}-{len(self.content) - 1}/{len(self.content)}")
        if self.says_length:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.drop_after.pop(0)] if self.drop_after else body)
        handler.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    habits = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            habits.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        habits.url = f"http://127.0.0.1:{running.server_port}/data"
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield habits
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "PATIENCE", 0.0)
    monkeypatch.setattr(download_module, "BLOCK", 1000)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    samples = [
        Sample(
            f"own/{n}",
            rng.integers(0, 256, (20, 20, 3), dtype=np.uint8),
            {"object": [Channel(rng.integers(0, 4, (20, 20)), {1: "sky", 2: "sea", 3: "dog"})]},
        )
        for n in range(8)
    ]
    return write_dataset(tmp_path_factory.mktemp("published") / NAME, samples, WriteOptions(size=20))


def pack(root: Path, top: str = NAME) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*")):
            archive.write(path, Path(top, path.relative_to(root)))
    return buffer.getvalue()


@pytest.fixture
def good(dataset: Path, server: Server) -> bytes:
    server.content = pack(dataset)
    return server.content


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_published_data_set_is_fetched_unpacked_and_sound(
    good: bytes, server: Server, dataset: Path, tmp_path: Path
) -> None:
    told: list[tuple[str, int, int | None]] = []
    out = download(NAME, tmp_path / "set", mirror=server.url, progress=lambda *p: told.append(p))
    assert contents(out) == contents(dataset)
    assert inspect_dataset(out).problems == ()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert ("bytes", len(good), len(good)) in told
    files = len(contents(dataset))
    assert told[-1] == ("files", files, files)


def test_a_dropped_connection_is_taken_up_where_it_broke(
    good: bytes, server: Server, dataset: Path, tmp_path: Path
) -> None:
    server.drop_after = [3000, 0, 2000, 1000]
    out = download(NAME, tmp_path / "set", mirror=server.url)
    assert contents(out) == contents(dataset)
    assert server.asked == [None, "bytes=3000-", "bytes=3000-", "bytes=5000-", "bytes=6000-"]


def test_a_server_that_keeps_dropping_is_given_up_and_the_next_call_goes_on(
    good: bytes, server: Server, dataset: Path, tmp_path: Path
) -> None:
    server.drop_after = [4000, 0, 0, 0, 0]
    with pytest.raises(
        ConceptsError, match=r"cannot be downloaded.*4000 bytes are kept.*place it at .*broden1_224\.zip"
    ):
        download(NAME, tmp_path / "set", mirror=server.url)
    assert [path.name for path in tmp_path.iterdir()] == [".set.downloading"]
    server.drop_after = []
    server.asked.clear()
    assert contents(download(NAME, tmp_path / "set", mirror=server.url)) == contents(dataset)
    assert server.asked == ["bytes=4000-"]


@pytest.mark.parametrize("habit", ["ignores ranges", "answers another part", "has a new file", "does not say how long"])
def test_odd_servers_still_give_the_right_file(
    habit: str, good: bytes, server: Server, dataset: Path, tmp_path: Path
) -> None:
    server.drop_after = [4000, 0, 0, 0]
    with pytest.raises(ConceptsError, match="cannot be downloaded"):
        download(NAME, tmp_path / "set", mirror=server.url)
    server.knows_ranges = habit != "ignores ranges"
    server.says_length = habit != "does not say how long"
    if habit == "answers another part":
        server.shifted = True
    if habit == "has a new file":
        server.tag = '"two"'
    server.drop_after = []
    assert contents(download(NAME, tmp_path / "set", mirror=server.url)) == contents(dataset)


def test_a_part_that_is_longer_than_the_servers_file_is_thrown_away(
    good: bytes, server: Server, dataset: Path, tmp_path: Path
) -> None:
    server.drop_after = [4000, 0, 0, 0]
    with pytest.raises(ConceptsError, match="cannot be downloaded"):
        download(NAME, tmp_path / "set", mirror=server.url)
    with (tmp_path / ".set.downloading" / "archive.zip.part").open("ab") as file:
        file.write(bytes(len(good)))
    server.drop_after = []
    assert contents(download(NAME, tmp_path / "set", mirror=server.url)) == contents(dataset)


def test_a_truncated_archive_is_told_and_fetched_anew(
    good: bytes, server: Server, dataset: Path, tmp_path: Path
) -> None:
    server.content = good[:-500]
    with pytest.raises(ConceptsError, match=r"cannot be unpacked .*Expected a whole zip archive"):
        download(NAME, tmp_path / "set", mirror=server.url)
    assert not (tmp_path / "set").exists()
    server.content = good
    assert contents(download(NAME, tmp_path / "set", mirror=server.url)) == contents(dataset)


def test_a_wrong_file_is_told_by_its_first_bytes(server: Server, tmp_path: Path) -> None:
    server.content = b"<html>Please log in</html>"
    with pytest.raises(ConceptsError, match=r"26 bytes, beginning with b'<html>Please log in"):
        download(NAME, tmp_path / "set", mirror=server.url)
    assert not (tmp_path / "set").exists()


def test_an_archive_of_something_else_or_of_an_unsound_data_set_is_refused(
    dataset: Path, server: Server, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("cats/one.txt", "meow")
    server.content = buffer.getvalue()
    with pytest.raises(ConceptsError, match=r"holds no index\.csv"):
        download(NAME, tmp_path / "set", mirror=server.url)
    broken = contents(dataset)
    del broken["images/own/3.jpg"]
    server.content = pack_members({f"x/{name}": data for name, data in broken.items()})
    with pytest.raises(ConceptsError, match=r"with 1 problems, the first: images/own/3\.jpg is missing"):
        download(NAME, tmp_path / "set", mirror=server.url)
    broken = contents(dataset) | {"c_object.csv": b"code,number\n"}
    server.content = pack_members(broken)
    with pytest.raises(ConceptsError, match=r"the first: c_object\.csv .*lacks the column"):
        download(NAME, tmp_path / "set", mirror=server.url)
    assert not (tmp_path / "set").exists()


def pack_members(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_checksums_are_held_against_the_archive(
    kind: str, good: bytes, server: Server, dataset: Path, tmp_path: Path
) -> None:
    right = hashlib.new(kind, good).hexdigest()
    wrong = hashlib.new(kind, b"").hexdigest()
    with pytest.raises(ConceptsError, match=rf"has the {kind} {right}\. Expected {wrong}; it was removed"):
        download(NAME, tmp_path / "set", mirror=server.url, checksum=f"{kind}:{wrong}")
    with pytest.raises(ConceptsError, match=rf"Expected {wrong}"):
        download(NAME, tmp_path / "set", mirror=f"{server.url}/x.zip#{kind}={wrong}")
    out = download(NAME, tmp_path / "set", mirror=f"{server.url}/x.zip#{kind}={right}")
    assert contents(out) == contents(dataset)


def test_wrong_names_and_checksums_are_told_before_anything_is_fetched(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no published data set 'broden2'\. Expected one of broden1_224"):
        download("broden2", tmp_path / "set")
    with pytest.raises(ConfigError, match="the checksum 'crc:12' cannot be read"):
        download(NAME, tmp_path / "set", checksum="crc:12")
    write_dataset(
        tmp_path / "old", [Sample("a", np.zeros((4, 4, 3), np.uint8), {"scene": ["x"]})], WriteOptions(size=4)
    )
    with pytest.raises(ConceptsError, match="already holds a finished data set"):
        download(NAME, tmp_path / "old", mirror=server.url)
    assert server.asked == []


def test_a_server_of_nothing_is_asked_four_times_with_growing_pauses(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(download_module, "PATIENCE", 1.0)
    monkeypatch.setattr(download_module.time, "sleep", pauses.append)
    for server.says_length in (True, False):
        with pytest.raises(ConceptsError, match=r"cannot be downloaded \(the server stopped after 0 of"):
            download(NAME, tmp_path / "set", mirror=server.url)
    assert len(server.asked) == 8
    assert pauses == [1.0, 2.0, 4.0] * 2


def test_a_server_that_trickles_or_begins_anew_is_given_up(good: bytes, server: Server, tmp_path: Path) -> None:
    server.drop_after = [100] * 1000
    with pytest.raises(ConceptsError, match=r"cannot be downloaded .*400 bytes are kept"):
        download(NAME, tmp_path / "trickles", mirror=server.url)
    server.asked.clear()
    server.knows_ranges = False
    server.drop_after = [2000, 4000] * 500
    with pytest.raises(ConceptsError, match="cannot be downloaded"):
        download(NAME, tmp_path / "anew", mirror=server.url)
    assert len(server.asked) == 5


@pytest.mark.parametrize(
    ("place", "message"),
    [("/data/loop.zip", "redirects"), ("file:///etc/passwd", "protocol"), ("http://[::1", "Invalid")],
)
def test_a_redirect_that_leads_nowhere_is_told_at_once(
    place: str, message: str, server: Server, tmp_path: Path
) -> None:
    server.leads_to = place
    with pytest.raises(ConceptsError, match=rf"broden1_224\.zip cannot be downloaded \(.*{message}"):
        download(NAME, tmp_path / "set", mirror=server.url)
    assert len(server.asked) <= 21  # as many as one request follows


def test_an_answer_without_an_end_is_cut_off(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "LARGEST", 5000)
    server.content, server.says_length = bytes(20_000), False
    with pytest.raises(ConceptsError, match="does not say how long it is and does not stop after 5000 bytes"):
        download(NAME, tmp_path / "set", mirror=server.url)
    assert not list(tmp_path.rglob("*.part"))


def test_notes_that_are_damaged_are_forgotten(good: bytes, server: Server, dataset: Path, tmp_path: Path) -> None:
    server.drop_after = [4000, 0, 0, 0]
    with pytest.raises(ConceptsError, match="cannot be downloaded"):
        download(NAME, tmp_path / "set", mirror=server.url)
    notes = tmp_path / ".set.downloading" / "archive.zip.json"
    notes.write_bytes(notes.read_bytes().replace(str(len(good)).encode(), b"4000"))
    server.drop_after = []
    assert contents(download(NAME, tmp_path / "set", mirror=server.url)) == contents(dataset)


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_refusal_of_the_server_is_passed_on(status: int, server: Server, tmp_path: Path) -> None:
    server.status = status
    with pytest.raises(ConceptsError, match=rf"(?s)broden1_224\.zip cannot be downloaded .*{status}"):
        download(NAME, tmp_path / "set", mirror=server.url)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_without_network_the_message_names_the_file_to_place_and_that_file_is_used(
    dataset: Path, tmp_path: Path
) -> None:
    dead = "http://127.0.0.1:9"
    with pytest.raises(ConceptsError, match="cannot be downloaded") as caught:
        download(NAME, tmp_path / "set", mirror=dead)
    named = re.search(r"place it at (\S+\.zip)", str(caught.value))
    assert named is not None
    Path(named[1]).write_bytes(pack(dataset)[:-100])
    with pytest.raises(ConceptsError, match="cannot be unpacked"):
        download(NAME, tmp_path / "set", mirror=dead)
    Path(named[1]).write_bytes(pack(dataset))
    assert contents(download(NAME, tmp_path / "set", mirror=dead)) == contents(dataset)
    assert Path(named[1]).is_file()


def test_a_disk_without_room_is_told_and_the_archive_is_kept(
    good: bytes, server: Server, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frees = [10, 10**9, 10]
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=frees.pop(0)))
        with pytest.raises(ConceptsError, match=r"failed: [\d.]+ k?B are to be downloaded, but 10 B are free"):
            download(NAME, tmp_path / "set", mirror=server.url)
        with pytest.raises(
            ConceptsError, match=r"failed: unpacking takes [\d.]+ [kM]B, but 10 B are free.*What is done was kept"
        ):
            download(NAME, tmp_path / "set", mirror=server.url)
    server.asked.clear()
    assert contents(download(NAME, tmp_path / "set", mirror=server.url)) == contents(dataset)
    assert server.asked == []


def member(name: str, data: bytes = b"x", mode: int = 0) -> Callable[[zipfile.ZipFile], None]:
    def add(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("placeholder")
        info.filename = name
        info.external_attr = mode << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(info, data)

    return add


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([member("../evil.txt")], r"'\.\./evil\.txt' would be written outside"),
        ([member("set/../../evil.txt")], r"would be written outside"),
        ([member("/etc/evil.txt")], r"'/etc/evil\.txt' would be written outside"),
        ([member("C:/evil.txt")], r"would be written outside"),
        ([member("set\\..\\evil.txt")], r"would be written outside"),
        ([member("set/link", b"/etc/passwd", stat.S_IFLNK | 0o777)], r"'set/link' is a link or a device"),
        ([member("set/pipe", b"", stat.S_IFIFO | 0o777)], r"is a link or a device"),
        ([member("set/a"), member("set/A")], r"holds 'set/A' twice"),
        ([member("set/bomb", bytes(200 << 20))], r"more than 50 times as many"),
    ],
)
def test_hostile_archives_are_refused_and_write_nothing(
    members: list[Callable[[zipfile.ZipFile], None]], message: str, server: Server, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for add in members:
            add(archive)
    server.content = buffer.getvalue()
    with pytest.raises(ConceptsError, match=rf"is not safe to unpack: .*{message}"):
        download(NAME, tmp_path / "deep" / "set", mirror=server.url)
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name or path.name in ("link", "bomb", "set")]


def test_a_member_that_is_longer_or_other_than_announced_is_refused(dataset: Path, tmp_path: Path) -> None:
    data = bytearray(pack_members({"set/a": b"hello" * 100}))
    directory = data.rindex(b"PK\x01\x02")
    for size in (10, 10_000):
        data[directory + 24 : directory + 28] = size.to_bytes(4, "little")
        (tmp_path / "lie.zip").write_bytes(data)
        with pytest.raises(ConceptsError, match=r"cannot be unpacked|longer than announced"):
            Archive(tmp_path / "lie.zip").unpack(tmp_path / f"out{size}")
    flipped = bytearray(pack(dataset))
    flipped[200] ^= 255
    (tmp_path / "flipped.zip").write_bytes(flipped)
    with pytest.raises(ConceptsError, match="cannot be unpacked"):
        Archive(tmp_path / "flipped.zip").unpack(tmp_path / "flipped")


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    data = bytearray(pack_members({"set/a": b"hello"}))
    for start, offset in ((data.index(b"PK\x03\x04"), 6), (data.rindex(b"PK\x01\x02"), 8)):
        data[start + offset] |= 1
    (tmp_path / "secret.zip").write_bytes(data)
    with pytest.raises(ConceptsError, match="'set/a' is encrypted"):
        Archive(tmp_path / "secret.zip").unpack(tmp_path / "out")


def test_the_data_set_can_be_read_right_after(good: bytes, server: Server, tmp_path: Path) -> None:
    data = ConceptData.open(download(NAME, tmp_path / "set", mirror=server.url))
    assert {concept.name for concept in data.concepts} == {"sky", "sea", "dog"}


def test_an_error_of_a_progress_callback_is_not_told_as_a_damaged_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        archive.writestr("index.csv", "image")

    def fail(stage: str, done: int, total: int | None) -> None:
        raise ValueError("the caller's own")

    with pytest.raises(ValueError, match="the caller's own"):
        Archive(tmp_path / "whole.zip").unpack(tmp_path / "out", fail)
