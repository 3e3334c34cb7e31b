"""A data set that the tests of a whole run share."""

from pathlib import Path

import pytest

import strategies
from netdissect.activations import topk
from netdissect.dissect import passes
from netdissect.process import split_loops
from networks import COVERAGE, SIDE, images


@pytest.fixture(scope="session")
def broden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images with label maps of three sizes."""
    root = tmp_path_factory.mktemp("data") / "broden"
    drawn = images(sizes=((12, 12), (6, 8), (24, 24)))
    return strategies.write_broden(root, drawn, COVERAGE, image=(SIDE, SIDE))


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the largest values next to no room to spare: bounds rise, and stores become sparse, on tiny data too.

    Stored batches are counted one by one, so that an interruption may fall between any two, and loops over the smallest
    maps are divided among threads.
    """
    monkeypatch.setattr(split_loops, "LEAST_CELLS", 1)
    monkeypatch.setattr(topk, "buffer_capacity", lambda keep, total: min(total, keep + 3))
    monkeypatch.setattr(passes, "COUNTED_IMAGES", 0)
