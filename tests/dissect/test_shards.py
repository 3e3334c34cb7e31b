"""Shards, merged in any order and as a tree, are the run that one process makes."""

import itertools
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import run_asserts
import strategies
from netdissect.config import DissectConfig, Execution, StatisticsConfig
from netdissect.dissect import dissect
from netdissect.dissect.distributed import merge
from netdissect.dissect.distributed.merge import merge_shards
from netdissect.dissect.distributed.shard_result import ShardResult, write_shard_result
from netdissect.dissect.distributed.shards import Shard, ShardTask, run_shard
from netdissect.dissect.run_dissection import open_inputs
from netdissect.dissect.work_dir import fingerprint
from netdissect.dissect.work_dir.work_dir import WorkDir
from netdissect.errors import ConceptsError, ConfigError, ResultError
from netdissect.result import Result, load_result
from netdissect.result.run_config import read_config
from networks import COVERAGE, SIDE, build, images

pytestmark = pytest.mark.usefixtures("tight")

BATCHES = 7
SETTINGS = DissectConfig(
    layers=("wide_relu", "fc"),
    batch_size=2,
    top_images=3,
    protocol=strategies.definition("paper", 0.05).protocol,
    statistics=StatisticsConfig(moments=True),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "broden"
    return strategies.write_broden(root, images(13, sizes=((12, 12), (6, 8))), COVERAGE, image=(SIDE, SIDE))


@pytest.fixture(scope="module")
def expected(data: Path) -> Result:
    return dissect(build(), data, config=SETTINGS)


def run_part(data: Path, run: Path, batches: range, name: str | None = None, **options: Any) -> str:
    """Do what can be done of some batches."""
    execution = Execution(**options)
    part = ShardTask(run, name or f"{batches.start}to{batches.stop}", batches)
    return run_shard(open_inputs(build(), data, SETTINGS, execution), part)


def shard(data: Path, run: Path, text: str, **options: Any) -> str:
    one = Shard.parse(text)
    return run_part(data, run, one.batches(BATCHES), text, **options)


def folder(run: Path, text: str) -> Path:
    return ShardTask(run, text, range(1)).folder


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_of_one_folder_give_the_run_of_one_process(
    data: Path, expected: Result, tmp_path: Path, count: int
) -> None:
    run, texts = tmp_path / "run", [f"{number}/{count}" for number in range(1, count + 1)]
    assert [shard(data, run, text) for text in reversed(texts)] == ["thresholds"] * count
    assert [shard(data, run, text) for text in texts] == ["thresholds"] * count, (
        "without merged thresholds nothing is left to do"
    )
    assert merge_shards(run) == "merged-thresholds"
    assert [shard(data, run, text) for text in texts] == ["counting"] * count
    assert merge_shards(run) == "finished"
    found = load_result(run)
    run_asserts.assert_same_run(found, expected)
    assert sorted(path.name for path in run.iterdir()) == [
        "concepts.parquet",
        "config.json",
        "layers",
        "log.jsonl",
        "run.json",
    ]
    assert merge_shards(run) == "finished"
    assert [shard(data, run, text) for text in texts] == ["counting"] * count


@settings(max_examples=4)
@given(
    cuts=st.sets(st.integers(1, BATCHES - 1)),
    shuffled=st.randoms(use_true_random=False),
    engines=st.lists(st.sampled_from(["compiled", "tensor"]), min_size=BATCHES, max_size=BATCHES),
    stores=st.sampled_from(["sparse", "none"]),
)
def test_any_split_merged_in_any_order_gives_the_run_of_one_process(
    data: Path,
    expected: Result,
    tmp_path_factory: pytest.TempPathFactory,
    cuts: set[int],
    shuffled: Any,
    engines: list[str],
    stores: str,
) -> None:
    root = tmp_path_factory.mktemp("tree")
    run, edges = root / "run", [0, *sorted(cuts), BATCHES]
    spans = [range(start, stop) for start, stop in itertools.pairwise(edges)]
    leaves = [ShardTask(run, str(index), span).folder for index, span in enumerate(spans)]
    for stage in ("merged-thresholds", "finished"):
        for index, span in enumerate(spans):
            run_part(data, run, span, str(index), engine=engines[index], activation_cache=stores)
        nodes, step = list(leaves), 0
        while len(nodes) > 2:
            step += 1
            left, right = (nodes.pop(shuffled.randrange(len(nodes))) for _ in range(2))
            node = root / f"{stage}{step}"
            merge_shards(node, [left, right], partial=True)
            nodes.append(node)
        shuffled.shuffle(nodes)
        assert merge_shards(run, nodes) == stage
    run_asserts.assert_same_run(load_result(run), expected)
    shutil.rmtree(root)


@pytest.fixture
def two_shards(data: Path, tmp_path: Path) -> Path:
    """A run of two shards that have finished their threshold pass."""
    for text in ("1/2", "2/2"):
        shard(data, tmp_path / "run", text)
    return tmp_path / "run"


def refused(pattern: str, run: Path, parts: Sequence[Path] = (), **options: Any) -> None:
    with pytest.raises(ResultError, match=pattern):
        merge_shards(run, parts, **options)
    assert not (run / "run.json").exists()


@pytest.mark.parametrize("thresholds", [False, True])
def test_a_shard_whose_data_change_meanwhile_is_not_kept(tmp_path: Path, thresholds: bool) -> None:
    root = strategies.write_broden(tmp_path / "data", images(6), COVERAGE, image=(SIDE, SIDE))
    run, stage = tmp_path / "run", "counting" if thresholds else "thresholds"
    if thresholds:
        for text in ("1/2", "2/2"):
            run_part(root, run, Shard.parse(text).batches(3), text)
        merge_shards(run)

    def meanwhile(reported: str, done: int, _total: int | None) -> None:
        if (reported, done) == (stage, 2):
            strategies.repaint(root / "images" / "5_0.png")

    with pytest.raises(ConceptsError, match=r"were changed while the run was under way"):
        run_shard(open_inputs(build(), root, SETTINGS, Execution()), ShardTask(run, "2/2", range(1, 3)), meanwhile)
    assert not (folder(run, "2/2") / stage).exists()


def test_the_time_of_a_run_is_that_of_both_passes_of_all_shards(data: Path, two_shards: Path, tmp_path: Path) -> None:
    for text in ("1/2", "2/2"):
        result = ShardResult.open(folder(two_shards, text) / "thresholds")
        info = result.info.run.model_copy(update={"seconds": {"thresholds": 100.0}})
        write_shard_result(
            result.folder,
            result.info.model_copy(update={"run": info}),
            {name: np.array(result[name]) for name in result},
            {path.name: path for path in shutil.copytree(result.folder, tmp_path / text).glob("*.bin")},
        )
    for outcome in ("merged-thresholds", "finished"):
        assert merge_shards(two_shards) == outcome
        for text in ("1/2", "2/2"):
            shard(data, two_shards, text)
    seconds = load_result(two_shards).info.seconds
    assert seconds["thresholds"] == 200, "that of the checkpoints from which shards went on is not added once more"
    assert seconds["counting"] > 0


def test_a_missing_shard_is_named(data: Path, two_shards: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder(two_shards, "2/2"))
    refused("shard 2/2 is missing", two_shards)
    refused("holds no finished shard", tmp_path / "other", [tmp_path / "absent"])
    run_part(data, two_shards, range(3, 5), "3to5")
    refused("the shard with the images 10 to 12 is missing", two_shards)


def test_a_shard_without_counts_is_named(data: Path, two_shards: Path) -> None:
    assert merge_shards(two_shards) == "merged-thresholds"
    refused(r"2 of 2 shards have no counts yet: .*1-of-2, .*2-of-2\. Repeat", two_shards)
    assert shard(data, two_shards, "1/2") == "counting"
    refused(r"1 of 2 shards have no counts yet: .*2-of-2\. Repeat", two_shards)


def test_doubled_and_overlapping_shards_are_named(data: Path, two_shards: Path, tmp_path: Path) -> None:
    one = folder(two_shards, "1/2")
    shutil.copytree(one, tmp_path / "copy")
    refused(f"{tmp_path / 'copy'} and {one} hold the same images|{one} and {tmp_path / 'copy'} hold the same images",
            two_shards, [one, tmp_path / "copy"])  # fmt: skip
    run_part(data, tmp_path / "more", range(2, 7), "more")
    refused("hold some of the same images", two_shards, [one, tmp_path / "more"])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"min_iou": 0.2}, "config.min_iou is 0.2"),
        ({"max_images": 12}, r"config.max_images is 12|data.digest|data.images"),
    ],
)
def test_a_shard_of_another_run_is_named(
    data: Path, two_shards: Path, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    part = ShardTask(tmp_path / "other", "2/2", range(3, 6))
    run_shard(open_inputs(build(), data, SETTINGS.model_copy(update=changes), Execution()), part)
    refused(f"shards of different runs.*{named}|shards of different runs.*now", two_shards,
            [folder(two_shards, "1/2"), part.folder])  # fmt: skip


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_flip, lambda path: os.truncate(path, path.stat().st_size // 2), Path.unlink])
@pytest.mark.parametrize("name", ["layer0.values.npy", "layer1.maps.npy"])
def test_a_damaged_shard_result_is_named_and_only_it_is_computed_again(
    data: Path, expected: Result, two_shards: Path, name: str, damage: Callable[[Path], object]
) -> None:
    result = folder(two_shards, "2/2") / "thresholds"
    damage(result / name)
    refused(re.escape(f"{result / name} is missing or damaged"), two_shards)
    shutil.rmtree(result)  # what the message says
    reports: list[str] = []
    one = Shard.parse("2/2")
    part = ShardTask(two_shards, "2/2", one.batches(BATCHES))
    run_shard(open_inputs(build(), data, SETTINGS, Execution()), part, lambda stage, *_: reports.append(stage))
    assert reports == [], "the checkpoint holds the threshold pass: no batch is read again"
    assert merge_shards(two_shards) == "merged-thresholds"


def test_a_lost_work_folder_costs_one_threshold_pass(data: Path, expected: Result, two_shards: Path) -> None:
    assert merge_shards(two_shards) == "merged-thresholds"
    shutil.rmtree(folder(two_shards, "1/2") / "work")
    for text in ("1/2", "2/2"):
        shard(data, two_shards, text)
    assert merge_shards(two_shards) == "finished"
    run_asserts.assert_same_run(load_result(two_shards), expected)


def test_shards_of_two_machines_are_merged_in_a_third_folder(data: Path, expected: Result, tmp_path: Path) -> None:
    here, there, run = tmp_path / "here", tmp_path / "there", tmp_path / "run"
    for _ in range(2):
        shard(data, here, "1/2")
        shard(data, there, "2/2")
        outcome = merge_shards(run, [here, there])
    assert outcome == "finished"
    run_asserts.assert_same_run(load_result(run), expected)
    assert read_config(run).is_same_run(read_config(here)), "it can be repeated"


def test_a_run_folder_of_another_run_is_not_merged_into(data: Path, two_shards: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    dissect(build(), data, config=SETTINGS.model_copy(update={"min_iou": 0.3}), out=other)
    with pytest.raises(ResultError, match=r"a finished run of something else: its config\.min_iou is 0\.3, now 0\.04"):
        merge_shards(other, [two_shards])


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_a_shard_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="Expected I/N"):
        Shard.parse(text)


def test_more_shards_than_batches_are_refused() -> None:
    with pytest.raises(ConfigError, match="7 batches cannot be split into 8 shards"):
        Shard.parse("1/8").batches(7)


@pytest.mark.parametrize("left", ["all", "some files of a shard", "thresholds"])
def test_a_merge_that_was_killed_after_writing_its_result_is_resumed(
    data: Path, expected: Result, two_shards: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    merge_shards(two_shards)
    for text in ("1/2", "2/2"):
        shard(data, two_shards, text)
    with monkeypatch.context() as killed:
        killed.setattr(WorkDir, "remove", lambda _: None)
        killed.setattr(merge, "clear_leftovers", lambda *_: None)
        assert merge_shards(two_shards) == "finished"
    if left == "some files of a shard":
        (folder(two_shards, "1/2") / "counting" / "shard.json").unlink()
        shutil.rmtree(folder(two_shards, "2/2"))
    elif left == "thresholds":
        shutil.rmtree(two_shards / "shards")
    assert merge_shards(two_shards) == "finished"
    run_asserts.assert_same_run(load_result(two_shards), expected)
    assert {path.name for path in two_shards.iterdir()} == {
        "concepts.parquet", "config.json", "layers", "log.jsonl", "run.json",
    }  # fmt: skip


def test_a_merge_that_was_killed_between_two_folders_writes_both(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = [tmp_path / name for name in ("here", "there")]
    for number, machine in enumerate(machines, 1):
        shard(data, machine, f"{number}/2")
    write_result, written = merge.write_shard_result, []

    def killed(target: Path, *arguments: Any) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(write_result(target, *arguments))

    with monkeypatch.context() as patched:
        patched.setattr(merge, "write_shard_result", killed)
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            merge_shards(machines[0], machines)
    assert merge_shards(machines[0], machines) == "merged-thresholds"
    assert [shard(data, machine, f"{number}/2") for number, machine in enumerate(machines, 1)] == ["counting"] * 2


def test_shards_of_other_kernels_are_not_merged(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard(data, tmp_path / "run", "1/2")
    monkeypatch.setattr(fingerprint, "kernels", lambda _: "of another processor")
    shard(data, tmp_path / "run", "2/2")
    refused(r"shards of different runs: environment\.kernels is .*of another processor", tmp_path / "run")


def test_a_shard_whose_arrays_have_another_format_is_refused(data: Path, two_shards: Path) -> None:
    path = folder(two_shards, "1/2") / "thresholds" / "shard.json"
    path.write_text(path.read_text().replace('"schema_version": 2', '"schema_version": 1'))
    refused(re.escape(f"{path} is missing or damaged (Input should be 2)"), two_shards)


def test_a_flipped_digit_in_shard_json_is_found(data: Path, two_shards: Path) -> None:
    path = folder(two_shards, "1/2") / "thresholds" / "shard.json"
    path.write_text(path.read_text().replace('"total": 7', '"total": 6'))
    refused(re.escape(f"{path} is missing or damaged (it is not what was written)"), two_shards)
