"""Logistic probes of one unit for a concept, for all units and concepts; and the unit of least loss for each concept.

    codes, concepts of the selection half -> UnitProbes.of -> UnitProbes.best -> Probes

The loss of a probe ``sigmoid(bias + weight * code)`` over the cells is the sum of ``softplus(bias + weight * code)``,
in which the concept does not occur, less ``bias`` times the number of cells with the concept and ``weight`` times the
sum of their codes. One product of the two matrices gives these sums for all pairs. The sum of softplus is at least that
over bins of codes, each at the mean of its codes (Jensen), so a fit on bins gives a lower bound of the loss. The units
of a concept are fitted on all cells in the order of their bounds, until the next bound is above the least loss: the
unit that is chosen is the best of all.

Source: the probes of saev, :cite:p:`stevens2025openended`: minimum of the mean binary cross-entropy plus half the ridge
times ``weight^2 + (bias - prior)^2``, with the logarithm of the odds of the concept as prior. Here codes are divided by
the root mean square of those that are not 0, so that the scale of a unit does not matter.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from netdissect.evaluation.dictionaries.code_matrix import CellConcepts, CodeMatrix, UnitCodes, column
from netdissect.jit import compiled, inlined

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

RIDGE = 1e-8
BINS = 256
SLACK = 1e-10
"""By how much a fit on bins may miss its minimum."""
_BLOCK = 256  # units whose codes are in memory as float64


class Probes(NamedTuple):
    """The best probe of each of C concepts; unit -1 where there is none, because all cells have the concept or none.

    Attributes
    ----------
    unit
        int64 (C,).
    bias, weight
        float64 (C,), of the codes as they are.
    loss
        float64 (C,): mean binary cross-entropy on the cells on which it was fitted, in nats.
    """

    unit: Ints
    bias: Floats
    weight: Floats
    loss: Floats


class _Fit(NamedTuple):
    """Minimum of a probe's objective, of scaled codes."""

    objective: float
    bias: float
    weight: float


@dataclass(frozen=True, eq=False)
class UnitProbes:
    """Probes of K units for C concepts on some cells.

    Attributes
    ----------
    codes, labels
        The cells.
    scale
        float64 (K,): root mean square of the codes of each unit that are not 0; 1 for a dead unit.
    sums
        float64 (K, C): sum of the codes of the cells with the concept.
    bound, bias, weight
        float64 (K, C): lower bound of the objective, and where the bins have it; infinite where there is no probe.
    """

    codes: CodeMatrix
    labels: CellConcepts
    scale: Floats
    sums: Floats
    bound: Floats
    bias: Floats
    weight: Floats

    @classmethod
    def of(cls, codes: CodeMatrix, labels: CellConcepts) -> Self:
        """Bound the loss of every unit for every concept.

        Parameters
        ----------
        codes
            float32 (N, K).
        labels
            Of the same cells; their halves do not matter.
        """
        sums, units = concept_sums(codes, labels), codes.shape[1]
        scale = np.ones(units)
        shape = (units, len(labels.category_of))
        bound, bias, weight = np.full(shape, np.inf), np.zeros(shape), np.zeros(shape)
        defined = (labels.positives > 0) & (labels.positives < labels.totals)
        cells = labels.annotated.sum(axis=0).astype(np.int64)
        for unit in range(units):
            values = column(codes, unit)
            scale[unit] = _scale(values.values)
            bins = _bins(values.values / scale[unit], labels.annotated[values.rows], cells)
            _bound_all(
                *bins, labels.category_of, labels.positives, labels.totals, sums[unit] / scale[unit], defined,
                bound[unit], bias[unit], weight[unit],
            )  # fmt: skip
        return cls(codes, labels, scale, sums, bound, bias, weight)

    def best(self, units: Ints | None = None) -> Probes:
        """Return the unit of least objective for each concept; of equal ones the first.

        Parameters
        ----------
        units
            Among these; None: all.
        """
        among = np.arange(len(self.scale)) if units is None else units
        count = len(self.labels.category_of)
        found = Probes(np.full(count, -1), *(np.full(count, np.nan) for _ in range(3)))
        for concept in np.flatnonzero(np.isfinite(self.bound).any(axis=0)) if len(among) else ():
            unit, fit = self._best_of(int(concept), among)
            weight = fit.weight / self.scale[unit]
            prior = _prior(self.labels.positives[concept], self.labels.totals[concept])
            penalty = RIDGE / 2 * (fit.weight**2 + (fit.bias - prior) ** 2)
            found.unit[concept], found.bias[concept], found.weight[concept] = unit, fit.bias, weight
            found.loss[concept] = fit.objective - penalty
        return found

    def _best_of(self, concept: int, among: Ints) -> tuple[int, _Fit]:
        counted = self.labels.counted(concept)
        bounds = self.bound[among, concept]
        chosen, best = -1, _Fit(np.inf, 0.0, 0.0)
        for index in np.argsort(bounds, kind="stable"):
            if bounds[index] - SLACK > best.objective:
                break
            unit = int(among[index])
            fit = self._fit(unit, concept, counted)
            if (fit.objective, unit) < (best.objective, chosen):
                chosen, best = unit, fit
        return chosen, best

    def _fit(self, unit: int, concept: int, counted: Bools) -> _Fit:
        """Fit one probe on all cells, from the minimum on bins."""
        values, rows = column(self.codes, unit)
        values = values[counted[rows]] / self.scale[unit]
        total, positives = int(self.labels.totals[concept]), int(self.labels.positives[concept])
        counts, values = np.append(np.ones(len(values)), total - len(values)), np.append(values, 0.0)
        start = self.bias[unit, concept], self.weight[unit, concept]
        return _Fit(*_minimize(counts, values, positives, total, self.sums[unit, concept] / self.scale[unit], *start))


