"""What the search needs of one mask: active pixels of pairs of concepts, and the weights of rows."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from netdissect.compose_config import OPERATORS, Operator
from netdissect.scoring.formulas.active_rows import ActiveRows, Rows
from netdissect.scoring.formulas.beam import Extensions
from netdissect.scoring.formulas.counted_rows import CountedRows, concept_sums, pair_sums
from netdissect.scoring.formulas.extension_kernel import Cut, Prefix, RowArrays
from netdissect.scoring.formulas.formula import Formula
from netdissect.scoring.formulas.label_set_table import Bools, Ints


@dataclass(frozen=True, eq=False)
class UnitCounts:
    """The active pixels of one mask in the rows that count.

    Attributes
    ----------
    counted
        The rows, r of them, with K concepts.
    active
        int64 (r,): active pixels of each.
    """

    counted: CountedRows
    active: Ints

    @classmethod
    def of(cls, counted: CountedRows, active: ActiveRows) -> "UnitCounts":
        """Count the active pixels of a mask."""
        return cls(counted, counted.active(active))

    @cached_property
    def mask_pixels(self) -> int:
        """Active pixels in all rows that count."""
        return int(self.active.sum())

    @cached_property
    def pair_active(self) -> Ints:
        """Active pixels of each pair of concepts, int64 (K, K)."""
        return self._pair_sums(self.active)

    @property
    def pairs(self) -> tuple[Ints, Ints, int]:
        """Active pixels and pixels of pairs, and the pixels of the mask."""
        return self.pair_active, self.counted.pair_pixels, self.mask_pixels

    @property
    def row_arrays(self) -> RowArrays:
        """The rows, for the compiled loops."""
        return RowArrays(self.counted.entries, self.counted.offsets, self.counted.pixels, self.active)

    def weights(self, intersection: int, union: int) -> Ints:
        """Return the positive weight of each row, int64 (r,); see `cut`."""
        weights = (union + intersection) * self.active - intersection * self.counted.pixels
        return np.asarray(np.maximum(weights, 0))

    def cut(self, intersection: int, union: int) -> tuple[Cut, Ints]:
        """Weigh the rows against an incumbent of intersection I* and union U*; return the positive weights with it.

        A formula that covers a active of n pixels, of M active pixels in all, has the IoU a / (n + M - a). That exceeds
        I* / U* exactly if U* a - I* (n - a) > I* M. So a row weighs (U* + I*) a - I* n.

        No sum overflows: I* <= M and U* <= P of P pixels. The weights of any rows lie between -M P and (P + M) M. What
        is compared is a sum of at most four such terms, below 4 (P + M) M, which `FormulaSearch.find` checks.
        """
        gain, cost = union + intersection, intersection
        weights = self.weights(intersection, union)
        positive = self._pair_sums(weights)
        concepts = np.arange(len(positive))
        weight = gain * self.pair_active.diagonal() - cost * self.counted.pair_pixels.diagonal()
        negative = positive.diagonal() - weight
        by_positive, by_negative = (
            np.lexsort((concepts, -values)).astype(np.int64) for values in (positive.diagonal(), negative)
        )
        total = int(weights[np.diff(self.counted.offsets) > 0].sum())
        cut = Cut(gain, cost, cost * self.mask_pixels, total, positive, negative, by_positive, by_negative)
        return cut, weights

    def single(self, concept: int, cut: Cut, partners: Bools) -> Prefix:
        """Return a single concept as the prefix of a formula."""
        tables = (self.pair_active, self.counted.pair_pixels, cut.positive)
        parts = np.stack([table[concept] for table in tables])
        named = self.counted.category_bits[concept]
        return Prefix(self.counted.rows_of(concept), parts[:, concept].copy(), parts, named, partners)

    def prefix(self, covered: Bools, weights: Ints, named: np.uint64, partners: Bools) -> Prefix:
        """Return a formula that covers some rows, bool (r,), as a prefix; `weights`: the positive ones."""
        rows = np.flatnonzero(covered).astype(np.int32)
        values = [values[rows] for values in (self.active, self.counted.pixels, weights)]
        parts = np.stack([self._concept_sums(rows[value > 0], value[value > 0]) for value in values])
        return Prefix(rows, np.array([value.sum() for value in values]), parts, named, partners)

    def extensions(
        self, formula: Formula | None, operators: tuple[Operator, ...], concepts: Ints | slice
    ) -> Extensions:
        """Count all formulas that extend one by some concepts, or all single concepts."""
        counted = self.counted
        active, pixels = self.pair_active.diagonal()[concepts], counted.pair_pixels.diagonal()[concepts]
        hits, covers = active[:, None], pixels[:, None]
        if formula is not None:
            covered = counted.covered(formula)
            active_rows = np.flatnonzero(covered & (self.active > 0)).astype(np.int32)
            rows = np.flatnonzero(covered).astype(np.int32)
            hit, size = self.active[active_rows].sum(), counted.pixels[rows].sum()
            both_active = self._concept_sums(active_rows, self.active[active_rows])[concepts]
            both = self._concept_sums(rows, counted.pixels[rows])[concepts]
            hits = _by_operator(hit, active, both_active, operators)
            covers = _by_operator(size, pixels, both, operators)
        return Extensions(counted.label_ids[concepts], hits, covers + self.mask_pixels - hits)

    def _pair_sums(self, values: Ints) -> Ints:
        rows = np.flatnonzero(values).astype(np.int32)
        counted = self.counted
        return np.asarray(pair_sums(rows, values[rows], counted.entries, counted.offsets, len(counted.label_ids)))

    def _concept_sums(self, rows: Rows, values: Ints) -> Ints:
        counted = self.counted
        return np.asarray(concept_sums(rows, values, counted.entries, counted.offsets, len(counted.label_ids)))


def _by_operator(left: int, right: Ints, both: Ints, operators: tuple[Operator, ...]) -> Ints:
    """Return what F OR c, F AND c and F AND NOT c cover, of what F, each c and both cover, int64 (K, n)."""
    covered = {"or": left + right - both, "and": both, "and-not": left - both}
    return np.stack([covered[operator] for operator in OPERATORS if operator in operators], axis=1)
