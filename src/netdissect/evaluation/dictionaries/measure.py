"""Measure the units of one layer, or of a basis of it, on the cells of a layer.

LayerInputs -> measure -> rows of the tables of `netdissect.evaluation.dictionaries.evaluate_bases`
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch

from netdissect.dissect.sparse.encoders import SparseBasis
from netdissect.evaluation.dictionaries.bases_evaluation import ALL
from netdissect.evaluation.dictionaries.code_matrix import (
    CellConcepts,
    CodeMatrix,
    active_cells,
    keep_largest,
    leading_units,
    select_cells,
    select_units,
)
from netdissect.evaluation.dictionaries.embedding_scores import EmbeddingSums, TopImageList, clarity, redundancy
from netdissect.evaluation.dictionaries.evaluate_bases_config import EvaluateBasesConfig
from netdissect.evaluation.dictionaries.labeled_cells import CellFiles
from netdissect.evaluation.dictionaries.logistic_probes import Probes, UnitProbes
from netdissect.evaluation.dictionaries.probe_scores import ConceptScores, heldout_scores, purity
from netdissect.evaluation.unit_intervals import unit_means
from netdissect.models.dictionaries.basis import Basis
from netdissect.models.dictionaries.reconstruction_error import normalized_error

Cells = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Numbers = dict[str, float]

_CHUNK = 8192


class LayerInputs(NamedTuple):
    """What the units of a basis are measured on.

    Attributes
    ----------
    basis
        None: the units of the layer itself.
    cells, labels
        Of the layer of the network: float32 (N, U), and their concepts.
    seed
        Of the bootstrap.
    """

    basis: Basis | None
    cells: Cells
    labels: CellConcepts
    seed: int


class ComparedUnits(NamedTuple):
    """Units and codes that are compared.

    Attributes
    ----------
    name
        ``all``, ``64 units`` or ``L0 = 32``.
    codes
        float32 (N, K) of all units, or of the cells' largest.
    units
        int64 (m,): the units that take part.
    """

    name: str
    codes: CodeMatrix
    units: Ints


class Measured(NamedTuple):
    """One choice of units, measured: numbers of the basis, what each concept's best unit is worth, and each unit."""

    choice: ComparedUnits
    basis: Numbers
    probes: Probes
    scores: ConceptScores
    units: Mapping[str, npt.NDArray[Any]]


def encode_cells(basis: Basis | None, cells: Cells) -> CodeMatrix:
    """Return the codes of cells, float32 (N, K)."""
    if basis is None:
        return np.asfortranarray(cells)
    if basis.sparse:
        return _encode_sparse(cast(SparseBasis, basis), cells)
    dense = np.empty((len(cells), basis.units), np.float32, order="F")
    for rows in _chunks(len(cells)):
        dense[rows] = basis.encode(torch.from_numpy(cells[rows])).numpy()
    return dense


def _encode_sparse(basis: SparseBasis, cells: Cells) -> CodeMatrix:
    parts = []
    for rows in _chunks(len(cells)):
        cell, unit, value = (part.numpy() for part in basis.encode_sparse(torch.from_numpy(cells[rows])))
        shape = (rows.stop - rows.start, basis.units)
        parts.append(scipy.sparse.csr_array((value, (cell, unit)), shape=shape))
    codes = scipy.sparse.vstack(parts, format="csc")
    codes.sort_indices()
    return codes


def equal_units_name(count: int) -> str:
    """Return the name of the choice of so many leading units."""
    return f"{count} units"


def choices(codes: CodeMatrix, basis: Basis | None, config: EvaluateBasesConfig) -> Iterator[ComparedUnits]:
    """Yield the units that are measured: all, then equal numbers, then equal L0."""
    every, sparse = np.arange(codes.shape[1]), basis is not None and basis.sparse
    yield ComparedUnits(ALL, codes, every)
    for count in config.equal_units:
        yield ComparedUnits(equal_units_name(count), codes, leading_units(codes, count, sparse=sparse))
    for count in config.equal_active if not sparse else ():
        yield ComparedUnits(f"L0 = {count}", keep_largest(codes, count), every)