def concept_sums(codes: CodeMatrix, labels: CellConcepts) -> Floats:
    """Return the sum of the codes of each unit over the cells with each concept, float64 (K, C)."""
    concepts = labels.concepts.astype(np.float64).T.tocsr()
    if not isinstance(codes, np.ndarray):
        return np.asarray((concepts @ codes.astype(np.float64)).toarray().T)
    blocks = [
        concepts @ codes[:, start : start + _BLOCK].astype(np.float64) for start in range(0, codes.shape[1], _BLOCK)
    ]
    return np.asarray(np.concatenate(blocks, axis=1).T)


def probe_loss(values: UnitCodes, cells: Bools, labels: Bools, bias: float, weight: float) -> float:
    """Return the mean binary cross-entropy of a probe, in nats.

    Parameters
    ----------
    values
        Codes of the unit.
    cells, labels
        bool (N,): the cells that count, and those with the concept.
    bias, weight
        Of the probe.
    """
    logits = np.full(len(cells), bias)
    logits[values.rows] += weight * values.values
    logits, truth = logits[cells], labels[cells]
    return float((np.logaddexp(0, logits) - logits * truth).mean())


def _scale(values: Floats) -> float:
    active = values[values != 0]
    scale = float(np.sqrt((active**2).mean())) if len(active) else 1.0
    return scale if scale > 0 else 1.0


def _prior(positives: int, total: int) -> float:
    return float(np.log(positives / (total - positives)))


def _bins(values: Floats, annotated: Bools, cells: Ints) -> tuple[Floats, Floats]:
    """Return the cells in each bin and the mean of their codes, float64 (G, bins + 1), by category.

    Parameters
    ----------
    values, annotated
        (n,) and (n, G): codes that are stored, and whether the image of each is annotated in each category.
    cells
        int64 (G,): all cells; those that are not stored have the code 0, and a bin of their own.
    """
    counts, sums = np.zeros((len(cells), BINS + 1)), np.zeros((len(cells), BINS + 1))
    if len(values):
        _fill_bins(values, annotated, float(values.min()), float(values.max()), counts, sums)
    counts[:, BINS] = cells - counts.sum(axis=1)
    return counts, np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)


