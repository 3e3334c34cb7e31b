"""Nothing is left half done, and nothing that was there is lost: full disks, interrupts, kills, other processes."""

import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock

from netdissect.concepts import ConceptData
from netdissect.concepts.build import writer as writer_module
from netdissect.concepts.build.render import render
from netdissect.concepts.build.rendered import Folders, Rendered
from netdissect.concepts.build.sample import Sample
from netdissect.concepts.build.writer import WriteOptions, write_dataset
from netdissect.errors import ConceptsError, SourceError
from samples import one_sample, random_image


def test_a_finished_data_set_is_replaced_only_when_told(tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "set", [one_sample(concept="old")], WriteOptions(size=8))
    with pytest.raises(ConceptsError, match="already holds a finished data set"):
        write_dataset(out, [one_sample(concept="new")], WriteOptions(size=8))
    assert ConceptData.open(out).concepts[0].name == "old"
    write_dataset(out, [one_sample(concept="new")], WriteOptions(size=8), overwrite=True)
    assert ConceptData.open(out).concepts[0].name == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_foreign_files_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "diary.txt").write_text("dear diary")
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConceptsError, match="is never replaced"):
        write_dataset(tmp_path / "home", [one_sample()], overwrite=True)
    with pytest.raises(ConceptsError, match="is no folder"):
        write_dataset(tmp_path / "file", [one_sample()], overwrite=True)
    assert ConceptData.open(write_dataset(tmp_path / "empty", [one_sample()], WriteOptions(size=8)))


def test_a_failed_overwrite_leaves_the_old_data_set(tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "set", [one_sample(concept="old")], WriteOptions(size=8))
    with pytest.raises(SourceError, match="cannot be a path"):
        write_dataset(out, [Sample("../up", random_image(0), {"object": ["x"]})], overwrite=True)
    assert ConceptData.open(out).concepts[0].name == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5])
def test_a_full_disk_is_told_and_leaves_nothing(nth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    write = Path.write_bytes

    def fail_sometime(path: Path, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise OSError(28, "No space left on device", str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fail_sometime)
    with pytest.raises(ConceptsError, match=r"No space left on device.*Nothing was left behind"):
        write_dataset(tmp_path / "set", [one_sample("a/1"), one_sample("a/2")], WriteOptions(size=8))
    assert not list(tmp_path.iterdir())


def test_after_an_interrupt_the_next_build_goes_on_without_decoding_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(writer_module, "write_tables", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_dataset(tmp_path / "set", (one_sample(name) for name in ("a/1", "a/2")), WriteOptions(size=8))
    assert [path.name for path in tmp_path.iterdir()] == [".set.building"]
    seen: list[object] = []
    monkeypatch.setattr(writer_module, "render", partial(spy_render, seen=seen))
    write_dataset(tmp_path / "set", (one_sample(name) for name in ("a/1", "a/2")), WriteOptions(size=8))
    assert [type(sample).__name__ for sample in seen] == ["Rendered", "Rendered"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def spy_render(sample: Sample | Rendered, folders: Folders, options: WriteOptions, seen: list[object]) -> object:
    seen.append(sample)
    return render(sample, folders, options)


LIMITED = """
import resource, sys
import numpy as np
import numpy.typing as npt
from netdissect.concepts.build.sample import Sample
from netdissect.concepts.build.writer import write_dataset
from netdissect.errors import ConceptsError
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
try:
    write_dataset(sys.argv[1], [Sample("a/1", noise, {"object": ["sky"]})], workers=int(sys.argv[2]))
except ConceptsError as error:
    print(error)
"""

ENDLESS = """
import itertools, sys
import numpy as np
import numpy.typing as npt
from netdissect.concepts.build.sample import Sample
from netdissect.concepts.build.writer import WriteOptions, write_dataset
gray = np.full((8, 8, 3), 128, np.uint8)
samples = (Sample(f"a/{n}", gray, {"object": ["sky"]}) for n in itertools.count())
write_dataset(sys.argv[1], samples, WriteOptions(size=8))
"""


def test_a_real_file_size_limit_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "set"), "1"], capture_output=True, text=True, check=True
    )
    assert "File too large" in done.stdout
    assert not list(tmp_path.iterdir())


def kill_when_images_stand(program: str, out: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", program, str(out)])
    try:
        deadline = time.monotonic() + 60
        while not list(out.parent.glob(".*.building/set/images/a/*.jpg")) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_killed_build_looks_like_nothing_and_a_build_of_something_else_clears_it(tmp_path: Path) -> None:
    kill_when_images_stand(ENDLESS, tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == [".set.building"]
    with pytest.raises(ConceptsError, match="is not a concept data set"):
        ConceptData.open(tmp_path / "set")
    out = write_dataset(tmp_path / "set", [one_sample()], WriteOptions(size=10))
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert contents(out) == contents(write_dataset(tmp_path / "fresh", [one_sample()], WriteOptions(size=10)))


def test_samples_that_are_gone_or_changed_since_the_kill_leave_nothing_behind(tmp_path: Path) -> None:
    kill_when_images_stand(ENDLESS, tmp_path / "set")
    samples = [one_sample("a/0"), Sample("a/1", np.full((8, 8, 3), 128, np.uint8), {"object": ["sky"]})]
    out = write_dataset(tmp_path / "set", samples, WriteOptions(size=8))
    assert contents(out) == contents(write_dataset(tmp_path / "fresh", samples, WriteOptions(size=8)))


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_build_that_still_runs_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".set.building").mkdir()
    with (
        FileLock(tmp_path / ".set.building" / "lock"),
        pytest.raises(ConceptsError, match="another process is writing"),
    ):
        write_dataset(tmp_path / "set", [one_sample()], WriteOptions(size=8))
    assert ConceptData.open(write_dataset(tmp_path / "set", [one_sample()], WriteOptions(size=8)))


def test_an_old_data_set_whose_successor_got_no_name_is_put_back(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", [one_sample(concept="old")], WriteOptions(size=8))
    (tmp_path / "set").rename(tmp_path / ".set.replaced")  # killed between the two renames of an overwrite
    with pytest.raises(ConceptsError, match="already holds a finished data set"):
        write_dataset(tmp_path / "set", [one_sample(concept="new")], WriteOptions(size=8))
    assert ConceptData.open(tmp_path / "set").concepts[0].name == "old"
    (tmp_path / "set").rename(tmp_path / ".set.replaced")
    with pytest.raises(SourceError, match="cannot be a path"):
        write_dataset(tmp_path / "set", [one_sample("../up")], overwrite=True)
    assert ConceptData.open(tmp_path / "set").concepts[0].name == "old"
    (tmp_path / ".set.replaced").mkdir()  # killed while it removed the old one
    write_dataset(tmp_path / "set", [one_sample(concept="new")], WriteOptions(size=8), overwrite=True)
    assert ConceptData.open(tmp_path / "set").concepts[0].name == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_disk_without_room_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(ConceptsError, match="has 100 B free, but 1 image take about"):
        write_dataset(tmp_path / "set", [one_sample()], WriteOptions(size=8))
    assert not list(tmp_path.iterdir())
