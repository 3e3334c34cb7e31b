"""The labels of one image in the form in which they are counted: what each pixel bears, as one number.

An image has ten thousand pixels and more, but few sets of labels that a pixel bears: *sky* and *blue*, say. Pixels that
bear the same labels are of one kind, so a mask is counted kind by kind, however many labels lie on top of each other.

    Labels -> Kinds.of -> scoring/iou_counter.py
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from netdissect.concepts import Labels, Size
from netdissect.jit import compiled

Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class LabelSetMap:
    """The labels of one image, with K kinds of pixels.

    Attributes
    ----------
    index_map
        int32 (sh, sw): the kind of each pixel.
    set_sizes
        int64 (K,): how many pixels are of each kind.
    label_ids
        int32 (K, P): label numbers that a pixel of each kind bears, one for each of P channels; 0 where unlabeled.
    image_level
        int32 (W,): labels of the whole image.
    """

    index_map: Numbers
    set_sizes: Ints
    label_ids: Numbers
    image_level: Numbers

    @classmethod
    def of(cls, labels: Labels) -> Self:
        """Tell the kinds of pixels of one image, in the order in which they are met."""
        height, width = labels.size
        places, pixels, numbers = _find_label_sets(labels.label_channels.reshape(-1, height * width))
        return cls(places.reshape(height, width), pixels, numbers, labels.image_level)

    @property
    def size(self) -> Size:
        """Height and width of the label maps in pixels."""
        return Size(*self.index_map.shape)

    @property
    def label_channels(self) -> Numbers:
        """Label number of each pixel in each channel, int32 (P, sh, sw)."""
        return np.ascontiguousarray(self.label_ids.T[:, self.index_map])

    def deduplicated(self) -> Self:
        """Return the same labels as sets, as `Labels.once` does: what holds for pixels holds for kinds of them."""
        once = Labels(self.label_ids.T[:, None], self.image_level).deduplicated()
        return replace(self, label_ids=np.ascontiguousarray(once.label_channels[:, 0].T), image_level=once.image_level)


@compiled
def _find_label_sets(planes: Numbers) -> tuple[Numbers, Ints, Numbers]:
    """Return the kind of each pixel of `planes` (P, n), pixels of each kind and their labels."""
    kinds, numbers = np.zeros(planes.shape[1], np.int32), np.zeros((1, len(planes)), np.int32)
    for channel in range(len(planes)):
        split, room, found = np.empty_like(kinds), 128, -1
        while found < 0:
            room *= 2
            pairs = np.empty(room, np.int64)
            found = _split(kinds, planes[channel], split, pairs, np.full(2 * room, -1, np.int32))
        more = np.empty((found, len(planes)), np.int32)
        for kind in range(found):
            more[kind] = numbers[pairs[kind] >> 32]
            more[kind, channel] = pairs[kind] & 0xFFFFFFFF
        kinds, numbers = split, more
    pixels = np.zeros(len(numbers), np.int64)
    for pixel in range(len(kinds)):
        pixels[kinds[pixel]] += 1
    return kinds, pixels, numbers


@compiled
def _split(kinds: Numbers, plane: Numbers, split: Numbers, pairs: Ints, table: Numbers) -> int:
    """Split kinds (n,) by the labels of one more channel.

    Fills `split` (n,) and `pairs`, a kind and a label each, and returns how many pairs were met; -1: there is no room
    for all. Where in `pairs` one stands is found in a table, twice as large and -1 at first, at its hash.
    """
    found, latest, before = 0, np.int32(0), np.int64(-1)
    for pixel in range(len(plane)):
        pair = np.int64(kinds[pixel]) << 32 | np.int64(plane[pixel])
        if pair != before:  # neighbors are mostly alike
            slot = (pair * np.int64(0x2545F4914F6CDD1D) >> 40) & (len(table) - 1)
            while table[slot] >= 0 and pairs[table[slot]] != pair:
                slot = (slot + 1) & (len(table) - 1)
            if table[slot] < 0:
                if found == len(pairs):
                    return -1
                table[slot], pairs[found] = found, pair
                found += 1
            latest, before = table[slot], pair
        split[pixel] = latest
    return found
