"""Masks of cells: the threshold of the best IoU of scores with concepts, and Net2Vec's masks of several units.

    scores, concepts of the selection half -> best_thresholds -> threshold and IoU of each concept
    scores, threshold on held-out cells    -> mask_iou

Source of Net2Vec: Fong and Vedaldi 2018 :cite:p:`fong2018net2vec`, section 3.1: a unit is on where it is above its
threshold; the mask of a concept is where a weighted sum of units is above 0. The loss is that of the authors' code,
linear in the mask, over the images with the concept; it is minimized by L-BFGS on all cells at once.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy
import scipy.sparse

from netdissect.evaluation.dictionaries.code_matrix import CellConcepts
from netdissect.jit import compiled

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ITERATIONS = 50


class BestThresholds(NamedTuple):
    """The best threshold of one score for each of C concepts: cells with at least this score are the mask.

    Attributes
    ----------
    threshold, iou
        float64 (C,).
    """

    threshold: Floats
    iou: Floats


def best_thresholds(scores: Floats, labels: CellConcepts) -> BestThresholds:
    """Return the threshold of the largest IoU of a score with each concept.

    Parameters
    ----------
    scores
        float64 (N,).
    labels
        Concepts of the cells.
    """
    order, concepts = np.argsort(-scores, kind="stable"), labels.concepts
    found = _sweep(
        scores, order, concepts.indptr.astype(np.int64), concepts.indices.astype(np.int64), labels.annotated,
        labels.category_of, labels.positives,
    )  # fmt: skip
    return BestThresholds(*found)


@compiled
def _sweep(
    scores: Floats, order: Ints, starts: Ints, concepts: Ints, annotated: Bools, category_of: Ints, positives: Ints
) -> tuple[Floats, Floats]:
    """Go through cells by falling score; the IoU of a concept grows only where cells have it."""
    number = len(category_of)
    hits, touched, is_touched = np.zeros(number), np.empty(number, np.int64), np.zeros(number, np.bool_)
    seen, threshold, best = np.zeros(annotated.shape[1]), np.full(number, np.inf), np.zeros(number)
    count = 0
    for index in range(len(order)):
        cell = order[index]
        for category in range(annotated.shape[1]):
            seen[category] += annotated[cell, category]
        for entry in range(starts[cell], starts[cell + 1]):
            concept = concepts[entry]
            hits[concept] += 1
            if not is_touched[concept]:
                is_touched[concept] = True
                touched[count] = concept
                count += 1
        if index + 1 == len(order) or scores[order[index + 1]] != scores[cell]:
            for each in range(count):
                concept = touched[each]
                is_touched[concept] = False
                iou = hits[concept] / (seen[category_of[concept]] + positives[concept] - hits[concept])
                if iou > best[concept]:
                    best[concept], threshold[concept] = iou, scores[cell]
            count = 0
    return threshold, best


def mask_iou(mask: Bools, labels: CellConcepts, concept: int) -> float:
    """Return the IoU of a mask with a concept over the cells that count for it; 0 if both are empty."""
    counted, truth = labels.counted(concept), labels.labels_of(concept)
    union = int((counted & (mask | truth)).sum())
    return float((counted & mask & truth).sum() / union) if union else 0.0


def unit_ious(active: scipy.sparse.csr_array, labels: CellConcepts) -> Floats:
    """Return the IoU of each unit that is on or off with each concept, float64 (K, C).

    Parameters
    ----------
    active
        bool (N, K): which units are on in each cell.
    labels
        Concepts of the cells.
    """
    on = active.astype(np.float64).T.tocsr()
    both = (on @ labels.concepts.astype(np.float64)).toarray()
    masks = (on @ labels.annotated.astype(np.float64))[:, labels.category_of]
    union = masks + labels.positives - both
    return np.asarray(np.divide(both, union, out=np.zeros_like(both), where=union > 0))


def net2vec_weights(active: scipy.sparse.csr_array, labels: CellConcepts, concept: int) -> Floats:
    """Return the weights of units for a concept, float64 (K,); its mask is where their sum is above 0.

    Parameters
    ----------
    active
        bool (N, K): which units are on in each cell.
    labels
        Concepts of the cells.
    concept
        The concept.
    """
    truth = labels.labels_of(concept)
    with_concept = np.isin(labels.image_index, np.unique(labels.image_index[truth]))
    weight = 1 - truth[with_concept].mean()
    gain = np.where(truth, weight, -(1 - weight))
    rows = np.flatnonzero(with_concept & (np.diff(active.indptr) > 0))  # elsewhere the mask does not depend on weights
    units, gain = active[rows].astype(np.float64), gain[rows]

    def loss(weights: Floats) -> tuple[float, Floats]:
        mask = scipy.special.expit(units @ weights)
        return -float(gain @ mask), -(units.T @ (gain * mask * (1 - mask)))

    start = np.zeros(units.shape[1])
    if not len(rows):
        return start
    found = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS})
    return np.asarray(found.x)
