"""Packed label maps: a second run on the same data reads them, and gives the same bits."""

import errno
import io
import json
import os
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import run_asserts
import strategies
from netdissect.caches.cache_folder import LABELS
from netdissect.caches.cache_note import CacheNote
from netdissect.concepts import ConceptData
from netdissect.config import PROTOCOLS, DissectConfig, Execution, Protocol, ProtocolName, StatisticsConfig
from netdissect.dissect import dissect, label_cache
from netdissect.dissect.label_cache import BLOCK, LabelCacheWriter, read_cached_labels
from netdissect.errors import ConceptsError
from netdissect.result import Result
from netdissect.scoring import ImageLabels
from networks import COVERAGE, SIDE, build, images

SETTINGS = DissectConfig(layers=("deep_relu",), batch_size=3, top_images=3, statistics=StatisticsConfig(bootstrap=10))


@pytest.fixture(scope="module")
def plain(broden: Path) -> Result:
    return dissect(build(), broden, config=SETTINGS)


def execution(cache: Path) -> Execution:
    return Execution(cache_folder=cache)


def cache_files(folder: Path) -> list[Path]:
    """List cache files, finished or not."""
    return list((folder / "cache").glob("labels*"))


def without_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: ConceptData, row: int) -> Any:
        pytest.fail(f"the labels of image {row} were read again")

    monkeypatch.setattr(ConceptData, "labels", refused)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_second_run_reads_cached_labels_and_gives_the_same_bits(
    broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: ProtocolName
) -> None:
    monkeypatch.setattr(label_cache, "BLOCK", 2)
    config = SETTINGS.model_copy(update={"protocol": strategies.definition(name, 0.05).protocol})
    plain = dissect(build(), broden, config=config)
    first = dissect(build(), broden, config=config, execution=execution(tmp_path / "cache"))
    assert len(cache_files(tmp_path)) == 1
    without_maps(monkeypatch)
    second = dissect(build(), broden, config=config, execution=execution(tmp_path / "cache"))
    run_asserts.assert_same_run(plain, first)
    run_asserts.assert_same_run(plain, second)
    assert len(cache_files(tmp_path)) == 1


def test_permutations_read_cached_labels_in_any_order(
    broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_cache, "BLOCK", 2)
    config = SETTINGS.model_copy(
        update={"statistics": StatisticsConfig(bootstrap=0, permutations=5, extra_metrics=True)}
    )
    plain = dissect(build(), broden, config=config)
    dissect(build(), broden, config=config, execution=execution(tmp_path / "cache"))
    without_maps(monkeypatch)
    run_asserts.assert_same_run(plain, dissect(build(), broden, config=config, execution=execution(tmp_path / "cache")))


def test_labels_are_read_from_the_cache_from_any_image_on(broden: Path, tmp_path: Path) -> None:
    data = ConceptData.open(broden)
    written = [ImageLabels.of(data.labels(row % len(data)), data, "once") for row in range(BLOCK + 9)]
    with LabelCacheWriter(tmp_path / "labels-1.zip", CacheNote()) as packer:
        for image in written:
            packer.add(image)
        packer.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["labels-1.zip"]
    for rows in (range(BLOCK + 9), range(5, 7), range(BLOCK - 1, BLOCK + 1), [], [3, BLOCK + 1, 2, 2]):
        found = list(read_cached_labels(tmp_path / "labels-1.zip", rows, data))
        assert len(found) == len(rows)
        for row, image in zip(rows, found, strict=True):
            for mine, its in zip(arrays_of(image), arrays_of(written[row]), strict=True):
                assert (mine.dtype, mine.tolist()) == (its.dtype, its.tolist())


def arrays_of(image: ImageLabels) -> Iterator[np.ndarray[Any, Any]]:
    yield from vars(image.label_sets).values()
    yield from (image.label_channels, image.label_ids, image.pixels, image.categories, image.image_level_categories)


def some_map(root: Path) -> Path:
    return root / "images" / "6_0.png"


def changed_time(root: Path) -> None:
    os.utime(some_map(root), ns=(1, 1))


def changed_pixels(root: Path) -> None:
    strategies.repaint(some_map(root))


def test_data_with_other_pixels_have_another_cache_file(tmp_path: Path) -> None:
    root = strategies.write_broden(tmp_path / "data", images(), COVERAGE, image=(SIDE, SIDE))
    before = dissect(build(), root, config=SETTINGS, execution=execution(tmp_path / "cache"))
    changed_pixels(root)
    plain = dissect(build(), root, config=SETTINGS)
    assert not plain.concepts.equals(before.concepts)
    run_asserts.assert_same_run(plain, dissect(build(), root, config=SETTINGS, execution=execution(tmp_path / "cache")))
    assert len(cache_files(tmp_path)) == 2


