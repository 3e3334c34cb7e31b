"""Interrupted runs go on, and give what an unbroken run gives."""

import errno
import itertools
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import run_asserts
import strategies
from netdissect.activations.topk_memmap import MemmapTopK
from netdissect.concepts import ConceptData, Size
from netdissect.config import PROTOCOLS, DissectConfig, Execution, StatisticsConfig
from netdissect.dissect import cost_plan, dissect, passes
from netdissect.dissect.work_dir import fingerprint, work_dir
from netdissect.dissect.work_dir.work_dir import WorkDir
from netdissect.errors import ResultError
from netdissect.models import Network, Preprocessing
from netdissect.result import Result, load_result
from netdissect.result.folder_lock import lock_folder
from networks import COVERAGE, SIDE, build, images

pytestmark = pytest.mark.usefixtures("tight")

SETTINGS = DissectConfig(
    layers=("wide_relu", "deep_relu", "fc"),
    batch_size=3,
    top_images=3,
    protocol=strategies.definition("paper", 0.05).protocol,
    statistics=StatisticsConfig(bootstrap=50, permutations=20, moments=True),
)
CALLS = 6  # seven images are three batches, seen twice


@pytest.fixture(scope="module")
def unbroken(broden: Path) -> Result:
    return dissect(build(), broden, config=SETTINGS)


def saving(monkeypatch: pytest.MonkeyPatch, due: Callable[[int], bool]) -> None:
    """Write just those checkpoints, counted from 1, whatever the clock says."""
    save, count = WorkDir.save, itertools.count(1)

    def decided(self: WorkDir, stage: str, state: Callable[[], Any], *, now: bool = False) -> None:
        if due(next(count)) or now:
            save(self, stage, state, now=True)

    monkeypatch.setattr(WorkDir, "save", decided)


def interrupt(root: Path, out: Path, call: int, execution: Execution | None = None, **changes: Any) -> None:
    """Begin a run, and press Ctrl-C at the `call`-th report."""
    calls = itertools.count(1)

    def progress(stage: str, done: int, total: int | None) -> None:
        if next(calls) == call:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        dissect(
            build(), root, config=SETTINGS.model_copy(update=changes), out=out, execution=execution, progress=progress
        )
    assert not (out / "run.json").exists()


SAVED: dict[str, Callable[[int], bool]] = {
    "every batch": lambda _: True,
    "every other batch": lambda count: count % 2 == 1,
    "no batch": lambda _: False,
}


@pytest.mark.parametrize(
    ("store", "saved"),
    [("sparse", "every batch"), ("none", "every other batch"), ("dense", "every other batch"), ("sparse", "no batch")],
)
@pytest.mark.parametrize("call", range(1, CALLS + 1))
def test_a_run_interrupted_at_any_batch_resumes_to_the_same_bits(
    broden: Path, tmp_path: Path, unbroken: Result, monkeypatch: pytest.MonkeyPatch, call: int, store: str, saved: str
) -> None:
    saving(monkeypatch, SAVED[saved])
    execution = Execution(activation_cache=store)
    interrupt(broden, tmp_path / "run", call, execution)
    reports: list[tuple[str, int]] = []
    found = dissect(
        build(), broden, config=SETTINGS, out=tmp_path / "run", execution=execution,
        progress=lambda stage, done, _: reports.append((stage, done)),
    )  # fmt: skip
    run_asserts.assert_same_run(found, unbroken)
    run_asserts.assert_same_run(load_result(tmp_path / "run"), unbroken)
    assert not (tmp_path / "run" / "work").exists()
    if saved == "every batch":
        of_passes = [stage for stage, _ in reports if stage != "permutations"]
        assert len(of_passes) == CALLS - call, "what was done must not be done again"


@pytest.mark.parametrize("store", ["sparse", "dense", "none"])
@pytest.mark.parametrize("call", [4, 5])
def test_stored_batches_that_are_counted_together_give_the_same_bits(
    broden: Path, tmp_path: Path, unbroken: Result, monkeypatch: pytest.MonkeyPatch, call: int, store: str
) -> None:
    saving(monkeypatch, SAVED["every batch"])
    monkeypatch.setattr(passes, "COUNTED_IMAGES", 6)  # two of the three batches
    execution, reports = Execution(activation_cache=store), list[int]()
    interrupt(broden, tmp_path / "run", call, execution)
    found = dissect(
        build(), broden, config=SETTINGS, out=tmp_path / "run", execution=execution,
        progress=lambda stage, done, _: reports.append(done) if stage == "counting" else None,
    )  # fmt: skip
    run_asserts.assert_same_run(found, unbroken)
    done = [3, 6, 7] if store == "none" else [6, 7]
    assert reports == done[call - 3 :]


