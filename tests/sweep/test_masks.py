"""Masks come back from disk as they were written."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netdissect.errors import ResultError
from netdissect.sweep.masks import MaskFile


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 256, 65_536, 65_537]))
def test_masks_come_back_in_any_order(tmp_path_factory: pytest.TempPathFactory, seed: int, pixels: int) -> None:
    rng = np.random.default_rng(seed)
    file = MaskFile(tmp_path_factory.mktemp("masks") / "layer.masks", 3, pixels)
    written = []
    for _ in range(4):
        on = rng.integers(0, min(pixels, 5) + 1, 3).astype(np.uint32)
        written.append((on, rng.integers(0, pixels, on.sum()).astype(np.uint32)))
        file.append(*written[-1])
    assert file.places.tolist() == [len(places) for _, places in written]
    for image in rng.permutation(4):
        for found, wanted in zip(file.read(int(image)), written[image], strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_a_disk_that_takes_no_masks_is_named(tmp_path: Path) -> None:
    file = MaskFile(tmp_path / "layer.masks", 1, 4)
    file.path.unlink()
    file.path.mkdir()
    with pytest.raises(ResultError, match=r"layer\.masks cannot be written .* leave --permutations out"):
        file.append(np.zeros(1, np.uint32), np.zeros(0, np.uint32))