def test_equal_tables_sizes_and_times_elsewhere_are_other_data(tmp_path: Path) -> None:
    root = strategies.write_broden(tmp_path / "data", images(), COVERAGE, image=(SIDE, SIDE))
    dissect(build(), root, config=SETTINGS, execution=execution(tmp_path / "cache"))
    other = shutil.copytree(root, tmp_path / "other")  # with all times
    changed_pixels(other)
    plain = dissect(build(), other, config=SETTINGS)
    run_asserts.assert_same_run(
        plain, dissect(build(), other, config=SETTINGS, execution=execution(tmp_path / "cache"))
    )
    assert len(cache_files(tmp_path)) == 2


def test_touched_and_copied_data_are_the_same_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = strategies.write_broden(tmp_path / "data", images(), COVERAGE, image=(SIDE, SIDE))
    before = dissect(build(), root, config=SETTINGS, execution=execution(tmp_path / "cache"))
    changed_time(root)
    other = shutil.copytree(root, tmp_path / "other")
    without_maps(monkeypatch)
    for place in (root, other):
        again = dissect(build(), place, config=SETTINGS, execution=execution(tmp_path / "cache"))
        assert again.concepts.equals(before.concepts)
        assert again.info.data.digest == before.info.data.digest


def test_other_categories_and_protocols_have_other_cache_files(broden: Path, tmp_path: Path) -> None:
    for name, categories in (("paper", None), ("original", None), ("paper", ("object",)), ("pnas2020", None)):
        protocol: Protocol = strategies.definition(name, 0.05).protocol
        config = SETTINGS.model_copy(update={"protocol": protocol, "categories": categories})
        dissect(build(), broden, config=config, execution=execution(tmp_path / "cache"))
    assert len(cache_files(tmp_path)) == 4


@pytest.mark.usefixtures("tight")
def test_an_interrupted_run_leaves_no_half_file(broden: Path, tmp_path: Path) -> None:
    def stop(stage: str, _done: int, _total: int | None) -> None:
        if stage == "counting":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        dissect(
            build(),
            broden,
            config=SETTINGS,
            out=tmp_path / "run",
            execution=execution(tmp_path / "cache"),
            progress=stop,
        )
    assert cache_files(tmp_path) == []
    went_on = dissect(build(), broden, config=SETTINGS, out=tmp_path / "run", execution=execution(tmp_path / "cache"))
    run_asserts.assert_same_run(dissect(build(), broden, config=SETTINGS), went_on)


