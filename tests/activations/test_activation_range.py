"""Images over the range of a unit, against sorting all maxima in Python."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from netdissect.activations import image_values
from netdissect.activations.activation_range import (
    IMAGES_OF_BAND,
    PERCENTILES,
    RANGE_IMAGES,
    RangeMaps,
    band_starts,
    choose_images,
    needed_cells,
)
from netdissect.activations.image_values import ImageValues, largest_values, sample_images, sampled_maxima
from netdissect.concepts import Size

Maxima = npt.NDArray[np.float32]
RANDOM = slice(RANGE_IMAGES - IMAGES_OF_BAND, None)


def stored(folder: Path, maxima: Maxima, cuts: list[int]) -> list[ImageValues]:
    """Write the maxima of images (n, U) in shards that end at `cuts`, in batches of up to 7."""
    parts = []
    for number, images in enumerate(np.split(maxima, cuts)):
        parts.append(ImageValues(folder / f"{number}.maxima", maxima.shape[1]))
        for start in range(0, len(images), 7):
            parts[-1].append(images[start : start + 7])
    return parts


@pytest.fixture(scope="module")
def maxima() -> Maxima:
    """Of 4,100 images and five units: ties, zeros, a constant unit."""
    values = np.random.default_rng(0).normal(size=(4100, 5)).astype(np.float32)
    values[:, 1] = np.round(values[:, 1])
    values[:, 2] = np.maximum(values[:, 2] - 1, 0)
    values[:, 3] = -0.0
    values[::2, 3] = 0.0
    return values


def test_images_of_a_percentile_are_the_first_that_are_not_above_it(tmp_path: Path, maxima: Maxima) -> None:
    chosen, found = choose_images(stored(tmp_path, maxima, []), seed=0)
    images = len(maxima)
    for unit, values in enumerate(maxima.T):
        ranked = sorted(range(images), key=lambda image, values=values: (-values[image], image))
        for band, percentile in enumerate(PERCENTILES):
            slots = slice(band * IMAGES_OF_BAND, (band + 1) * IMAGES_OF_BAND)
            above = int((100 - percentile) * 41 + 1e-9)
            assert chosen[unit, slots].tolist() == ranked[above : above + IMAGES_OF_BAND]
            limit = np.quantile(values, percentile / 100, method="inverted_cdf")
            assert found[unit, slots.start] == pytest.approx(limit, abs=0.05 if percentile < 99 else 0.4)
        assert found[unit].tolist() == values[chosen[unit]].tolist()


def test_a_percentile_within_the_top_images_is_left_out() -> None:
    assert band_starts(63_305) == (63, 633, 6330, 31_652)
    assert band_starts(4000)[0] == 4
    assert band_starts(3999)[0] is None
    assert band_starts(40) == (None, None, 4, 20)
    assert band_starts(8) == (None, None, None, 4)
    assert band_starts(7) == (None,) * 4


def test_random_images_depend_on_seed_and_unit_and_are_drawn_evenly(tmp_path: Path, maxima: Maxima) -> None:
    parts = stored(tmp_path, np.tile(maxima[:40], (1, 60)), [])
    chosen, again, other = (choose_images(parts, seed)[0][:, RANDOM] for seed in (0, 0, 1))
    assert chosen.tolist() == again.tolist()
    assert (chosen != other).any()
    assert (np.diff(chosen, axis=1) > 0).all(), "no image twice"
    counts = np.bincount(chosen.ravel(), minlength=40)
    assert np.square(counts - 30).sum() / 30 < 72, "chi-square of 39 degrees of freedom at 0.001"


@given(cuts=st.lists(st.integers(0, 60), max_size=4), at_once=st.sampled_from([1, 61, 130, 10_000]))
def test_any_split_and_any_block_gives_the_images_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, maxima: Maxima, cuts: list[int], at_once: int
) -> None:
    folder, few = tmp_path_factory.mktemp("maxima"), maxima[:60]
    whole = stored(folder, few, [])
    expected, sample = choose_images(whole, 3), sampled_maxima(whole)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(image_values, "BLOCK_VALUES", at_once)
        parts = stored(folder, few, sorted(cuts))
        for ours, theirs in zip(choose_images(parts, 3), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(sampled_maxima(parts), sample)
    np.testing.assert_array_equal(sample, few.T)


def test_fewer_images_than_a_band_leave_slots_empty(tmp_path: Path, maxima: Maxima) -> None:
    chosen, found = choose_images(stored(tmp_path, maxima[:3], []), seed=0)
    assert chosen[:, RANDOM].tolist() == [[0, 1, 2, -1]] * 5
    assert (chosen[:, : RANDOM.start] == -1).all()
    assert (found[chosen < 0] == -np.inf).all()


def test_the_sample_of_a_wide_layer_is_a_part_of_that_of_a_narrow_one() -> None:
    narrow, wide = sample_images(63_305, 512), sample_images(63_305, 65_536)
    assert (len(narrow), len(wide)) == (2048, 256)
    assert set(wide) < set(narrow)
    assert len(set(narrow)) == 2048
    assert abs(narrow.mean() / 63_305 - 0.5) < 0.03


def test_maps_of_parts_add_up_to_the_maps_of_the_chosen_images() -> None:
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(9, 3, 2, 4)).astype(np.float32)
    chosen = np.array([[8, 0, 0], [3, -1, 5], [4, 4, -1]])
    parts = [RangeMaps(chosen, Size(2, 4)) for _ in range(2)]
    for start in range(0, 9, 2):
        parts[start > 4].update(torch.from_numpy(maps[start : start + 2]), start)
    total = parts[0].maps + parts[1].maps
    for unit, images in enumerate(chosen):
        for slot, image in enumerate(images):
            expected = maps[image, unit] if image >= 0 else np.zeros((2, 4))
            np.testing.assert_array_equal(total[unit, slot], expected)


def test_needed_cells_are_those_above_the_threshold_and_their_neighbors() -> None:
    maps = np.random.default_rng(2).normal(size=(4, 3, 5, 6)).astype(np.float32)
    limits = np.array([1.0, 1.5, 2.0, 99.0], np.float32)
    found = needed_cells(maps, limits)
    for unit, slot, row, column in np.ndindex(*maps.shape):
        near = maps[unit, slot, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        assert found[unit, slot, row, column] == bool((near > limits[unit]).any())


def test_largest_values_are_those_of_numpy() -> None:
    maps = np.random.default_rng(3).normal(size=(5, 4, 3, 2)).astype(np.float32)
    assert largest_values(maps).tolist() == maps.max(axis=(2, 3)).tolist()
