"""Decoded images in one file of the cache: what is written is read, and nothing else is."""

import os
from pathlib import Path

import numpy as np
import pytest

from netdissect.activations import packed_images
from netdissect.activations.packed_images import PAGE, PackedImages
from netdissect.caches import cache_folder
from netdissect.caches.cache_folder import IMAGES
from netdissect.caches.cache_note import CacheNote

IMAGES_OF_FILE = np.random.default_rng(0).integers(0, 256, (600, 5, 4, 3), dtype=np.uint8)


def file_in(folder: Path, count: int = 600) -> PackedImages:
    return PackedImages(folder / "images-1.bin", (count, 5, 4, 3), CacheNote(data="data", images=count))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def packed(tmp_path: Path) -> PackedImages:
    """A file that holds the images 2 to 4 and 7."""
    packed = file_in(tmp_path)
    packed.write([2, 3, 4, 7], IMAGES_OF_FILE[[2, 3, 4, 7]])
    return packed


@pytest.mark.parametrize("rows", [range(2, 5), range(8), [7, 2, 2], [0, 599], [4], range(5, 7), [7, 599]])
def test_images_that_were_written_are_read_and_the_others_are_absent(packed: PackedImages, rows: list[int]) -> None:
    present = [row in {2, 3, 4, 7} for row in rows]
    kept = packed.read(rows)
    if kept is None:
        assert not any(present)
        return
    assert kept.whole.tolist() == present
    assert np.array_equal(kept.images[kept.whole], IMAGES_OF_FILE[list(rows)][kept.whole])


def test_neighboring_images_are_mapped_and_what_is_written_into_them_stays_in_memory(packed: PackedImages) -> None:
    kept = packed.read(range(2, 5))
    assert kept is not None
    assert isinstance(kept.images.base, np.memmap)
    kept.images[:] = 0
    again = packed.read(range(2, 5))
    assert again is not None
    assert np.array_equal(again.images, IMAGES_OF_FILE[2:5])


def test_another_process_adds_to_the_same_file(packed: PackedImages) -> None:
    other = file_in(packed.path.parent)
    other.write(range(590, 600), IMAGES_OF_FILE[590:])
    assert packed.count() == other.count() == 14
    kept = packed.read(range(590, 600))
    assert kept is not None
    assert np.array_equal(kept.images, IMAGES_OF_FILE[590:])


def test_a_file_that_another_process_begins_at_the_same_time_stays(packed: PackedImages) -> None:
    file_in(packed.path.parent)._create()
    assert packed.count() == 4
    assert names(packed.path.parent) == [packed.path.name]


def test_an_image_of_another_row_or_with_a_flipped_bit_is_absent(packed: PackedImages) -> None:
    content = bytearray(packed.path.read_bytes())
    begin = len(content) - 600 * 60
    content[begin + 2 * 60 : begin + 3 * 60] = IMAGES_OF_FILE[3].tobytes()
    content[PAGE + 16 : PAGE + 24] = content[PAGE + 24 : PAGE + 32]
    content[begin + 7 * 60] ^= 16
    packed.path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"images-1\.bin is damaged \(the checksum of 2 of 8 images is another\)"):
        kept = packed.read(range(8))
    assert kept is not None
    assert kept.whole.tolist() == [False, False, False, True, True, False, False, False]
    packed.write([2, 7], IMAGES_OF_FILE[[2, 7]])
    repaired = packed.read(range(2, 5))
    assert repaired is not None
    assert repaired.whole.all()


@pytest.mark.parametrize("content", [b"", b"x" * 100_000, b"netdissect packed images 1\n" + b"9" * 50])
def test_a_file_that_is_damaged_as_a_whole_is_never_read_and_is_deleted(tmp_path: Path, content: bytes) -> None:
    packed = file_in(tmp_path)
    packed.path.write_bytes(content)
    assert packed.read(range(600)) is None
    assert packed.count() == 0
    with pytest.warns(UserWarning, match=r"images-1\.bin is damaged \(its beginning or its size is another\)"):
        packed.remove_foreign()
    assert not packed.path.exists()


def test_the_least_recently_used_files_are_deleted_before_one_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for age, name in enumerate("abc"):
        path = tmp_path / f"images-{name}.bin"
        path.write_bytes(bytes(20_000))
        os.utime(path, (1e9 - age, 1e9 - age))
    packed = file_in(tmp_path)
    monkeypatch.setattr(packed_images, "IMAGES", limited(packed.bytes + 45_000))
    packed.write([0], IMAGES_OF_FILE[:1])
    assert names(tmp_path) == ["images-1.bin", "images-a.bin", "images-b.bin"]


def limited(max_bytes: int) -> cache_folder.CacheKind:
    return cache_folder.CacheKind(IMAGES.name, IMAGES.title, IMAGES.pattern, max_bytes, 1000)


@pytest.mark.parametrize(("limit", "message"), [(1000, r"more than the 1e-06 GB of all"), (10**9, r"and 0 GB of the")])
def test_a_file_for_which_there_is_no_room_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, message: str
) -> None:
    packed = file_in(tmp_path)
    monkeypatch.setattr(packed_images, "IMAGES", limited(limit))
    monkeypatch.setattr(packed_images.shutil, "disk_usage", lambda _path: _Full())
    with pytest.warns(UserWarning, match=rf"cannot be written \(it takes .* GB, {message}.*: images are not cached"):
        packed.write([0], IMAGES_OF_FILE[:1])
    packed.write([1], IMAGES_OF_FILE[:1])  # said once
    assert names(tmp_path) == []


class _Full:
    free = 0
