"""Packed label maps: a second run on the same data reads them, and gives the same bits."""

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import runs
import tiny
from netdissect.concepts import ConceptData
from netdissect.config import PROTOCOLS, DissectConfig, Evidence, Execution, Protocol, ProtocolName
from netdissect.dissect import dissect, labels
from netdissect.dissect.labels import BLOCK, Packer, packed
from netdissect.errors import ConceptsError
from netdissect.score import ImageLabels
from networks import COVERAGE, SIDE, build, pictures

SETTINGS = DissectConfig(layers=("deep_relu",), batch_size=3, top_images=3, evidence=Evidence(bootstrap=10))


def execution(cache: Path) -> Execution:
    return Execution(cache=cache)


def without_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: ConceptData, row: int) -> Any:
        pytest.fail(f"the labels of image {row} were read again")

    monkeypatch.setattr(ConceptData, "labels", refused)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_second_run_reads_packed_labels_and_gives_the_same_bits(
    broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: ProtocolName
) -> None:
    monkeypatch.setattr(labels, "BLOCK", 2)
    config = SETTINGS.model_copy(update={"protocol": tiny.definition(name, 0.05).protocol})
    plain = dissect(build(), broden, config)
    first = dissect(build(), broden, config, execution=execution(tmp_path / "cache"))
    assert len(list((tmp_path / "cache").iterdir())) == 1
    without_maps(monkeypatch)
    second = dissect(build(), broden, config, execution=execution(tmp_path / "cache"))
    runs.assert_same_run(plain, first)
    runs.assert_same_run(plain, second)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_chance_finds_packed_labels_in_any_order(broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "BLOCK", 2)
    config = SETTINGS.model_copy(update={"evidence": Evidence(bootstrap=0, chance=5, beside=True)})
    plain = dissect(build(), broden, config)
    dissect(build(), broden, config, execution=execution(tmp_path / "cache"))
    without_maps(monkeypatch)
    runs.assert_same_run(plain, dissect(build(), broden, config, execution=execution(tmp_path / "cache")))


def test_labels_of_every_image_come_back_from_any_row_on(broden: Path, tmp_path: Path) -> None:
    data = ConceptData.open(broden)
    written = [ImageLabels.of(data.labels(row % len(data)), data, "once") for row in range(BLOCK + 9)]
    with Packer(tmp_path / "labels-1.zip") as packer:
        for image in written:
            packer.add(image)
        packer.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["labels-1.zip"]
    for rows in (range(BLOCK + 9), range(5, 7), range(BLOCK - 1, BLOCK + 1), [], [3, BLOCK + 1, 2, 2]):
        found = list(packed(tmp_path / "labels-1.zip", rows))
        assert len(found) == len(rows)
        for row, image in zip(rows, found, strict=True):
            for mine, its in zip(arrays_of(image), arrays_of(written[row]), strict=True):
                assert (mine.dtype, mine.tolist()) == (its.dtype, its.tolist())


def arrays_of(image: ImageLabels) -> Iterator[np.ndarray[Any, Any]]:
    yield from vars(image.kinds).values()
    yield from (image.planes, image.numbers, image.pixels, image.categories, image.whole_categories)


def changed_map(root: Path) -> None:
    path = next((root / "images").glob("*_0.png"))
    pixels = np.asarray(Image.open(path)).copy()
    pixels[:] = 0
    Image.fromarray(pixels).save(path)


def changed_time(root: Path) -> None:
    os.utime(next((root / "images").glob("*_0.png")), ns=(1, 1))