@pytest.mark.parametrize("engine", ["compiled", "tensor"])
def test_a_run_interrupted_again_and_again_ends_the_same(
    broden: Path, tmp_path: Path, unbroken: Result, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    saving(monkeypatch, SAVED["every batch"])
    execution = Execution(engine=engine)
    for _ in range(CALLS - 1):
        interrupt(broden, tmp_path / "run", 1, execution)
    run_asserts.assert_same_run(
        dissect(build(), broden, config=SETTINGS, out=tmp_path / "run", execution=execution), unbroken
    )


def test_the_times_of_a_resumed_run_are_those_of_all_its_processes(
    broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving(monkeypatch, SAVED["every batch"])
    monotonic, passed, calls = time.monotonic, 0, itertools.count(1)
    monkeypatch.setattr(work_dir.time, "monotonic", lambda: monotonic() + passed)

    def progress(stage: str, done: int, total: int | None) -> None:
        nonlocal passed
        passed += 10**6  # as if each batch took so many seconds
        if next(calls) == 5:
            raise KeyboardInterrupt

    settings = SETTINGS.model_copy(update={"statistics": StatisticsConfig(bootstrap=0, permutations=0)})
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        dissect(build(), broden, config=settings, out=tmp_path / "run", progress=progress)
    seconds = dissect(build(), broden, config=settings, out=tmp_path / "run", progress=progress).info.seconds
    assert {name: round(taken / 10**6) for name, taken in seconds.items()} == {
        "layout check": 0, "thresholds": 3, "counting": 2,  # the second batch of counting was saved before its report
    }  # fmt: skip


@pytest.mark.parametrize("call", [2, 4])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"activation_cache": "none"}, {"activation_cache": "sparse"}),
        ({"activation_cache": "sparse"}, {"activation_cache": "dense"}),
        ({"activation_cache": "dense"}, {"activation_cache": "sparse"}),
        ({"activation_cache": "sparse"}, {"activation_cache": "none"}),
        ({"engine": "compiled"}, {"engine": "tensor"}),
        ({"engine": "tensor"}, {"engine": "compiled"}),
        ({"workers": 1}, {"workers": 3}),
    ],
)
def test_a_run_can_be_resumed_with_other_execution_options(
    broden: Path,
    tmp_path: Path,
    unbroken: Result,
    monkeypatch: pytest.MonkeyPatch,
    call: int,
    before: dict[str, Any],
    after: dict[str, Any],
) -> None:
    # "Nothing of it changes a count", and what `auto` chooses hangs on the disk of the day.
    saving(monkeypatch, SAVED["every batch"])
    interrupt(broden, tmp_path / "run", call, Execution(**before))
    run_asserts.assert_same_run(
        dissect(build(), broden, config=SETTINGS, out=tmp_path / "run", execution=Execution(**after)), unbroken
    )


@pytest.mark.parametrize("call", [2, 4])
def test_a_run_with_values_on_disk_resumes_to_the_same_bits(
    broden: Path, tmp_path: Path, unbroken: Result, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    saving(monkeypatch, SAVED["every batch"])
    with monkeypatch.context() as small:
        small.setattr(cost_plan, "_spilled", lambda plans, _: frozenset(one.layer.name for one in plans[:2]))
        interrupt(broden, tmp_path / "run", call)
    assert list((tmp_path / "run" / "work").glob("*.top.*"))
    # More memory now: the values stay where this run began to keep them.
    run_asserts.assert_same_run(dissect(build(), broden, config=SETTINGS, out=tmp_path / "run"), unbroken)


def nested(*names: str) -> tuple[Network, DissectConfig]:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())
    module = nn.Sequential()
    module.add_module(names[0], block)
    network = Network("nested", module, Preprocessing(Size(SIDE, SIDE), (0.5,) * 3, (0.5,) * 3))
    return network, SETTINGS.model_copy(update={"layers": names})


