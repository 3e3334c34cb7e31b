"""Kinds of pixels: the same labels, told apart as few numbers."""

from collections import Counter

import numpy as np
from hypothesis import given

import strategies
from netdissect.concepts import Labels
from netdissect.concepts.label_sets import LabelSetMap

NONE = np.empty(0, np.int32)


def pixels_of(labels: Labels) -> list[tuple[int, ...]]:
    """List what each pixel bears, row by row."""
    return [tuple(labels.label_channels[:, y, x].tolist()) for y, x in np.ndindex(*labels.size)]


@given(strategies.worlds())
def test_pixels_of_one_kind_are_those_that_bear_the_same_labels(world: strategies.World) -> None:
    for row in range(len(world.images)):
        labels = world.labels(row)
        kinds, expected = LabelSetMap.of(labels), pixels_of(labels)
        assert kinds.size == labels.size
        np.testing.assert_array_equal(kinds.label_channels, labels.label_channels)
        assert [tuple(kinds.label_ids[place]) for place in kinds.index_map.ravel()] == expected
        counted = {tuple(numbers): count for numbers, count in zip(kinds.label_ids, kinds.set_sizes, strict=True)}
        assert counted == Counter(expected)
        once = kinds.deduplicated()
        np.testing.assert_array_equal(once.label_channels, labels.deduplicated().label_channels)
        np.testing.assert_array_equal(once.image_level, labels.deduplicated().image_level)


def test_an_image_may_hold_more_kinds_than_there_was_room_for() -> None:
    rng = np.random.default_rng(0)
    labels = Labels(rng.integers(0, 2**16, (3, 40, 50)).astype(np.int32), NONE)
    kinds = LabelSetMap.of(labels)
    assert len(kinds.set_sizes) > 1000
    np.testing.assert_array_equal(kinds.label_channels, labels.label_channels)
    assert kinds.set_sizes.tolist() == np.bincount(kinds.index_map.ravel()).tolist()


def test_an_image_without_label_maps_has_one_kind_that_bears_nothing() -> None:
    kinds = LabelSetMap.of(Labels(np.empty((0, 2, 3), np.int32), np.array([4], np.int32)))
    assert (kinds.set_sizes.tolist(), kinds.label_ids.shape, kinds.label_channels.shape) == ([6], (1, 0), (0, 2, 3))
