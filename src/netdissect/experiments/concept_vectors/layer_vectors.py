"""Score the vectors of every concept of one layer, and its single units, on the held-out half.

codes, concepts -> concept_rows -> a row for each concept and method
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse

from netdissect.concepts import ConceptData
from netdissect.config import Progress
from netdissect.evaluation.dictionaries.code_matrix import CellConcepts, CodeMatrix, column, select_cells
from netdissect.experiments.concept_vectors.cell_masks import (
    BestThresholds,
    best_thresholds,
    mask_iou,
    net2vec_weights,
    unit_ious,
)
from netdissect.experiments.concept_vectors.vectors import ConceptMoments, fast_cav, lda, ridge

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

UNIT = "unit"
VECTORS = {"fastcav": fast_cav, "lda": lda, "ridge": ridge}
"""Vectors of all units, by their method."""
MOST = 8
NET2VEC = ("net2vec-1", f"net2vec-{MOST}", "net2vec-all")
METHODS = (UNIT, *VECTORS, *NET2VEC)
OF_SEVERAL_UNITS = (*VECTORS, *NET2VEC[1:])
STAGE = "concept vectors"


class _CellHalf(NamedTuple):
    """One half of the cells: their codes, concepts, and which units are on in them, bool (N, K)."""

    codes: CodeMatrix
    labels: CellConcepts
    active: scipy.sparse.csr_array

    def scores(self, vector: Floats) -> Floats:
        """Return the products of all cells with a vector, float64 (N,)."""
        return np.asarray(self.codes @ vector)

    def unit_scores(self, unit: int) -> Floats:
        """Return the codes of one unit in all cells, float64 (N,)."""
        values, scores = column(self.codes, unit), np.zeros(self.codes.shape[0])
        scores[values.rows] = values.values
        return scores

    def on(self, weights: Floats) -> Bools:
        """Return the mask of a weighted sum of units that are on."""
        return np.asarray(self.active.astype(np.float64) @ weights > 0)


class _Found(NamedTuple):
    """What a method finds for a concept: IoU on both halves, and the unit if it is a single one."""

    method: str
    concept: int
    selection_iou: float
    heldout_iou: float
    unit: int | None = None


def concept_rows(
    codes: CodeMatrix, labels: CellConcepts, data: ConceptData, quantile: float, progress: Progress | None = None
) -> pl.DataFrame:
    """Return the IoU of each method for each concept that both halves have.

    Parameters
    ----------
    codes, labels
        All cells: float32 (N, K), and their concepts.
    data
        The data set.
    quantile
        Share of the cells in which a unit is on, for Net2Vec.
    progress
        Receives methods.

    Returns
    -------
    DataFrame
        method, concept, category, unit (null for several), selection_iou, heldout_iou.
    """
    on, held = active_units(codes, quantile), labels.held_out
    selection, heldout = (
        _CellHalf(select_cells(codes, chosen), labels.part(chosen), on[np.flatnonzero(chosen)])
        for chosen in (~held, held)
    )
    positives, totals = selection.labels.positives, selection.labels.totals
    concepts = np.flatnonzero((positives > 0) & (positives < totals) & (heldout.labels.positives > 0))
    found = list[_Found]()
    parts = (_best_units, _best_vectors, _net2vec)
    for done, method in enumerate(parts, start=1):
        found += method(selection, heldout, concepts)
        if progress:
            progress(STAGE, done, len(parts))
    names, categories = ([getattr(each, name) for each in data.concepts] for name in ("name", "category"))
    table = pl.DataFrame(found, schema=dict(zip(_Found._fields, _TYPES, strict=True)), orient="row")
    return table.with_columns(
        pl.col("concept").map_elements(categories.__getitem__, pl.String).alias("category"),
        pl.col("concept").map_elements(names.__getitem__, pl.String),
    ).select("method", "concept", "category", "unit", "selection_iou", "heldout_iou")


_TYPES = (pl.String, pl.Int64, pl.Float64, pl.Float64, pl.Int64)


def active_units(codes: CodeMatrix, quantile: float) -> scipy.sparse.csr_array:
    """Return which units are above their threshold, bool (N, K): on at most a share `quantile` of the cells."""
    cells, rows, units = codes.shape[0], list[Ints](), list[Ints]()
    most = int(quantile * cells)
    for unit in range(codes.shape[1]):
        values, of_values = column(codes, unit)
        index = len(values) - most - 1
        threshold = np.partition(values, index)[index] if index >= 0 else 0.0
        on = of_values[values > threshold]
        rows.append(on)
        units.append(np.full(len(on), unit))
    cell, unit_of = np.concatenate(rows), np.concatenate(units)
    return scipy.sparse.csr_array((np.ones(len(cell), np.bool_), (cell, unit_of)), shape=codes.shape)


def _best_units(selection: _CellHalf, heldout: _CellHalf, concepts: Ints) -> Iterator[_Found]:
    """Yield the unit with the best IoU at a threshold of its own, for each concept."""
    count = len(selection.labels.category_of)
    best, unit_of = BestThresholds(np.full(count, np.inf), np.full(count, -1.0)), np.zeros(count, np.int64)
    for unit in range(selection.codes.shape[1]):
        found = best_thresholds(selection.unit_scores(unit), selection.labels)
        better = found.iou > best.iou
        best.iou[better], best.threshold[better], unit_of[better] = found.iou[better], found.threshold[better], unit
    for concept in concepts.tolist():
        mask = heldout.unit_scores(unit_of[concept]) >= best.threshold[concept]
        iou = mask_iou(mask, heldout.labels, concept)
        yield _Found(UNIT, concept, float(best.iou[concept]), iou, int(unit_of[concept]))


def _best_vectors(selection: _CellHalf, heldout: _CellHalf, concepts: Ints) -> Iterator[_Found]:
    moments = ConceptMoments.of(selection.codes, selection.labels)
    for method, vectors_of in VECTORS.items():
        for concept, vector in zip(concepts.tolist(), vectors_of(moments, concepts), strict=True):
            found = best_thresholds(selection.scores(vector), selection.labels)
            mask = heldout.scores(vector) >= found.threshold[concept]
            yield _Found(method, concept, float(found.iou[concept]), mask_iou(mask, heldout.labels, concept))


def _net2vec(selection: _CellHalf, heldout: _CellHalf, concepts: Ints) -> Iterator[_Found]:
    """Yield the masks of the best unit that is on or off, of the eight best, and of all."""
    ious = unit_ious(selection.active, selection.labels)
    for concept in concepts.tolist():
        order = np.argsort(-ious[:, concept], kind="stable")
        for method, units in zip(NET2VEC, (order[:1], order[:MOST], np.arange(len(order))), strict=True):
            weights = np.zeros(len(order))
            learned = len(units) > 1
            weights[units] = net2vec_weights(selection.active[:, units], selection.labels, concept) if learned else 1.0
            chosen, rest = (mask_iou(half.on(weights), half.labels, concept) for half in (selection, heldout))
            yield _Found(method, concept, chosen, rest, None if learned else int(units[0]))