@pytest.mark.usefixtures("tight")
@pytest.mark.parametrize("change", [changed_time, changed_pixels])
def test_data_that_change_during_a_run_are_not_cached(tmp_path: Path, change: Callable[[Path], None]) -> None:
    root = strategies.write_broden(tmp_path / "data", images(), COVERAGE, image=(SIDE, SIDE))

    def meanwhile(stage: str, done: int, _total: int | None) -> None:
        if (stage, done) == ("counting", 3):
            change(root)

    with pytest.raises(ConceptsError, match=r"were changed while the run was under way"):
        dissect(build(), root, config=SETTINGS, execution=execution(tmp_path / "cache"), progress=meanwhile)
    assert cache_files(tmp_path) == []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-400])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def foreign(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("0", b"no array")


def emptied(path: Path) -> None:
    with zipfile.ZipFile(path, "w"):
        pass


def forged(change: Callable[[ImageLabels], ImageLabels]) -> Callable[[Path], None]:
    """Pack other labels, with a checksum that fits."""

    def damage(path: Path) -> None:
        with zipfile.ZipFile(path) as file:
            images = label_cache._unpack(file.read("0"))
        images[2] = change(images[2])
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("0", label_cache._pack(images))

    damage.__name__ = change.__name__
    return damage


@forged
def foreign_kind(image: ImageLabels) -> ImageLabels:
    return replace(
        image,
        label_sets=replace(image.label_sets, index_map=image.label_sets.index_map + len(image.label_sets.set_sizes)),
    )


@forged
def foreign_label(image: ImageLabels) -> ImageLabels:
    return replace(image, label_ids=image.label_ids + 1_000)


@forged
def foreign_category(image: ImageLabels) -> ImageLabels:
    return replace(image, categories=image.categories + 3)


@forged
def label_of_another_image(image: ImageLabels) -> ImageLabels:
    return replace(image, label_ids=image.label_ids[:-1], pixels=image.pixels[:-1])


@pytest.mark.parametrize(
    "damage", [cut, flipped, foreign, emptied, foreign_kind, foreign_label, foreign_category, label_of_another_image]
)
def test_a_damaged_file_is_said_and_made_anew(
    broden: Path, tmp_path: Path, damage: Callable[[Path], None], plain: Result
) -> None:
    dissect(build(), broden, config=SETTINGS, execution=execution(tmp_path / "cache"))
    (path,) = cache_files(tmp_path)
    whole = path.read_bytes()
    damage(path)
    with pytest.warns(
        UserWarning, match=rf"{path.name} is damaged .*: it is deleted, and label maps are decoded again"
    ):
        found = dissect(build(), broden, config=SETTINGS, execution=execution(tmp_path / "cache"))
    run_asserts.assert_same_run(plain, found)
    with zipfile.ZipFile(path) as file, zipfile.ZipFile(io.BytesIO(whole)) as before:
        assert [file.read(name) for name in file.namelist()] == [before.read(name) for name in before.namelist()]


def test_what_was_read_before_the_damage_is_not_read_again(
    broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: Result
) -> None:
    monkeypatch.setattr(label_cache, "BLOCK", 2)
    dissect(build(), broden, config=SETTINGS, execution=execution(tmp_path / "cache"))
    (path,) = cache_files(tmp_path)
    with zipfile.ZipFile(path) as file:
        blocks = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in blocks.items():
            file.writestr(name, b"" if name == "2" else content)
    decoded: list[int] = []
    labels = ConceptData.labels
    monkeypatch.setattr(ConceptData, "labels", lambda self, row: decoded.append(row) or labels(self, row))
    with pytest.warns(UserWarning, match="is damaged"):
        found = dissect(build(), broden, config=SETTINGS, execution=execution(tmp_path / "cache"))
    run_asserts.assert_same_run(plain, found)
    assert decoded[:3] == [4, 5, 6]
    assert sorted(decoded[3:]) == list(range(7)), "of the permutations, which read in another order"
    assert not path.exists()


def test_a_cache_that_cannot_be_written_ends_no_run(broden: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.warns(UserWarning, match=r"cache cannot be written \(File exists\): labels are not cached"):
        found = dissect(build(), broden, config=SETTINGS, out=tmp_path / "run", execution=execution(tmp_path / "cache"))
    run_asserts.assert_same_run(dissect(build(), broden, config=SETTINGS), found)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines].count("labels were not cached") == 1


def test_a_disk_that_fills_up_ends_no_run(broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(label_cache, "BLOCK", 2)
    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    found = dissect(build(), broden, config=SETTINGS, execution=execution(tmp_path / "cache"))
    assert cache_files(tmp_path) == []
    run_asserts.assert_same_run(dissect(build(), broden, config=SETTINGS), found)


def test_files_used_longest_ago_give_way(broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ConceptData.open(broden)

    def write(name: str) -> int:
        with LabelCacheWriter(tmp_path / name, CacheNote()) as packer:
            packer.add(ImageLabels.of(data.labels(0), data, "once"))
            packer.finish()
        return (tmp_path / name).stat().st_size

    size = write("labels-new.zip")
    for age in (1, 2, 3):
        path = tmp_path / f"labels-{age}.zip"
        path.write_bytes(bytes(1000))
        os.utime(path, (1e9 - age, 1e9 - age))
    monkeypatch.setattr(label_cache, "LABELS", replace(LABELS, max_bytes=size + 2000))
    write("labels-new.zip")
    assert {path.name for path in tmp_path.iterdir()} == {"labels-new.zip", "labels-1.zip", "labels-2.zip"}


def test_a_cache_that_this_user_may_not_read_or_write_costs_a_warning_and_no_run(
    broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = dissect(build(), broden, config=SETTINGS)
    dissect(build(), broden, config=SETTINGS, execution=execution(tmp_path / "cache"))
    (kept,) = cache_files(tmp_path)
    opened, whole = Path.open, kept.read_bytes()

    def forbidden(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.parent == kept.parent:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return opened(self, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", forbidden)
        with pytest.warns(UserWarning, match=r"labels-\w+\.zip cannot be read \(Permission denied\)"):
            run_asserts.assert_same_run(
                plain, dissect(build(), broden, config=SETTINGS, execution=execution(tmp_path / "cache"))
            )
    (tmp_path / "file").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"file/inner cannot be (written|read) \(Not a directory\)|cannot be read"):
        run_asserts.assert_same_run(
            plain, dissect(build(), broden, config=SETTINGS, execution=execution(tmp_path / "file" / "inner"))
        )
    assert cache_files(tmp_path) == [kept]
    assert len(kept.read_bytes()) == len(whole)


def test_what_a_killed_process_left_in_the_cache_is_removed_when_it_is_old(broden: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    old, fresh = (tmp_path / "cache" / f"labels-0{name}.part" for name in ("old", "fresh"))
    for path in (old, fresh):
        path.write_bytes(b"")
    os.utime(old, (0, 0))
    dissect(build(), broden, config=SETTINGS, execution=execution(tmp_path / "cache"))
    assert not old.exists()
    assert fresh.exists()


def test_a_bit_flipped_anywhere_in_a_cache_file_is_found_or_changes_nothing(broden: Path, tmp_path: Path) -> None:
    data = ConceptData.open(broden)
    path = tmp_path / "labels-1.zip"
    with LabelCacheWriter(path, CacheNote()) as packer:
        for row in range(len(data)):
            packer.add(ImageLabels.of(data.labels(row), data, "once"))
        packer.finish()
    whole, rows = path.read_bytes(), range(len(data))
    wanted = repr(list(read_cached_labels(path, rows, data)))
    found = Counter[str]()
    for place in range(0, len(whole), 11):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        try:
            found["same" if repr(list(read_cached_labels(path, rows, data))) == wanted else "other"] += 1
        except ConceptsError:
            found["refused"] += 1
    assert found["other"] == 0
    assert found["refused"] > 5 * found["same"]
