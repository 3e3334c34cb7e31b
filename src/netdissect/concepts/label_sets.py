"""The labels of one image in the form in which they are counted: one label set for each pixel.

An image has ten thousand pixels and more, but few distinct sets of labels, such as *sky* and *blue*. A mask is counted
by label set, so the cost does not depend on how many labels a pixel has.

    Labels -> LabelSetMap.of -> scoring/iou_counter.py
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from netdissect.concepts import Labels, Size
from netdissect.jit import compiled_in_place

Ints = npt.NDArray[np.int64]
LabelIds = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class LabelSetMap:
    """The labels of one image, with K label sets.

    Attributes
    ----------
    index_map
        int32 (sh, sw): index of the label set of each pixel.
    set_sizes
        int64 (K,): pixels of each label set.
    label_ids
        int32 (K, P): label ids of each label set, one for each of P channels; 0 where unlabeled.
    image_level
        int32 (W,): label ids of the whole image.
    """

    index_map: LabelIds
    set_sizes: Ints
    label_ids: LabelIds
    image_level: LabelIds

    @classmethod
    def of(cls, labels: Labels) -> Self:
        """Find the label sets of one image, in the order of their first pixels."""
        height, width = labels.size
        index_map, set_sizes, label_ids = _find_label_sets(labels.label_channels.reshape(-1, height * width))
        return cls(index_map.reshape(height, width), set_sizes, label_ids, labels.image_level)

    @property
    def size(self) -> Size:
        """Height and width of the label maps in pixels."""
        return Size(*self.index_map.shape)

    @property
    def label_channels(self) -> LabelIds:
        """Label id of each pixel in each channel, int32 (P, sh, sw)."""
        return np.ascontiguousarray(self.label_ids.T[:, self.index_map])

    def deduplicated(self) -> Self:
        """Return the same labels without duplicates; see `Labels.deduplicated`, applied here to label sets."""
        labels = Labels(self.label_ids.T[:, None], self.image_level).deduplicated()
        label_ids = np.ascontiguousarray(labels.label_channels[:, 0].T)
        return replace(self, label_ids=label_ids, image_level=labels.image_level)


def _find_label_sets(label_channels: LabelIds) -> tuple[LabelIds, Ints, LabelIds]:
    """Return the label set of each pixel of `label_channels` (P, n), and the size and the label ids of each set."""
    set_index, label_ids = np.zeros(label_channels.shape[1], np.int32), np.zeros((1, len(label_channels)), np.int32)
    for channel, channel_labels in enumerate(label_channels):
        refined_index, capacity, num_sets = np.empty_like(set_index), 128, -1
        while num_sets < 0:
            capacity *= 2
            pairs, hash_table = np.empty(capacity, np.int64), np.full(2 * capacity, -1, np.int32)
            num_sets = _split_sets(set_index, channel_labels, refined_index, pairs, hash_table)
        set_index, label_ids = refined_index, label_ids[pairs[:num_sets] >> 32]
        label_ids[:, channel] = pairs[:num_sets] & 0xFFFFFFFF
    return set_index, np.bincount(set_index, minlength=len(label_ids)), label_ids


@compiled_in_place
def _split_sets(
    set_index: LabelIds, channel_labels: LabelIds, refined_index: LabelIds, pairs: Ints, hash_table: LabelIds
) -> int:
    """Split label sets (n,) by the labels of one more channel.

    Fills `refined_index` (n,) and `pairs`, which hold a label set and a label each, and returns the number of pairs, or
    -1 if `pairs` is too short. `hash_table` holds the index of each pair; it is twice as long and -1 at first.
    """
    num_sets, current, previous = 0, np.int32(0), np.int64(-1)
    for pixel in range(len(channel_labels)):
        pair = np.int64(set_index[pixel]) << 32 | np.int64(channel_labels[pixel])
        if pair != previous:  # neighbors mostly have the same labels
            slot = (pair * np.int64(0x2545F4914F6CDD1D) >> 40) & (len(hash_table) - 1)
            while hash_table[slot] >= 0 and pairs[hash_table[slot]] != pair:
                slot = (slot + 1) & (len(hash_table) - 1)
            if hash_table[slot] < 0:
                if num_sets == len(pairs):
                    return -1
                hash_table[slot], pairs[num_sets] = num_sets, pair
                num_sets += 1
            current, previous = hash_table[slot], pair
        refined_index[pixel] = current
    return num_sets
