"""Codes of cells, and the concepts that cells have.

A cell has a concept if more than half of its pixels have it. For a concept only the cells of images that are annotated
in its category count, as everywhere in netdissect.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CodeMatrix = Any  # npt.NDArray[np.float32] | scipy.sparse.csc_array, of which type checkers know nothing
"""Codes of N cells in K units, float32 (N, K): dense in Fortran order, or sparse by columns."""


class UnitCodes(NamedTuple):
    """The codes of one unit that are stored: float64 (n,) and int64 (n,), rising; all other cells have 0."""

    values: Floats
    rows: Ints


def column(codes: CodeMatrix, unit: int) -> UnitCodes:
    """Return the codes of one unit."""
    if isinstance(codes, np.ndarray):
        return UnitCodes(codes[:, unit].astype(np.float64), np.arange(len(codes)))
    part = slice(codes.indptr[unit], codes.indptr[unit + 1])
    return UnitCodes(codes.data[part].astype(np.float64), codes.indices[part].astype(np.int64))


def active_cells(codes: CodeMatrix) -> Ints:
    """Return the cells in which each unit has a code other than 0, int64 (K,)."""
    return np.array([np.count_nonzero(column(codes, unit).values) for unit in range(codes.shape[1])], np.int64)


def select_cells(codes: CodeMatrix, chosen: Bools) -> CodeMatrix:
    """Return the codes of some of the cells, bool (N,)."""
    if isinstance(codes, np.ndarray):
        return np.asfortranarray(codes[chosen])
    part = codes.tocsr()[np.flatnonzero(chosen)].tocsc()
    part.sort_indices()
    return part


def select_units(codes: CodeMatrix, units: Ints) -> CodeMatrix:
    """Return the codes of some of the units."""
    return np.asfortranarray(codes[:, units]) if isinstance(codes, np.ndarray) else codes[:, units]


def keep_largest(codes: npt.NDArray[np.float32], count: int) -> scipy.sparse.csc_array:
    """Return dense codes of which each cell keeps the `count` largest absolute values; of equal ones, the first units.

    >>> keep_largest(np.array([[1.0, -3.0, 2.0]], np.float32), 2).toarray()
    array([[ 0., -3.,  2.]], dtype=float32)
    """
    cells, units = codes.shape
    count = min(count, units)
    rows, columns, values = [], [], []
    step = max(1, 2**24 // units)
    for start in range(0, cells, step):
        part = np.ascontiguousarray(codes[start : start + step])
        order = np.sort(np.argsort(-np.abs(part), axis=1, kind="stable")[:, :count], axis=1)
        rows.append(np.repeat(np.arange(start, start + len(part)), count))
        columns.append(order.ravel())
        values.append(np.take_along_axis(part, order, axis=1).ravel())
    data = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    kept = scipy.sparse.csc_array(data, shape=codes.shape)
    kept.eliminate_zeros()
    kept.sort_indices()
    return kept


def leading_units(codes: CodeMatrix, count: int, *, sparse: bool) -> Ints:
    """Return the `count` units of largest variance, or of a sparse dictionary those that are most often active.

    Of equal ones the first are taken; the numbers rise.
    """
    rank = active_cells(codes) if sparse else np.array([_variance(codes, unit) for unit in range(codes.shape[1])])
    return np.sort(np.argsort(-rank, kind="stable")[:count])


def _variance(codes: CodeMatrix, unit: int) -> float:
    values, cells = column(codes, unit).values, int(codes.shape[0])
    mean = float(values.sum()) / cells
    squares = float(((values - mean) ** 2).sum())
    return (squares + (cells - len(values)) * mean**2) / cells


@dataclass(frozen=True, eq=False)
class CellConcepts:
    """The concepts of N cells.

    Attributes
    ----------
    image_index
        int64 (N,), rising: the image of each cell.
    concepts
        bool (N, C), sparse by rows: whether the cell has the concept.
    category_of
        int64 (C,): category of each concept.
    annotated
        bool (N, G): whether the image of the cell is annotated in each category.
    held_out
        bool (N,): whether it is held out; units are chosen on the other cells.
    """

    image_index: Ints
    concepts: scipy.sparse.csr_array
    category_of: Ints
    annotated: Bools
    held_out: Bools

    def part(self, chosen: Bools) -> "CellConcepts":
        """Return those of some of the cells, bool (N,)."""
        rows = np.flatnonzero(chosen)
        return CellConcepts(
            self.image_index[rows], self.concepts[rows], self.category_of, self.annotated[rows], self.held_out[rows]
        )

    @cached_property
    def by_concept(self) -> scipy.sparse.csc_array:
        """The same concepts, sparse by columns."""
        return self.concepts.tocsc()

    @cached_property
    def positives(self) -> Ints:
        """Cells with each concept, int64 (C,)."""
        return np.bincount(self.concepts.indices, minlength=self.concepts.shape[1]).astype(np.int64)

    @cached_property
    def totals(self) -> Ints:
        """Cells that count for each concept, int64 (C,)."""
        return np.asarray(self.annotated.sum(axis=0), np.int64)[self.category_of]

    def labels_of(self, concept: int) -> Bools:
        """Return which cells have a concept, bool (N,)."""
        found = np.zeros(len(self.image_index), np.bool_)
        found[self.by_concept.indices[slice(*self.by_concept.indptr[concept : concept + 2])]] = True
        return found

    def counted(self, concept: int) -> Bools:
        """Return which cells count for a concept, bool (N,)."""
        counted: Any = self.annotated[:, self.category_of[concept]]
        return np.asarray(counted)