@pytest.mark.parametrize("names", [("block", "block.0"), ("truth",), ("batches",), ("values", "values.1")])
def test_runs_of_layers_with_awkward_names_are_resumed(
    broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    saving(monkeypatch, SAVED["every batch"])
    network, settings = nested(*names)
    wanted = dissect(network, broden, config=settings)
    for call in (1, 4):
        out, calls = tmp_path / str(call), itertools.count(1)

        def progress(stage: str, done: int, total: int | None, call: int = call, calls: Any = calls) -> None:
            if next(calls) == call:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            dissect(network, broden, config=settings, out=out, progress=progress)
        run_asserts.assert_same_run(dissect(network, broden, config=settings, out=out), wanted)


def test_a_finished_run_is_returned_as_it_is(broden: Path, tmp_path: Path, unbroken: Result) -> None:
    first = dissect(build(), broden, config=SETTINGS, out=tmp_path / "run")
    before = run_asserts.contents(tmp_path / "run")
    reports: list[str] = []
    again = dissect(
        build(), broden, config=SETTINGS, out=tmp_path / "run", execution=Execution(activation_cache="dense"),
        progress=lambda stage, *_: reports.append(stage),
    )  # fmt: skip
    assert reports == []
    assert run_asserts.contents(tmp_path / "run") == before
    assert again.info == first.info
    run_asserts.assert_same_run(again, unbroken)


def test_a_copy_of_the_data_elsewhere_is_the_same_data(broden: Path, tmp_path: Path) -> None:
    dissect(build(), broden, config=SETTINGS, out=tmp_path / "run")
    shutil.copytree(broden, tmp_path / "copy")
    reports: list[str] = []
    dissect(
        build(), tmp_path / "copy", config=SETTINGS, out=tmp_path / "run",
        progress=lambda stage, *_: reports.append(stage),
    )  # fmt: skip
    assert reports == []


def other_data(root: Path, name: str) -> Path:
    return strategies.write_broden(root / name, images(6), COVERAGE, image=(SIDE, SIDE))


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch_size": 4}, "config.batch_size is 3, now 4"),
        ({"min_iou": 0.1}, "config.min_iou is 0.04, now 0.1"),
        ({"layers": ("fc",)}, "config.layers"),
        ({"protocol": PROTOCOLS["lite"]}, "config.protocol.anchor"),
        ({"categories": ("object",)}, "config.categories is null"),
        ({"top_images": 9}, "config.top_images"),
    ],
)
def test_a_folder_of_other_settings_is_refused(
    broden: Path, tmp_path: Path, changes: dict[str, Any], named: str, finished: bool
) -> None:
    out = tmp_path / "run"
    if finished:
        dissect(build(), broden, config=SETTINGS, out=out)
    else:
        interrupt(broden, out, 2)
    before = run_asserts.contents(out)
    state = "a finished run" if finished else "an unfinished run"
    with pytest.raises(ResultError, match=re.escape(f"{out} holds {state}") + ".*its " + re.escape(named)):
        dissect(build(), broden, config=SETTINGS.model_copy(update=changes), out=out)
    assert run_asserts.contents(out) == before


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_of_another_network_or_other_data_is_refused(broden: Path, tmp_path: Path, finished: bool) -> None:
    out = tmp_path / "run"
    if finished:
        dissect(build(), broden, config=SETTINGS, out=out)
    else:
        interrupt(broden, out, 5)
    with pytest.raises(ResultError, match=r"its network\.digest is"):
        dissect(build(seed=1), broden, config=SETTINGS, out=out)
    with pytest.raises(ResultError, match=r"its data\.digest is"):
        dissect(build(), other_data(tmp_path, "other"), config=SETTINGS, out=out)


def test_a_folder_of_the_same_images_with_other_labels_is_refused(broden: Path, tmp_path: Path) -> None:
    interrupt(broden, tmp_path / "run", 5)
    shutil.copytree(broden, tmp_path / "relabeled")
    row = ConceptData.open(broden).rows[0]
    strategies.write_label_map(tmp_path / "relabeled" / "images" / row.label_maps[0], np.ones(row.size, np.int64))
    with pytest.raises(ResultError, match=r"its data\.digest is"):
        dissect(build(), tmp_path / "relabeled", config=SETTINGS, out=tmp_path / "run")


@pytest.mark.parametrize("what", ["label map", "image"])
@pytest.mark.parametrize("finished", [True, False])
def test_a_run_on_files_that_changed_in_place_is_refused(tmp_path: Path, finished: bool, what: str) -> None:
    root, out = other_data(tmp_path, "data"), tmp_path / "run"
    if finished:
        dissect(build(), root, config=SETTINGS, out=out)
    else:
        interrupt(root, out, 3)
    row = ConceptData.open(root).rows[2]
    strategies.repaint(root / "images" / (row.label_maps[0] if what == "label map" else row.image))
    with pytest.raises(ResultError, match=r"its data\.digest is"):
        dissect(build(), root, config=SETTINGS, out=out)


