"""Pixels of a data set by label set and annotated categories: the table on which formulas are scored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from netdissect.jit import compiled

Ints = npt.NDArray[np.int64]
LabelIds = npt.NDArray[np.int32]
CategoryBits = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class LabelSetTable:
    """Pixels of a data set by label set and annotated categories; adds up over images.

    A row holds the pixels of one label set in images with the same annotated categories. Pixels without a label are a
    row, too. The rows of a merged table stand in one order, whatever the order of the images was.

    Attributes
    ----------
    category_of
        int64 (K,): index of the primary category of each label id; -1 where an id is not that of a concept.
    label_ids
        int32 (E,): label ids of each row, row after row, rising within a row; those of the whole image included.
    offsets
        int64 (R + 1,): row r holds the labels `label_ids[offsets[r]:offsets[r + 1]]`.
    annotated
        uint64 (R,): bit k is set if category k is annotated in the images of the row.
    pixels
        int64 (R,): its label map pixels, at least 1.
    """

    category_of: Ints
    label_ids: LabelIds
    offsets: Ints
    annotated: CategoryBits
    pixels: Ints

    @classmethod
    def zeros(cls, category_of: Ints) -> Self:
        """Return the table of no images."""
        no_pixels = np.zeros(0, np.int64)
        return cls(category_of, np.zeros(0, np.int32), np.zeros(1, np.int64), np.zeros(0, np.uint64), no_pixels)

    @classmethod
    def of(cls, category_of: Ints, label_sets: Sequence[Sequence[int]], annotated: Sequence[int], pixels: Ints) -> Self:
        """Make a table of rows as they come: in any order, with duplicate labels, some more than once."""
        row_labels = [sorted({label_id for label_id in labels if label_id}) for labels in label_sets]
        offsets = np.append(0, np.cumsum([len(labels) for labels in row_labels], dtype=np.int64))
        label_ids = np.array([label_id for labels in row_labels for label_id in labels], np.int32)
        raw = cls(category_of, label_ids, offsets, np.array(annotated, np.uint64), np.asarray(pixels, np.int64))
        return cls.merge([raw])[0]

    @classmethod
    def merge(cls, tables: Sequence[Self]) -> tuple[Self, list[Ints]]:
        """Add tables of one data set, at least one.

        Returns
        -------
        table
            Rows by rising number of labels, then by label ids, then by annotated categories.
        new_rows
            For each table, int64 (R,): where its rows are now; see `ActiveRows.moved`.
        """
        starts = np.cumsum([0, *(len(table.label_ids) for table in tables)], dtype=np.int64)
        offsets = np.concatenate(
            [np.zeros(1, np.int64), *(table.offsets[1:] + start for table, start in zip(tables, starts, strict=False))]
        )
        joined = replace(
            tables[0],
            label_ids=np.concatenate([table.label_ids for table in tables]),
            offsets=offsets,
            annotated=np.concatenate([table.annotated for table in tables]),
            pixels=np.concatenate([table.pixels for table in tables]),
        )
        table, new_row = joined._distinct()
        ends = np.cumsum([len(table) for table in tables])[:-1]
        return table, np.split(new_row, ends)

    def __add__(self, other: Self) -> Self:
        return self.merge([self, other])[0]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.pixels)

    def has_label(self, label_id: int) -> Bools:
        """Tell which rows have a label, bool (R,)."""
        entries = np.flatnonzero(self.label_ids == label_id)
        found = np.zeros(len(self), bool)
        found[np.searchsorted(self.offsets, entries, "right") - 1] = True
        return found

    def is_annotated(self, categories: int) -> Bools:
        """Tell which rows are of images annotated in all of some categories, given as bits; bool (R,)."""
        bits = np.uint64(categories)
        return np.asarray(self.annotated & bits == bits)

    def keep_labels(self, kept: Bools) -> Self:
        """Remove labels from all rows, given for each entry of `label_ids`, bool (E,); rows may then be equal."""
        offsets = np.append(0, kept.cumsum())[self.offsets]
        return replace(self, label_ids=self.label_ids[kept], offsets=offsets)

    def select(self, rows: Ints) -> tuple[Self, Ints]:
        """Take some rows as those of one annotation, and return with them where each is now, int64."""
        return replace(self, annotated=np.zeros_like(self.annotated)).subset(rows)._distinct()

    def _distinct(self) -> tuple[Self, Ints]:
        """Join equal rows and sort them; return with them where each row is now, int64 (R,)."""
        row_of, firsts = _distinct_rows(self.label_ids, self.offsets, self.annotated)
        distinct = self.subset(firsts)
        order = distinct._canonical_order()
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        new_row = place[row_of]
        pixels = np.zeros(len(order), np.int64)
        np.add.at(pixels, new_row, self.pixels)
        return replace(distinct.subset(order), pixels=pixels), new_row

    def subset(self, rows: Ints) -> Self:
        """Return some rows, in this order."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.append(0, lengths.cumsum())
        entries = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return replace(
            self,
            label_ids=self.label_ids[entries],
            offsets=offsets,
            annotated=self.annotated[rows],
            pixels=self.pixels[rows],
        )

    def _canonical_order(self) -> Ints:
        """Sort distinct rows by number of labels, label ids and annotated categories, int64 (R,)."""
        lengths = np.diff(self.offsets)
        order = np.lexsort((self.annotated, lengths))
        for position in reversed(range(int(lengths.max(initial=0)))):
            labels = np.zeros(len(self), np.int32)
            longer = lengths > position
            labels[longer] = self.label_ids[self.offsets[:-1][longer] + position]
            order = order[np.argsort(labels[order], kind="stable")]
        return order[np.argsort(lengths[order], kind="stable")]


@compiled
def _distinct_rows(label_ids: LabelIds, offsets: Ints, annotated: CategoryBits) -> tuple[Ints, Ints]:
    """Return which distinct row each row (R,) is, and the first row of each distinct one."""
    rows = len(annotated)
    capacity = 16
    while capacity < 2 * rows:
        capacity *= 2
    hash_table = np.full(capacity, -1, np.int64)
    row_of, firsts, found = np.empty(rows, np.int64), np.empty(rows, np.int64), 0
    for row in range(rows):
        start, end = offsets[row], offsets[row + 1]
        key = np.uint64(annotated[row]) * np.uint64(0x2545F4914F6CDD1D)
        for entry in range(start, end):
            key = (key ^ np.uint64(label_ids[entry])) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
        slot = np.int64(key >> np.uint64(20)) & (capacity - 1)
        while hash_table[slot] >= 0:
            first = firsts[hash_table[slot]]
            same = annotated[first] == annotated[row] and offsets[first + 1] - offsets[first] == end - start
            for step in range(end - start):
                same = same and label_ids[offsets[first] + step] == label_ids[start + step]
                if not same:
                    break
            if same:
                break
            slot = (slot + 1) & (capacity - 1)
        if hash_table[slot] < 0:
            hash_table[slot] = found
            firsts[found] = row
            found += 1
        row_of[row] = hash_table[slot]
    return row_of, firsts[:found]
