"""The rows of a table that count under a restriction, arranged for the search: by concept, and in pairs of concepts."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from netdissect.jit import compiled
from netdissect.scoring.formulas.active_rows import ActiveRows, Rows
from netdissect.scoring.formulas.formula import Formula
from netdissect.scoring.formulas.label_set_table import Bools, CategoryBits, Ints, LabelIds, LabelSetTable


@dataclass(frozen=True, eq=False)
class CountedRows:
    """Rows of a table, r of R, in which K concepts are searched.

    Rows that differ only in what the search does not see are one.

    Attributes
    ----------
    categories
        Bits of the categories that a formula must name; 0: any.
    label_ids, category_bits
        int64 (K,), rising, and uint64 (K,): the concepts, and the bit of the category of each.
    row_of
        int64 (R,): row of each row of the table; -1 if it does not count.
    entries, offsets
        int32 (E,) and int64 (r + 1,): concepts (positions in `label_ids`) of each row.
    pixels
        int64 (r,).
    """

    categories: int
    label_ids: Ints
    category_bits: CategoryBits
    row_of: Ints
    entries: LabelIds
    offsets: Ints
    pixels: Ints

    @classmethod
    def of(cls, table: LabelSetTable, categories: int) -> Self:
        """Take the rows annotated in some categories, and the concepts of these; 0: all rows and all concepts."""
        bits = _bits(table.category_of)
        is_searched = bits & np.uint64(categories) > 0 if categories else bits > 0
        counted = np.flatnonzero(table.is_annotated(categories))
        reduced, row_of_counted = table.keep_labels(is_searched[table.label_ids]).select(counted)
        row_of = np.full(len(table), -1, np.int64)
        row_of[counted] = row_of_counted
        # Where categories are named, a concept restricts the images even if it occurs in none of them.
        label_ids = (np.flatnonzero(is_searched) if categories else np.unique(reduced.label_ids)).astype(np.int64)
        entries = np.searchsorted(label_ids, reduced.label_ids).astype(np.int32)
        return cls(categories, label_ids, bits[label_ids], row_of, entries, reduced.offsets, reduced.pixels)

    @cached_property
    def pair_pixels(self) -> Ints:
        """Pixels that have both concepts of each pair, int64 (K, K); on the diagonal those of each concept."""
        rows = np.arange(len(self.pixels), dtype=np.int32)
        return np.asarray(pair_sums(rows, self.pixels, self.entries, self.offsets, len(self.label_ids)))

    @cached_property
    def _by_concept(self) -> tuple[Rows, Ints]:
        """Rows of each concept, concept after concept, int32 (E,), and where those of each begin, int64 (K + 1,)."""
        row_of_entry = np.repeat(np.arange(len(self.pixels), dtype=np.int32), np.diff(self.offsets))
        starts = np.cumsum([0, *np.bincount(self.entries, minlength=len(self.label_ids))])
        return row_of_entry[np.argsort(self.entries, kind="stable")], starts

    @cached_property
    def num_rows(self) -> Ints:
        """Number of rows of each concept, int64 (K,)."""
        return np.diff(self._by_concept[1])

    def rows_of(self, concept: int) -> Rows:
        """Return the rows that have a concept, rising."""
        rows, starts = self._by_concept
        return rows[starts[concept] : starts[concept + 1]]

    def covered(self, formula: Formula) -> Bools:
        """Tell which rows a formula covers, bool (r,)."""
        covered = np.zeros(len(self.pixels), bool)
        for label_id, operator in zip(formula.label_ids, ("or", *formula.operators), strict=True):
            rows = self.rows_of(int(np.searchsorted(self.label_ids, label_id)))
            if operator == "or":
                covered[rows] = True
            elif operator == "and-not":
                covered[rows] = False
            else:
                kept, covered = covered[rows], np.zeros_like(covered)
                covered[rows] = kept
        return covered

    def active(self, active: ActiveRows) -> Ints:
        """Return the active pixels of each row, int64 (r,)."""
        rows = self.row_of[active.rows]
        counts = np.zeros(len(self.pixels), np.int64)
        np.add.at(counts, rows[rows >= 0], active.active[rows >= 0])
        return counts


def _bits(category_of: Ints) -> CategoryBits:
    """Return the bit of the category of each label id, uint64 (K,); 0 where an id is not that of a concept."""
    bits = np.uint64(1) << np.maximum(category_of, 0).astype(np.uint64)
    return np.where(category_of < 0, np.uint64(0), bits)


@compiled
def pair_sums(rows: Rows, values: Ints, entries: LabelIds, offsets: Ints, concepts: int) -> Ints:
    """Add a value of each of some rows to all pairs of its concepts, int64 (K, K)."""
    sums = np.zeros((concepts, concepts), np.int64)
    for index in range(len(rows)):
        start, end, value = offsets[rows[index]], offsets[rows[index] + 1], values[index]
        for left in range(start, end):
            for right in range(left, end):  # concepts of a row rise
                sums[entries[left], entries[right]] += value
    for left in range(concepts):
        for right in range(left):
            sums[left, right] = sums[right, left]
    return sums


@compiled
def concept_sums(rows: Rows, values: Ints, entries: LabelIds, offsets: Ints, concepts: int) -> Ints:
    """Add a value of each of some rows to all of its concepts, int64 (K,)."""
    sums = np.zeros(concepts, np.int64)
    for index in range(len(rows)):
        for entry in range(offsets[rows[index]], offsets[rows[index] + 1]):
            sums[entries[entry]] += values[index]
    return sums
