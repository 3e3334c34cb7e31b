"""What the store keeps is all that can matter."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
import strategies
from netdissect.activations import ActivationStore
from netdissect.concepts import Size
from netdissect.config import PROTOCOLS, ProtocolName
from netdissect.errors import ResultError
from netdissect.scoring import BatchLabels, ImageLabels, IoUCounter, IoUCounts, make_upsampler

TWO_CELLS: tuple[ProtocolName, ...] = ("original", "paper", "pnas2020")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


def kept(path: Path, maps: strategies.Floats, bound: strategies.Floats, size: int, *, dense: bool) -> strategies.Floats:
    """Write maps batch by batch, and read them back from the last batch to the first."""
    path.unlink(missing_ok=True)
    store = ActivationStore(path, maps.shape[1], Size(*maps.shape[2:]), dense=dense)
    starts = range(0, len(maps), size)
    for start in starts:
        store.append(maps[start : start + size], bound)
    assert store.offsets[-1] == path.stat().st_size
    read = [store.read(start // size, len(maps[start : start + size])) for start in reversed(starts)]
    joined = np.concatenate(read[::-1])
    assert np.array_equal(store.read(0, *map(len, reversed(read))), joined)
    return joined


def lower(limits: strategies.Floats, slack: float) -> strategies.Floats:
    """Return a bound at or below the thresholds; a slack of 9 means that none is known yet."""
    return np.where(slack >= 9, -np.inf, limits - np.float32(slack)).astype(np.float32)


def counts(
    world: strategies.World, maps: strategies.Floats, limits: strategies.Floats, name: ProtocolName
) -> IoUCounts:
    protocol, data = PROTOCOLS[name].model_copy(update={"segmentation_size": None}), world.data()
    counter = IoUCounter(data, limits[None], protocol.restriction)
    for row, one in enumerate(maps):
        labels = world.labels(row)
        upsampler = make_upsampler(world.cells(), labels.size, Size(*world.source), world.field(), protocol.anchor)
        image = ImageLabels.of(labels, data, protocol.duplicates)
        counter.update_batch(one[None], BatchLabels.of([image]), upsampler)
    return counter.counts


@given(
    strategies.worlds(),
    st.sampled_from(TWO_CELLS),
    st.sampled_from(strategies.FRACTIONS),
    st.sampled_from([0, 1e-3, 0.5, 9]),
    st.integers(1, 4),
)
def test_a_sparse_store_counts_as_a_dense_one_at_any_bound_below_the_thresholds(
    folder: Path, world: strategies.World, name: ProtocolName, fraction: float, slack: float, size: int
) -> None:
    limits = oracle.thresholds(world.maps, oracle.Rules(fraction=fraction))
    dense = kept(folder / "dense", world.maps, limits, size, dense=True)
    np.testing.assert_array_equal(dense, world.maps)
    sparse = kept(folder / "sparse", world.maps, lower(limits, slack), size, dense=False)
    for array, other in zip(
        vars(counts(world, world.maps, limits, name)).values(),
        vars(counts(world, sparse, limits, name)).values(),
        strict=True,
    ):
        np.testing.assert_array_equal(array, other)


@given(strategies.worlds(), st.sampled_from(strategies.FRACTIONS), st.sampled_from([0, 0.5, 9]))
def test_every_neighbor_of_a_cell_above_the_threshold_is_kept(
    folder: Path, world: strategies.World, fraction: float, slack: float
) -> None:
    limits = oracle.thresholds(world.maps, oracle.Rules(fraction=fraction))
    sparse = kept(folder / "sparse", world.maps, lower(limits, slack), 3, dense=False)
    for image, unit, row, column in np.argwhere(world.maps > limits[:, None, None]):
        near = np.s_[image, unit, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        np.testing.assert_array_equal(sparse[near], world.maps[near])
    lost = sparse != world.maps
    assert (sparse[lost] == np.finfo(np.float32).min).all()
    assert (world.maps <= limits[:, None, None])[lost].all()


def test_a_sparse_store_of_quiet_units_is_small(folder: Path) -> None:
    maps = np.random.default_rng(0).normal(size=(8, 16, 14, 14)).astype(np.float32)
    bound = np.quantile(maps, 0.995, axis=(0, 2, 3)).astype(np.float32)
    kept(folder / "small", maps, bound, 8, dense=False)
    assert (folder / "small").stat().st_size < maps.nbytes / 4
    silent = kept(folder / "none", maps, np.full(16, np.inf, np.float32), 8, dense=False)
    assert (folder / "none").stat().st_size == 8 * 16 // 8 + 4, "a bit each, and a checksum"
    assert (silent == np.finfo(np.float32).min).all()


@pytest.mark.parametrize("dense", [True, False])
def test_records_after_the_last_checkpoint_are_truncated(tmp_path: Path, dense: bool) -> None:
    maps = np.random.default_rng(1).normal(size=(6, 3, 4, 5)).astype(np.float32)
    bound = np.zeros(3, np.float32)
    store = ActivationStore(tmp_path / "maps", 3, Size(4, 5), dense=dense)
    store.append(maps[:2], bound)
    offsets = list(store.offsets)
    store.append(maps[2:4], bound)  # after the checkpoint: lost
    again = ActivationStore(tmp_path / "maps", 3, Size(4, 5), dense=dense)
    again.truncate(offsets)
    again.append(maps[4:], bound)
    assert again.offsets[-1] == (tmp_path / "maps").stat().st_size
    found = np.concatenate([again.read(0, 2), again.read(1, 2)])
    expected = maps[[0, 1, 4, 5]]
    known = expected > 0
    np.testing.assert_array_equal(found[known], expected[known])


@pytest.mark.parametrize("damage", ["removed", "cut", "flipped"])
@pytest.mark.parametrize("dense", [True, False])
def test_a_store_that_lost_bytes_is_refused_by_name(tmp_path: Path, damage: str, dense: bool) -> None:
    path = tmp_path / "maps"
    store = ActivationStore(path, 1, Size(2, 2), dense=dense)
    store.append(np.ones((1, 1, 2, 2), np.float32), np.zeros(1, np.float32))
    content, again = path.read_bytes(), ActivationStore(path, 1, Size(2, 2), dense=dense)
    if damage == "removed":
        path.unlink()
        again.truncate(store.offsets)
        assert again.records == 0, "what was removed is made again"
    elif damage == "cut":
        path.write_bytes(content[:-1])
        with pytest.raises(ResultError, match=re.escape(f"{path} should hold {len(content)} bytes")):
            again.truncate(store.offsets)
    else:
        for place in range(len(content)):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(ResultError, match=re.escape(f"{path} is damaged: its record 0")):
                store.read(0, 1)


def test_the_lowest_float_itself_can_be_kept(tmp_path: Path) -> None:
    maps = np.array([[[[np.finfo(np.float32).min, 1.0, np.finfo(np.float32).max]]]], np.float32)
    found = kept(tmp_path / "maps", maps, np.zeros(1, np.float32), 1, dense=False)
    np.testing.assert_array_equal(found, maps)