@compiled
def _fill_bins(values: Floats, annotated: Bools, low: float, high: float, counts: Floats, sums: Floats) -> None:
    bins = counts.shape[1] - 1
    step = (high - low) / bins
    for index in range(len(values)):
        bin_index = min(int((values[index] - low) / step), bins - 1) if step > 0 else 0
        for category in range(len(counts)):
            if annotated[index, category]:
                counts[category, bin_index] += 1
                sums[category, bin_index] += values[index]


@compiled
def _bound_all(
    counts: Floats, means: Floats, category_of: Ints, positives: Ints, totals: Ints, sums: Floats, defined: Bools,
    bound: Floats, bias: Floats, weight: Floats,
) -> None:  # fmt: skip
    """Fit one unit on its bins for every concept."""
    used = np.empty(counts.shape[1], np.int64)
    for category in range(len(counts)):
        number = 0
        for index in range(counts.shape[1]):
            if counts[category, index] > 0:
                used[number] = index
                number += 1
        filled, means_of = counts[category][used[:number]], means[category][used[:number]]
        for concept in range(len(category_of)):
            if category_of[concept] == category and defined[concept]:
                prior = np.log(positives[concept] / (totals[concept] - positives[concept]))
                bound[concept], bias[concept], weight[concept] = _minimize(
                    filled, means_of, positives[concept], totals[concept], sums[concept], prior, 0.0
                )


@inlined
def _slopes(counts: Floats, values: Floats, bias: float, weight: float) -> tuple[float, float, float, float, float]:
    """Return the first and second derivatives of the sum of softplus."""
    first, second, curve, mixed, bent = 0.0, 0.0, 0.0, 0.0, 0.0
    for index in range(len(counts)):
        logit = bias + weight * values[index]
        small = np.exp(-abs(logit))
        share = 1 / (1 + small)
        spread = counts[index] * small * share * share
        mean = counts[index] * (share if logit >= 0 else small * share)
        first += mean
        second += mean * values[index]
        curve += spread
        mixed += spread * values[index]
        bent += spread * values[index] * values[index]
    return first, second, curve, mixed, bent


@compiled
def _minimize(
    counts: Floats, values: Floats, positives: int, total: int, moment: float, bias: float, weight: float
) -> tuple[float, float, float]:
    """Minimize the objective of a probe by Newton's method; return the objective, bias and weight."""
    prior = np.log(positives / (total - positives))
    first, second, curve, mixed, bent = _slopes(counts, values, bias, weight)
    for _ in range(200):
        slope_bias = (first - positives) / total + RIDGE * (bias - prior)
        slope_weight = (second - moment) / total + RIDGE * weight
        a, b, c = curve / total + RIDGE, mixed / total, bent / total + RIDGE
        determinant = max(a * c - b * b, 1e-300)
        step_bias = (b * slope_weight - c * slope_bias) / determinant
        step_weight = (b * slope_bias - a * slope_weight) / determinant
        descent = slope_bias * step_bias + slope_weight * step_weight
        if descent > -2e-12 or not np.isfinite(descent):
            break
        size = 1.0
        for _half in range(60):
            next_bias, next_weight = bias + size * step_bias, weight + size * step_weight
            first, second, curve, mixed, bent = _slopes(counts, values, next_bias, next_weight)
            ahead = ((first - positives) / total + RIDGE * (next_bias - prior)) * step_bias
            ahead += ((second - moment) / total + RIDGE * next_weight) * step_weight
            if ahead < -0.9 * descent:  # not far beyond the minimum along the step
                break
            size /= 2
        bias, weight = next_bias, next_weight
    objective = -(bias * positives + weight * moment)
    for index in range(len(counts)):
        logit = bias + weight * values[index]
        objective += counts[index] * (max(logit, 0.0) + np.log1p(np.exp(-abs(logit))))
    return objective / total + RIDGE / 2 * (weight**2 + (bias - prior) ** 2), bias, weight
