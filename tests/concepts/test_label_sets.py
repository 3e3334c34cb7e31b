"""Label sets: the labels of each pixel as one index."""

from collections import Counter

import numpy as np
from hypothesis import given

import strategies
from netdissect.concepts import Labels
from netdissect.concepts.label_sets import LabelSetMap

NONE = np.empty(0, np.int32)


def pixels_of(labels: Labels) -> list[tuple[int, ...]]:
    """List the labels of each pixel, row by row."""
    return [tuple(labels.label_channels[:, y, x].tolist()) for y, x in np.ndindex(*labels.size)]


@given(strategies.worlds())
def test_pixels_of_one_label_set_have_the_same_labels(world: strategies.World) -> None:
    for row in range(len(world.images)):
        labels = world.labels(row)
        label_sets, expected = LabelSetMap.of(labels), pixels_of(labels)
        assert label_sets.size == labels.size
        np.testing.assert_array_equal(label_sets.label_channels, labels.label_channels)
        assert [tuple(label_sets.label_ids[index]) for index in label_sets.index_map.ravel()] == expected
        counted = {
            tuple(numbers): count for numbers, count in zip(label_sets.label_ids, label_sets.set_sizes, strict=True)
        }
        assert counted == Counter(expected)
        unique = label_sets.deduplicated()
        np.testing.assert_array_equal(unique.label_channels, labels.deduplicated().label_channels)
        np.testing.assert_array_equal(unique.image_level, labels.deduplicated().image_level)


def test_an_image_may_have_more_label_sets_than_the_first_capacity() -> None:
    rng = np.random.default_rng(0)
    labels = Labels(rng.integers(0, 2**16, (3, 40, 50)).astype(np.int32), NONE)
    label_sets = LabelSetMap.of(labels)
    assert len(label_sets.set_sizes) > 1000
    np.testing.assert_array_equal(label_sets.label_channels, labels.label_channels)
    assert label_sets.set_sizes.tolist() == np.bincount(label_sets.index_map.ravel()).tolist()


def test_an_image_without_label_maps_has_one_empty_label_set() -> None:
    label_sets = LabelSetMap.of(Labels(np.empty((0, 2, 3), np.int32), np.array([4], np.int32)))
    assert (label_sets.set_sizes.tolist(), label_sets.label_ids.shape, label_sets.label_channels.shape) == (
        [6],
        (1, 0),
        (0, 2, 3),
    )