def test_data_that_were_opened_before_their_files_changed_are_refused(tmp_path: Path) -> None:
    root = other_data(tmp_path, "data")
    data = ConceptData.open(root)
    dissect(build(), data, config=SETTINGS, out=tmp_path / "run")
    strategies.repaint(root / "images" / data.rows[2].label_maps[0])
    with pytest.raises(ResultError, match=r"its data\.digest is"):
        dissect(build(), data, config=SETTINGS, out=tmp_path / "run")


def test_an_unfinished_run_of_another_version_is_refused(
    broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Everything on disk is named by what made it, and the version is part of that.
    interrupt(broden, tmp_path / "run", 2)
    monkeypatch.setattr(torch, "__version__", "0.0.1")
    with pytest.raises(ResultError, match="torch"):
        dissect(build(), broden, config=SETTINGS, out=tmp_path / "run")


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x80
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "halved": _halve,
    "flipped": _flip,
    "text": lambda path: path.write_text("text\n"),
    "emptied": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize(
    ("damage", "name", "call"),
    [
        (damage, name, call)
        for call, names in (
            (2, ("fingerprint.json", "thresholds.npz")),
            (3, ("deep_relu.bin",)),
            (5, ("counting.npz",)),
        )
        for name in names
        for damage in DAMAGES
    ],
)
def test_damage_in_the_work_folder_is_refused_by_name(
    broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: str, call: int
) -> None:
    saving(monkeypatch, SAVED["every batch"])
    interrupt(broden, tmp_path / "run", call, Execution(activation_cache="dense"))
    path = tmp_path / "run" / "work" / name
    DAMAGES[damage](path)
    with pytest.raises(ResultError, match=re.escape(str(path)) + ".*Remove"):
        dissect(build(), broden, config=SETTINGS, out=tmp_path / "run", execution=Execution(activation_cache="dense"))


def test_checkpoints_of_another_format_are_refused(
    broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving(monkeypatch, SAVED["every batch"])
    with monkeypatch.context() as before:
        before.setattr(fingerprint, "CHECKPOINT_FORMAT", 1)
        interrupt(broden, tmp_path / "run", 5)
    with pytest.raises(ResultError, match=r"its checkpoint_format is 1, now 2 is asked for\. Name another folder"):
        dissect(build(), broden, config=SETTINGS, out=tmp_path / "run")


def bits_flipped(path: Path, shares: Sequence[float]) -> Iterator[None]:
    content = path.read_bytes()
    for share in shares:
        place = int(share * (len(content) - 1))
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        yield
    path.write_bytes(content)


@pytest.mark.parametrize("call", [2, 5])
def test_a_bit_flipped_in_any_file_of_the_work_folder_is_found(
    broden: Path, tmp_path: Path, unbroken: Result, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    saving(monkeypatch, SAVED["every batch"])
    monkeypatch.setattr(cost_plan, "_spilled", lambda *_: frozenset({"wide_relu"}))
    whole = tmp_path / "whole"
    interrupt(broden, whole, call)
    files = {path.name for path in (whole / "work").iterdir()} - {"lock", "holder.json"}
    assert {"plan.json", "fingerprint.json", "thresholds.npz", "wide_relu.bin", "wide_relu.top"} < files
    assert call == 2 or {"counting.npz", "labels.images", "fc.images"} < files
    unnoticed = set()
    for name in sorted(files):
        for _ in bits_flipped(whole / "work" / name, (0.0, 0.6, 1.0)):
            shutil.copytree(whole, tmp_path / "run")
            said = ""
            try:
                run_asserts.assert_same_run(dissect(build(), broden, config=SETTINGS, out=tmp_path / "run"), unbroken)
            except ResultError as error:
                said = str(error)
            if not said:
                unnoticed.add(name)
            assert not said or str(tmp_path / "run" / "work" / name) in said
            shutil.rmtree(tmp_path / "run")
    # Not read again: values in use (they lie in the last copy), and activations that were counted already. What the
    # layout check found is found again.
    older = sorted((name for name in files if ".top." in name), key=lambda name: int(name.rpartition(".")[2]))[:-1]
    counted = {name for name in files if name.endswith(".bin")} if call == 5 else set()
    assert unnoticed <= {"wide_relu.top", "layout.json", *older, *counted}


def test_a_disk_that_is_full_while_values_are_spilled_is_a_typed_error(
    broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cost_plan, "_spilled", lambda *_: frozenset({"wide_relu"}))
    with monkeypatch.context() as small:
        small.setattr(os, "posix_fallocate", full)
        with pytest.raises(ResultError, match=r"wide_relu\.top cannot be written \(.*No space left.*free space"):
            dissect(build(), broden, config=SETTINGS, out=tmp_path / "run")
    with monkeypatch.context() as small:
        small.setattr(shutil, "copyfile", full)
        with pytest.raises(ResultError, match=r"wide_relu\.top\.\d+ cannot be written \(.*No space left"):
            dissect(build(), broden, config=SETTINGS, out=tmp_path / "run")


def test_the_file_of_largest_values_is_allocated_before_any_is_written(tmp_path: Path) -> None:
    values = MemmapTopK(tmp_path / "top", (7, 5000))
    assert (tmp_path / "top").stat().st_blocks * 512 >= values.values.nbytes


@pytest.mark.parametrize(
    "names", [("thresholds.npz",), ("counting.npz",), ("wide_relu.bin",), ("wide_relu.bin", "fc.bin")]
)
def test_what_is_removed_of_the_work_folder_is_computed_again(
    broden: Path, tmp_path: Path, unbroken: Result, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    # That is the remedy which the message about a damaged file names.
    saving(monkeypatch, SAVED["every batch"])
    interrupt(broden, tmp_path / "run", 5, Execution(activation_cache="sparse"))
    for name in names:
        (tmp_path / "run" / "work" / name).unlink()
    calls = itertools.count(1)

    def progress(stage: str, done: int, total: int | None) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt  # in the middle of that, too

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        dissect(build(), broden, config=SETTINGS, out=tmp_path / "run", progress=progress)
    run_asserts.assert_same_run(dissect(build(), broden, config=SETTINGS, out=tmp_path / "run"), unbroken)


HOLD = """
import sys, time
from pathlib import Path
from netdissect.result.folder_lock import lock_folder
lock = lock_folder(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_refused_with_the_name_of_the_first_until_that_is_killed(
    broden: Path, tmp_path: Path, unbroken: Result
) -> None:
    work = tmp_path / "run" / "work"
    work.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(work)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        expected = rf"is being written by process {holder.pid} of \S+ on {socket.gethostname()} since 20"
        with pytest.raises(ResultError, match=expected):
            dissect(build(), broden, config=SETTINGS, out=tmp_path / "run")
        holder.kill()
        holder.wait()
        run_asserts.assert_same_run(dissect(build(), broden, config=SETTINGS, out=tmp_path / "run"), unbroken)


def test_the_time_of_a_stage_is_that_of_its_latest_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(work_dir.time, "monotonic", lambda: now)

    def save(work: WorkDir, stage: str, seconds: float) -> None:
        nonlocal now
        with work.timed(stage):
            work.load(stage)
            now += seconds
            work.save(stage, lambda: {"batches": np.array(1)}, now=True)

    with WorkDir(tmp_path / "run", {}, every=30.0) as work:
        save(work, "thresholds", 100)
        save(work, "counting", 10)
    with WorkDir(tmp_path / "run", {}, every=30.0) as work:
        save(work, "thresholds", 40)  # lost activations were computed again; stopped before counting
    with WorkDir(tmp_path / "run", {}, every=30.0) as work:
        save(work, "thresholds", 1)
        save(work, "counting", 2)
        assert work.seconds == {"thresholds": 141, "counting": 12}


def test_a_finished_run_is_read_while_its_folder_is_held(broden: Path, tmp_path: Path, unbroken: Result) -> None:
    dissect(build(), broden, config=SETTINGS, out=tmp_path / "run")
    (tmp_path / "run" / "work").mkdir()
    lock = lock_folder(tmp_path / "run" / "work")
    run_asserts.assert_same_run(dissect(build(), broden, config=SETTINGS, out=tmp_path / "run"), unbroken)
    lock.release()


@pytest.mark.parametrize(("seconds", "pause"), [(0.0, 30.0), (2.0, 40.0), (5.0, 55.0), (50.0, 30.0)])
def test_large_checkpoints_are_rarer_but_never_cost_more_than_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, pause: float
) -> None:
    clock = itertools.count()
    now = 0.0
    monkeypatch.setattr(work_dir.time, "monotonic", lambda: now)

    def state() -> dict[str, Any]:
        nonlocal now
        now += seconds  # as if writing took so long
        next(clock)
        return {}

    with WorkDir(tmp_path / "run", {}, every=30.0) as work:
        now = 30.0
        work.save("thresholds", state)
        assert next(clock) == 1
        now = 30.0 + seconds + pause - 0.01
        work.save("thresholds", state)
        assert next(clock) == 2, "not yet due"
        now = 30.0 + seconds + pause
        work.save("thresholds", state)
        assert next(clock) == 4
