"""Shards, merged in any order and as a tree, are the run that one process makes."""

import itertools
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import run_asserts
import strategies
from netdissect.config import DissectConfig, Execution
from netdissect.dissect import dissect
from netdissect.dissect.distributed import merge
from netdissect.dissect.distributed.merge import merge_shards
from netdissect.dissect.distributed.shards import Shard, ShardPass, look_at
from netdissect.dissect.run_dissection import opened
from netdissect.dissect.work_dir import fingerprint
from netdissect.dissect.work_dir.work_dir import WorkDir
from netdissect.errors import ConceptsError, ConfigError, ResultError
from netdissect.result import Result, load_result
from networks import COVERAGE, SIDE, build, images

pytestmark = pytest.mark.usefixtures("tight")

BATCHES = 7
SETTINGS = DissectConfig(
    layers=("wide_relu", "fc"), batch_size=2, top_images=3, protocol=strategies.definition("paper", 0.05).protocol
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "broden"
    return strategies.write_broden(root, images(13, sizes=((12, 12), (6, 8))), COVERAGE, image=(SIDE, SIDE))


@pytest.fixture(scope="module")
def whole(data: Path) -> Result:
    return dissect(build(), data, SETTINGS)


def look(data: Path, run: Path, batches: range, name: str | None = None, **options: Any) -> str:
    """Do what can be done of some batches."""
    execution = Execution(**options)
    part = ShardPass(run, name or f"{batches.start}to{batches.stop}", batches)
    return look_at(opened(build(), data, SETTINGS, execution), part)


def shard(data: Path, run: Path, text: str, **options: Any) -> str:
    one = Shard.parse(text)
    return look(data, run, one.batches(BATCHES), text, **options)


def folder(run: Path, text: str) -> Path:
    return ShardPass(run, text, range(1)).folder


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_of_one_folder_give_the_run_of_one_process(
    data: Path, whole: Result, tmp_path: Path, count: int
) -> None:
    run, texts = tmp_path / "run", [f"{number}/{count}" for number in range(1, count + 1)]
    assert [shard(data, run, text) for text in reversed(texts)] == ["first"] * count
    assert [shard(data, run, text) for text in texts] == ["first"] * count, "without thresholds nothing is left to do"
    assert merge_shards(run) == "thresholds"
    assert [shard(data, run, text) for text in texts] == ["second"] * count
    assert merge_shards(run) == "finished"
    found = load_result(run)
    run_asserts.assert_same_run(found, whole)
    assert sorted(path.name for path in run.iterdir()) == [
        "concepts.parquet",
        "config.json",
        "layers",
        "log.jsonl",
        "run.json",
    ]
    assert merge_shards(run) == "finished"
    assert [shard(data, run, text) for text in texts] == ["second"] * count


@settings(max_examples=4)
@given(
    cuts=st.sets(st.integers(1, BATCHES - 1)),
    shuffled=st.randoms(use_true_random=False),
    engines=st.lists(st.sampled_from(["compiled", "tensor"]), min_size=BATCHES, max_size=BATCHES),
    stores=st.sampled_from(["sparse", "none"]),
)
def test_any_split_in_any_order_as_any_tree_gives_the_whole_to_the_last_bit(
    data: Path,
    whole: Result,
    tmp_path_factory: pytest.TempPathFactory,
    cuts: set[int],
    shuffled: Any,
    engines: list[str],
    stores: str,
) -> None:
    root = tmp_path_factory.mktemp("tree")
    run, edges = root / "run", [0, *sorted(cuts), BATCHES]
    spans = [range(start, stop) for start, stop in itertools.pairwise(edges)]
    leaves = [ShardPass(run, str(index), span).folder for index, span in enumerate(spans)]
    for stage in ("thresholds", "finished"):
        for index, span in enumerate(spans):
            look(data, run, span, str(index), engine=engines[index], activation_cache=stores)
        nodes, step = list(leaves), 0
        while len(nodes) > 2:
            step += 1
            left, right = (nodes.pop(shuffled.randrange(len(nodes))) for _ in range(2))
            node = root / f"{stage}{step}"
            merge_shards(node, [left, right], partial=True)
            nodes.append(node)
        shuffled.shuffle(nodes)
        assert merge_shards(run, nodes) == stage
    run_asserts.assert_same_run(load_result(run), whole)
    shutil.rmtree(root)


@pytest.fixture
def halves(data: Path, tmp_path: Path) -> Path:
    """A run of which both halves have looked once."""
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
    run, stage = tmp_path / "run", "second" if thresholds else "first"
    if thresholds:
        for text in ("1/2", "2/2"):
            look(root, run, Shard.parse(text).batches(3), text)
        merge_shards(run)

    def meanwhile(told: str, done: int, _total: int | None) -> None:
        if (told, done) == (f"{stage} look", 2):
            strategies.repaint(root / "images" / "5_0.png")

    with pytest.raises(ConceptsError, match=r"were changed while the run was under way"):
        look_at(opened(build(), root, SETTINGS, Execution()), ShardPass(run, "2/2", range(1, 3)), meanwhile)
    assert not (folder(run, "2/2") / stage).exists()


def test_a_missing_shard_is_named(data: Path, halves: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder(halves, "2/2"))
    refused("shard 2/2 is missing", halves)
    refused("holds no finished part", tmp_path / "other", [tmp_path / "absent"])
    look(data, halves, range(3, 5), "3to5")
    refused("what holds the images 10 to 12 is missing", halves)


def test_a_shard_without_its_second_look_is_named(data: Path, halves: Path) -> None:
    assert merge_shards(halves) == "thresholds"
    refused(r"2 of 2 parts have no second look yet: .*1-of-2, .*2-of-2\. Give", halves)
    assert shard(data, halves, "1/2") == "second"
    refused(r"1 of 2 parts have no second look yet: .*2-of-2\. Give", halves)


def test_doubled_and_overlapping_parts_are_named(data: Path, halves: Path, tmp_path: Path) -> None:
    one = folder(halves, "1/2")
    shutil.copytree(one, tmp_path / "copy")
    refused(f"{tmp_path / 'copy'} and {one} hold the same images|{one} and {tmp_path / 'copy'} hold the same images",
            halves, [one, tmp_path / "copy"])  # fmt: skip
    look(data, tmp_path / "more", range(2, 7), "more")
    refused("hold some of the same images", halves, [one, tmp_path / "more"])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"min_iou": 0.2}, "config.min_iou is 0.2"),
        ({"max_images": 12}, r"config.max_images is 12|data.digest|data.images"),
    ],
)
def test_a_part_of_another_run_is_named(
    data: Path, halves: Path, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    part = ShardPass(tmp_path / "other", "2/2", range(3, 6))
    look_at(opened(build(), data, SETTINGS.model_copy(update=changes), None), part)
    refused(f"parts of different runs.*{named}|parts of different runs.*now", halves,
            [folder(halves, "1/2"), part.folder])  # fmt: skip


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_flip, lambda path: os.truncate(path, path.stat().st_size // 2), Path.unlink])
@pytest.mark.parametrize("name", ["layer0.values.npy", "layer1.maps.npy"])
def test_a_damaged_piece_is_named_and_only_it_is_made_again(
    data: Path, whole: Result, halves: Path, name: str, damage: Callable[[Path], object]
) -> None:
    first = folder(halves, "2/2") / "first"
    damage(first / name)
    refused(re.escape(f"{first / name} is missing or damaged"), halves)
    shutil.rmtree(first)  # what the message says
    reports: list[str] = []
    one = Shard.parse("2/2")
    part = ShardPass(halves, "2/2", one.batches(BATCHES))
    look_at(opened(build(), data, SETTINGS, None), part, lambda stage, *_: reports.append(stage))
    assert reports == [], "the checkpoint holds the first look: nothing is looked at again"
    assert merge_shards(halves) == "thresholds"


def test_a_lost_work_folder_costs_that_shard_s_first_look_alone(data: Path, whole: Result, halves: Path) -> None:
    assert merge_shards(halves) == "thresholds"
    shutil.rmtree(folder(halves, "1/2") / "work")
    for text in ("1/2", "2/2"):
        shard(data, halves, text)
    assert merge_shards(halves) == "finished"
    run_asserts.assert_same_run(load_result(halves), whole)


def test_parts_of_two_machines_meet_in_a_third_folder(data: Path, whole: Result, tmp_path: Path) -> None:
    here, there, run = tmp_path / "here", tmp_path / "there", tmp_path / "run"
    for _ in range(2):
        shard(data, here, "1/2")
        shard(data, there, "2/2")
        outcome = merge_shards(run, [here, there])
    assert outcome == "finished"
    run_asserts.assert_same_run(load_result(run), whole)


def test_a_run_folder_of_another_run_is_not_merged_into(data: Path, halves: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    dissect(build(), data, SETTINGS.model_copy(update={"min_iou": 0.3}), out=other)
    with pytest.raises(ResultError, match=r"a finished run of something else: its config\.min_iou is 0\.3, now 0\.04"):
        merge_shards(other, [halves])


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_a_shard_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="Expected I/N"):
        Shard.parse(text)


def test_more_shards_than_batches_are_refused() -> None:
    with pytest.raises(ConfigError, match="7 batches cannot be cut into 8 shards"):
        Shard.parse("1/8").batches(7)


@pytest.mark.parametrize("left", ["all", "a part of a shard", "thresholds"])
def test_a_merge_that_was_killed_behind_its_result_is_taken_up(
    data: Path, whole: Result, halves: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    merge_shards(halves)
    for text in ("1/2", "2/2"):
        shard(data, halves, text)
    with monkeypatch.context() as killed:
        killed.setattr(WorkDir, "remove", lambda _: None)
        killed.setattr(merge, "clear_leftovers", lambda *_: None)
        assert merge_shards(halves) == "finished"
    if left == "a part of a shard":
        (folder(halves, "1/2") / "second" / "piece.json").unlink()
        shutil.rmtree(folder(halves, "2/2"))
    elif left == "thresholds":
        shutil.rmtree(halves / "shards")
    assert merge_shards(halves) == "finished"
    run_asserts.assert_same_run(load_result(halves), whole)
    assert {path.name for path in halves.iterdir()} == {
        "concepts.parquet", "config.json", "layers", "log.jsonl", "run.json",
    }  # fmt: skip


def test_a_merge_that_was_killed_between_two_folders_writes_both(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = [tmp_path / name for name in ("here", "there")]
    for number, machine in enumerate(machines, 1):
        shard(data, machine, f"{number}/2")
    write_piece, written = merge.write_shard_result, []

    def killed(target: Path, *arguments: Any) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(write_piece(target, *arguments))

    with monkeypatch.context() as patched:
        patched.setattr(merge, "write_shard_result", killed)
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            merge_shards(machines[0], machines)
    assert merge_shards(machines[0], machines) == "thresholds"
    assert [shard(data, machine, f"{number}/2") for number, machine in enumerate(machines, 1)] == ["second"] * 2


def test_parts_of_other_kernels_are_not_put_together(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard(data, tmp_path / "run", "1/2")
    monkeypatch.setattr(fingerprint, "kernels", lambda _: "of another processor")
    shard(data, tmp_path / "run", "2/2")
    refused(r"parts of different runs: environment\.kernels is .*of another processor", tmp_path / "run")


def test_a_description_of_a_piece_with_a_digit_flipped_is_found(data: Path, halves: Path) -> None:
    path = folder(halves, "1/2") / "first" / "piece.json"
    path.write_text(path.read_text().replace('"total": 7', '"total": 6'))
    refused(re.escape(f"{path} is missing or damaged (it is not what was written)"), halves)
