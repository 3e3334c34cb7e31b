"""What the best unit of each concept is worth on the held-out cells, and how pure units are.

    probes of the selection half, held-out codes -> heldout_scores -> average precision, loss of each concept
    codes, concepts -> purity                                      -> share of one concept in the top cells of a unit

Source: mAP, probe R, purity@16 and coverage@0.3 of saev, :cite:p:`stevens2025openended`. Intervals: bootstrap over the
images of the held-out cells; the probes stay those that were chosen. A replicate without the images of a rare concept
leaves it out, and one with two copies of them makes it more frequent, so that replicates are above the estimate on
average: the interval is that of the replicates less this difference.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.evaluation.dictionaries.code_matrix import CellConcepts, CodeMatrix, UnitCodes, column
from netdissect.evaluation.dictionaries.logistic_probes import Probes, probe_loss
from netdissect.jit import compiled
from netdissect.scoring.statistics.bootstrap import percentile_interval, poisson_weights

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

PURITY_CELLS = 16
COVERED = 0.3


class ConceptScores(NamedTuple):
    """Scores of the best unit of each of C concepts on the held-out cells; NaN where the concept has no probe there.

    Attributes
    ----------
    average_precision
        float64 (C,).
    loss, prior_loss
        float64 (C,): mean binary cross-entropy of the probe, and of the share of the concept in these cells, in nats.
    replicates
        float64 (R, C): average precision in each replicate of the bootstrap.
    """

    average_precision: Floats
    loss: Floats
    prior_loss: Floats
    replicates: Floats

    @property
    def concepts(self) -> int:
        """Number of concepts that have a probe."""
        return int(np.isfinite(self.average_precision).sum())

    @property
    def mean_average_precision(self) -> float:
        """The mean over concepts; NaN without any."""
        return _mean(self.average_precision)

    @property
    def mean_interval(self) -> tuple[float, float]:
        """Ends of the 95 % interval of that mean."""
        return _interval(self.mean_average_precision, self.replicates)

    @property
    def coverage(self) -> float:
        """The share of the concepts whose best unit has an average precision of at least `COVERED`."""
        return _mean(_covered(self.average_precision))

    @property
    def coverage_interval(self) -> tuple[float, float]:
        """Ends of the 95 % interval of that share."""
        return _interval(self.coverage, _covered(self.replicates))

    @property
    def probe_r(self) -> float:
        """One less the ratio of the mean loss of the probes to the mean loss of the shares."""
        return 1 - _mean(self.loss) / _mean(self.prior_loss)


def heldout_scores(
    codes: CodeMatrix, labels: CellConcepts, probes: Probes, seed: int, replicates: int
) -> ConceptScores:
    """Score probes on held-out cells.

    Parameters
    ----------
    codes, labels
        The held-out cells.
    probes
        Of the other cells.
    seed, replicates
        Of the bootstrap over images.
    """
    images, position = np.unique(labels.image_index, return_inverse=True)
    weights = np.ones((len(images), replicates + 1), np.float32)
    weights[:, 1:] = poisson_weights(seed, images, replicates)
    count = len(labels.category_of)
    precision = np.full((replicates + 1, count), np.nan)
    loss, prior_loss = np.full(count, np.nan), np.full(count, np.nan)
    defined = (probes.unit >= 0) & (labels.positives > 0) & (labels.positives < labels.totals)
    for concept in np.flatnonzero(defined).tolist():
        values, truth, cells = column(codes, probes.unit[concept]), labels.labels_of(concept), labels.counted(concept)
        precision[:, concept] = average_precisions(values, truth, cells, weights[position], probes.weight[concept])
        loss[concept] = probe_loss(values, cells, truth, probes.bias[concept], probes.weight[concept])
        share = labels.positives[concept] / labels.totals[concept]
        prior_loss[concept] = -share * np.log(share) - (1 - share) * np.log1p(-share)
    return ConceptScores(precision[0], loss, prior_loss, precision[1:])


def average_precisions(
    values: UnitCodes, truth: Bools, cells: Bools, weights: npt.NDArray[np.float32], direction: float
) -> Floats:
    """Return the average precision of a unit as a score of a concept under several weights of cells, float64 (R,).

    Cells of equal code are ties: the precision is that after all of them.

    Parameters
    ----------
    values
        Codes of the unit.
    truth, cells
        bool (N,): cells with the concept, and cells that count.
    weights
        float32 (N, R).
    direction
        Below 0, the lowest codes come first.
    """
    score = np.zeros(len(truth))
    score[values.rows] = -values.values if direction >= 0 else values.values
    rows = np.flatnonzero(cells)
    order = rows[np.argsort(score[rows], kind="stable")]
    return np.asarray(_average_precisions(score[order], truth[order], order, weights))


@compiled
def _average_precisions(score: Floats, truth: Bools, order: Ints, weights: npt.NDArray[np.float32]) -> Floats:
    replicates = weights.shape[1]
    hits, seen, area = np.zeros(replicates), np.zeros(replicates), np.zeros(replicates)
    before, found = np.zeros(replicates), False
    for index in range(len(order)):
        of_cell = weights[order[index]]
        for replicate in range(replicates):
            seen[replicate] += of_cell[replicate]
        if truth[index]:
            found = True
            for replicate in range(replicates):
                hits[replicate] += of_cell[replicate]
        if found and (index + 1 == len(order) or score[index + 1] != score[index]):
            for replicate in range(replicates):
                if hits[replicate] > before[replicate]:
                    area[replicate] += (hits[replicate] - before[replicate]) * hits[replicate] / seen[replicate]
                    before[replicate] = hits[replicate]
            found = False
    for replicate in range(replicates):
        area[replicate] = area[replicate] / hits[replicate] if hits[replicate] > 0 else np.nan
    return area


def purity(codes: CodeMatrix, labels: CellConcepts, count: int = PURITY_CELLS) -> Floats:
    """Return the largest share of one concept in the `count` cells of the highest codes of each unit, float64 (K,).

    Of equal codes the first cells are taken. NaN for a unit of which fewer cells have a code other than 0.
    """
    found = np.full(codes.shape[1], np.nan)
    for unit in range(codes.shape[1]):
        values, rows = column(codes, unit)
        active = values != 0
        if active.sum() < count:
            continue
        values, rows = values[active], rows[active]
        likely = np.flatnonzero(values >= np.partition(values, len(values) - count)[len(values) - count])
        top = likely[np.argsort(-values[likely], kind="stable")[:count]]
        found[unit] = np.bincount(labels.concepts[rows[top]].indices, minlength=1).max() / count
    return found


def _interval(estimate: float, replicates: Floats) -> tuple[float, float]:
    """Return the ends of the interval of a mean over concepts, of replicates (R, C)."""
    means = np.array([_mean(values) for values in replicates])
    means = means[np.isfinite(means)]
    if not len(means):
        return np.nan, np.nan
    low, high = percentile_interval(means - means.mean() + estimate)
    return max(low, 0.0), min(high, 1.0)


def _covered(values: Floats) -> Floats:
    return np.where(np.isnan(values), np.nan, values >= COVERED)


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan
