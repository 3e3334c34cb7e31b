"""Images of highest activation, against sorting all of them."""

import functools
import operator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
import strategies
from netdissect.activations import TopImages
from netdissect.concepts import Size


def maps_of(seed: int, images: int, kinds: list[str]) -> strategies.Floats:
    rng = np.random.default_rng(seed)
    return np.stack([strategies.activations(rng, kind, (images, 3, 2)) for kind in kinds], axis=1)


def add(kept: TopImages, maps: strategies.Floats, rows: npt.NDArray[np.int64]) -> None:
    kept.update(np.ascontiguousarray(maps[rows]), maps[rows].max(axis=(2, 3)), rows)


def top_images(maps: strategies.Floats, keep: int, order: list[int], size: int) -> TopImages:
    """Feed the images in some order, in batches."""
    kept = TopImages(maps.shape[1], Size(3, 2), keep)
    for start in range(0, len(order), size):
        rows = np.array(order[start : start + size], dtype=np.int64)
        add(kept, maps, rows)
    return kept


def assert_ranked(kept: TopImages, maps: strategies.Floats, keep: int) -> None:
    rows, maxima, found = kept.ranked()
    for unit, wanted in enumerate(oracle.top_images(maps, keep)):
        present = len(wanted)
        assert rows[unit].tolist() == wanted + [-1] * (keep - present)
        assert maxima[unit, :present].tolist() == [maps[row, unit].max() for row in wanted]
        np.testing.assert_array_equal(found[unit, :present], maps[wanted, unit])
        assert not found[unit, present:].any()


kinds = st.lists(st.sampled_from(strategies.KINDS), min_size=1, max_size=4)


@given(st.integers(0, 2**32 - 1), kinds, st.integers(1, 20), st.integers(1, 8), st.integers(1, 7), st.data())
def test_top_images_are_those_of_sorting_all_in_any_order(
    seed: int, kinds: list[str], images: int, keep: int, size: int, data: st.DataObject
) -> None:
    maps = maps_of(seed, images, kinds)
    order = data.draw(st.permutations(range(images)))
    assert_ranked(top_images(maps, keep, list(order), size), maps, keep)


@given(st.integers(0, 2**32 - 1), kinds, st.integers(1, 20), st.integers(1, 8), st.integers(1, 4), st.data())
def test_any_split_of_the_images_adds_up_to_the_whole(
    seed: int, kinds: list[str], images: int, keep: int, parts: int, data: st.DataObject
) -> None:
    maps = maps_of(seed, images, kinds)
    order = list(data.draw(st.permutations(range(images))))
    shards = [top_images(maps, keep, order[part::parts], 3) for part in range(parts)]
    assert_ranked(functools.reduce(operator.add, shards, TopImages(len(kinds), Size(3, 2), keep)), maps, keep)


@given(st.integers(0, 2**32 - 1), kinds, st.integers(1, 20), st.integers(0, 20), st.integers(1, 8))
def test_a_restored_state_keeps_the_same_images(seed: int, kinds: list[str], images: int, cut: int, keep: int) -> None:
    maps = maps_of(seed, images, kinds)
    state = top_images(maps, keep, list(range(min(cut, images))), 3).state()
    again = TopImages(len(kinds), Size(3, 2), keep)
    again.restore({name: array.copy() for name, array in state.items()})
    rest = np.arange(min(cut, images), images)
    add(again, maps, rest)
    assert_ranked(again, maps, keep)


def test_equal_maxima_are_ordered_by_index_row() -> None:
    maps = np.ones((5, 1, 3, 2), np.float32)
    rows, _, _ = top_images(maps, 3, [4, 2, 0, 3, 1], 2).ranked()
    assert rows.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("value", [0.0, -3.5])
def test_dead_units_have_top_images(value: float) -> None:
    maps = np.full((4, 1, 3, 2), value, np.float32)
    assert_ranked(top_images(maps, 6, [0, 1, 2, 3], 4), maps, 6)