def measure(inputs: LayerInputs, config: EvaluateBasesConfig) -> Iterator[Measured]:
    """Yield the numbers of each choice of units of a basis.

    Parameters
    ----------
    inputs
        The basis and the cells.
    config
        Which units are compared.
    """
    codes, probes_of = encode_cells(inputs.basis, inputs.cells), None
    held = inputs.labels.held_out
    selection, heldout = inputs.labels.part(~held), inputs.labels.part(held)
    for choice in choices(codes, inputs.basis, config):
        if probes_of is None or choice.codes is not codes:
            probes_of = UnitProbes.of(select_cells(choice.codes, ~held), selection)
            rest = select_cells(choice.codes, held)
        probes = probes_of.best(choice.units)
        scores = heldout_scores(rest, heldout, probes, inputs.seed, config.replicates)
        units = {
            "unit": choice.units,
            "active_cells": active_cells(choice.codes)[choice.units],
            "purity_16": purity(select_units(rest, choice.units), heldout),
        }
        yield Measured(choice, _numbers(inputs, choice, scores, units), probes, scores, units)


def image_scores(
    files: CellFiles, layer: str, embeddings: npt.NDArray[np.floating[Any]]
) -> dict[str, npt.NDArray[np.float64]]:
    """Return monosemanticity, clarity and redundancy of each unit of a layer, float64 (K,) each."""
    sums, top = None, None
    for images, values in files.values(layer):
        if sums is None or top is None:
            sums, top = EmbeddingSums.zeros(values.shape[1], embeddings.shape[1]), TopImageList.empty(values.shape[1])
        sums.update(values, embeddings[images])
        top.update(values, images)
    if sums is None or top is None:
        return {}
    constant = sums.high <= sums.low
    found = {
        "monosemanticity": sums.monosemanticity(),
        "clarity": clarity(embeddings, top.images),
        "redundancy": redundancy(embeddings, top.images),
    }
    return {name: np.where(constant, np.nan, values) for name, values in found.items()}


def with_interval(name: str, values: Floats, units: Ints, inputs: LayerInputs, config: EvaluateBasesConfig) -> Numbers:
    """Return the mean of a score over units and its interval, by the bootstrap over units."""
    means = unit_means(values[:, None], units, inputs.seed, config.replicates)
    return {name: means.value[0], f"{name}_ci_low": means.ci_low[0], f"{name}_ci_high": means.ci_high[0]}


def _numbers(
    inputs: LayerInputs, choice: ComparedUnits, scores: ConceptScores, units: Mapping[str, npt.NDArray[Any]]
) -> Numbers:
    low, high = scores.mean_interval
    covered_low, covered_high = scores.coverage_interval
    cells = len(inputs.cells)
    return {
        "units": len(choice.units),
        "cells": cells,
        "concepts": scores.concepts,
        "nmse": normalized_error(inputs.cells, _reconstructed(inputs.basis, choice)) if _decodes(inputs) else np.nan,
        "l0": units["active_cells"].sum() / cells,
        "dead_share": float((units["active_cells"] == 0).mean()),
        "map": scores.mean_average_precision,
        "map_ci_low": low,
        "map_ci_high": high,
        "probe_r": scores.probe_r,
        "coverage_03": scores.coverage,
        "coverage_03_ci_low": covered_low,
        "coverage_03_ci_high": covered_high,
    }


def _decodes(inputs: LayerInputs) -> bool:
    basis = inputs.basis
    return basis is None or basis.decode(torch.zeros(1, basis.units)) is not None


def _reconstructed(basis: Basis | None, choice: ComparedUnits) -> Iterator[Cells]:
    """Yield the cells that the codes of the chosen units stand for; the other units are 0."""
    sparse = not isinstance(choice.codes, np.ndarray)
    rows_first = choice.codes.tocsr() if sparse else choice.codes
    left_out = np.setdiff1d(np.arange(choice.codes.shape[1]), choice.units)
    for rows in _chunks(choice.codes.shape[0]):
        part = rows_first[rows].toarray() if sparse else np.array(rows_first[rows], order="C")
        part[:, left_out] = 0
        decoded = torch.from_numpy(part) if basis is None else basis.decode(torch.from_numpy(part))
        if decoded is not None:
            yield decoded.numpy()


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))