@pytest.mark.parametrize("change", [changed_map, changed_time])
def test_other_data_is_packed_apart(tmp_path: Path, change: Callable[[Path], None]) -> None:
    root = tiny.write_broden(tmp_path / "data", pictures(), COVERAGE, image=(SIDE, SIDE))
    dissect(build(), root, SETTINGS, execution=execution(tmp_path / "cache"))
    change(root)
    plain = dissect(build(), root, SETTINGS)
    runs.assert_same_run(plain, dissect(build(), root, SETTINGS, execution=execution(tmp_path / "cache")))
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_other_sets_of_categories_and_ways_of_counting_are_packed_apart(broden: Path, tmp_path: Path) -> None:
    for name, categories in (("paper", None), ("original", None), ("paper", ("object",)), ("pnas2020", None)):
        protocol: Protocol = tiny.definition(name, 0.05).protocol
        config = SETTINGS.model_copy(update={"protocol": protocol, "categories": categories})
        dissect(build(), broden, config, execution=execution(tmp_path / "cache"))
    assert len(list((tmp_path / "cache").iterdir())) == 4


def test_an_interrupted_run_leaves_no_half_file(broden: Path, tmp_path: Path) -> None:
    def stop(stage: str, _done: int, _total: int | None) -> None:
        if stage == "second look":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        dissect(build(), broden, SETTINGS, out=tmp_path / "run", execution=execution(tmp_path / "cache"), progress=stop)
    assert list((tmp_path / "cache").iterdir()) == []
    went_on = dissect(build(), broden, SETTINGS, out=tmp_path / "run", execution=execution(tmp_path / "cache"))
    runs.assert_same_run(dissect(build(), broden, SETTINGS), went_on)


def test_data_that_change_under_way_are_not_packed(tmp_path: Path) -> None:
    root = tiny.write_broden(tmp_path / "data", pictures(), COVERAGE, image=(SIDE, SIDE))

    def change(stage: str, _done: int, _total: int | None) -> None:
        if stage == "first look":
            changed_time(root)

    with pytest.raises(ConceptsError, match=r"were changed while the run was under way"):
        dissect(build(), root, SETTINGS, execution=execution(tmp_path / "cache"), progress=change)
    assert list((tmp_path / "cache").iterdir()) == []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


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


@pytest.mark.parametrize("damage", [cut, flipped, foreign, emptied])
def test_a_damaged_file_is_named(broden: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    dissect(build(), broden, SETTINGS, execution=execution(tmp_path / "cache"))
    (path,) = (tmp_path / "cache").iterdir()
    damage(path)
    with pytest.raises(ConceptsError, match=rf"{path.name} is damaged .* delete this file"):
        dissect(build(), broden, SETTINGS, execution=execution(tmp_path / "cache"))
    path.unlink()
    runs.assert_same_run(
        dissect(build(), broden, SETTINGS), dissect(build(), broden, SETTINGS, execution=execution(tmp_path / "cache"))
    )


def test_a_cache_that_cannot_be_written_ends_no_run(broden: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    found = dissect(build(), broden, SETTINGS, out=tmp_path / "run", execution=execution(tmp_path / "cache"))
    runs.assert_same_run(dissect(build(), broden, SETTINGS), found)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines].count("labels were not packed") == 1


def test_a_disk_that_fills_up_ends_no_run(broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(labels, "BLOCK", 2)
    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    found = dissect(build(), broden, SETTINGS, execution=execution(tmp_path / "cache"))
    assert list((tmp_path / "cache").iterdir()) == []
    runs.assert_same_run(dissect(build(), broden, SETTINGS), found)


def test_files_used_longest_ago_give_way(broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ConceptData.open(broden)

    def write(name: str) -> int:
        with Packer(tmp_path / name) as packer:
            packer.add(ImageLabels.of(data.labels(0), data, "once"))
            packer.finish()
        return (tmp_path / name).stat().st_size

    size = write("labels-new.zip")
    for age in (1, 2, 3):
        path = tmp_path / f"labels-{age}.zip"
        path.write_bytes(bytes(1000))
        os.utime(path, (1e9 - age, 1e9 - age))
    monkeypatch.setattr(labels, "LARGEST", size + 2000)
    write("labels-new.zip")
    assert {path.name for path in tmp_path.iterdir()} == {"labels-new.zip", "labels-1.zip", "labels-2.zip"}
