"""The permutation test of shards is, bit for bit, that of the run of one process."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import run_asserts
import strategies
from netdissect.config import DissectConfig, Execution, NullModel, ProtocolName, StatisticsConfig
from netdissect.dissect import dissect
from netdissect.dissect.distributed.merge import merge_shards
from netdissect.dissect.distributed.permutation_parts import PermutationParts
from netdissect.dissect.distributed.shard_result import ShardResult, write_shard_result
from netdissect.dissect.distributed.shards import Shard, dissect_shard
from netdissect.dissect.label_reader import LabelReader
from netdissect.dissect.statistics import permutation_pass
from netdissect.dissect.statistics.permutation_cost import PermutationCost
from netdissect.dissect.work_dir.mask_files import MaskFile
from netdissect.errors import ConceptsError, ResultError
from netdissect.result import load_result
from networks import COVERAGE, SIDE, build, images

pytestmark = pytest.mark.usefixtures("tight")

IMAGES = 13


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirteen images with label maps of two sizes: many are annotated alike, some without a category."""
    drawn = images(7, sizes=((12, 12), (6, 8)))
    root = tmp_path_factory.mktemp("data") / "broden"
    return strategies.write_broden(root, [*drawn, *drawn[::-1]][:IMAGES], COVERAGE, image=(SIDE, SIDE))


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut strata and permutations into several pieces, on thirteen images, too."""
    monkeypatch.setattr(permutation_pass, "BLOCK", 3)
    monkeypatch.setattr(PermutationParts, "step", 4)


def config(name: ProtocolName = "paper", of: NullModel = "images", **changes: Any) -> DissectConfig:
    protocol = strategies.definition(name, 0.05).protocol.model_copy(update={"quantiles": (0.05, 0.2)})
    statistics = StatisticsConfig(bootstrap=0, permutations=10, null=of, stats_seed=3, keep_masks=True)
    settings: dict[str, Any] = {"layers": ("wide_relu", "fc"), "protocol": protocol, "batch_size": 2, "min_iou": 0.0}
    return DissectConfig(**settings | {"statistics": statistics} | changes)


def run_shards(data: Path, settings: DissectConfig, run: Path, count: int, **options: Any) -> None:
    """Run both passes of all shards, up to the last merge."""
    texts = [f"{number}/{count}" for number in range(1, count + 1)]
    for stage in ("thresholds", "counting"):
        for text in texts:
            found = dissect_shard(
                build(), data, config=settings, shard=Shard.parse(text), out=run, execution=Execution(**options)
            )
            assert found == stage
        if stage == "thresholds":
            assert merge_shards(run) == "merged-thresholds"


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(
    "settings",
    [
        config(min_iou="fdr"),
        config(
            "lite",
            min_iou=0.04,
            statistics=StatisticsConfig(bootstrap=3, permutations=10, holdout=0.5, keep_masks=True),
        ),
        config("original", of="locations"),
    ],
    ids=["paper", "lite", "locations"],
)
def test_shards_measure_the_null_of_one_process(
    data: Path, tmp_path: Path, settings: DissectConfig, count: int
) -> None:
    expected = dissect(build(), data, config=settings)
    assert "null_counts" in expected.layer("fc").statistics
    run_shards(data, settings, tmp_path / "run", count)
    assert merge_shards(tmp_path / "run") == "finished"
    found = load_result(tmp_path / "run")
    run_asserts.assert_same_run(found, expected)
    assert found.info.seconds["permutations"] > 0
    assert not {"shards", "permutations", "merged-thresholds"} & {path.name for path in (tmp_path / "run").iterdir()}


def test_shards_choose_the_number_of_permutations_that_one_process_does(data: Path, tmp_path: Path) -> None:
    settings = config(min_iou="fdr", statistics=StatisticsConfig(bootstrap=0, permutations="auto"))
    num_runs: list[int] = []

    def auto(cost: PermutationCost) -> int:
        if cost.runs:  # not of the largest number, which the plan states
            num_runs.append(cost.runs)
        return 6 + cost.runs % 5

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PermutationCost, "auto_permutations", property(auto))
        expected = dissect(build(), data, config=settings)
        run_shards(data, settings, tmp_path / "run", 3)
        merge_shards(tmp_path / "run")
    run_asserts.assert_same_run(load_result(tmp_path / "run"), expected)
    expected_runs, *_ = num_runs  # of the plan
    assert len(set(num_runs) - {expected_runs}) == 1


def test_masks_of_shards_are_merged_as_a_tree(data: Path, tmp_path: Path) -> None:
    settings, here, run = config(of="locations"), tmp_path / "here", tmp_path / "run"
    run_shards(data, settings, here, 3)
    parts = [here / "shards" / f"{number}-of-3" for number in (1, 2, 3)]
    shutil.copytree(here / "merged-thresholds", run / "merged-thresholds")
    assert merge_shards(tmp_path / "larger", [parts[2], parts[0]], partial=True) == "counting"
    assert merge_shards(run, [parts[1], tmp_path / "larger"]) == "finished"
    run_asserts.assert_same_run(load_result(run), dissect(build(), data, config=settings))


@pytest.fixture
def counted(data: Path, tmp_path: Path) -> Path:
    """A run of two shards that wait for the last merge."""
    run_shards(data, config(), tmp_path / "run", 2)
    return tmp_path / "run"


def parts_of(run: Path) -> list[str]:
    return sorted(path.parent.name for path in run.glob("permutations/*/shard.json"))


def interrupt(run: Path, monkeypatch: pytest.MonkeyPatch, at: int = 8) -> None:
    """Stop a merge after some permutations; there are four in a part."""
    measure = PermutationParts.measure

    def stopped(self: PermutationParts, permutations: range) -> None:
        measure(self, permutations)
        if permutations.stop == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(PermutationParts, "measure", stopped)
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            merge_shards(run)


def test_an_interrupted_merge_keeps_the_permutations_that_it_has_counted(
    data: Path, counted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(counted, monkeypatch)
    assert parts_of(counted) == ["0-4", "4-8"]
    reports: list[tuple[str, int, int | None]] = []
    assert merge_shards(counted, progress=lambda *report: reports.append(report)) == "finished"
    assert reports[-1] == ("permutations", 10, 10)
    assert min(done for _, done, _ in reports) >= 8
    run_asserts.assert_same_run(load_result(counted), dissect(build(), data, config=config()))


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_flip, lambda path: os.truncate(path, path.stat().st_size // 2), Path.unlink])
def test_damaged_permutations_and_masks_are_named(
    counted: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object]
) -> None:
    interrupt(counted, monkeypatch)
    damage(counted / "permutations" / "4-8" / "layer1.scores.npy")
    with pytest.raises(ResultError, match=re.escape("4-8/layer1.scores.npy is missing or damaged")):
        merge_shards(counted)
    shutil.rmtree(counted / "permutations" / "4-8")  # what the message says
    masks = next((counted / "shards" / "2-of-2" / "counting").glob("*.pixels0.bin"))
    kept = masks.read_bytes()
    damage(masks)
    with pytest.raises(ResultError, match=re.escape(f"{masks} is missing or damaged")):
        merge_shards(counted)
    masks.write_bytes(kept)
    assert merge_shards(counted) == "finished"


@pytest.mark.parametrize("name", ["4-9", "0-11"])
def test_permutations_that_are_not_those_of_the_run_are_refused(
    counted: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    interrupt(counted, monkeypatch)
    (counted / "permutations" / "4-8").rename(counted / "permutations" / name)
    with pytest.raises(ResultError, match="holds other permutations than those of the run, 0 to 9"):
        merge_shards(counted)
    shutil.rmtree(counted / "permutations")  # what the message says
    assert merge_shards(counted) == "finished"


def test_permutations_of_another_run_are_refused(
    data: Path, counted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_shards(data, config(of="locations"), tmp_path / "other", 2)
    interrupt(tmp_path / "other", monkeypatch)
    shutil.copytree(tmp_path / "other" / "permutations", counted / "permutations")
    with pytest.raises(ResultError, match=r'config\.statistics\.null is "locations", now "images"'):
        merge_shards(counted)


def test_label_maps_that_change_during_a_merge_are_noticed(tmp_path: Path) -> None:
    root = strategies.write_broden(tmp_path / "data", images(6), COVERAGE, image=(SIDE, SIDE))
    run_shards(root, config(), tmp_path / "run", 2)

    def meanwhile(stage: str, done: int, _total: int | None) -> None:
        if (stage, done) == ("permutations", 8):
            strategies.repaint(root / "images" / "5_0.png")

    with pytest.raises(ConceptsError, match="were changed while the run was under way"):
        merge_shards(tmp_path / "run", progress=meanwhile)
    assert parts_of(tmp_path / "run") == ["0-4"]
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_part_takes_about_a_minute(counted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    steps: list[int] = []

    def recorded(self: PermutationParts, step: int) -> list[range]:
        steps.append(step)
        return missing(self, step)

    missing = PermutationParts.missing
    monkeypatch.setattr(PermutationParts, "missing", recorded)
    for seconds in (1e-3, 1.5, 60.0):
        monkeypatch.setattr(PermutationCost, "nanoseconds", int(seconds * 1e9))
        interrupt(counted, monkeypatch, at=10)
        shutil.rmtree(counted / "permutations")
    assert steps == [60_000, 40, 10]


@pytest.mark.parametrize(
    ("array", "value"), [("masks", 10**6), ("starts", 10**6), ("lengths", 25), ("run_counts", 1000)]
)
def test_masks_of_a_foreign_shard_that_do_not_fit_the_run_are_refused(counted: Path, array: str, value: int) -> None:
    result = ShardResult.open(counted / "shards" / "2-of-2" / "counting")
    arrays = {name: np.array(result[name]) for name in result}
    (name,) = (name for name in arrays if name.endswith(".pixels0"))
    old, new = MaskFile(result.folder / f"{name}.bin", arrays[name]), MaskFile(counted / "new")
    for image in range(old.records):
        masks = old.read(image)
        getattr(masks, array)[:1] = value
        new.append(masks)
    files = {file: result.folder / file for file in result.info.files if file.endswith(".bin")}
    files = {file: path.rename(counted / file) for file, path in files.items()} | {f"{name}.bin": new.path}
    write_shard_result(result.folder, result.info, arrays | {name: np.array(new.offsets)}, files)
    with pytest.raises(ResultError, match=r"the masks of an image do not fit .* masks on label maps of"):
        merge_shards(counted)


def test_masks_that_were_counted_on_label_maps_of_another_size_are_refused(counted: Path) -> None:
    result = ShardResult.open(counted / "shards" / "2-of-2" / "counting")
    arrays = {name: np.array(result[name]) for name in result}
    (name,) = (name for name in arrays if name.endswith(".strata"))
    arrays[name][:, :2] *= 2
    files = {file: result.folder / file for file in result.info.files if file.endswith(".bin")}
    files = {file: path.rename(counted / file) for file, path in files.items()}
    write_shard_result(result.folder, result.info, arrays, files)
    with pytest.raises(ResultError, match=r"masks were counted on label maps of .* but those of the data set have"):
        merge_shards(counted)


def test_masks_of_too_few_images_are_refused(counted: Path) -> None:
    result = ShardResult.open(counted / "shards" / "2-of-2" / "counting")
    arrays = {name: np.array(result[name]) for name in result}
    (name,) = (name for name in arrays if name.endswith(".strata"))
    files = {file: result.folder / file for file in result.info.files if file.endswith(".bin")}
    files = {file: path.rename(counted / file) for file, path in files.items()}
    write_shard_result(result.folder, result.info, arrays | {name: arrays[name][1:]}, files)
    with pytest.raises(ResultError, match="the masks of other images than the 13 of the run"):
        merge_shards(counted)


def test_a_merge_reads_the_label_cache(
    data: Path, counted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    expected = dissect(build(), data, config=config(), execution=Execution(cache_folder=cache))
    assert list(cache.glob("labels-*.zip"))
    monkeypatch.setattr(LabelReader, "_decoded", None)  # label maps cannot be decoded
    merge_shards(counted, execution=Execution(cache_folder=cache))
    run_asserts.assert_same_run(load_result(counted), expected)
