"""Records are read as they were written, in any order, or an error names them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netdissect.activations.array_log import AppendOnlyArrayFile
from netdissect.dissect.work_dir.mask_files import MaskFile
from netdissect.errors import ResultError
from netdissect.scoring.mask_runs import MaskRuns


def log_of(folder: Path, records: int) -> AppendOnlyArrayFile:
    file = AppendOnlyArrayFile(folder / "counts.images")
    for number in range(records):
        file.append([np.arange(number), np.full(3, number)])
    return file


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 256, 65_536, 65_537]))
def test_masks_come_back_in_any_order(tmp_path_factory: pytest.TempPathFactory, seed: int, pixels: int) -> None:
    rng = np.random.default_rng(seed)
    file = MaskFile(tmp_path_factory.mktemp("masks") / "layer.masks")
    written = []
    for _ in range(4):
        counts = rng.integers(0, min(pixels, 5) + 1, 3)
        arrays = (np.arange(3), counts, *rng.integers(0, pixels, (2, counts.sum())))
        written.append(MaskRuns(*(array.astype(np.uint32) for array in arrays)))
        file.append(written[-1])
    for image in rng.permutation(4):
        for found, wanted in zip(file.read(int(image)), written[image], strict=True):
            assert found.dtype == np.uint32
            np.testing.assert_array_equal(found, wanted)


def test_a_kill_at_any_byte_leaves_what_was_recorded_and_appending_goes_on(tmp_path: Path) -> None:
    file = log_of(tmp_path, 3)
    whole, offsets = file.path.read_bytes(), file.offsets
    for left in range(offsets[2], len(whole) + 1):  # killed while the third record was written
        file.path.write_bytes(whole[:left])
        again = AppendOnlyArrayFile(file.path)
        again.truncate(offsets[:3])
        again.append([np.arange(2), np.full(3, 2)])
        assert file.path.read_bytes() == whole
        assert [[array.tolist() for array in arrays] for arrays in again] == [
            [list(range(number)), [number] * 3] for number in range(3)
        ]


def test_a_bit_flipped_anywhere_is_found_and_its_record_named(tmp_path: Path) -> None:
    file = log_of(tmp_path, 2)
    whole = file.path.read_bytes()
    for place in range(len(whole)):
        file.path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        record = int(place >= file.offsets[1])
        with pytest.raises(ResultError, match=rf"counts\.images is damaged: its record {record} is not what was"):
            file.read(record)
        assert len(file.read(1 - record)) == 2


def test_a_file_that_was_cut_short_or_removed_is_refused_by_name(tmp_path: Path) -> None:
    file = log_of(tmp_path, 2)
    file.path.write_bytes(file.path.read_bytes()[:-1])
    with pytest.raises(ResultError, match=r"counts\.images is damaged: its record 1 .* Remove the run folder's 'work'"):
        list(file)
    with pytest.raises(ResultError, match=rf"should hold {file.offsets[-1]} bytes but was cut short or removed"):
        AppendOnlyArrayFile(file.path).truncate(file.offsets)
    file.path.unlink()
    with pytest.raises(ResultError, match=rf"should hold {file.offsets[-1]} bytes but was cut short or removed"):
        AppendOnlyArrayFile(file.path).truncate(file.offsets)
    with pytest.raises(ResultError, match=r"is damaged: its record 0 .*No such file"):
        file.read(0)


def test_a_record_that_holds_no_arrays_is_refused_although_its_checksum_fits(tmp_path: Path) -> None:
    file = AppendOnlyArrayFile(tmp_path / "counts.images")
    file.write([b"no array"])
    with pytest.raises(ResultError, match=r"counts\.images is damaged: its record 0"):
        file.read(0)


def test_a_disk_that_takes_no_record_is_named_and_the_record_is_not_counted(tmp_path: Path) -> None:
    for file, hint in (
        (log_of(tmp_path, 1), r"again\."),
        (MaskFile(tmp_path / "layer.masks"), "--permutations 0"),
    ):
        records = file.records
        file.path.unlink(missing_ok=True)
        file.path.mkdir()
        with pytest.raises(ResultError, match=rf"{file.path.name} cannot be written .* {hint}"):
            file.append([np.zeros(1, np.uint32)])
        assert file.records == records
